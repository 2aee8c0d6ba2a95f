//! Counting what was reported as done, and waiting until all is.
//!
//! The count is no word of its own: it is what lies between the tail, which putting moves, and the
//! reports. So no kill can part a value from its being counted. A report is one store in the
//! consumers' section; who waits for the last one lies down there, and is woken before the store, as
//! everywhere in the queue. Dropping all values is one store of the head, which then says so.
//!
//! Who puts moves the goal away, and so wakes nobody.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::ground::{self, enter};
use super::layout::{DROPPED, Mark};
use super::raw::RawQueue;
use super::sleep::{lie_down, rouse_waiting};
use crate::patience::Patience;
use crate::primitive::Deadline;

impl RawQueue {
    /// How many messages were taken; and how many are to be reported, those included. Messages that
    /// were dropped are in neither. Exact in the consumers' section.
    fn goals(&self) -> (u32, u32) {
        let head = self.head();
        // Acquire: partner is the store in `take`; what was written before the head said it.
        let bits = head.head.0.load(Acquire);
        if bits & DROPPED != 0 {
            // Relaxed: written before the head, in the same section, and not changed after.
            let taken = head.get.0.dropped_from.load(Relaxed);
            return (taken, taken);
        }
        // Relaxed: the count stands for itself.
        let tail = Mark::from_bits(head.tail.0.load(Relaxed));
        (Mark::from_bits(bits).messages(), tail.messages())
    }

    /// How many messages are not reported, and how many of them were taken; old when it is read.
    pub(super) fn tasks(&self) -> (u32, u32) {
        // Relaxed: for information. Read first: the reports never pass what was taken.
        let done = self.head().get.0.done.load(Relaxed);
        let (taken, all) = self.goals();
        (all.wrapping_sub(done), taken.wrapping_sub(done))
    }

    /// Counts one message more as reported, unless all that were taken are.
    pub(super) fn report(&self) -> bool {
        let (side, tasks) = (&self.head().get.0, &self.head().tasks.0);
        let Some(_inside) = enter(&side.section, Deadline::NEVER) else {
            unreachable!("the deadline never passes");
        };
        let (taken, all) = self.goals();
        // Relaxed: changed in this section only.
        let done = side.done.load(Relaxed);
        if done == taken {
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
            let (unfinished, expected) = self.lie_down_for_tasks();
            if unfinished == 0 {
                return Ok(());
            }
            let deadline = patience.left().ok_or(unfinished)?;
            ground::wait(&self.head().tasks.0, expected, deadline);
        }
    }

    /// How many messages are not reported; and the sequence to sleep on until there is none.
    fn lie_down_for_tasks(&self) -> (u32, u32) {
        let Some(_inside) = enter(&self.head().get.0.section, Deadline::NEVER) else {
            unreachable!("the deadline never passes");
        };
        match self.tasks().0 {
            0 => (0, 0),
            unfinished => (unfinished, lie_down(&self.head().tasks.0)),
        }
    }
}
