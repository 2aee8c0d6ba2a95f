//! `Pool`: the process pool with the names that `multiprocessing.Pool` uses.
//!
//! Everything here is a line over [`ProcessPoolExecutor`].

use std::time::Duration;

use manyhands_process::Callable;
use manyhands_shm::handoff::Handoff;

use crate::error::{BuildError, SubmitError, TaskError};
use crate::executor::{Executor, Shutdown, ShutdownReport};
use crate::map::{Map, MapUnordered};
use crate::processes::ProcessPoolExecutor;
use crate::task::Task;

/// A pool of processes, as Python's `multiprocessing.Pool`.
///
/// # Examples
///
/// ```
/// use manyhands_executor::Pool;
///
/// let squares = Pool::new(4)?.map(|x: u64| x * x, 0..5)?;
/// assert_eq!(squares, [0, 1, 4, 9, 16]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pool {
    executor: ProcessPoolExecutor,
}

/// Outcomes in the order of the items; made by [`Pool::imap`].
pub type Imap<'e, I, R> = Map<'e, I, R>;

impl Pool {
    /// A pool of `processes` processes.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`](crate::Builder::build).
    pub fn new(processes: usize) -> Result<Self, BuildError> {
        ProcessPoolExecutor::new(processes).map(Self::from)
    }

    /// Calls `f` in the pool and waits for what it returns.
    ///
    /// # Errors
    ///
    /// [`TaskError`]: why there is no value.
    pub fn apply<F, A>(&self, f: F, arguments: A) -> Result<F::Output, TaskError>
    where
        F: Callable<A>,
        A: Handoff + Send + 'static,
        F::Output: Handoff + Send + 'static,
    {
        self.apply_async(f, arguments)?.result()
    }

    /// Calls `f` in the pool; the outcome is waited for later.
    ///
    /// # Errors
    ///
    /// As [`Executor::submit`].
    pub fn apply_async<F, A>(&self, f: F, arguments: A) -> Result<Task<F::Output>, SubmitError>
    where
        F: Callable<A>,
        A: Handoff + Send + 'static,
        F::Output: Handoff + Send + 'static,
    {
        self.executor.submit(f, arguments)
    }

    /// Calls `f` with each item and waits for all values, in order.
    ///
    /// # Errors
    ///
    /// The first [`TaskError`] in the order of the items; what is queued then is cancelled.
    pub fn map<F, I, R>(&self, f: F, items: I) -> Result<Vec<R>, TaskError>
    where
        F: Fn(I::Item) -> R + Copy + Send + 'static,
        I: IntoIterator,
        I::Item: Handoff + Send + 'static,
        R: Handoff + Send + 'static,
    {
        self.imap(f, items).collect()
    }

    /// Calls `f` with each item; gives the outcomes in order, as they come.
    pub fn imap<F, I, R>(&self, f: F, items: I) -> Imap<'_, I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Copy + Send + 'static,
        I: IntoIterator,
        I::Item: Handoff + Send + 'static,
        R: Handoff + Send + 'static,
    {
        self.executor.map(f, items)
    }

    /// Calls `f` with each item; gives the outcomes in the order in which they come.
    pub fn imap_unordered<F, I, R>(&self, f: F, items: I) -> ImapUnordered<'_, I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Copy + Send + 'static,
        I: IntoIterator,
        I::Item: Handoff + Send + 'static,
        R: Handoff + Send + 'static,
    {
        ImapUnordered {
            inner: self.executor.map_unordered(f, items),
        }
    }

    /// The executor behind the pool.
    #[must_use]
    pub fn executor(&self) -> &ProcessPoolExecutor {
        &self.executor
    }

    /// Ends the pool: tasks may finish until `within` has passed.
    ///
    /// Python: `close()` and `join()`; `terminate()` is [`Drop`].
    pub fn close(self, within: Duration) -> ShutdownReport {
        self.executor.shutdown(Shutdown::Drain, within)
    }
}

impl From<ProcessPoolExecutor> for Pool {
    fn from(executor: ProcessPoolExecutor) -> Self {
        Self { executor }
    }
}

/// Outcomes in the order in which they come; made by [`Pool::imap_unordered`].
#[derive(Debug)]
pub struct ImapUnordered<'e, I: Iterator, R> {
    inner: MapUnordered<'e, I, R>,
}

impl<I: Iterator, R> ImapUnordered<'_, I, R> {
    /// See [`MapUnordered::in_flight`].
    #[must_use]
    pub fn in_flight(self, calls: usize) -> Self {
        Self {
            inner: self.inner.in_flight(calls),
        }
    }
}

impl<I: Iterator, R> Iterator for ImapUnordered<'_, I, R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.inner.next().map(|(_, outcome)| outcome)
    }
}
