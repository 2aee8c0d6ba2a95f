//! Keeping what was sent alive until it is received.
//!
//! A handle to shared memory crosses as eight bytes; somebody must hold the object while it is on
//! the way. In a queue the message itself does, if it can, and in a pipe a block that lies in the ring: so
//! the object outlives a sender that is killed. But the last holder runs the destructor, and a block cannot. So
//! the sender holds it besides, until the head of the ring or queue has passed the message. Of what only a
//! process can hold, ends of rings, the sender is the only holder: such messages are unpacked before the head
//! moves. A sender that is dropped earlier leaves its holds to the process.

use std::collections::VecDeque;
use std::fmt;

use manyhands_shm::handoff::Holds;
use manyhands_sync::{Lock, LockGuard};

/// Tells whether what lies before a position was received, or never will be.
pub(crate) type HasPassed = Box<dyn FnMut(u64) -> bool + Send>;

/// The holds of messages that are on the way, oldest first.
#[derive(Default)]
pub(crate) struct Lingering {
    has_passed: Option<HasPassed>,
    /// Each with the position behind its message.
    holds: VecDeque<(u64, Holds)>,
}

/// What dropped senders left. Looked through whenever a sender of handles comes by.
static LEFT_BEHIND: Lock<Vec<Lingering>> = Lock::new(Vec::new());

impl Lingering {
    /// Keeps the holds of the message that ends at `position`; later calls have later ones.
    pub(crate) fn keep(
        &mut self,
        position: u64,
        holds: Holds,
        has_passed: impl FnOnce() -> HasPassed,
    ) {
        if !holds.is_empty() {
            self.has_passed.get_or_insert_with(has_passed);
            self.holds.push_back((position, holds));
        }
    }

    /// Drops the holds of messages that were received, and looks through what was left behind.
    ///
    /// What is dropped may run code of the user's; see [`take_received`](Self::take_received).
    pub(crate) fn release(&mut self) {
        if self.has_passed.is_some() {
            drop(self.take_received());
            sweep(None);
        }
    }

    /// The holds of messages that were received; to be dropped outside of all locks, since the last
    /// hold of a value runs the value's destructor.
    pub(crate) fn take_received(&mut self) -> Vec<Holds> {
        let mut received = Vec::new();
        if let Some(has_passed) = &mut self.has_passed {
            let mut is_received = |(position, _): &mut (u64, Holds)| has_passed(*position);
            while let Some((_, holds)) = self.holds.pop_front_if(&mut is_received) {
                received.push(holds);
            }
        }
        if self.holds.is_empty() {
            // Before what is returned: with the closure goes perhaps the last one who has the queue, and
            // so what its messages hold. They must not be the last holders.
            self.has_passed = None;
        }
        received
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        drop(self.take_received());
        if !self.holds.is_empty() {
            sweep(Some(Lingering {
                has_passed: self.has_passed.take(),
                holds: std::mem::take(&mut self.holds),
            }));
        }
    }
}

/// Looks through what was left behind, and adds to it.
pub(crate) fn sweep(newcomer: Option<Lingering>) {
    let mut left = left_behind();
    let mut all = std::mem::take(&mut *left);
    all.extend(newcomer);
    // Not under the lock: a hold may be a sender, whose drop comes here again.
    drop(left);
    for lingering in &mut all {
        drop(lingering.take_received());
    }
    all.retain(|lingering| !lingering.holds.is_empty());
    left_behind().append(&mut all);
}

fn left_behind() -> LockGuard<'static, Vec<Lingering>> {
    LEFT_BEHIND.lock().unwrap_or_else(|error| {
        let guard = error.into_guard();
        guard.expect("a lock that is not shared is not counted")
    })
}

impl fmt::Debug for Lingering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lingering")
            .field("holds", &self.holds)
            .finish_non_exhaustive()
    }
}
