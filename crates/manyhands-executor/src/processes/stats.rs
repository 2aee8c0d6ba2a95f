//! What a pool counts.

use super::hand::{Condition, Hand};
use super::schedule::State;
use crate::error::TaskError;

/// A picture of a process pool at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Worker processes that live, those that are on their way out included.
    pub workers: usize,
    /// Workers that wait for a task.
    pub idle: usize,
    /// Tasks that wait for a worker.
    pub queued: usize,
    /// Tasks in the hands of a worker.
    pub running: usize,
    /// Workers started since the pool was built.
    pub started: u64,
    /// Workers that died or were killed, except at shutdown; each was replaced.
    pub restarts: u64,
    /// Workers replaced on purpose, because they had done `max_tasks_per_worker`.
    pub recycled: u64,
    /// Attempts repeated after a death.
    pub retries: u64,
    /// Tasks that ended with a value.
    pub done: u64,
    /// Tasks that ended otherwise, by cause.
    pub failed: Failures,
}

/// Tasks that ended without a value, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Failures {
    /// See [`TaskError::Panicked`].
    pub panicked: u64,
    /// See [`TaskError::Died`].
    pub died: u64,
    /// See [`TaskError::Deadline`].
    pub deadline: u64,
    /// See [`TaskError::MemoryLimit`].
    pub memory_limit: u64,
    /// See [`TaskError::StackOverflow`].
    pub stack_overflow: u64,
    /// See [`TaskError::Quarantined`].
    pub quarantined: u64,
    /// See [`TaskError::OutputLimit`].
    pub output_limit: u64,
    /// See [`TaskError::Cancelled`].
    pub cancelled: u64,
    /// What could not be encoded or decoded in the worker.
    pub codec: u64,
    /// Tasks that ended because the pool did.
    pub pool_ended: u64,
}

impl Failures {
    /// The sum over all causes.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self {
            panicked,
            died,
            deadline,
            memory_limit,
            stack_overflow,
            quarantined,
            output_limit,
            cancelled,
            codec,
            pool_ended,
        } = self;
        panicked
            + died
            + deadline
            + memory_limit
            + stack_overflow
            + quarantined
            + output_limit
            + cancelled
            + codec
            + pool_ended
    }
}

impl Stats {
    /// Counts the end of a task; `None` is a value.
    pub(super) fn count(&mut self, error: Option<&TaskError>) {
        let failed = &mut self.failed;
        *match error {
            None => &mut self.done,
            Some(TaskError::Panicked(_)) => &mut failed.panicked,
            Some(TaskError::Died(_)) => &mut failed.died,
            Some(TaskError::Deadline { .. }) => &mut failed.deadline,
            Some(TaskError::MemoryLimit { .. }) => &mut failed.memory_limit,
            Some(TaskError::StackOverflow) => &mut failed.stack_overflow,
            Some(TaskError::Quarantined { .. }) => &mut failed.quarantined,
            Some(TaskError::OutputLimit { .. }) => &mut failed.output_limit,
            Some(TaskError::Cancelled) => &mut failed.cancelled,
            Some(
                TaskError::Undecodable { .. }
                | TaskError::Unencodable { .. }
                | TaskError::AlreadyTaken,
            ) => &mut failed.codec,
            Some(TaskError::PoolShutDown | TaskError::Broken { .. }) => &mut failed.pool_ended,
        } += 1;
    }

    /// Tasks that have ended.
    pub(super) fn ended(&self) -> u64 {
        self.done + self.failed.total()
    }
}

impl State {
    /// The counts, with what there is now.
    pub(super) fn picture(&self) -> Stats {
        let idle = self
            .hands
            .iter()
            .filter(|hand| hand.condition == Condition::Idle)
            .count();
        Stats {
            workers: self.hands.len(),
            idle,
            queued: self.queue.len(),
            running: self.hands.iter().filter(|hand| hand.load.is_some()).count(),
            ..self.stats
        }
    }

    /// The process ids of the workers that are not known to be dead.
    pub(super) fn worker_ids(&self) -> Vec<u32> {
        self.hands
            .iter()
            .filter(|hand| hand.is_alive())
            .map(Hand::pid)
            .collect()
    }
}
