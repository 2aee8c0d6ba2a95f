//! Looking again for a short, learned time before going to sleep.
//!
//! To wake a sleeper costs some microseconds, to see a change while looking some hundred nanoseconds.
//! So a waiter looks for up to about the price of a wake-up, but only where that has paid lately: the
//! budget becomes twice of what was needed when the change came while looking, and halves when it did
//! not. One wait in sixteen looks for the whole limit, to find out whether it would pay by now.
//!
//! How long the sleep was afterwards says nothing: where two who wait for each other share a core,
//! each sleep ends as soon as the other one has stopped looking. With one core looking is only in the
//! way of whoever is to make the change, and is off.
//!
//! The environment variable `MANYHANDS_SPIN` sets the limit, in rounds of about 30 ns; 0 is off.

use std::hint::spin_loop;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::Deadline;

/// Rounds that cost about as much as a wake-up: some 15 microseconds.
const DEFAULT_LIMIT: u32 = 500;
/// What is looked for even where it does not pay.
const LEAST: u32 = 20;
/// What is looked for at first.
const FIRST: u32 = 10 * LEAST;
/// One wait in so many looks for the whole limit.
const PROBE: u32 = 16;

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
    /// `budget:28 | waits:4`. Relaxed everywhere: a guess, which orders nothing.
    state: AtomicU32,
}

impl Spin {
    /// One that has learned nothing yet.
    pub const fn new() -> Self {
        Self {
            state: AtomicU32::new(0),
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
        let state = self.state.load(Relaxed);
        let (budget, waits) = match (state / PROBE, state % PROBE) {
            (0, waits) => (FIRST, waits),
            (learned, waits) => (learned.min(limit), waits),
        };
        let is_probe = waits == PROBE - 1;
        let rounds = if is_probe { limit } else { budget };
        let learn = |budget: u32| {
            let budget = budget.clamp(LEAST, limit.max(LEAST)).min(u32::MAX / PROBE);
            let waits = (waits + 1) % PROBE;
            self.state.store(budget * PROBE + waits, Relaxed);
        };
        for round in 0..rounds {
            if ready() {
                learn(budget.max(2 * round));
                return None;
            }
            spin_loop();
        }
        learn(if is_probe { budget } else { budget / 2 });
        Some(sleep())
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
