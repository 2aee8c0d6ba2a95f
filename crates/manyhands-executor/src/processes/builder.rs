//! How a process pool is set up.

use std::ops::RangeInclusive;
use std::time::Duration;

use manyhands_process::StartMethod;

use super::limits::{Limits, MOST_WORKERS};
use super::retry::Policy;
use super::{Plan, ProcessPoolExecutor};
use crate::error::BuildError;

/// How many workers a pool has: a number, or a range in which it grows as tasks come.
///
/// # Examples
///
/// ```
/// use manyhands_executor::WorkerCount;
///
/// assert_eq!(WorkerCount::from(4), WorkerCount::from(4..=4));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCount(RangeInclusive<usize>);

impl WorkerCount {
    pub(super) fn least(&self) -> usize {
        *self.0.start()
    }

    pub(super) fn most(&self) -> usize {
        *self.0.end()
    }
}

impl From<usize> for WorkerCount {
    fn from(count: usize) -> Self {
        Self(count..=count)
    }
}

impl From<RangeInclusive<usize>> for WorkerCount {
    fn from(range: RangeInclusive<usize>) -> Self {
        Self(range)
    }
}

/// Settings of a [`ProcessPoolExecutor`].
#[derive(Debug, Clone)]
pub struct Builder {
    plan: Plan,
}

impl Builder {
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let plan = Plan {
            name: String::from("worker"),
            workers: WorkerCount::from(processors.min(MOST_WORKERS)),
            start_method: StartMethod::Zygote,
            limits: Limits::default(),
            policy: Policy::default(),
            max_tasks: None,
        };
        Self { plan }
    }

    /// Sets the number of workers; one for each processor otherwise.
    ///
    /// Of a range the lower number is started at once, the others when tasks wait. A range that
    /// starts at 0 starts nothing before the first task.
    ///
    /// A worker that dies is replaced before the kernel has taken it apart; with the dying there
    /// are never more than twice as many processes.
    #[must_use]
    pub fn workers(mut self, workers: impl Into<WorkerCount>) -> Self {
        self.plan.workers = workers.into();
        self
    }

    /// Limits the memory of each worker to what it has at its start and `bytes` more.
    ///
    /// A task that goes past it ends with [`TaskError::MemoryLimit`](crate::TaskError); the
    /// program that uses `CappedAllocator` learns how much was asked for.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.plan.limits.memory = Some(bytes);
        self
    }

    /// Limits the wall time of each task, all its attempts together, from the moment at which a
    /// worker gets it. When it is used up the worker is killed and replaced.
    #[must_use]
    pub fn task_timeout(mut self, limit: Duration) -> Self {
        self.plan.limits.time = Some(limit);
        self
    }

    /// Limits the size of an encoded result.
    #[must_use]
    pub fn output_limit(mut self, bytes: u64) -> Self {
        self.plan.limits.output = Some(bytes);
        self
    }

    /// Sets how often a task is tried again whose worker it has killed; never otherwise.
    ///
    /// A task may then run more than once: ask for it only where that does no harm.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.plan.policy.retries = retries;
        self
    }

    /// Sets how often a task is tried again whose worker was killed from outside (by an operator,
    /// or by a kernel short of memory); never otherwise. Such deaths are not the task's fault and
    /// never count for the quarantine.
    #[must_use]
    pub fn retries_after_outside_kill(mut self, retries: u32) -> Self {
        self.plan.policy.retries_after_outside_kill = retries;
        self
    }

    /// Sets how many workers a task may kill, however many retries are left; 2 otherwise.
    #[must_use]
    pub fn quarantine_after(mut self, deaths: u32) -> Self {
        self.plan.policy.quarantine_after = deaths;
        self
    }

    /// Sets after how many tasks a worker is replaced by a fresh one; never otherwise.
    #[must_use]
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        self.plan.max_tasks = Some(tasks);
        self
    }

    /// Sets the name of the workers, as the system's process list shows it.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.plan.name = name.into();
        self
    }

    /// Sets how worker processes are started; from a zygote otherwise.
    #[must_use]
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.plan.start_method = method;
        self
    }

    /// Makes the pool. Its workers are started in the background.
    ///
    /// # Errors
    ///
    /// [`BuildError`], for settings with which no task can succeed, and when threads or shared
    /// memory are refused. That workers cannot be started shows later, as
    /// [`SubmitError::Broken`](crate::SubmitError) and [`TaskError::Broken`](crate::TaskError).
    pub fn build(self) -> Result<ProcessPoolExecutor, BuildError> {
        let Plan {
            workers,
            limits,
            policy,
            max_tasks,
            ..
        } = &self.plan;
        if workers.most() == 0 || workers.least() > workers.most() {
            return Err(BuildError::NoWorkers);
        }
        if workers.most() > MOST_WORKERS {
            let asked = workers.most();
            return Err(BuildError::TooManyWorkers {
                asked,
                limit: MOST_WORKERS,
            });
        }
        limits.check()?;
        if policy.quarantine_after == 0 {
            return Err(BuildError::Zero {
                setting: "quarantine_after",
            });
        }
        if *max_tasks == Some(0) {
            return Err(BuildError::Zero {
                setting: "max_tasks_per_worker",
            });
        }
        ProcessPoolExecutor::start(self.plan)
    }
}
