//! The end of a process pool: bounded, and with a report.
//!
//! 1. No task is taken any more; those that must not run are ended.
//! 2. What may finish does, until the time is up. Then it is ended too.
//! 3. Idle workers are told to leave. Those that have not when the time is up are killed, and
//!    the kernel gets [`REAP_GRACE`] to take them apart.
//! 4. The supervisor leaves.

use std::sync::Arc;
use std::time::Duration;

use manyhands_os::clock::Deadline;

use super::hand::Condition;
use super::job::Effects;
use super::schedule::State;
use super::{Core, Gate};
use crate::error::TaskError;
use crate::executor::{Shutdown, ShutdownReport};
use crate::parker::{Parker, lock};
use crate::task::Driver;

/// How long the kernel may take to end processes that were killed.
pub(super) const REAP_GRACE: Duration = Duration::from_secs(1);

impl Core {
    /// Ends the pool; see [`Executor::shutdown`](crate::Executor::shutdown).
    pub(super) fn close(&self, how: Shutdown, within: Duration) -> ShutdownReport {
        let until = Deadline::after(within);
        let parker = Arc::new(Parker::default());
        let mut report = ShutdownReport::default();
        let mut effects = Effects::default();
        let before = {
            let mut state = lock(&self.state);
            if state.gate == Gate::Open {
                state.gate = Gate::Closed;
            }
            state.seats.listen(&parker);
            let before = state.stats.ended();
            if how != Shutdown::Drain {
                report.cancelled = state.clear_queue(&TaskError::Cancelled, &mut effects);
            }
            if how == Shutdown::Now {
                report.killed = state.stop_all_work(&mut effects);
            }
            before
        };
        effects.run();
        self.wait(&parker, &mut || lock(&self.state).is_quiet(), until);
        let ended = self.end_work(&mut report) - before;
        report.done = ended.saturating_sub(report.cancelled + report.killed);
        self.end_workers(&parker, until);
        self.end_supervisor(&parker);
        lock(&self.state).seats.stop_listening(&parker);
        report
    }

    /// Ends what is left of the work; returns how many tasks of this pool have ever ended.
    fn end_work(&self, report: &mut ShutdownReport) -> u64 {
        let mut effects = Effects::default();
        let ended = {
            let mut state = lock(&self.state);
            report.cancelled += state.clear_queue(&TaskError::Cancelled, &mut effects);
            report.killed += state.stop_all_work(&mut effects);
            state.stats.ended()
        };
        effects.run();
        ended
    }

    fn end_workers(&self, parker: &Arc<Parker>, until: Deadline) {
        lock(&self.state).dismiss_all(until);
        let mut are_gone = || {
            let mut state = lock(&self.state);
            // One that was being started until now.
            state.dismiss_all(until);
            state.hands.is_empty() && !state.is_starting
        };
        if self.wait(parker, &mut are_gone, until) {
            return;
        }
        let mut are_gone = || {
            let mut state = lock(&self.state);
            for hand in &mut state.hands {
                hand.strike();
            }
            state.hands.is_empty() && !state.is_starting
        };
        self.wait(parker, &mut are_gone, Deadline::after(REAP_GRACE));
    }

    fn end_supervisor(&self, parker: &Arc<Parker>) {
        lock(&self.state).seats.is_over = true;
        self.supervisor.notify_one();
        self.doorbell.ring();
        let until = Deadline::after(REAP_GRACE);
        while !lock(&self.state).seats.supervisor_left && parker.park(until) {}
    }
}

impl State {
    /// Whether no task is queued and none is in the hands of a worker.
    fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.hands.iter().all(|hand| hand.load.is_none())
    }

    /// Kills the workers that have a task; returns how many.
    fn stop_all_work(&mut self, effects: &mut Effects) -> u64 {
        (0..self.hands.len())
            .filter(|&index| self.stop_at_work(index, TaskError::PoolShutDown, effects))
            .count() as u64
    }

    /// Tells all workers to leave that have nothing to do.
    fn dismiss_all(&mut self, until: Deadline) {
        for hand in &mut self.hands {
            if matches!(hand.condition, Condition::Starting | Condition::Idle) {
                hand.dismiss(until);
            }
        }
    }
}
