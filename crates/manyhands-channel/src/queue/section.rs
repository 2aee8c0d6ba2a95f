//! What is done inside of the sections of a queue; `raw.rs` tells why it is done in this order.
//!
//! Nothing here waits but for a section, allocates, or runs code of the user's. Everything that one
//! side has is changed in its section only, so access to it is Relaxed; head and tail, which the
//! other side reads, are stored with Release and loaded with Acquire.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::ground::{Block, Section, deposit, enter, handle_of, is_deposited, withdraw};
use super::layout::{DROPPED, Kind, Mark, RecordHead};
use super::ledger::Holders;
use super::message::{Batch, Call, Found, Front, Taking, first_record};
use super::raw::{RawQueue, Stop};
use super::sleep::{lie_down, rouse};
use crate::primitive::{Deadline, is_planted};
use crate::ring::RECORD_HEAD;

/// What the record of a number takes: a guess of what many small ones take.
const SMALL_RECORD: u64 = 16;

/// How a consumer sleeps.
pub(super) struct Bed {
    /// The sequence to sleep on.
    pub(super) expected: u32,
    /// Whose deaths to wake for.
    pub(super) holders: Holders,
}

impl RawQueue {
    /// Enters the producers' section, which is whole but for a block that was not put.
    #[inline]
    pub(super) fn enter_put(&self, deadline: Deadline) -> Option<Section<'_>> {
        let section = &self.memory.head().put.0.section;
        enter(section, deadline, || self.take_back_block())
    }

    /// Frees the block of a message whose producer has died before it was put.
    fn take_back_block(&self) {
        let head = self.memory.head();
        // Relaxed, all of them: changed in this section only.
        let block = head.put.0.block.load(Relaxed);
        if block == 0 {
            return;
        }
        if head.tail.0.load(Relaxed) == head.put.0.block_at.load(Relaxed) {
            // If it cannot be reached, it is freed with the queue.
            drop(withdraw(&self.memory, block));
        }
        head.put.0.block.store(0, Relaxed);
    }

    /// Writes as many of the messages as there is room for, and commits them at once; whether these were
    /// all.
    pub(super) fn try_put(
        &self,
        batch: &mut Batch<'_>,
        block: &mut Option<Block>,
        deadline: Deadline,
    ) -> Result<bool, Stop> {
        let head = self.memory.head();
        let side = &head.put.0;
        let Some(_inside) = self.enter_put(deadline) else {
            return Err(Stop::TimedOut);
        };
        // Relaxed here and below: what this side has is changed in its section only.
        if head.limits.0.sealed.load(Relaxed) != 0 {
            return Err(Stop::Closed);
        }
        let start = Mark::from_bits(head.tail.0.load(Relaxed));
        let mut seen = Mark::from_bits(side.seen_head.load(Relaxed));
        let (mut many, mut size) = batch.size();
        if !self.has_room(seen, start, many, size)? {
            seen = self.freed_until_now();
            side.seen_head.store(seen.to_bits(), Relaxed);
            if !self.has_room(seen, start, many, size)? {
                (many, size) = batch.part(|many, size| {
                    let fits = self.has_room(seen, start, many, size);
                    fits.is_ok_and(|fits| fits)
                });
            }
        }
        if many > 0 {
            let place = self.offset(start.bytes());
            let one = |head: RecordHead, payload: &[u8]| {
                self.memory.store_head(place, head.to_bits());
                self.write(self.payload(start), payload);
            };
            batch.write(size, one, |records| self.write(place, records));
            let end = start.behind(many, size);
            match block.take() {
                Some(block) => self.commit_block(block, start, end, seen),
                None => self.commit(end, seen),
            }
            batch.remove(many, size, end);
        }
        Ok(batch.size().0 == 0)
    }

    /// Writes what may wrap; inside of the producers' section, and there is room.
    #[inline]
    fn write(&self, place: u64, bytes: &[u8]) {
        let first = (self.bytes - place).min(bytes.len() as u64) as usize;
        let (before, after) = bytes.split_at(first);
        self.memory.write(place, before);
        if !after.is_empty() {
            self.memory.write(0, after);
        }
    }

    /// Commits a message that is a block, between `start` and `end`.
    fn commit_block(&self, block: Block, start: Mark, end: Mark, seen_head: Mark) {
        let side = &self.memory.head().put.0;
        // Relaxed: changed in this section only.
        side.block_at.store(start.to_bits(), Relaxed);
        // Release, both: whoever repairs after a death finds what was stored before.
        side.block.store(handle_of(&block), Release);
        deposit(&self.memory, block);
        self.commit(end, seen_head);
        side.block.store(0, Release);
    }

    /// Commits all that was written before `end`; inside of the producers' section.
    #[inline]
    fn commit(&self, end: Mark, seen_head: Mark) {
        let head = self.memory.head();
        let (side, notice) = (&head.put.0, &head.items.0.notice.0);
        let many = end.messages_since(seen_head);
        // Relaxed, all but the tail: changed in this section only.
        if many > side.peak.load(Relaxed) {
            side.peak.store(many, Relaxed);
        }
        let is_waited_for = notice.waiting.load(Relaxed) != 0;
        if is_waited_for {
            rouse(notice);
        }
        // Release: partners are the loads of `tail` in `front` and `clear`.
        head.tail.0.store(end.to_bits(), Release);
        if is_waited_for {
            notice.waiting.store(0, Relaxed);
        }
    }

    /// Copies the message in front, and takes it unless it has handles; and those behind it that
    /// have none, if these are wanted and there is room for them where they are copied to. Whether it was
    /// taken so; if not, `into` has what was found.
    pub(super) fn look(
        &self,
        into: &mut Taking<'_>,
        call: Call,
        has_turn: bool,
        deadline: Deadline,
    ) -> Result<bool, Stop> {
        let Some(inside) = self.enter_get(deadline) else {
            return Err(Stop::TimedOut);
        };
        if self.is_dropped() {
            return Err(Stop::Closed);
        }
        let Some(front) = self.first(has_turn)? else {
            drop(inside);
            // The end is looked at before the tail: what was put before the end is there then.
            return match self.is_closed() && self.used().0 == 0 {
                true => Err(Stop::Closed),
                false => into.found(Found::Nothing),
            };
        };
        if front.head.kind.is_holding() && !has_turn {
            return into.found(Found::NeedsTurn);
        }
        let is_block = front.head.kind.is_block();
        if !is_block && !into.has_room(front.head) {
            let needed = into.copied(front.head);
            return into.found(Found::NeedsRoom(needed as usize));
        }
        if call == Call::Lease {
            let free = self.free_lease().or(front.lease);
            let free = free.ok_or(Stop::TooManyLeases)?;
            if !is_block {
                self.copy(front, into);
            }
            let ticket = self.lease_front(front, free, self.me);
            return into.found(Found::Leased(ticket));
        }
        if is_block {
            return self.take_block(front, into);
        }
        self.copy(front, into);
        match (front.head.kind, front.lease) {
            (Kind::Plain, None) => self.take_with_others(front, into)?,
            (Kind::Plain, Some(lease)) => self.finish(lease, false),
            _ => return into.found(Found::Seen(front, None)),
        }
        Ok(true)
    }

    /// The message to come next. One whose block is gone was taken by somebody who died of it, and is
    /// removed; but one with ends of rings may be in the hands of who has the turn, and is unpacked.
    #[inline]
    pub(super) fn first(&self, has_turn: bool) -> Result<Option<Front>, Stop> {
        loop {
            let front = match self.first_given_back()? {
                None => self.front(self.next())?,
                given_back => given_back,
            };
            let block = front.and_then(|front| self.block_of(front));
            let (Some(front), Some(block)) = (front, block) else {
                return Ok(front);
            };
            let is_others = front.head.kind.is_holding() && !has_turn;
            if is_others || is_deposited(&self.memory, block)? {
                return Ok(Some(front));
            }
            match front.lease {
                // Its holder was about to commit it. What was given back is not reported.
                Some(lease) => {
                    self.lease_front(front, lease, self.me);
                    self.finish(lease, true);
                }
                None => self.take(front.end, 0),
            }
        }
    }

    /// The handle of a message's block, if it is one.
    #[inline]
    pub(super) fn block_of(&self, message: Front) -> Option<u64> {
        let is_block = message.head.kind.is_block();
        is_block.then(|| self.memory.load_head(self.payload(message.start)))
    }

    /// Takes the block of the message in front, and the message, if it has no handles.
    fn take_block(&self, front: Front, into: &mut Taking<'_>) -> Result<bool, Stop> {
        let handle = self.block_of(front).ok_or(Stop::Corrupt)?;
        let block = withdraw(&self.memory, handle)?.ok_or(Stop::Corrupt)?;
        match (front.head.kind, front.lease) {
            (Kind::HoldingBlock, _) => return into.found(Found::Seen(front, Some(block))),
            (_, Some(lease)) => self.finish(lease, false),
            (_, None) => self.take(front.end, 0),
        }
        into.found(Found::Block(block))
    }

    /// Takes a message that was copied, and those behind it, if these are wanted and there is room.
    #[inline]
    fn take_with_others(&self, front: Front, into: &mut Taking<'_>) -> Result<(), Stop> {
        let (mut end, mut left) = (front.end, into.most.saturating_sub(1) as u32);
        while left > 0
            && let Some(next) = self.front(end)?
            && next.head.kind == Kind::Plain
            && into.has_room(next.head)
        {
            let (many, size) = self.copy_some(next, left, into)?;
            end = end.behind(many, size);
            left -= many;
        }
        self.take(end, 0);
        Ok(())
    }

    /// Copies a message; there is room for it.
    #[inline]
    fn copy(&self, message: Front, into: &mut Taking<'_>) {
        let start = match into.most {
            0 => self.payload(message.start),
            _ => self.offset(message.start.bytes()),
        };
        self.append(start, into.copied(message.head), into);
    }

    /// Copies a plain message, and those behind it, `most` in all, as far as they are plain and there
    /// is room: how many, and what their records take.
    ///
    /// More is copied than looked at, and what was too much thrown away: the lines of the ring, which
    /// another core has written, come all at once then, and not each when the record before it has told
    /// where the next one is.
    fn copy_some(
        &self,
        first: Front,
        most: u32,
        into: &mut Taking<'_>,
    ) -> Result<(u32, u64), Stop> {
        // Relaxed: changed in this section only.
        let tail = Mark::from_bits(self.memory.head().get.0.seen_tail.load(Relaxed));
        let guess = u64::from(most) * SMALL_RECORD;
        let there = tail.bytes_since(first.start).min(into.room());
        let before = into.bytes.len();
        let start = self.offset(first.start.bytes());
        self.append(start, there.min(guess.max(first.head.size())), into);
        let (mut many, mut size) = (0, 0);
        // From the copy: the place is not read twice.
        let mut records = &into.bytes[before..];
        while many < most
            && let Some(head) = first_record(records)
            && head.kind == Kind::Plain
            && let Some(rest) = records.get(head.size() as usize..)
        {
            records = rest;
            many += 1;
            size += head.size();
        }
        into.bytes.truncate(before + size as usize);
        match many {
            0 => Err(Stop::Corrupt),
            _ => Ok((many, size)),
        }
    }

    /// Copies what may wrap; there is room for it.
    #[inline]
    fn append(&self, start: u64, length: u64, into: &mut Taking<'_>) {
        let first = (self.bytes - start).min(length);
        self.memory.append(start, first, into.bytes);
        if length > first {
            self.memory.append(0, length - first, into.bytes);
        }
    }

    /// The message that begins at `start`, if there is one; inside of the consumers' section.
    #[inline]
    fn front(&self, start: Mark) -> Result<Option<Front>, Stop> {
        let head = self.memory.head();
        // Relaxed: changed in this section only.
        let mut tail = Mark::from_bits(head.get.0.seen_tail.load(Relaxed));
        if start == tail {
            // Acquire: partner is the store in `commit`.
            tail = Mark::from_bits(head.tail.0.load(Acquire));
            head.get.0.seen_tail.store(tail.to_bits(), Relaxed);
        }
        if start == tail {
            return Ok(None);
        }
        let record = self.record(start, tail)?;
        Ok(Some(Front {
            lease: None,
            head: record,
            start,
            end: start.behind(1, record.size()),
        }))
    }

    /// Takes everything before `end`, and says how; inside of the consumers' section.
    #[inline]
    pub(super) fn take(&self, end: Mark, how: u64) {
        let head = self.memory.head();
        let mut freed = self.freed(end, None);
        let is_waited_for = self.rouse_for_room(freed);
        // Release: partners are the loads in `available` and `is_dropped`.
        head.get.0.next.store(end.to_bits() | how, Release);
        if how == DROPPED {
            freed = self.freed(end, None);
        }
        // Release: partner is the load in `freed_until_now`; our reads lie before it.
        head.head.0.store(freed.to_bits(), Release);
        if is_waited_for {
            // Relaxed: changed in this section only.
            head.room.0.notice.0.waiting.store(0, Relaxed);
        }
    }

    /// Wakes who waits for room, if there is enough once so much is free; whether somebody did.
    #[inline]
    pub(super) fn rouse_for_room(&self, freed: Mark) -> bool {
        let room = &self.memory.head().room.0.notice.0;
        // Relaxed, both: changed in this section only.
        let is_waited_for = room.waiting.load(Relaxed) != 0
            && freed.has_reached(Mark::from_bits(room.wanted.load(Relaxed)));
        if is_waited_for {
            rouse(room);
        }
        is_waited_for
    }

    /// Takes a message that was seen, unless somebody has cleared the queue meanwhile.
    pub(super) fn take_seen(&self, front: Front) {
        let Some(_inside) = self.enter_get(Deadline::NEVER) else {
            return;
        };
        if self.is_dropped() {
            return;
        }
        match front.lease {
            // Nobody else takes or leases such a message without the turn, which the caller has.
            Some(lease) => self.finish(lease, false),
            None if self.next() == front.start => self.take(front.end, 0),
            None => {}
        }
    }

    /// Says in both sections that a consumer is going to sleep; `None` when there is no reason to.
    ///
    /// What it has seen in the one must be so still in the other one: then no message came, and so
    /// none was leased, by nobody whose death it would not wake for.
    pub(super) fn lie_down_for_items(&self, deadline: Deadline) -> Option<Bed> {
        let head = self.memory.head();
        let (expected, holders, tail, sealed) = self.watch_leases(deadline)?;
        let _inside = self.enter_put(deadline)?;
        // Relaxed: both are changed in this section only.
        let is_empty = is_planted("queue") || head.tail.0.load(Relaxed) == tail.to_bits();
        let goes_on = head.limits.0.sealed.load(Relaxed) == sealed;
        (is_empty && goes_on).then(|| {
            // Relaxed: changed in this section only.
            head.items.0.notice.0.waiting.store(1, Relaxed);
            Bed { expected, holders }
        })
    }

    /// As [`lie_down_for_items`](Self::lie_down_for_items), for a producer and `size` bytes.
    pub(super) fn lie_down_for_room(&self, size: u64, deadline: Deadline) -> Option<u32> {
        let head = self.memory.head();
        let _inside = self.enter_get(deadline)?;
        // Acquire: partner is the store in `commit`.
        let tail = Mark::from_bits(head.tail.0.load(Acquire));
        let is_full = !self.has_room(self.freed_until_now(), tail, 1, size).ok()?;
        (is_full && !self.is_closing()).then(|| {
            let room = &head.room.0.notice.0;
            let end = tail.behind(1, size);
            let wanted = Mark::new(
                end.messages().wrapping_sub(self.items),
                end.bytes().wrapping_sub(self.bytes as u32),
            );
            // Who has the turn, and tasks, which have none, may sleep here at once. All are woken when the first
            // of them can go on. Relaxed, all: read in this section only.
            let wanted = match room.waiting.load(Relaxed) {
                0 => wanted,
                _ => wanted.earlier(Mark::from_bits(room.wanted.load(Relaxed))),
            };
            room.wanted.store(wanted.to_bits(), Relaxed);
            lie_down(room)
        })
    }

    /// Whether there seems to be room, for who looks before it sleeps.
    pub(super) fn looks_roomy(&self, size: u64) -> bool {
        let (messages, bytes) = self.used();
        messages < self.items && bytes + size <= self.bytes
    }

    #[inline]
    fn has_room(&self, head: Mark, tail: Mark, many: u32, size: u64) -> Result<bool, Stop> {
        let used = tail.bytes_since(head);
        if used > self.bytes || !used.is_multiple_of(8) {
            return Err(Stop::Corrupt);
        }
        let items = u64::from(tail.messages_since(head)) + u64::from(many);
        Ok(items <= self.items.into() && used + size <= self.bytes)
    }

    /// Where the payload of the record at a place begins; it may wrap.
    #[inline]
    pub(super) fn payload(&self, record: Mark) -> u64 {
        self.offset(record.bytes().wrapping_add(RECORD_HEAD as u32))
    }

    #[inline]
    pub(super) fn offset(&self, position: u32) -> u64 {
        u64::from(position) & (self.bytes - 1)
    }
}
