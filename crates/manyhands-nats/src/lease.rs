//! How long a host may hold a task without a word, and how often a task may be handed out.
//!
//! A lease covers only the loss of a host or of the way to it. It says nothing about how long a
//! task may run: as long as the host extends the lease, the task is its own.

use std::time::Duration;

/// The time that a host may hold a task without a word.
///
/// # Examples
///
/// ```
/// use manyhands_nats::lease::Lease;
/// use std::time::Duration;
///
/// let lease = Lease::default();
/// assert_eq!(lease.length(), Duration::from_secs(10));
/// assert!(lease.is_over_after(Duration::from_secs(10)));
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lease {
    length: Duration,
}

/// Why a duration is no lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Shorter than three round trips of a slow network.
    #[error("a lease of {asked:?} is shorter than {shortest:?}")]
    TooShort {
        /// What was asked for.
        asked: Duration,
        /// [`Lease::SHORTEST`].
        shortest: Duration,
    },
    /// Longer than anybody waits for a task that nobody works on.
    #[error("a lease of {asked:?} is longer than {longest:?}")]
    TooLong {
        /// What was asked for.
        asked: Duration,
        /// [`Lease::LONGEST`].
        longest: Duration,
    },
}

impl Lease {
    /// The shortest lease: three extensions, each with a third of a second for its round trip.
    pub const SHORTEST: Duration = Duration::from_secs(1);

    /// The longest lease: a lost task is found after it, and nobody should wait for a day.
    pub const LONGEST: Duration = Duration::from_secs(60 * 60);

    /// A lease of `length`, in whole milliseconds, which is what the server counts in.
    ///
    /// # Errors
    ///
    /// [`LeaseError`], when it is not between [`Lease::SHORTEST`] and [`Lease::LONGEST`].
    pub const fn new(length: Duration) -> Result<Self, LeaseError> {
        if length.as_millis() < Self::SHORTEST.as_millis() {
            return Err(LeaseError::TooShort {
                asked: length,
                shortest: Self::SHORTEST,
            });
        }
        if length.as_millis() > Self::LONGEST.as_millis() {
            return Err(LeaseError::TooLong {
                asked: length,
                longest: Self::LONGEST,
            });
        }
        // At most 3,600,000, as just checked.
        Ok(Self {
            length: Duration::from_millis(length.as_millis() as u64),
        })
    }

    /// The time after which a silent host has lost the task.
    #[must_use]
    pub const fn length(self) -> Duration {
        self.length
    }

    /// How often the host says that it still works on the task: two such messages may be lost, and
    /// the third still comes in time.
    #[must_use]
    pub const fn extend_every(self) -> Duration {
        Duration::from_millis(self.length.as_millis() as u64 / 3)
    }

    /// Whether a host that was silent for `silence` has lost the task.
    #[must_use]
    pub fn is_over_after(self, silence: Duration) -> bool {
        silence >= self.length
    }
}

impl Default for Lease {
    /// Ten seconds: longer than a network that hiccups, shorter than a person's patience.
    fn default() -> Self {
        Self {
            length: Duration::from_secs(10),
        }
    }
}

/// Whether a task whose host was lost is given to another.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Retries {
    /// Never: the task runs at most once, and its loss is told.
    #[default]
    None,
    /// Up to so many times: the task runs at least once, and perhaps more than once.
    AtMost(u16),
}

impl Retries {
    /// How often the server may hand the task out in all.
    #[must_use]
    pub const fn deliveries(self) -> u32 {
        match self {
            Self::None => 1,
            Self::AtMost(again) => 1 + again as u32,
        }
    }

    /// Whether a task that was handed out `attempt` times (1 is the first) may be handed out again.
    #[must_use]
    pub const fn allow_another_after(self, attempt: u32) -> bool {
        attempt < self.deliveries()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_is_refused_outside_its_bounds() {
        let short = Lease::new(Duration::from_millis(999));
        assert!(
            matches!(short, Err(LeaseError::TooShort { .. })),
            "{short:?}"
        );
        let long = Lease::new(Duration::MAX);
        assert!(matches!(long, Err(LeaseError::TooLong { .. })), "{long:?}");
        assert!(Lease::new(Lease::SHORTEST).is_ok());
        assert!(Lease::new(Lease::LONGEST).is_ok());
    }

    #[test]
    fn host_that_extends_in_time_keeps_the_task_when_two_messages_are_lost() {
        for milliseconds in [1_000, 1_001, 1_002, 10_000, 3_600_000] {
            let lease = Lease::new(Duration::from_millis(milliseconds)).unwrap();
            assert!(lease.extend_every() * 3 <= lease.length());
            assert!(!lease.is_over_after(lease.extend_every() * 2));
            assert!(lease.is_over_after(lease.length()));
        }
    }

    #[test]
    fn task_is_handed_out_once_more_than_it_may_be_retried() {
        assert_eq!(Retries::None.deliveries(), 1);
        assert!(!Retries::None.allow_another_after(1));
        assert_eq!(Retries::AtMost(u16::MAX).deliveries(), 65_536);
        assert!(Retries::AtMost(2).allow_another_after(2));
        assert!(!Retries::AtMost(2).allow_another_after(3));
    }

    #[test]
    fn errors_tell_the_values() {
        let error = Lease::new(Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.to_string(), "a lease of 5ms is shorter than 1s");
    }
}
