//! Keeping what was sent alive until it is received.
//!
//! A handle to shared memory crosses as eight bytes; somebody must hold the object while it is on
//! the way. The sender does, until the head of the ring or queue has passed the message: the receiver
//! unpacks before it moves the head. A sender that is dropped earlier leaves its holds to the process.

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

    /// Drops the holds of messages that were received.
    pub(crate) fn release(&mut self) {
        if self.has_passed.is_some() {
            self.drop_received();
            sweep(None);
        }
    }

    fn drop_received(&mut self) {
        if let Some(has_passed) = &mut self.has_passed {
            let mut received = |(position, _): &mut (u64, Holds)| has_passed(*position);
            while self.holds.pop_front_if(&mut received).is_some() {}
        }
        if self.holds.is_empty() {
            self.has_passed = None;
        }
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        self.drop_received();
        if !self.holds.is_empty() {
            sweep(Some(Lingering {
                has_passed: self.has_passed.take(),
                holds: std::mem::take(&mut self.holds),
            }));
        }
    }
}

/// Looks through what was left behind, and adds to it.
fn sweep(newcomer: Option<Lingering>) {
    let mut left = left_behind();
    let mut all = std::mem::take(&mut *left);
    all.extend(newcomer);
    // Not under the lock: a hold may be a sender, whose drop comes here again.
    drop(left);
    for lingering in &mut all {
        lingering.drop_received();
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
