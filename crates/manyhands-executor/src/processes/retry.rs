//! Whether a task whose worker died is tried again.
//!
//! | how the worker died | counted against |
//! |---|---|
//! | before it had seen anything of the task | nothing, [`UNSEEN_DEATHS`] times; then as below |
//! | by a kill from outside | `retries_after_outside_kill`, never the quarantine |
//! | in any other way | `retries`, and `quarantine_after` |
//!
//! Time that earlier attempts used is gone: see [`Limits::deadline`](super::limits::Limits).

use crate::error::{Cause, Death, TaskError};

/// How often a task is given away again at no charge because the worker died before it looked.
const UNSEEN_DEATHS: u32 = 3;

/// What the user allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) retries: u32,
    pub(super) retries_after_outside_kill: u32,
    pub(super) quarantine_after: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retries: 0,
            retries_after_outside_kill: 0,
            quarantine_after: 2,
        }
    }
}

/// The deaths that one task has seen.
#[derive(Debug, Default)]
pub(super) struct History {
    blamed: Vec<Death>,
    outside: u32,
    unseen: u32,
}

impl History {
    /// Takes a death into account; `None` means: try again.
    pub(super) fn judge(&mut self, policy: Policy, death: Death, seen: bool) -> Option<TaskError> {
        if !seen {
            self.unseen += 1;
            if self.unseen <= UNSEEN_DEATHS {
                return None;
            }
        }
        if death.cause == Cause::OutsideKill {
            self.outside += 1;
            let spent = self.outside > policy.retries_after_outside_kill;
            return spent.then_some(TaskError::Died(death));
        }
        self.blamed.push(death.clone());
        let deaths = u32::try_from(self.blamed.len()).unwrap_or(u32::MAX);
        if deaths >= policy.quarantine_after {
            return Some(TaskError::Quarantined {
                deaths: std::mem::take(&mut self.blamed),
            });
        }
        (deaths > policy.retries).then(|| verdict(death))
    }
}

fn verdict(death: Death) -> TaskError {
    match death.cause {
        Cause::StackOverflow => TaskError::StackOverflow,
        Cause::MemoryLimit { asked, allowed } => TaskError::MemoryLimit { asked, allowed },
        _ => TaskError::Died(death),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Phase;
    use manyhands_os::process::Identity;
    use std::time::Duration;

    fn death(cause: Cause) -> Death {
        let worker = Identity {
            pid: 7,
            start_time: 1,
        };
        Death {
            cause,
            phase: Phase::Running,
            worker,
            attempt: 1,
            ran: Duration::ZERO,
        }
    }

    fn segv() -> Death {
        death(Cause::Signaled {
            signal: 11,
            core_dumped: false,
        })
    }

    #[test]
    fn task_without_retries_ends_with_the_first_death() {
        let mut history = History::default();
        let error = history.judge(Policy::default(), segv(), true);
        assert_eq!(error, Some(TaskError::Died(segv())));
    }

    #[test]
    fn task_that_keeps_killing_is_quarantined_with_all_its_deaths() {
        let policy = Policy {
            retries: 9,
            ..Policy::default()
        };
        let mut history = History::default();
        assert_eq!(history.judge(policy, segv(), true), None);
        let error = history.judge(policy, segv(), true);
        assert_eq!(
            error,
            Some(TaskError::Quarantined {
                deaths: vec![segv(), segv()]
            })
        );
    }

    #[test]
    fn retries_that_end_before_the_quarantine_leave_the_last_cause() {
        let policy = Policy {
            retries: 1,
            quarantine_after: 5,
            ..Policy::default()
        };
        let mut history = History::default();
        assert_eq!(history.judge(policy, segv(), true), None);
        let error = history.judge(policy, death(Cause::StackOverflow), true);
        assert_eq!(error, Some(TaskError::StackOverflow));
    }

    #[test]
    fn kills_from_outside_have_their_own_count_and_never_quarantine() {
        let policy = Policy {
            retries: 9,
            retries_after_outside_kill: 4,
            quarantine_after: 2,
        };
        let mut history = History::default();
        for _ in 0..4 {
            assert_eq!(history.judge(policy, death(Cause::OutsideKill), true), None);
        }
        let error = history.judge(policy, death(Cause::OutsideKill), true);
        assert_eq!(error, Some(TaskError::Died(death(Cause::OutsideKill))));
    }

    #[test]
    fn death_before_the_worker_looked_is_free_a_few_times() {
        let mut history = History::default();
        for _ in 0..UNSEEN_DEATHS {
            assert_eq!(history.judge(Policy::default(), segv(), false), None);
        }
        assert!(history.judge(Policy::default(), segv(), false).is_some());
    }
}
