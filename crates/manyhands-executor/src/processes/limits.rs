//! What a task and a worker may use, and how much a task has left.

use std::time::Duration;

use manyhands_os::clock::Deadline;

use crate::error::BuildError;

/// The most workers of one pool: one thread watches all their lives and the doorbell at once.
pub(super) const MOST_WORKERS: usize = manyhands_os::futex::MAX_WATCHES - 8;

/// The least memory limit in bytes: what a worker needs for itself.
pub(super) const LEAST_MEMORY: u64 = 1 << 20;

/// Limits on what one task may use; the owner enforces them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// Wall time of a task over all its attempts.
    pub(super) time: Option<Duration>,
    /// Memory of a worker above what it has at its start, in bytes.
    pub(super) memory: Option<u64>,
    /// Encoded size of a result, in bytes.
    pub(super) output: Option<u64>,
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), BuildError> {
        if self.time.is_some_and(|limit| limit.is_zero()) {
            return Err(BuildError::Zero {
                setting: "task_timeout",
            });
        }
        if self.output == Some(0) {
            return Err(BuildError::Zero {
                setting: "output_limit",
            });
        }
        match self.memory {
            Some(asked) if asked < LEAST_MEMORY => Err(BuildError::MemoryLimitTooSmall {
                asked,
                least: LEAST_MEMORY,
            }),
            _ => Ok(()),
        }
    }

    /// When a task that has used `spent` and starts another attempt now must end.
    pub(super) fn deadline(&self, spent: Duration) -> Deadline {
        self.time.map_or(Deadline::NEVER, |limit| {
            Deadline::after(limit.saturating_sub(spent))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_no_task_can_keep_are_refused() {
        let none = Limits::default();
        assert!(none.check().is_ok());
        let time = Limits {
            time: Some(Duration::ZERO),
            ..none
        };
        assert!(matches!(
            time.check(),
            Err(BuildError::Zero {
                setting: "task_timeout"
            })
        ));
        let memory = Limits {
            memory: Some(0),
            ..none
        };
        assert!(matches!(
            memory.check(),
            Err(BuildError::MemoryLimitTooSmall { asked: 0, .. })
        ));
        let output = Limits {
            output: Some(0),
            ..none
        };
        assert!(matches!(
            output.check(),
            Err(BuildError::Zero {
                setting: "output_limit"
            })
        ));
    }

    #[test]
    fn time_is_a_budget_over_all_attempts() {
        let limits = Limits {
            time: Some(Duration::from_secs(100)),
            ..Limits::default()
        };
        let left = limits.deadline(Duration::from_secs(40)).remaining();
        assert!(left.is_some_and(|left| left <= Duration::from_secs(60)));
        assert!(limits.deadline(Duration::from_secs(100)).has_passed());
        assert!(Limits::default().deadline(Duration::MAX).is_never());
    }
}
