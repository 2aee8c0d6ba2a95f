//! Messages that are leased, and what becomes of them; inside of the consumers' section.
//!
//! A leased message stays where it is in the ring, so what it refers to is still kept by its
//! producer. `next` has passed it, and an entry of the ledger says where it begins and who has it. The
//! head, which tells producers what is free, has passed only what neither is in the queue nor has an
//! entry; its count of messages is exact, its count of bytes stops at the first message that is
//! leased, since the ring is freed in its order.
//!
//! # What a kill leaves
//!
//! Everything is done by one store, in an order in which all stores before it are Release, and the
//! rest is made up for by the next one who enters the section ([`RawQueue::repair`]):
//!
//! | done | by the store of | before it | after it |
//! |---|---|---|---|
//! | a message is taken | `next` | | the head |
//! | leased | `next` | the entry, and its bit in `out`: it begins at `next`, so it is none yet | |
//! | leased again | `state` | `holder` | the count of those given back |
//! | given back | `state` | who sleeps is woken | that count |
//! | finished | `state` | who sleeps is woken; in the entry, what `done` is to be | `done`, the bit in `out`, the head |
//!
//! # Whose it is
//!
//! A lease belongs to a process, whose life word tells whether it has died. Whoever looks for a
//! message gives back what the dead had, and who sleeps for one is woken by each such death: it lies
//! down with all the lives of those who have leases, and no lease can come after that without a
//! message that wakes it. A thread of the dead that still runs for a moment finds its lease gone, or has
//! finished it before; the section decides.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::ground::{self, Section, enter, has_deposits, withdraw};
use super::layout::{
    DROPPED, DROPPING, GetSide, LEASES, Lease, LeaseState, Mark, RecordHead, Stage,
};
use super::message::{Front, Ticket};
use super::raw::{RawQueue, Stop};
use super::sleep::{rouse, rouse_waiting};
use crate::primitive::{Deadline, is_planted};

/// Those who have leases, each once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holders {
    bits: [u64; LEASES],
    len: usize,
}

impl Holders {
    pub(super) const NONE: Self = Self {
        bits: [0; LEASES],
        len: 0,
    };

    pub(super) fn add(&mut self, who: u64) {
        if !self.as_slice().contains(&who) {
            self.bits[self.len] = who;
            self.len += 1;
        }
    }

    pub(super) fn as_slice(&self) -> &[u64] {
        &self.bits[..self.len]
    }
}

impl GetSide {
    /// The leases there are.
    #[inline]
    fn out(&self) -> impl Iterator<Item = usize> {
        // Relaxed: changed in this section only.
        let mut words = self.out.each_ref().map(|word| word.load(Relaxed));
        std::iter::from_fn(move || {
            let word = words.iter().position(|word| *word != 0)?;
            let bit = words[word].trailing_zeros() as usize;
            words[word] &= words[word] - 1;
            Some(64 * word + bit)
        })
    }

    fn mark_out(&self, lease: usize, is_out: bool) {
        let word = &self.out[lease / 64];
        let bit = 1 << (lease % 64);
        // Relaxed: changed in this section only.
        let others = word.load(Relaxed) & !bit;
        // Release: see the table.
        word.store(if is_out { others | bit } else { others }, Release);
    }
}

impl Lease {
    fn start(&self) -> Mark {
        // Relaxed: changed in this section only.
        Mark::from_bits(self.start.load(Relaxed))
    }

    fn state(&self) -> Option<LeaseState> {
        // Relaxed: changed in this section only.
        LeaseState::from_bits(self.state.load(Relaxed))
    }

    fn is(&self, stage: Stage) -> bool {
        self.state().is_some_and(|state| state.stage == stage)
    }

    fn enter(&self, state: LeaseState) {
        // Release: see the table.
        self.state.store(state.to_bits(), Release);
    }
}

impl RawQueue {
    #[inline]
    fn side(&self) -> &GetSide {
        &self.head().get.0
    }

    #[inline]
    fn entry(&self, lease: usize) -> &Lease {
        &self.head().leases[lease]
    }

    /// Enters the consumers' section, which is whole then.
    #[inline]
    pub(super) fn enter_get(&self, deadline: Deadline) -> Option<Section<'_>> {
        enter(&self.side().section, deadline, || self.repair())
    }

    /// Does the rest of what somebody had done who died of it.
    fn repair(&self) {
        let side = self.side();
        let next = self.next();
        for lease in side.out() {
            let entry = self.entry(lease);
            if entry.start() == next {
                side.mark_out(lease, false);
            } else if entry.is(Stage::Finished) {
                self.clear_away(lease);
            }
        }
        self.count_given_back();
        if self.is_dropped() {
            self.free_dropped();
        }
        // Release: as in `take`.
        let freed = self.freed(next, None).to_bits();
        self.head().head.0.store(freed, Release);
    }

    /// The message to come next, and behind the last one that was had.
    #[inline]
    pub(super) fn next(&self) -> Mark {
        // Relaxed: changed in this section only.
        Mark::from_bits(self.side().next.load(Relaxed))
    }

    /// Whether everything that was left was dropped.
    #[inline]
    pub(super) fn is_dropped(&self) -> bool {
        // Acquire: partner is the store in `take`; what was written before it is seen.
        self.side().next.load(Acquire) & DROPPED != 0
    }

    /// How many messages there are for whoever asks; old when it is read.
    pub(super) fn available(&self) -> u32 {
        // Acquire: the tail is read later, so that it is not behind.
        let next = self.side().next.load(Acquire);
        if next & DROPPED != 0 {
            return 0;
        }
        // Relaxed, both: for information.
        let tail = Mark::from_bits(self.head().tail.0.load(Relaxed));
        let given_back = self.side().given_back.load(Relaxed);
        tail.messages_since(Mark::from_bits(next)) + given_back
    }

    /// How many messages somebody has a lease of; old when it is read.
    pub(super) fn leased(&self) -> u32 {
        let out = self.side().out().count() as u32;
        // Relaxed: for information.
        out.saturating_sub(self.side().given_back.load(Relaxed))
    }

    /// What is free when `next` is as given, and this lease is finished.
    #[inline]
    pub(super) fn freed(&self, next: Mark, finished: Option<usize>) -> Mark {
        let is_dropped = self.is_dropped();
        let (mut messages, mut bytes) = (0, 0);
        for lease in self.side().out() {
            let entry = self.entry(lease);
            let is_over = is_dropped && entry.is(Stage::GivenBack);
            if Some(lease) != finished && !is_over {
                messages += 1;
                bytes = bytes.max(next.bytes_since(entry.start()) as u32);
            }
        }
        Mark::new(
            next.messages().wrapping_sub(messages),
            next.bytes().wrapping_sub(bytes),
        )
    }

    fn count_given_back(&self) {
        let side = self.side();
        let is_given_back = |lease: &usize| self.entry(*lease).is(Stage::GivenBack);
        let count = side.out().filter(is_given_back).count() as u32;
        // Relaxed: a cache.
        side.given_back.store(count, Relaxed);
    }

    /// The oldest message that was given back.
    #[inline]
    pub(super) fn first_given_back(&self) -> Result<Option<Front>, Stop> {
        self.give_back_for_the_dead(|_| ());
        let side = self.side();
        // Relaxed: changed in this section only.
        if side.given_back.load(Relaxed) == 0 {
            return Ok(None);
        }
        let next = self.next();
        let given_back = side.out().filter(|lease| {
            let entry = self.entry(*lease);
            entry.is(Stage::GivenBack)
        });
        let Some(lease) = given_back.max_by_key(|lease| {
            let start = self.entry(*lease).start();
            next.bytes_since(start)
        }) else {
            return Err(Stop::Corrupt);
        };
        let start = self.entry(lease).start();
        let record = self.record(start, next)?;
        Ok(Some(Front {
            lease: Some(lease),
            head: record,
            start,
            end: start.behind(1, record.size()),
        }))
    }

    /// The head of the record at `start`, which ends at `end` or before.
    #[inline]
    pub(super) fn record(&self, start: Mark, end: Mark) -> Result<RecordHead, Stop> {
        // One load, checked, and used from the copy: the place is not read twice.
        let bits = self.memory.load_head(self.offset(start.bytes()));
        let record = RecordHead::from_bits(bits).ok_or(Stop::Corrupt)?;
        let there = end.bytes_since(start);
        if record.size() > there || there > self.bytes || !start.bytes().is_multiple_of(8) {
            return Err(Stop::Corrupt);
        }
        Ok(record)
    }

    /// Gives back what the dead had; tells who else has leases.
    #[inline]
    pub(super) fn give_back_for_the_dead(&self, mut lives: impl FnMut(u64)) {
        let side = self.side();
        let mut has_died = false;
        for lease in side.out() {
            let entry = self.entry(lease);
            // Relaxed: changed in this section only.
            let holder = entry.holder.load(Relaxed);
            let Some(state) = entry.state().filter(|state| state.stage == Stage::Leased) else {
                continue;
            };
            if holder == self.me {
                continue;
            }
            if ground::is_alive(holder) {
                lives(holder);
                continue;
            }
            // Nobody is woken: who sleeps sees the death itself.
            let stage = Stage::GivenBack;
            entry.enter(LeaseState { stage, ..state });
            has_died = true;
        }
        if has_died {
            self.count_given_back();
            if self.is_dropped() {
                self.free_dropped();
            }
        }
    }

    /// A lease that is not out.
    pub(super) fn free_lease(&self) -> Option<usize> {
        let free = self
            .side()
            .out
            .iter()
            .enumerate()
            .find_map(|(index, word)| {
                // Relaxed: changed in this section only.
                let lease = 64 * index + word.load(Relaxed).trailing_ones() as usize;
                (lease < 64 * (index + 1)).then_some(lease)
            });
        free.filter(|lease| *lease < LEASES)
    }

    /// Leases a message that was given back, or the one in front by an entry that is free.
    pub(super) fn lease_front(&self, front: Front, free: usize, holder: u64) -> Ticket {
        let (side, lease) = (self.side(), front.lease.unwrap_or(free));
        let entry = self.entry(lease);
        let before = match front.lease {
            Some(_) => entry.state().map_or(0, |state| state.deliveries),
            None => 0,
        };
        let state = LeaseState {
            stage: Stage::Leased,
            deliveries: before.saturating_add(1),
        };
        // Release: see the table.
        entry.holder.store(holder, Release);
        if front.lease.is_none() {
            entry.start.store(front.start.to_bits(), Release);
            entry.enter(state);
            side.mark_out(lease, true);
            side.next.store(front.end.to_bits(), Release);
        } else {
            entry.enter(state);
            self.count_given_back();
        }
        Ticket {
            lease,
            start: front.start,
            deliveries: state.deliveries,
            block: self.block_of(front),
        }
    }

    /// Whether the caller has the lease still.
    fn has(&self, ticket: Ticket) -> bool {
        let entry = self.entry(ticket.lease);
        let state = LeaseState {
            stage: Stage::Leased,
            deliveries: ticket.deliveries,
        };
        let is_out = self.side().out().any(|lease| lease == ticket.lease);
        is_out && entry.start() == ticket.start && entry.state() == Some(state)
    }

    /// Removes a leased message for good, and reports it; `false` when the lease was lost.
    pub(super) fn commit_lease(&self, ticket: Ticket) -> bool {
        let Some(inside) = self.enter_get(Deadline::NEVER) else {
            unreachable!("the deadline never passes");
        };
        let has = self.has(ticket);
        if has {
            // Before the message is finished: see `first`.
            let block = ticket.block.map(|block| withdraw(&self.memory, block));
            self.finish(ticket.lease, true);
            drop(inside);
            drop(block);
        }
        has
    }

    /// Whether the caller has the lease still; who has read its message asks that.
    pub(super) fn has_lease(&self, ticket: Ticket) -> bool {
        let inside = self.enter_get(Deadline::NEVER);
        inside.is_some_and(|_inside| self.has(ticket))
    }

    /// Frees the blocks of messages that were dropped; some of them may be free already.
    pub(super) fn free_dropped(&self) {
        if !has_deposits(&self.memory) {
            return;
        }
        let (side, end) = (self.side(), self.next());
        // Relaxed: changed in this section only.
        let mut start = Mark::from_bits(side.dropped_from.load(Relaxed));
        while start != end
            && let Some(behind) = self.free_block(start, end)
        {
            start = behind;
        }
        for lease in side.out() {
            let entry = self.entry(lease);
            if entry.is(Stage::GivenBack) {
                self.free_block(entry.start(), end);
            }
        }
    }

    /// Frees the block of the message at a place, if it is one; the place behind the message.
    fn free_block(&self, start: Mark, end: Mark) -> Option<Mark> {
        let front = Front {
            lease: None,
            head: self.record(start, end).ok()?,
            start,
            end,
        };
        if let Some(block) = self.block_of(front) {
            // If it cannot be reached, it is freed with the queue.
            drop(withdraw(&self.memory, block));
        }
        Some(start.behind(1, front.head.size()))
    }

    /// Lets somebody else have a leased message.
    pub(super) fn give_back(&self, ticket: Ticket) {
        let Some(_inside) = self.enter_get(Deadline::NEVER) else {
            unreachable!("the deadline never passes");
        };
        if !self.has(ticket) {
            return;
        }
        let side = self.side();
        let is_dropped = self.is_dropped();
        self.rouse_watcher();
        if is_dropped {
            rouse_waiting(&self.head().tasks.0);
        }
        self.entry(ticket.lease).enter(LeaseState {
            stage: Stage::GivenBack,
            deliveries: ticket.deliveries,
        });
        self.count_given_back();
        // Relaxed: changed in this section only.
        side.watched.store(0, Relaxed);
        if is_dropped {
            self.free_dropped();
            let freed = self.freed(self.next(), None).to_bits();
            // Release: as in `take`.
            self.head().head.0.store(freed, Release);
        }
    }

    /// Removes a message that has an entry, and perhaps reports it.
    pub(super) fn finish(&self, lease: usize, is_report: bool) {
        let (head, side) = (self.head(), self.side());
        let (next, entry) = (self.next(), self.entry(lease));
        let freed = self.freed(next, Some(lease));
        let is_waited_for = self.rouse_for_room(freed);
        // Relaxed: changed in this section only.
        let mut done = side.done.load(Relaxed);
        let (taken, all) = self.goals();
        if is_report && (taken.wrapping_sub(done) as i32) > 0 {
            done = done.wrapping_add(1);
            if done == all {
                rouse_waiting(&head.tasks.0);
            }
        }
        // Relaxed: who sleeps has passed this section after it saw the end.
        let is_sealed = head.limits.0.sealed.load(Relaxed) != 0;
        if is_sealed && freed == next {
            self.rouse_watcher();
        }
        // Release, all of them: see the table.
        entry.done.store(done, Release);
        entry.enter(LeaseState {
            stage: Stage::Finished,
            deliveries: 0,
        });
        self.clear_away(lease);
        self.count_given_back();
        head.head.0.store(freed.to_bits(), Release);
        if is_waited_for {
            head.room.0.notice.0.waiting.store(0, Relaxed);
        }
    }

    /// The rest of [`finish`](Self::finish), that a kill may have left.
    fn clear_away(&self, lease: usize) {
        // Relaxed: changed in this section only.
        let done = self.entry(lease).done.load(Relaxed);
        // Release: see the table.
        self.side().done.store(done, Release);
        self.side().mark_out(lease, false);
    }

    /// Wakes who sleeps and wants to hear of what is given back.
    fn rouse_watcher(&self) {
        // Relaxed: changed in this section only.
        if self.side().watched.load(Relaxed) != 0 && !is_planted("lease") {
            rouse(&self.head().items.0.notice.0);
        }
    }

    /// The first half of lying down for a message: the sequence to sleep on, those whose deaths to
    /// wake for, and the tail and the end that were seen; `None` when there is no reason to sleep.
    pub(super) fn watch_leases(&self, deadline: Deadline) -> Option<(u32, Holders, Mark, u32)> {
        let head = self.head();
        // Before the section: see `finish`.
        let sealed = head.limits.0.sealed.load(Acquire);
        let inside = self.enter_get(deadline)?;
        let side = self.side();
        if self.is_dropped() {
            return None;
        }
        if sealed == DROPPING {
            drop(inside);
            self.clear();
            return None;
        }
        let mut holders = Holders::NONE;
        self.give_back_for_the_dead(|holder| holders.add(holder));
        // Acquire: partner is the store in `commit`.
        let tail = Mark::from_bits(head.tail.0.load(Acquire));
        // Relaxed: changed in this section only.
        let is_empty = tail == self.next() && side.given_back.load(Relaxed) == 0;
        let is_over = sealed != 0 && side.out().next().is_none();
        if is_over || !is_empty {
            return None;
        }
        // Relaxed, both: changed in this section, the other one besides by those who wake.
        side.watched.store(1, Relaxed);
        let expected = head.items.0.notice.0.sequence.load(Relaxed);
        Some((expected, holders, tail, sealed))
    }
}
