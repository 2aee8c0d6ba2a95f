//! Events that clear themselves: of all who wait, one gets each `set`.
//!
//! For users of raw_sync, whose events are made so or so. The one who takes a `set` clears the flag
//! with one store under the short lock: killed before it, it has taken nothing, and as the `set`
//! woke all, another of them takes it; killed after it, it was the one.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use manyhands_os::Deadline;

use super::{Event, SET, SHARED, is_set};
use crate::primitive::futex::Scope;

/// The mode of an event in shared memory that clears itself.
const SHARED_RESETS: u32 = 2;

impl Event {
    /// Makes a placed event one that clears itself; before anybody else can see it, and for good.
    pub(crate) fn clear_by_itself(&self) {
        // Relaxed, here and below: whoever reaches the event later got its address by a
        // synchronized way.
        self.mode.store(SHARED_RESETS, Relaxed);
    }

    /// Whether this memory can be an event in shared memory; it may be anything that was there.
    pub(crate) fn is_sound(&self) -> bool {
        matches!(self.mode.load(Relaxed), SHARED | SHARED_RESETS)
    }

    /// Waits until the flag is set, and clears it if the event is one that clears itself.
    pub(crate) fn pass_until(&self, deadline: Deadline) -> bool {
        if self.mode.load(Relaxed) == SHARED_RESETS {
            self.take_until(deadline)
        } else {
            self.wait_until(deadline)
        }
    }

    fn take_until(&self, deadline: Deadline) -> bool {
        loop {
            // Acquire: as in `wait_shared`, the look at the state must not move before this load.
            let sequence = self.sequence.load(Acquire);
            let Some(mut guard) = self.lock.lock_deadline(deadline) else {
                return false;
            };
            // Relaxed: the lock orders all who change the state.
            let state = self.state.load(Relaxed);
            if is_set(state) {
                self.state.store(state & !SET, Relaxed);
            }
            guard.mark_consistent();
            drop(guard);
            if is_set(state) {
                return true;
            }
            if deadline.has_passed() {
                return false;
            }
            self.sleep(&self.sequence, sequence, Scope::Shared, deadline);
        }
    }
}
