//! The queue's protocol, on bytes.
//!
//! # Sections
//!
//! Producers take turns in the short section of their side, consumers in that of theirs; the two
//! sides do not exclude each other. Messages are written behind the tail and committed by one store
//! of `tail`; they are copied out and taken by one store of `next`. Who is killed before its store has
//! done nothing: the next one writes over the half message, or reads the message again. So the
//! producers' section needs no repair. In the consumers' one the head follows `next`, and tells
//! producers what is free; whoever enters after a death makes up for what does not follow yet.
//!
//! # Sleeping
//!
//! A consumer that finds nothing takes the *turn* of its side, a robust lock; so one at most sleeps
//! on the futex word, and when it is killed the next one has the turn. It lies down inside of the
//! **producers'** section: it looks at the tail once more, says that somebody waits, and notes the
//! sequence. A producer that finds somebody waiting moves the sequence on, **wakes**, and only then
//! commits. If it is killed in between, the woken one finds nothing and lies down again; had it
//! committed first, nobody would be woken. Who is woken passes through the producers' section before
//! it believes that there is nothing. Producers that wait for room do the same with the sides
//! exchanged. Neither section is ever entered inside of the other.
//!
//! A `waiting` that is not true any more (who set it died, or gave up) costs a system call that wakes
//! nobody, once.
//!
//! # Closing
//!
//! Both sides must be told, and no store tells both. First, in the consumers' section, who sleeps for
//! room is woken, and `closing` set; then, in the producers', who sleeps for a message is woken, and
//! `sealed` set: now the queue is closed. A queue that is closing, and whose closer was killed, is
//! open: everybody puts and gets. But nobody lies down for room in it: whoever would, or is woken
//! from that, seals it. So either all sleepers are told, or none and the queue is open.
//!
//! What is in a queue that closes is dropped in the same way: `sealed` says in the producers' section
//! that it is to be, and who sleeps for a message is woken; then it is dropped in the consumers'. Whoever
//! would lie down in between drops it.
//!
//! # Leases
//!
//! See `ledger.rs`. A message may come back, by the consumers' side or by a death. So a consumer lies down
//! in two steps. In the consumers' section it sees that nothing was given back, notes the sequence and
//! says so in `watched`; who gives back moves the sequence on and wakes, as who puts does. In the
//! producers' section it says that it waits, if nothing was put since.
//!
//! # Messages that are blocks
//!
//! A message that is too long for the ring, or was written in place, is a block of the arena, and its
//! record has the handle. The block changes hands with the message: it lies in the queue's region while
//! the message is in the queue, and so outlives its producer; who takes the message withdraws it, and
//! owns it then. It is deposited before the tail is stored, and withdrawn before `next` is. What a kill
//! in between leaves is told by comparing the two: a block that was noted in the producers' side, and
//! whose tail has not come, is freed by the next one who enters; a record whose block is gone was taken
//! by somebody who died of it, and is passed over. What is in a queue that nobody has any more is freed
//! with it.
//!
//! # Messages with handles
//!
//! A message with handles is a block that holds what they name. But an end of a ring is kept by its
//! sender until `head` has passed the message, so the receiver must have unpacked it before. That is user
//! code, which no section may run. Such a message is
//! taken by who has the turn: read in the section, unpacked outside, taken in the section. Others
//! that find it in front wait for the turn.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::ground::{self, Block, LockGuard, Memory, turn};
use super::layout::{DROPPED, DROPPING, Header, Mark, Place, SEALED};
use super::message::{Batch, Call, Found, Front, Taking, Ticket};
use super::sleep::{rouse, rouse_waiting};
use crate::patience::Patience;
use crate::primitive::Deadline;
use crate::ring::Corrupt;

/// The most bytes of records: two places in the queue are never half the range of a place apart.
pub(super) const MOST_BYTES: u64 = 1 << 30;

/// A queue of bytes in a region.
#[derive(Clone, Debug)]
pub(crate) struct RawQueue {
    pub(super) memory: Memory,
    /// A power of two.
    pub(super) bytes: u64,
    pub(super) items: u32,
    /// The participant that this process is.
    pub(super) me: u64,
}

/// Why a call did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// No message, or no room; the caller would not wait.
    WouldBlock,
    TimedOut,
    Closed,
    /// The thread is inside of the same call already: while it unpacks a message.
    Reentered,
    /// There are as many leases as there can be.
    TooManyLeases,
    /// The thread holds too many locks to take one more.
    TooManyHeld,
    /// The message is in a part of the arena for which this process has no addresses.
    OutOfAddressSpace,
    Corrupt,
}

impl From<Corrupt> for Stop {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}

/// A message that was copied out.
pub(super) enum Message<'a> {
    Taken,
    /// It is this block.
    Block(Block),
    /// It is leased to the caller.
    Leased(Ticket),
    /// It is still in the queue until this is dropped.
    Seen(Seen<'a>),
}

/// A message that is being unpacked; dropping this takes it, also when unpacking panics.
pub(super) struct Seen<'a> {
    queue: &'a RawQueue,
    front: Front,
    /// What the message is, if it was not copied.
    pub(super) block: Option<Block>,
    _turn: LockGuard<'a, ()>,
}

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        self.queue.take_seen(self.front);
    }
}

impl RawQueue {
    #[inline]
    pub(super) fn head(&self) -> &Header {
        self.memory.head()
    }

    /// The bytes of records that fit.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The most bytes of a message that is no block.
    pub(super) fn longest(&self) -> u64 {
        self.bytes / 8
    }

    /// The messages that fit.
    pub(super) fn items(&self) -> u32 {
        self.items
    }

    /// How many messages take room, leased ones included, and how many bytes; old when it is read.
    pub(super) fn used(&self) -> (u32, u64) {
        // The head first: it never passes the tail, which is read later.
        let head = self.freed_until_now();
        // Relaxed: for information.
        let tail = Mark::from_bits(self.memory.head().tail.0.load(Relaxed));
        (tail.messages_since(head), tail.bytes_since(head))
    }

    /// The most messages that there ever were at once.
    pub(super) fn peak(&self) -> u32 {
        // Relaxed: for information.
        self.memory.head().put.0.peak.load(Relaxed)
    }

    /// Whether a consumer and a producer may sleep.
    pub(super) fn waiting(&self) -> (bool, bool) {
        // Relaxed: for information.
        let waits = |place: &Place| place.notice.0.waiting.load(Relaxed) != 0;
        let head = self.memory.head();
        (waits(&head.items.0), waits(&head.room.0))
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        // Acquire: whoever sees the end sees every message before it.
        self.memory.head().limits.0.sealed.load(Acquire) != 0
    }

    /// What was freed until now.
    #[inline]
    pub(super) fn freed_until_now(&self) -> Mark {
        // Acquire: partner is the store in `take`; consumers are done with what lies before.
        Mark::from_bits(self.memory.head().head.0.load(Acquire))
    }

    /// Puts messages behind the others, and takes those that were put off the batch; returns the
    /// place behind them. With a block, the batch is one message, which has its handle; the block
    /// stays the caller's if it was not put.
    #[inline]
    pub(super) fn put(
        &self,
        batch: &mut Batch<'_>,
        block: &mut Option<Block>,
        patience: Patience,
    ) -> Result<Mark, Stop> {
        if !self.try_put(batch, block, in_section(patience))? {
            self.put_the_rest(batch, block, patience)?;
        }
        Ok(batch.end)
    }

    /// Waits for room.
    fn put_the_rest(
        &self,
        batch: &mut Batch<'_>,
        block: &mut Option<Block>,
        patience: Patience,
    ) -> Result<(), Stop> {
        let Some(deadline) = patience.left() else {
            // Who died while it freed some room has perhaps not told: whoever enters finds it.
            drop(self.enter_get(in_section(patience)));
            return match self.try_put(batch, block, in_section(patience))? {
                true => Ok(()),
                false => Err(refusal(patience)),
            };
        };
        let room = &self.memory.head().room.0;
        let _turn = turn(room, deadline)?;
        loop {
            if self.try_put(batch, block, deadline)? {
                return Ok(());
            }
            if self.is_closing() {
                self.seal(SEALED);
                continue;
            }
            if deadline.has_passed() {
                return Err(Stop::TimedOut);
            }
            let size = batch.first_size();
            let has_room = || self.looks_roomy(size) || self.is_closing();
            room.spin.wait(deadline, has_room, || {
                if let Some(expected) = self.lie_down_for_room(size, deadline) {
                    ground::wait(&room.notice.0, expected, deadline);
                }
            });
        }
    }

    /// Copies the first message, or more of them, to the end of what is taken into; and takes or
    /// leases it.
    #[inline]
    pub(super) fn get(
        &self,
        into: &mut Taking<'_>,
        call: Call,
        patience: Patience,
    ) -> Result<Message<'_>, Stop> {
        match self.look(into, call, false, in_section(patience))? {
            true => Ok(Message::Taken),
            false => self.get_found(into, call, patience),
        }
    }

    /// Goes on after a first look.
    fn get_found(
        &self,
        into: &mut Taking<'_>,
        call: Call,
        patience: Patience,
    ) -> Result<Message<'_>, Stop> {
        let is_empty = loop {
            match into.take_found() {
                Found::Block(block) => return Ok(Message::Block(block)),
                Found::Leased(ticket) => return Ok(Message::Leased(ticket)),
                Found::NeedsRoom(length) => into.bytes.reserve(length),
                Found::Nothing => break true,
                Found::NeedsTurn | Found::Seen(..) => break false,
            }
            if self.look(into, call, false, in_section(patience))? {
                return Ok(Message::Taken);
            }
        };
        let items = &self.memory.head().items.0;
        let deadline = match patience {
            Patience::Until(deadline) if deadline.has_passed() => return Err(Stop::TimedOut),
            Patience::Until(deadline) => deadline,
            Patience::None if is_empty => return Err(Stop::WouldBlock),
            // Whoever has the turn is about to take the message in front.
            Patience::None => Deadline::now(),
        };
        let turn = turn(items, deadline).map_err(|stop| match (stop, patience) {
            (Stop::TimedOut, Patience::None) => Stop::WouldBlock,
            (stop, _) => stop,
        })?;
        loop {
            if self.look(into, call, true, deadline)? {
                return Ok(Message::Taken);
            }
            match into.take_found() {
                Found::Block(block) => return Ok(Message::Block(block)),
                Found::Leased(ticket) => return Ok(Message::Leased(ticket)),
                Found::Seen(front, block) => {
                    return Ok(Message::Seen(Seen {
                        queue: self,
                        front,
                        block,
                        _turn: turn,
                    }));
                }
                Found::NeedsRoom(length) => {
                    into.bytes.reserve(length);
                    continue;
                }
                Found::Nothing | Found::NeedsTurn => {}
            }
            if deadline.has_passed() {
                return Err(refusal(patience));
            }
            items.spin.wait(
                deadline,
                || self.has_news(),
                || {
                    if let Some(bed) = self.lie_down_for_items(deadline) {
                        let others = bed.holders.as_slice();
                        ground::wait_beside(&items.notice.0, bed.expected, others, deadline);
                    }
                },
            );
        }
    }

    /// Whether there seems to be a message or an end, for who looks before it sleeps.
    pub(super) fn has_news(&self) -> bool {
        let is_over = || self.used().0 == 0 || self.is_dropped();
        self.available() > 0 || self.is_closed() && is_over()
    }

    /// Lets nobody put any more. What is in the queue stays.
    pub(super) fn close(&self) {
        let head = self.memory.head();
        if let Some(_inside) = self.enter_get(Deadline::NEVER) {
            rouse(&head.room.0.notice.0);
            // Relaxed: whoever acts on it has passed this section, or finds it later.
            head.limits.0.closing.store(1, Relaxed);
        }
        self.seal(SEALED);
    }

    /// As [`close`](Self::close), and drops what is there; returns how many messages.
    pub(super) fn shut_down(&self) -> u32 {
        self.close();
        self.seal(DROPPING);
        self.clear()
    }

    /// The second half of closing, and the first one of dropping what is there.
    pub(super) fn seal(&self, how: u32) {
        let head = self.memory.head();
        if let Some(_inside) = self.enter_put(Deadline::NEVER)
            // Relaxed: changed in this section only.
            && head.limits.0.sealed.load(Relaxed) < how
        {
            rouse(&head.items.0.notice.0);
            // Release: partner is the load in `is_closed`.
            head.limits.0.sealed.store(how, Release);
        }
    }

    /// Whether somebody has begun to close, and perhaps died of it.
    pub(super) fn is_closing(&self) -> bool {
        // Relaxed: see `close`.
        self.memory.head().limits.0.closing.load(Relaxed) != 0
    }

    /// Takes all messages at once, unread, so that nobody has to report them; returns how many. For
    /// a queue that is closed, and whose consumers were told.
    pub(super) fn clear(&self) -> u32 {
        let head = self.memory.head();
        let Some(_inside) = self.enter_get(Deadline::NEVER) else {
            return 0;
        };
        if self.is_dropped() {
            return 0;
        }
        let start = self.next();
        // Acquire: partner is the store in `commit`.
        let end = Mark::from_bits(head.tail.0.load(Acquire));
        head.get.0.seen_tail.store(end.to_bits(), Relaxed);
        head.get.0.dropped_from.store(start.to_bits(), Relaxed);
        rouse_waiting(&head.tasks.0);
        let given_back = head.get.0.given_back.load(Relaxed);
        self.take(end, DROPPED);
        self.free_dropped();
        end.messages_since(start) + given_back
    }
}

/// How long a call waits for a section, in which nobody waits.
#[inline]
fn in_section(patience: Patience) -> Deadline {
    match patience {
        Patience::None => Deadline::NEVER,
        Patience::Until(deadline) => deadline,
    }
}

/// What a call says that may not wait any longer.
fn refusal(patience: Patience) -> Stop {
    match patience {
        Patience::None => Stop::WouldBlock,
        Patience::Until(_) => Stop::TimedOut,
    }
}
