//! How a pool starts workers again: with growing pauses, and not for ever.
//!
//! What counts is a refused start, a death before the worker came to its loop, and a death for no
//! reason while it had nothing to do. A task that is done clears the count. A kill from outside
//! weighs little, because it says nothing about whether workers can live here. Deaths at work are
//! the task's affair (see `retry`).

use std::time::Duration;

use manyhands_os::clock::Deadline;

/// The pause after the first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What a failure weighs, what a kill from outside does, and what a pool bears: eight failures
/// in a row, which takes a little more than a second.
const FAILURE: u32 = 10;
const OUTSIDE_KILL: u32 = 1;
const MOST: u32 = 80;

/// What a pool knows about whether workers can live.
#[derive(Debug)]
pub(super) struct Health {
    weight: u32,
    row: u32,
    next_try: Deadline,
    reason: String,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            weight: 0,
            row: 0,
            next_try: Deadline::now(),
            reason: String::new(),
        }
    }
}

impl Health {
    /// A worker did a task.
    pub(super) fn succeeded(&mut self) {
        if self.row > 0 {
            *self = Self::default();
        }
    }

    /// A worker could not be started, or died by itself.
    pub(super) fn failed(&mut self, reason: &str, outside_kill: bool) {
        self.weight += if outside_kill { OUTSIDE_KILL } else { FAILURE };
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.row.min(16))
            .min(LONGEST_PAUSE);
        self.row += 1;
        self.next_try = Deadline::after(pause);
        self.reason = reason.to_owned();
    }

    /// When the next start may be tried.
    pub(super) fn next_try(&self) -> Deadline {
        self.next_try
    }

    /// Whether it is no use to try again.
    pub(super) fn is_hopeless(&self) -> bool {
        self.weight >= MOST
    }

    /// Why the last one failed.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_end_the_tries_and_a_success_clears_them() {
        let mut health = Health::default();
        for _ in 0..7 {
            health.failed("no memory", false);
        }
        assert!(!health.is_hopeless());
        assert!(!health.next_try().has_passed());
        health.succeeded();
        assert!(health.next_try().has_passed());
        for _ in 0..8 {
            health.failed("no memory", false);
        }
        assert!(health.is_hopeless());
        assert_eq!(health.reason(), "no memory");
    }

    #[test]
    fn kills_from_outside_weigh_little() {
        let mut health = Health::default();
        for _ in 0..79 {
            health.failed("killed", true);
        }
        assert!(!health.is_hopeless());
        health.failed("killed", true);
        assert!(health.is_hopeless());
    }
}
