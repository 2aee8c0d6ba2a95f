//! The queue's protocol, on bytes.
//!
//! # Sections
//!
//! Producers take turns in the short section of their side, consumers in that of theirs; the two
//! sides do not exclude each other. A message is written behind the tail and committed by one store
//! of `tail`; it is copied out and taken by one store of `head`. Who is killed before its store has
//! done nothing: the next one writes over the half message, or reads the message again. So the
//! sections need no repair.
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
//! # Messages with handles
//!
//! What a handle names is held by the sender until `head` has passed the message, so the receiver
//! must have unpacked it before. That is user code, which no section may run. Such a message is
//! taken by who has the turn: read in the section, unpacked outside, taken in the section. Others
//! that find it in front wait for the turn.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manyhands_os::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_shm::Region;
use manyhands_sync::LockGuard;

use super::layout::{Header, Kind, Mark, Place, RecordHead};
use super::place::{enter, lie_down, rouse, turn};
use crate::ring::{Corrupt, Mapped, Patience, RECORD_HEAD, place_locks, record_size};

/// The bytes of a queue in its region.
pub(super) type Memory = Mapped<Header>;

/// The most bytes of records: two places in the queue are never half the range of a place apart.
pub(super) const MOST_BYTES: u64 = 1 << 30;

/// A queue of bytes in a region.
#[derive(Clone, Debug)]
pub(super) struct RawQueue {
    memory: Memory,
    /// A power of two.
    bytes: u64,
    items: u32,
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
    /// The thread holds too many locks to take one more.
    TooManyHeld,
    Corrupt,
}

impl From<Corrupt> for Stop {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}

/// The message in front.
#[derive(Clone, Copy, Debug)]
struct Front {
    head: RecordHead,
    /// Where it begins, and what lies behind it.
    start: Mark,
    end: Mark,
}

/// What a look at the front of the queue found.
enum Look {
    /// The message is in the buffer, and taken.
    Taken,
    /// The message is in the buffer, and to be taken when it is unpacked.
    Seen(Front),
    Nothing,
    /// The message has handles, and the caller has not the turn.
    NeedsTurn,
    /// The buffer needs room for so many bytes first.
    NeedsRoom(usize),
}

/// A message that was copied out.
pub(super) enum Message<'a> {
    Taken,
    /// It is still in the queue until this is dropped.
    Seen(Seen<'a>),
}

/// A message that is being unpacked; dropping this takes it, also when unpacking panics.
pub(super) struct Seen<'a> {
    queue: &'a RawQueue,
    front: Front,
    _turn: LockGuard<'a, ()>,
}

impl Seen<'_> {
    /// Whether the payload is the handle of a region.
    pub(super) fn is_region(&self) -> bool {
        self.front.head.kind == Kind::Region
    }
}

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        self.queue.take_seen(self.front);
    }
}

impl RawQueue {
    /// Makes a queue in a new region of `size_of::<Header>() + bytes` bytes.
    pub(super) fn make(region: Region, bytes: u64, items: u32) -> Result<Self, Corrupt> {
        let memory = Memory::new(region)?;
        place_locks(&memory);
        let limits = &memory.head().limits.0;
        // Relaxed: nobody else knows the region yet.
        limits.bytes.store(bytes, Relaxed);
        limits.items.store(items, Relaxed);
        Self::attach(memory.region().clone())
    }

    /// The queue that lies in a region.
    pub(super) fn attach(region: Region) -> Result<Self, Corrupt> {
        let memory = Memory::new(region)?;
        let limits = &memory.head().limits.0;
        // Relaxed: written before the handle of the region went anywhere.
        let (bytes, items) = (limits.bytes.load(Relaxed), limits.items.load(Relaxed));
        let fits = bytes.is_power_of_two() && bytes <= memory.len() && bytes <= MOST_BYTES;
        if !fits || items == 0 {
            return Err(Corrupt);
        }
        Ok(Self {
            memory,
            bytes,
            items,
        })
    }

    pub(super) fn region(&self) -> &Region {
        self.memory.region()
    }

    /// The bytes of records that fit.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The messages that fit.
    pub(super) fn items(&self) -> u32 {
        self.items
    }

    /// How many messages there are, and the bytes of their records; old when it is read.
    pub(super) fn used(&self) -> (u32, u64) {
        // The head first: it never passes the tail, which is read later.
        let head = self.taken();
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

    pub(super) fn is_closed(&self) -> bool {
        // Acquire: whoever sees the end sees every message before it.
        self.memory.head().limits.0.sealed.load(Acquire) != 0
    }

    /// What was taken until now.
    pub(super) fn taken(&self) -> Mark {
        // Acquire: partner is the store in `take`; the consumer is done with what lies before.
        Mark::from_bits(self.memory.head().head.0.load(Acquire))
    }

    /// Whether the message that ends at `mark` was taken, or will never be: nobody else has the queue.
    pub(super) fn has_passed(&mut self, mark: Mark) -> bool {
        self.taken().has_reached(mark) || self.memory.is_only()
    }

    /// Puts a message behind the others; returns the place behind it.
    pub(super) fn put(&self, kind: Kind, payload: &[u8], patience: Patience) -> Result<Mark, Stop> {
        if let Some(mark) = self.try_put(kind, payload, in_section(patience))? {
            return Ok(mark);
        }
        let deadline = patience.left().ok_or_else(|| refusal(patience))?;
        let room = &self.memory.head().room.0;
        let _turn = turn(room, deadline)?;
        let size = record_size(payload.len() as u64);
        loop {
            if let Some(mark) = self.try_put(kind, payload, deadline)? {
                return Ok(mark);
            }
            if self.is_closing() {
                self.seal();
                continue;
            }
            if deadline.has_passed() {
                return Err(Stop::TimedOut);
            }
            let has_room = || self.looks_roomy(size) || self.is_closing();
            room.spin.wait(deadline, has_room, || {
                if let Some(expected) = self.lie_down_for_room(size, deadline) {
                    futex::wait(&room.notice.0.sequence, expected, Scope::Shared, deadline);
                }
            });
        }
    }

    /// Copies the first message to the end of `into`.
    pub(super) fn get(&self, into: &mut Vec<u8>, patience: Patience) -> Result<Message<'_>, Stop> {
        loop {
            match self.look(into, false, in_section(patience))? {
                Look::Taken => return Ok(Message::Taken),
                Look::NeedsRoom(length) => into.reserve(length),
                Look::Nothing | Look::NeedsTurn | Look::Seen(_) => break,
            }
        }
        let items = &self.memory.head().items.0;
        let deadline = match patience {
            Patience::Until(deadline) if deadline.has_passed() => return Err(Stop::TimedOut),
            Patience::Until(deadline) => deadline,
            Patience::None if self.used().0 == 0 => return Err(Stop::WouldBlock),
            // Whoever has the turn is about to take the message in front.
            Patience::None => Deadline::now(),
        };
        let turn = turn(items, deadline).map_err(|stop| match (stop, patience) {
            (Stop::TimedOut, Patience::None) => Stop::WouldBlock,
            (stop, _) => stop,
        })?;
        loop {
            match self.look(into, true, deadline)? {
                Look::Taken => return Ok(Message::Taken),
                Look::Seen(front) => {
                    return Ok(Message::Seen(Seen {
                        queue: self,
                        front,
                        _turn: turn,
                    }));
                }
                Look::NeedsRoom(length) => {
                    into.reserve(length);
                    continue;
                }
                Look::Nothing | Look::NeedsTurn => {}
            }
            if deadline.has_passed() {
                return Err(refusal(patience));
            }
            items.spin.wait(
                deadline,
                || self.used().0 > 0 || self.is_closed(),
                || {
                    if let Some(expected) = self.lie_down_for_items(deadline) {
                        futex::wait(&items.notice.0.sequence, expected, Scope::Shared, deadline);
                    }
                },
            );
        }
    }

    /// Lets nobody put any more. What is in the queue stays.
    pub(super) fn close(&self) {
        let head = self.memory.head();
        if let Some(_inside) = enter(&head.get.0.section, Deadline::NEVER) {
            rouse(&head.room.0.notice.0);
            // Relaxed: whoever acts on it has passed this section, or finds it later.
            head.limits.0.closing.store(1, Relaxed);
        }
        self.seal();
    }

    /// The second half of closing.
    fn seal(&self) {
        let head = self.memory.head();
        if let Some(_inside) = enter(&head.put.0.section, Deadline::NEVER) {
            rouse(&head.items.0.notice.0);
            // Release: partner is the load in `is_closed`.
            head.limits.0.sealed.store(1, Release);
        }
    }

    /// Whether somebody has begun to close, and perhaps died of it.
    fn is_closing(&self) -> bool {
        // Relaxed: see `close`.
        self.memory.head().limits.0.closing.load(Relaxed) != 0
    }

    /// Takes all messages at once, unread; returns how many.
    pub(super) fn clear(&self) -> u32 {
        let head = self.memory.head();
        let Some(_inside) = enter(&head.get.0.section, Deadline::NEVER) else {
            return 0;
        };
        // Relaxed: changed in this section only.
        let start = Mark::from_bits(head.head.0.load(Relaxed));
        // Acquire: partner is the store in `try_put`.
        let end = Mark::from_bits(head.tail.0.load(Acquire));
        head.get.0.seen_tail.store(end.to_bits(), Relaxed);
        self.take(end);
        end.messages_since(start)
    }

    /// Writes and commits a message if there is room.
    fn try_put(
        &self,
        kind: Kind,
        payload: &[u8],
        deadline: Deadline,
    ) -> Result<Option<Mark>, Stop> {
        let head = self.memory.head();
        let side = &head.put.0;
        let _inside = enter(&side.section, deadline).ok_or(Stop::TimedOut)?;
        // Relaxed here and below: what this side has is changed in its section only.
        if head.limits.0.sealed.load(Relaxed) != 0 {
            return Err(Stop::Closed);
        }
        let tail = Mark::from_bits(head.tail.0.load(Relaxed));
        let size = record_size(payload.len() as u64);
        let mut seen = Mark::from_bits(side.seen_head.load(Relaxed));
        if !self.has_room(seen, tail, size)? {
            seen = self.taken();
            side.seen_head.store(seen.to_bits(), Relaxed);
            if !self.has_room(seen, tail, size)? {
                return Ok(None);
            }
        }
        let record = RecordHead {
            kind,
            // The caller puts long payloads into regions.
            length: payload.len() as u32,
        };
        self.memory
            .store_head(self.offset(tail.bytes()), record.to_bits());
        let start = self.payload(tail);
        let first = (self.bytes - start).min(payload.len() as u64) as usize;
        let (before, after) = payload.split_at(first);
        self.memory.write(start, before);
        if !after.is_empty() {
            self.memory.write(0, after);
        }
        let end = tail.behind(size);
        let many = end.messages_since(seen);
        if many > side.peak.load(Relaxed) {
            side.peak.store(many, Relaxed);
        }
        let is_waited_for = head.items.0.notice.0.waiting.load(Relaxed) != 0;
        if is_waited_for {
            rouse(&head.items.0.notice.0);
        }
        // Release: partners are the loads of `tail` in `look` and `clear`.
        head.tail.0.store(end.to_bits(), Release);
        if is_waited_for {
            head.items.0.notice.0.waiting.store(0, Relaxed);
        }
        Ok(Some(end))
    }

    /// Copies the message in front, and takes it unless it has handles.
    fn look(&self, into: &mut Vec<u8>, has_turn: bool, deadline: Deadline) -> Result<Look, Stop> {
        let inside = enter(&self.memory.head().get.0.section, deadline).ok_or(Stop::TimedOut)?;
        let Some(front) = self.front()? else {
            drop(inside);
            // The end is looked at before the tail: what was put before the end is there then.
            return match self.is_closed() && self.used().0 == 0 {
                true => Err(Stop::Closed),
                false => Ok(Look::Nothing),
            };
        };
        if front.head.kind != Kind::Plain && !has_turn {
            return Ok(Look::NeedsTurn);
        }
        let length = u64::from(front.head.length);
        if ((into.capacity() - into.len()) as u64) < length {
            return Ok(Look::NeedsRoom(length as usize));
        }
        let start = self.payload(front.start);
        let first = (self.bytes - start).min(length);
        self.memory.append(start, first, into);
        if length > first {
            self.memory.append(0, length - first, into);
        }
        if front.head.kind != Kind::Plain {
            return Ok(Look::Seen(front));
        }
        self.take(front.end);
        Ok(Look::Taken)
    }

    /// The message in front; inside of the consumers' section.
    fn front(&self) -> Result<Option<Front>, Stop> {
        let head = self.memory.head();
        // Relaxed: changed in this section only.
        let start = Mark::from_bits(head.head.0.load(Relaxed));
        let mut tail = Mark::from_bits(head.get.0.seen_tail.load(Relaxed));
        if start == tail {
            // Acquire: partner is the store in `try_put`.
            tail = Mark::from_bits(head.tail.0.load(Acquire));
            head.get.0.seen_tail.store(tail.to_bits(), Relaxed);
        }
        if start == tail {
            return Ok(None);
        }
        // One load, checked, and used from the copy: the place is not read twice.
        let bits = self.memory.load_head(self.offset(start.bytes()));
        let record = RecordHead::from_bits(bits).ok_or(Stop::Corrupt)?;
        let there = tail.bytes_since(start);
        if record.size() > there || there > self.bytes || !start.bytes().is_multiple_of(8) {
            return Err(Stop::Corrupt);
        }
        Ok(Some(Front {
            head: record,
            start,
            end: start.behind(record.size()),
        }))
    }

    /// Takes everything before `end`; inside of the consumers' section.
    fn take(&self, end: Mark) {
        let head = self.memory.head();
        let room = &head.room.0.notice.0;
        // Relaxed, all of them: changed in this section only.
        let is_waited_for = room.waiting.load(Relaxed) != 0
            && end.has_reached(Mark::from_bits(room.wanted.load(Relaxed)));
        if is_waited_for {
            rouse(room);
        }
        // Release: partner is the load in `taken`; our reads lie before it.
        head.head.0.store(end.to_bits(), Release);
        if is_waited_for {
            room.waiting.store(0, Relaxed);
        }
    }

    /// Takes a message that was seen, unless somebody has cleared the queue meanwhile.
    fn take_seen(&self, front: Front) {
        let head = self.memory.head();
        if let Some(_inside) = enter(&head.get.0.section, Deadline::NEVER)
            // Relaxed: changed in this section only.
            && head.head.0.load(Relaxed) == front.start.to_bits()
        {
            self.take(front.end);
        }
    }

    /// Says that a consumer is going to sleep; `None` when there is no reason to. The sequence to
    /// sleep on.
    fn lie_down_for_items(&self, deadline: Deadline) -> Option<u32> {
        let head = self.memory.head();
        let _inside = enter(&head.put.0.section, deadline)?;
        // Relaxed: both are changed in this section only.
        let is_empty = head.tail.0.load(Relaxed) == self.taken().to_bits();
        let goes_on = head.limits.0.sealed.load(Relaxed) == 0;
        (is_empty && goes_on).then(|| lie_down(&head.items.0.notice.0))
    }

    /// As [`lie_down_for_items`](Self::lie_down_for_items), for a producer and `size` bytes.
    fn lie_down_for_room(&self, size: u64, deadline: Deadline) -> Option<u32> {
        let head = self.memory.head();
        let _inside = enter(&head.get.0.section, deadline)?;
        // Acquire: partner is the store in `try_put`.
        let tail = Mark::from_bits(head.tail.0.load(Acquire));
        let is_full = !self.has_room(self.taken(), tail, size).ok()?;
        (is_full && !self.is_closing()).then(|| {
            let room = &head.room.0.notice.0;
            let end = tail.behind(size);
            let wanted = Mark::new(
                end.messages().wrapping_sub(self.items),
                end.bytes().wrapping_sub(self.bytes as u32),
            );
            // Relaxed: read in this section only.
            room.wanted.store(wanted.to_bits(), Relaxed);
            lie_down(room)
        })
    }

    /// Whether there seems to be room, for who looks before it sleeps.
    fn looks_roomy(&self, size: u64) -> bool {
        let (messages, bytes) = self.used();
        messages < self.items && bytes + size <= self.bytes
    }

    fn has_room(&self, head: Mark, tail: Mark, size: u64) -> Result<bool, Stop> {
        let used = tail.bytes_since(head);
        if used > self.bytes || !used.is_multiple_of(8) {
            return Err(Stop::Corrupt);
        }
        Ok(tail.messages_since(head) < self.items && used + size <= self.bytes)
    }

    /// Where the payload of the record at a place begins; it may wrap.
    fn payload(&self, record: Mark) -> u64 {
        self.offset(record.bytes().wrapping_add(RECORD_HEAD as u32))
    }

    fn offset(&self, position: u32) -> u64 {
        u64::from(position) & (self.bytes - 1)
    }
}

/// How long a call waits for a section, in which nobody waits.
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
