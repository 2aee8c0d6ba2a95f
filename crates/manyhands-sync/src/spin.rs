//! Looking again for a short, learned time before going to sleep.
//!
//! To wake a sleeper costs some tens of microseconds, to see a change while looking some hundred
//! nanoseconds. So a waiter looks for up to about the price of a wake-up, but only where that has
//! paid lately: the budget doubles towards its limit when the change came while looking, or so soon
//! after lying down that looking would have seen it, and shrinks when it did not. It halves when the
//! change came after a sleep that was shorter than the looking before it: then whoever made the
//! change had only waited for the core that looking kept busy. With one core that is always so, and
//! looking is off.
//!
//! The environment variable `MANYHANDS_SPIN` sets the limit, in rounds of about 30 ns; 0 is off.

use std::hint::spin_loop;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;

/// About what a round takes.
const ROUND: Duration = Duration::from_nanos(30);
/// Rounds that cost about as much as a wake-up.
const DEFAULT_LIMIT: u32 = 2_000;
/// What is tried again and again, even where it has never paid.
const LEAST: u32 = 20;
/// What is tried first.
const FIRST: u32 = 10 * LEAST;
/// A sleep as short as this would have been better spent looking.
const SHORT_SLEEP: Duration = Duration::from_micros(80);

/// How long those who wait for one thing look before they sleep; zeroed memory is a new one.
///
/// It may lie in shared memory, and processes may learn from each other: it is a guess, and any
/// value is right.
///
/// # Examples
///
/// ```
/// use manyhands_os::Deadline;
/// use manyhands_sync::spin::Spin;
///
/// let spin = Spin::new();
/// assert_eq!(spin.wait(Deadline::NEVER, || true, || "slept"), None);
/// assert_eq!(spin.wait(Deadline::NEVER, || false, || "slept"), Some("slept"));
/// ```
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Spin {
    /// Relaxed everywhere: a guess, which orders nothing.
    budget: AtomicU32,
}

impl Spin {
    /// One that has learned nothing yet.
    pub const fn new() -> Self {
        Self {
            budget: AtomicU32::new(0),
        }
    }

    /// Looks until `ready`, at most for the budget, and not at all when the deadline has passed.
    /// Otherwise calls `sleep`, and returns what it returns.
    pub fn wait<R>(
        &self,
        deadline: Deadline,
        mut ready: impl FnMut() -> bool,
        sleep: impl FnOnce() -> R,
    ) -> Option<R> {
        let limit = limit();
        if limit == 0 || deadline.has_passed() {
            return Some(sleep());
        }
        let budget = match self.budget.load(Relaxed) {
            0 => FIRST,
            learned => learned,
        };
        let budget = budget.min(limit);
        for _ in 0..budget {
            if ready() {
                self.grow(budget);
                return None;
            }
            spin_loop();
        }
        let start = Instant::now();
        let slept = sleep();
        let time = start.elapsed();
        if time < ROUND * budget {
            self.budget.store((budget / 2).max(LEAST), Relaxed);
        } else if time < SHORT_SLEEP {
            self.grow(budget);
        } else {
            self.budget.store((budget - budget / 4).max(LEAST), Relaxed);
        }
        Some(slept)
    }

    fn grow(&self, budget: u32) {
        let grown = budget
            .saturating_mul(2)
            .clamp(LEAST, DEFAULT_LIMIT.max(limit()));
        self.budget.store(grown, Relaxed);
    }
}

/// Lets all waiters of this process, and of those it forks, sleep at once: for those who count
/// instructions.
pub fn switch_off() {
    LIMIT.store(0, Relaxed);
}

/// Not known yet.
const UNKNOWN: u32 = u32::MAX;

/// The most rounds, the same for all waiters of the process. Relaxed: it stands for itself.
static LIMIT: AtomicU32 = AtomicU32::new(UNKNOWN);

#[inline]
fn limit() -> u32 {
    match LIMIT.load(Relaxed) {
        UNKNOWN => find_limit(),
        limit => limit,
    }
}

#[cold]
fn find_limit() -> u32 {
    let wished = std::env::var("MANYHANDS_SPIN").ok();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = match wished.and_then(|text| text.parse().ok()) {
        // A model explores every order; to look again is no order of its own.
        _ if cfg!(loom) => 0,
        Some(rounds) => rounds,
        None if cores > 1 => DEFAULT_LIMIT,
        None => 0,
    };
    LIMIT.store(limit.min(UNKNOWN - 1), Relaxed);
    limit
}
