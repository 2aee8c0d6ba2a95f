//! What every executor can do, whether it runs calls on threads, processes or machines.

use std::time::Duration;

use manyhands_process::Callable;
use manyhands_shm::handoff::Handoff;

use crate::error::SubmitError;
use crate::map::{Map, MapUnordered};
use crate::task::Task;

/// Something that runs calls elsewhere.
///
/// A program written against this trait runs unchanged on threads and on processes: what is
/// called captures nothing, and arguments and results can be encoded.
///
/// # Examples
///
/// ```
/// use manyhands_executor::{Executor, ThreadPoolExecutor};
///
/// fn sum_of_squares(executor: &impl Executor) -> u64 {
///     executor.map(|x: u64| x * x, 0..5).map(|square| square.expect("squaring cannot fail")).sum()
/// }
/// assert_eq!(sum_of_squares(&ThreadPoolExecutor::new(2)?), 30);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `concurrent.futures.Executor`.
pub trait Executor {
    /// Hands in one call; returns at once.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Unencodable`] when the arguments cannot be encoded,
    /// [`SubmitError::PoolShutDown`], and [`SubmitError::Broken`] when no worker can be started.
    fn submit<F, A>(&self, f: F, arguments: A) -> Result<Task<F::Output>, SubmitError>
    where
        F: Callable<A>,
        A: Handoff + Send + 'static,
        F::Output: Handoff + Send + 'static;

    /// How many calls can run at a time.
    fn width(&self) -> usize;

    /// Stops: no new tasks, and the old ones end as `how` says, within `within` at most.
    fn shutdown(&self, how: Shutdown, within: Duration) -> ShutdownReport;

    /// Calls `f` with each item: lazily, in order, with a bounded number of calls in flight.
    ///
    /// Nothing is taken from `items` before the first outcome is asked for, and never more than
    /// [`Map::in_flight`] items beyond the outcomes given out, so `items` may be endless. A
    /// call that fails is one `Err` in its place; the others go on.
    ///
    /// Python: `Executor.map(fn, items, buffersize=)`.
    fn map<F, I, R>(&self, f: F, items: I) -> Map<'_, I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Copy + Send + 'static,
        I: IntoIterator,
        I::Item: Handoff + Send + 'static,
        R: Handoff + Send + 'static,
    {
        Map::new(items.into_iter(), self.width(), move |item| {
            self.submit(f, (item,))
        })
    }

    /// Like [`map`](Self::map), in the order in which the calls end; each with its item's number.
    fn map_unordered<F, I, R>(&self, f: F, items: I) -> MapUnordered<'_, I::IntoIter, R>
    where
        F: Fn(I::Item) -> R + Copy + Send + 'static,
        I: IntoIterator,
        I::Item: Handoff + Send + 'static,
        R: Handoff + Send + 'static,
    {
        MapUnordered::new(items.into_iter(), self.width(), move |item| {
            self.submit(f, (item,))
        })
    }
}

/// What happens to the tasks of an executor that shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shutdown {
    /// All tasks, queued ones too, may finish.
    Drain,
    /// Queued tasks are cancelled, running ones may finish.
    CancelQueued,
    /// Queued tasks are cancelled, running ones are killed.
    Now,
}

/// What became of the tasks that an executor had when its shutdown began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Tasks that came to an end by themselves, with a value or an error.
    pub done: u64,
    /// Tasks that never ran.
    pub cancelled: u64,
    /// Tasks whose worker was killed; they end with [`TaskError::PoolShutDown`](crate::TaskError).
    pub killed: u64,
    /// Tasks that still run on a thread, which nobody can end.
    pub abandoned: u64,
}
