//! Deadlines on the monotonic clock.

use std::time::{Duration, Instant};

use rustix::thread::Timespec;
use rustix::time::{ClockId, clock_gettime};

/// A point on `CLOCK_MONOTONIC` after which a wait gives up, or never.
///
/// Absolute, so that a wait which is interrupted and goes on does not wait longer than asked, and
/// monotonic, so that setting the wall clock neither ends nor lengthens it.
///
/// # Examples
///
/// ```
/// use manyhands_os::Deadline;
/// use std::time::Duration;
///
/// assert!(Deadline::now().has_passed());
/// assert!(Deadline::after(Duration::MAX).is_never());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Nanoseconds on the clock; `u64::MAX`, some 584 years after boot, is never.
    nanoseconds: u64,
}

impl Deadline {
    /// A deadline that never passes.
    pub const NEVER: Self = Self {
        nanoseconds: u64::MAX,
    };

    /// A deadline that has passed already: look, do not wait.
    pub fn now() -> Self {
        Self {
            nanoseconds: monotonic(),
        }
    }

    /// The deadline `duration` from now; [`NEVER`](Self::NEVER) when the clock does not reach it.
    pub fn after(duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self {
            nanoseconds: monotonic().saturating_add(nanoseconds),
        }
    }

    /// The deadline at an instant of the standard library's clock.
    pub fn at(instant: Instant) -> Self {
        Self::after(instant.saturating_duration_since(Instant::now()))
    }

    /// Whether the deadline lies behind.
    pub fn has_passed(self) -> bool {
        !self.is_never() && monotonic() >= self.nanoseconds
    }

    /// The time that is left, `None` for never.
    pub fn remaining(self) -> Option<Duration> {
        (!self.is_never())
            .then(|| Duration::from_nanos(self.nanoseconds.saturating_sub(monotonic())))
    }

    /// The earlier of two deadlines.
    pub fn earlier(self, other: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds.min(other.nanoseconds),
        }
    }

    /// Whether the deadline never passes.
    pub fn is_never(self) -> bool {
        self.nanoseconds == u64::MAX
    }

    /// What `CLOCK_MONOTONIC` reads at the deadline, `None` for never: for foreign functions that
    /// take it so.
    pub fn reading(self) -> Option<Duration> {
        (!self.is_never()).then(|| Duration::from_nanos(self.nanoseconds))
    }

    /// The deadline as the kernel takes it, `None` for never.
    pub(crate) fn timespec(self) -> Option<Timespec> {
        (!self.is_never()).then(|| timespec(self.nanoseconds))
    }

    /// The time that is left as the kernel takes it, `None` for never.
    pub(crate) fn remaining_timespec(self) -> Option<Timespec> {
        (!self.is_never()).then(|| timespec(self.nanoseconds.saturating_sub(monotonic())))
    }
}

fn timespec(nanoseconds: u64) -> Timespec {
    const BILLION: u64 = 1_000_000_000;
    // Neither quotient nor remainder of a `u64` by a billion can overflow an `i64`.
    Timespec {
        tv_sec: (nanoseconds / BILLION) as i64,
        tv_nsec: (nanoseconds % BILLION) as _,
    }
}

fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_passes_when_its_time_has_come_and_never_never() {
        assert!(Deadline::now().has_passed());
        assert!(!Deadline::after(Duration::from_secs(60)).has_passed());
        assert!(!Deadline::NEVER.has_passed());
        assert_eq!(Deadline::NEVER.remaining(), None);
        assert_eq!(Deadline::NEVER.reading(), None);
    }

    #[test]
    fn deadline_after_the_longest_duration_does_not_overflow() {
        assert!(Deadline::after(Duration::MAX).is_never());
        let far = Instant::now().checked_add(Duration::from_secs(u32::MAX.into()));
        assert!(!Deadline::at(far.expect("136 years fit")).has_passed());
    }

    #[test]
    fn deadline_in_the_past_has_nothing_left() {
        let past = Instant::now();
        assert!(Deadline::at(past).has_passed());
        assert_eq!(Deadline::at(past).remaining(), Some(Duration::ZERO));
        assert!(Deadline::at(past).reading() <= Deadline::now().reading());
    }
}
