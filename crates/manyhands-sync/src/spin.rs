//! Looking again for a short, learned time before going to sleep.
//!
//! To wake a sleeper costs some microseconds, to see a change while looking some hundred nanoseconds.
//! So a waiter looks for a while where that has paid lately. The budget doubles towards its limit when
//! the change came so soon after lying down that looking for longer might have seen it, and shrinks
//! when it came late.
//!
//! That the sleep was short need not mean it: where two who wait for each other share a core, each
//! sleep ends as soon as the other one has stopped looking. So after some looks in vain, whatever
//! their budget, nothing is looked for any more, until much later it is tried again. On a machine with
//! one core looking is only in the way of whoever is to make the change, and is off; a process that is kept
//! on one of several looks for a short time.
//!
//! The environment variable `MANYHANDS_SPIN` sets the limit, in rounds of about 30 ns; 0 is off.

use std::hint::spin_loop;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;

/// Rounds that cost as much as some wake-ups: where both sides sleep, each waits for two of them.
const DEFAULT_LIMIT: u32 = 2_000;
/// The same for a process that is kept on one core: who is waited for is perhaps kept on another one, or
/// on this one, too, where looking is in the way.
const ALONE_LIMIT: u32 = FIRST;
/// What is looked for even where it does not pay.
const LEAST: u32 = 20;
/// What is looked for at first.
const FIRST: u32 = 10 * LEAST;
/// A sleep as short as this might have been better spent looking.
const SHORT_SLEEP: Duration = Duration::from_micros(80);
/// Pauses before the first look. Each look takes the cache line away from whoever is about to write it, so
/// in a stream of messages several are there at the first look, if it comes a little later.
const PAUSES: u32 = 4;
/// So many looks in vain, and it is left.
const TRIES: u32 = 8;
/// So many waits later it is tried again.
const AGAIN: u32 = 64;

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
    /// `budget:26 | looks in vain:6`. Relaxed everywhere: a guess, which orders nothing.
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
        let vain = state % AGAIN;
        let budget = match state / AGAIN {
            0 => FIRST,
            learned => learned,
        };
        let budget = budget.min(limit);
        let rounds = if vain < TRIES {
            budget
        } else {
            LEAST.min(limit)
        };
        for _ in 0..PAUSES.min(limit) {
            spin_loop();
        }
        for _ in 0..rounds {
            if ready() {
                self.learn(budget, 0);
                return None;
            }
            spin_loop();
        }
        let start = Instant::now();
        let slept = sleep();
        let budget = if vain >= TRIES {
            budget
        } else if start.elapsed() < SHORT_SLEEP {
            budget.saturating_mul(2)
        } else {
            budget - budget / 4
        };
        self.learn(budget.min(limit), (vain + 1) % AGAIN);
        Some(slept)
    }

    fn learn(&self, budget: u32, vain: u32) {
        let budget = budget.clamp(LEAST, u32::MAX / AGAIN);
        self.state.store(budget * AGAIN + vain, Relaxed);
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
    let wished = wished.and_then(|text| text.parse().ok());
    let mine = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = match cfg!(loom) {
        // A model explores every order; to look again is no order of its own.
        true => 0,
        false => wished.unwrap_or_else(|| limit_for(mine, has_several_cores)),
    };
    LIMIT.store(limit.min(UNKNOWN - 1), Relaxed);
    limit
}

/// The limit where nobody has set one.
fn limit_for(mine: usize, has_several_cores: impl FnOnce() -> bool) -> u32 {
    match mine {
        2.. => DEFAULT_LIMIT,
        _ if has_several_cores() => ALONE_LIMIT,
        _ => 0,
    }
}

/// Whether the machine has more than one core, whatever this process may use.
fn has_several_cores() -> bool {
    // A list of ranges, as `0-3,6`.
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online");
    online.is_ok_and(|list| list.contains(['-', ',']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_of_several_is_enough_to_look_for_a_short_time() {
        assert_eq!(limit_for(2, || unreachable!()), DEFAULT_LIMIT);
        assert_eq!(limit_for(1, || true), ALONE_LIMIT);
        assert_eq!(limit_for(1, || false), 0);
    }
}
