//! The notice board of a worker: one shared word that says which task it has, and how far it is.
//!
//! Only the worker writes it, each time with one store, so that whatever instruction the worker
//! dies at, the owner reads the last step taken. The owner reads it after the death, to name the
//! phase; while the worker lives it only looks whether the worker has started.
//!
//! ```text
//!   word = task number << 3 | step
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use manyhands_shm::{NoSpace, Shared};
use serde::{Deserialize, Serialize};

use crate::error::Phase;

const STEP_BITS: u32 = 3;

/// How far a worker is with the task whose number stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The process runs its loop and has had no task.
    Ready = 1,
    /// The first part of the task has arrived.
    Receiving = 2,
    /// The function is about to be called, or its arguments to be decoded.
    Running = 3,
    /// The function has returned.
    Returned = 4,
}

/// What the board said about one task of a worker that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// The phase of the task.
    pub(super) phase: Phase,
    /// Whether the worker had seen anything of the task.
    pub(super) seen: bool,
}

/// The shared word.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Board(Shared<[AtomicU64; 1]>);

impl Board {
    pub(super) fn new() -> Result<Self, NoSpace> {
        Shared::new([AtomicU64::new(0)]).map(Self)
    }

    /// Written by the worker.
    pub(super) fn post(&self, task: u64, step: Step) {
        // Release: pairs with the Acquire load in `read`; what the worker did before this step
        // is not seen after it.
        self.0[0].store(task << STEP_BITS | step as u64, Ordering::Release);
    }

    /// Whether the worker has come to its loop.
    pub(super) fn has_started(&self) -> bool {
        self.read().1 != 0
    }

    /// How far `task` has come.
    pub(super) fn progress(&self, task: u64) -> Progress {
        let (number, step) = self.read();
        let seen = number == task && step >= Step::Receiving as u64;
        let phase = match step {
            _ if !seen => Phase::NotStarted,
            step if step == Step::Running as u64 => Phase::Running,
            step if step == Step::Returned as u64 => Phase::ResultLost,
            _ => Phase::NotStarted,
        };
        Progress { phase, seen }
    }

    fn read(&self) -> (u64, u64) {
        // Acquire: pairs with the Release store in `post`.
        let word = self.0[0].load(Ordering::Acquire);
        (word >> STEP_BITS, word & ((1 << STEP_BITS) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn board_names_the_phase_of_its_task_only() {
        let board = Board::new().unwrap();
        assert!(!board.has_started());
        board.post(0, Step::Ready);
        assert!(board.has_started());
        let phases = [
            (Step::Receiving, Phase::NotStarted),
            (Step::Running, Phase::Running),
            (Step::Returned, Phase::ResultLost),
        ];
        for (step, phase) in phases {
            board.post(5, step);
            assert_eq!(board.progress(5), Progress { phase, seen: true });
            let other = Progress {
                phase: Phase::NotStarted,
                seen: false,
            };
            assert_eq!(board.progress(6), other);
        }
    }
}
