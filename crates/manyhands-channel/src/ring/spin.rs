//! Looking again for a short, learned time before going to sleep.
//!
//! To wake a sleeper costs some tens of microseconds, to see a change while looking some hundred
//! nanoseconds. So a waiter looks for up to about the price of a wake-up, but only where that has
//! paid lately: the budget doubles towards its limit when the change came while looking, or so soon
//! after lying down that looking would have seen it, and shrinks when it did not. With one core
//! looking is only in the way of whoever is to make the change, and is off.
//!
//! The environment variable `MANYHANDS_SPIN` sets the limit, in rounds of about 30 ns; 0 is off.

use std::hint::spin_loop;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Rounds that cost about as much as a wake-up.
const DEFAULT_LIMIT: u32 = 2_000;
/// What is tried again and again, even where it has never paid.
const LEAST: u32 = 20;
/// A sleep as short as this would have been better spent looking.
const SHORT_SLEEP: Duration = Duration::from_micros(80);

/// How long one waiter looks before it sleeps.
#[derive(Debug)]
pub(crate) struct Spin {
    /// Relaxed everywhere: a guess, which orders nothing and may be any value.
    budget: AtomicU32,
}

impl Spin {
    pub(crate) fn new() -> Self {
        Self {
            budget: AtomicU32::new(limit().min(LEAST * 10)),
        }
    }

    /// Looks until `ready`, at most for the budget. Otherwise calls `sleep`.
    pub(crate) fn wait<R>(
        &self,
        mut ready: impl FnMut() -> bool,
        sleep: impl FnOnce() -> R,
    ) -> Option<R> {
        if limit() == 0 {
            return Some(sleep());
        }
        let budget = self.budget.load(Relaxed);
        for _ in 0..budget {
            if ready() {
                self.grow(budget);
                return None;
            }
            spin_loop();
        }
        let start = Instant::now();
        let slept = sleep();
        if start.elapsed() < SHORT_SLEEP {
            self.grow(budget);
        } else {
            self.budget.store((budget - budget / 4).max(LEAST), Relaxed);
        }
        Some(slept)
    }

    fn grow(&self, budget: u32) {
        let grown = budget.saturating_mul(2).clamp(LEAST, limit().max(LEAST));
        self.budget.store(grown, Relaxed);
    }
}

/// The most rounds, the same for all waiters of the process.
fn limit() -> u32 {
    static LIMIT: OnceLock<u32> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let wished = std::env::var("MANYHANDS_SPIN").ok();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match wished.and_then(|text| text.parse().ok()) {
            Some(rounds) => rounds,
            None if cores > 1 => DEFAULT_LIMIT,
            None => 0,
        }
    })
}
