//! A task as the pool keeps it, and what the pool does to tasks once its lock is free.

use std::sync::Arc;
use std::time::Duration;

use manyhands_shm::handoff::Holds;

use super::retry::History;
use crate::error::TaskError;
use crate::task::Settle;

/// A task that is not done.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) cell: Arc<dyn Settle>,
    /// The encoded call; kept until the task is done, for another attempt.
    pub(super) body: Vec<u8>,
    /// What the arguments refer to stays alive until the task is done.
    #[expect(dead_code, reason = "held, never read")]
    pub(super) holds: Holds,
    pub(super) history: History,
    /// Attempts begun.
    pub(super) attempts: u32,
    /// Wall time that ended attempts used.
    pub(super) spent: Duration,
}

impl Job {
    pub(super) fn new(cell: Arc<dyn Settle>, body: Vec<u8>, holds: Holds) -> Self {
        let history = History::default();
        Self {
            number: 0,
            cell,
            body,
            holds,
            history,
            attempts: 0,
            spent: Duration::ZERO,
        }
    }
}

/// A cell and what is to be put into it.
type Done = (Arc<dyn Settle>, Result<Vec<u8>, TaskError>);

/// What follows from a turn of the pool. It runs foreign code (wakers, decoders, destructors), so it is
/// done after the pool's lock is released.
#[derive(Default)]
pub(super) struct Effects {
    done: Vec<Done>,
    /// Tasks that ended, kept for their destructors.
    jobs: Vec<Job>,
    unpack: Vec<Unpack>,
}

/// A value with handles in it: decoded at once, while the worker that keeps them alive waits.
pub(super) struct Unpack {
    pub(super) hand: u64,
    job: Job,
    bytes: Vec<u8>,
}

impl Effects {
    pub(super) fn value(&mut self, job: Job, bytes: Vec<u8>) {
        self.done.push((Arc::clone(&job.cell), Ok(bytes)));
        self.jobs.push(job);
    }

    pub(super) fn value_with_handles(&mut self, hand: u64, job: Job, bytes: Vec<u8>) {
        self.unpack.push(Unpack { hand, job, bytes });
    }

    pub(super) fn error(&mut self, job: Job, error: TaskError) {
        self.error_of(&job, error);
        self.jobs.push(job);
    }

    /// Ends a task that somebody else keeps for its handles.
    pub(super) fn error_of(&mut self, job: &Job, error: TaskError) {
        self.done.push((Arc::clone(&job.cell), Err(error)));
    }

    /// Does it all; gives back the workers that waited for their results to be decoded.
    pub(super) fn run(self) -> Vec<u64> {
        // First the destructors: who sees an outcome sees the task's handles released.
        drop(self.jobs);
        for (cell, outcome) in self.done {
            match outcome {
                Ok(bytes) => cell.value(bytes),
                Err(error) => cell.fail(error),
            }
        }
        self.unpack.into_iter().map(Unpack::run).collect()
    }
}

impl Unpack {
    fn run(self) -> u64 {
        let Self { hand, job, bytes } = self;
        job.cell.value_now(&bytes);
        hand
    }
}
