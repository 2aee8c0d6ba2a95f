//! An executor whose workers are threads of this process.
//!
//! ```text
//!   submit -> Unit -> injector -> queue of one thread -> run -> Cell -> Task::result
//!                        \_____________ stolen _____________/
//! ```
//!
//! A panic in a task becomes its [`TaskError::Panicked`](crate::TaskError). What threads cannot
//! give, [processes](crate::processes) can: a task that crashes, spins or takes all memory takes
//! the program with it here.

mod crew;
mod unit;
mod work;

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_process::Callable;
use manyhands_shm::handoff::Handoff;

pub use work::Work;

use crate::error::{BuildError, SubmitError, TaskError};
use crate::executor::{Executor, Shutdown, ShutdownReport};
use crate::map::{Map, MapUnordered};
use crate::task::{Cell, Driver, Task};
use crew::{Crew, State};
use unit::Unit;

/// How long dropping a pool waits for tasks that run.
const DROP_GRACE: Duration = Duration::from_secs(5);

/// A pool of threads.
///
/// Beside the [`Executor`] trait it has methods of the same names that ask less of a call: it
/// may capture, and nothing needs to be encoded.
///
/// Dropping it cancels what is queued and waits up to 5 seconds for what runs.
///
/// # Examples
///
/// ```
/// use manyhands_executor::ThreadPoolExecutor;
/// use std::sync::Arc;
///
/// let words = Arc::new(vec!["many", "hands"]);
/// let pool = ThreadPoolExecutor::new(4)?;
/// let lengths = pool.map(move |index: usize| words[index].len(), 0..2);
/// assert_eq!(lengths.collect::<Result<Vec<_>, _>>()?, [4, 5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `concurrent.futures.ThreadPoolExecutor`.
pub struct ThreadPoolExecutor {
    crew: Arc<Crew>,
    threads: usize,
}

impl ThreadPoolExecutor {
    /// Starts `threads` threads.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoWorkers`] and [`BuildError::Thread`].
    pub fn new(threads: usize) -> Result<Self, BuildError> {
        if threads == 0 {
            return Err(BuildError::NoWorkers);
        }
        let (crew, queues) = Crew::new(threads);
        // Made first, so that an error below closes the crew and ends the threads started.
        let pool = Self {
            crew: Arc::clone(&crew),
            threads,
        };
        for (index, queue) in queues.into_iter().enumerate() {
            let member = Arc::clone(&crew);
            crew.enlist();
            let started = thread::Builder::new()
                .name(format!("manyhands-pool-{index}"))
                .spawn(move || member.work(&queue));
            if let Err(source) = started {
                crew.discharge();
                return Err(BuildError::Thread { source });
            }
        }
        Ok(pool)
    }

    /// Hands in one call, which may capture.
    ///
    /// # Errors
    ///
    /// [`SubmitError::PoolShutDown`].
    pub fn submit<F, A>(&self, f: F, arguments: A) -> Result<Task<F::Output>, SubmitError>
    where
        F: Work<A>,
        A: Send + 'static,
        F::Output: Send + 'static,
    {
        self.enqueue(move || f.run(arguments))
    }

    /// Calls `f`, which may capture, with each item; see [`Executor::map`].
    pub fn map<F, I, R>(&self, f: F, items: I) -> Map<'_, I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        I: IntoIterator,
        I::Item: Send + 'static,
        R: Send + 'static,
    {
        let f = Arc::new(f);
        Map::new(items.into_iter(), self.threads, move |item| {
            let f = Arc::clone(&f);
            self.enqueue(move || f(item))
        })
    }

    /// Like [`map`](Self::map), in the order in which the calls end.
    pub fn map_unordered<F, I, R>(&self, f: F, items: I) -> MapUnordered<'_, I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        I: IntoIterator,
        I::Item: Send + 'static,
        R: Send + 'static,
    {
        let f = Arc::new(f);
        MapUnordered::new(items.into_iter(), self.threads, move |item| {
            let f = Arc::clone(&f);
            self.enqueue(move || f(item))
        })
    }

    /// How many calls can run at a time.
    #[must_use]
    pub fn width(&self) -> usize {
        self.threads
    }

    /// Stops; see [`Executor::shutdown`]. A thread cannot be killed: tasks that still run when
    /// `within` has passed are reported as abandoned, and go on.
    pub fn shutdown(&self, how: Shutdown, within: Duration) -> ShutdownReport {
        let until = Deadline::after(within);
        let before = self.crew.state();
        self.crew.close();
        let mut cancelled = 0;
        if how != Shutdown::Drain {
            cancelled += self.cancel_queued();
        }
        self.crew
            .wait_until(until, |state| state.queued == 0 && state.running == 0);
        cancelled += self.cancel_queued();
        let after = self.crew.wait_until(until, |state| state.threads == 0);
        ShutdownReport {
            done: after.ended - before.ended,
            cancelled,
            killed: 0,
            abandoned: after.running,
        }
    }

    fn enqueue<R: Send + 'static>(
        &self,
        call: impl FnOnce() -> R + Send + 'static,
    ) -> Result<Task<R>, SubmitError> {
        if !self.crew.admit() {
            return Err(SubmitError::PoolShutDown);
        }
        let cell = Cell::new();
        let unit = Unit::new(Arc::clone(&self.crew), Arc::clone(&cell), call);
        self.crew.push(Arc::clone(&unit));
        let driver: Arc<dyn Driver> = unit;
        Ok(Task::new(cell, driver, 0))
    }

    fn cancel_queued(&self) -> u64 {
        let mut cancelled = 0;
        while let Some(unit) = self.crew.steal() {
            cancelled += u64::from(unit.fail(TaskError::Cancelled));
        }
        cancelled
    }
}

impl Executor for ThreadPoolExecutor {
    fn submit<F, A>(&self, f: F, arguments: A) -> Result<Task<F::Output>, SubmitError>
    where
        F: Callable<A>,
        A: Handoff + Send + 'static,
        F::Output: Handoff + Send + 'static,
    {
        self.enqueue(move || f.call(arguments))
    }

    fn width(&self) -> usize {
        self.threads
    }

    fn shutdown(&self, how: Shutdown, within: Duration) -> ShutdownReport {
        Self::shutdown(self, how, within)
    }
}

impl Drop for ThreadPoolExecutor {
    fn drop(&mut self) {
        // A task may hold the pool that runs it; that thread must not wait for itself.
        let within = if self.crew.is_mine() {
            Duration::ZERO
        } else {
            DROP_GRACE
        };
        Self::shutdown(self, Shutdown::CancelQueued, within);
    }
}

impl fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State {
            queued,
            running,
            ended,
            ..
        } = self.crew.state();
        f.debug_struct("ThreadPoolExecutor")
            .field("threads", &self.threads)
            .field("queued", &queued)
            .field("running", &running)
            .field("ended", &ended)
            .finish()
    }
}
