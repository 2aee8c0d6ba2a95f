//! Counting what was reported as done, and waiting until all is.
//!
//! The count is no word of its own: it is what lies between the tail, which putting moves, and the
//! reports. So no kill can part a value from its being counted. A report is one store in the
//! consumers' section; who waits for the last one lies down there, and is woken before the store, as
//! everywhere in the queue. Dropping all values is one store of `next`, which then says so. A leased
//! value is one that was taken, until it is given back; to finish a lease reports it.
//!
//! Who puts moves the goal away, and so wakes nobody.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::ground;
use super::layout::{DROPPED, Mark};
use super::ledger::Holders;
use super::raw::RawQueue;
use super::section::Bed;
use super::sleep::{lie_down, rouse_waiting};
use crate::patience::Patience;
use crate::primitive::Deadline;

impl RawQueue {
    /// How many messages were taken; and how many are to be reported, those included. Messages that
    /// were dropped are in neither. Exact in the consumers' section.
    pub(super) fn goals(&self) -> (u32, u32) {
        let head = self.head();
        // Acquire: partner is the store in `take`; what was written before `next` said it.
        let bits = head.get.0.next.load(Acquire);
        // Relaxed: the counts stand for themselves.
        let given_back = head.get.0.given_back.load(Relaxed);
        if bits & DROPPED != 0 {
            // Relaxed: written before `next`, in the same section, and not changed after.
            let taken = Mark::from_bits(head.get.0.dropped_from.load(Relaxed));
            let taken = taken.messages().wrapping_sub(given_back);
            return (taken, taken);
        }
        let tail = Mark::from_bits(head.tail.0.load(Relaxed));
        let taken = Mark::from_bits(bits).messages().wrapping_sub(given_back);
        (taken, tail.messages())
    }

    /// How many messages are not reported, and how many of them were taken; old when it is read.
    pub(super) fn tasks(&self) -> (u32, u32) {
        // Relaxed: for information. Read first: the reports never pass what was taken.
        let done = self.head().get.0.done.load(Relaxed);
        let (taken, all) = self.goals();
        // What was reported too early, and given back then, is in the queue again.
        let since = |count: u32| count.wrapping_sub(done).cast_signed().max(0);
        (since(all).cast_unsigned(), since(taken).cast_unsigned())
    }

    /// Counts one message more as reported, unless all that were taken are.
    pub(super) fn report(&self) -> bool {
        let (side, tasks) = (&self.head().get.0, &self.head().tasks.0);
        let Some(_inside) = self.enter_get(Deadline::NEVER) else {
            unreachable!("the deadline never passes");
        };
        let (taken, all) = self.goals();
        // Relaxed: changed in this section only.
        let done = side.done.load(Relaxed);
        if (taken.wrapping_sub(done) as i32) <= 0 {
            return false;
        }
        let done = done.wrapping_add(1);
        let is_last = done == all;
        if is_last {
            rouse_waiting(tasks);
        }
        side.done.store(done, Relaxed);
        if is_last {
            tasks.waiting.store(0, Relaxed);
        }
        true
    }

    /// Waits until all are reported; or the number of those that are not.
    pub(super) fn join(&self, patience: Patience) -> Result<(), u32> {
        loop {
            let (unfinished, bed) = self.lie_down_for_tasks();
            let Some(Bed { expected, holders }) = bed else {
                return Ok(());
            };
            let deadline = patience.left().ok_or(unfinished)?;
            let tasks = &self.head().tasks.0;
            ground::wait_beside(tasks, expected, holders.as_slice(), deadline);
        }
    }

    /// How many messages are not reported, and how to sleep until there is none.
    fn lie_down_for_tasks(&self) -> (u32, Option<Bed>) {
        let Some(_inside) = self.enter_get(Deadline::NEVER) else {
            unreachable!("the deadline never passes");
        };
        let mut holders = Holders::NONE;
        self.give_back_for_the_dead(|holder| holders.add(holder));
        if !self.is_dropped() {
            // What they had is in the queue again, and unfinished as before.
            holders = Holders::NONE;
        }
        match self.tasks().0 {
            0 => (0, None),
            unfinished => {
                let expected = lie_down(&self.head().tasks.0);
                (unfinished, Some(Bed { expected, holders }))
            }
        }
    }
}
