//! What a lock protects in these tests: two numbers that are equal, and who is inside.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::place::Placed;
use crate::step::Outcome;
use crate::system;

/// The protected data. Only relaxed accesses: the lock must order them.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Data {
    first: AtomicU64,
    second: AtomicU64,
    /// The thread that is inside; 0: nobody.
    inside: AtomicU64,
}

// SAFETY: atomics only; zero is the beginning; nothing to drop.
unsafe impl Placed for Data {}

impl Data {
    /// What a holder of the lock does. `is_flagged`: the lock said that somebody died inside.
    pub fn visit(&self, is_flagged: bool) -> Outcome {
        let outcome = self.enter(is_flagged);
        self.change();
        self.leave();
        outcome
    }

    /// The beginning of a visit: is it as it should be?
    pub fn enter(&self, is_flagged: bool) -> Outcome {
        let former = self.inside.swap(u64::from(system::thread_id()), Relaxed);
        let first = self.first.load(Relaxed);
        let second = self.second.swap(first, Relaxed);
        match is_flagged {
            true => Outcome::OwnerDied,
            false if former != 0 => Outcome::TwoOwners,
            false if first != second => Outcome::Unflagged,
            false => Outcome::Fine,
        }
    }

    /// The middle of a visit: for a moment the numbers differ.
    pub fn change(&self) {
        let next = self.first.load(Relaxed) + 1;
        self.first.store(next, Relaxed);
        self.second.store(next, Relaxed);
    }

    /// The end of a visit.
    pub fn leave(&self) {
        self.inside.store(0, Relaxed);
    }

    /// The begin of a visit of a victim, whose own state nobody looks at.
    pub fn enter_quietly(&self) {
        self.inside.store(1, Relaxed);
    }
}
