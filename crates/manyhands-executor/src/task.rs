//! A task: one call that somebody else makes, and the place where its outcome appears.
//!
//! Three parts. The *cell* holds the outcome and the wakers of those who wait for it; it is
//! filled exactly once. The *driver* is what makes the task go on while its owner waits: in a
//! process pool the waiting thread collects results itself. [`Task`] is the pair of both that
//! the user holds.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use manyhands_os::clock::Deadline;
use manyhands_process::run_caught;
use manyhands_shm::handoff;
use serde::de::DeserializeOwned;

use crate::error::TaskError;
use crate::parker::{Parker, lock};

/// What makes a task go on while somebody waits for it.
pub(crate) trait Driver: Send + Sync {
    /// Waits until `ready` says so or `until` has passed; `parker` is woken when it may have
    /// changed. Returns the last answer of `ready`.
    fn wait(&self, parker: &Arc<Parker>, ready: &mut dyn FnMut() -> bool, until: Deadline) -> bool;

    /// Does what can be done without waiting and without running a task.
    fn poll(&self) {}

    /// Runs the task here if it is queued for the kind of thread that the caller is.
    fn help(&self) {}

    /// Ends the task `number` as cancelled if it is still queued, or if it runs and `running`
    /// is asked for and possible.
    fn cancel(&self, number: u64, running: bool) -> bool;
}

/// A call handed to an [`Executor`](crate::Executor).
///
/// The handle waits by reference, so a time-out costs nothing; the value itself is given once.
/// Dropping the handle does not cancel the task. It is also a future, on any runtime.
///
/// # Examples
///
/// ```
/// use manyhands_executor::{Executor, ThreadPoolExecutor};
/// use std::time::Duration;
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let task = pool.submit(|a: u32, b: u32| a + b, (40, 2))?;
/// let sum = task.result_timeout(Duration::from_secs(10)).expect("two threads are enough")?;
/// assert_eq!(sum, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `concurrent.futures.Future`.
pub struct Task<T> {
    cell: Arc<Cell<T>>,
    driver: Arc<dyn Driver>,
    number: u64,
}

impl<T> Task<T> {
    pub(crate) fn new(cell: Arc<Cell<T>>, driver: Arc<dyn Driver>, number: u64) -> Self {
        Self {
            cell,
            driver,
            number,
        }
    }

    /// Waits for the outcome and takes it.
    ///
    /// # Errors
    ///
    /// [`TaskError`]: why there is no value.
    pub fn result(&self) -> Result<T, TaskError> {
        self.settle(Deadline::NEVER)
            .unwrap_or(Err(TaskError::AlreadyTaken))
    }

    /// Takes the outcome if there is one.
    pub fn try_result(&self) -> Option<Result<T, TaskError>> {
        if !self.cell.is_done() {
            self.driver.poll();
        }
        self.cell.take()
    }

    /// Waits for the outcome for at most `timeout` and takes it; `None` when it has not come.
    pub fn result_timeout(&self, timeout: Duration) -> Option<Result<T, TaskError>> {
        self.settle(Deadline::after(timeout))
    }

    /// Waits for the outcome until `deadline` at most and takes it; `None` when it has not come.
    pub fn result_deadline(&self, deadline: Instant) -> Option<Result<T, TaskError>> {
        self.settle(Deadline::at(deadline))
    }

    /// Removes the task from the queue; false when it runs or is done.
    ///
    /// A cancelled task ends with [`TaskError::Cancelled`].
    pub fn cancel(&self) -> bool {
        !self.cell.is_done() && self.driver.cancel(self.number, false)
    }

    /// Ends the task even if it runs: its worker process is killed and replaced.
    ///
    /// False when the task is done, and for a task that runs on a thread, which nobody can end.
    pub fn cancel_running(&self) -> bool {
        !self.cell.is_done() && self.driver.cancel(self.number, true)
    }

    /// Whether the outcome is there, or was taken.
    #[must_use]
    pub fn is_done(&self) -> bool {
        if !self.cell.is_done() {
            self.driver.poll();
        }
        self.cell.is_done()
    }

    /// Whether a worker has the task right now. By the time the answer is read it may be done.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.cell.is_running()
    }

    pub(crate) fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// Whether the cell is filled; otherwise `waker` is woken when it is.
    pub(crate) fn watch(&self, waker: &Waker) -> bool {
        self.cell.watch(waker)
    }

    /// Whether the cell is filled, without driving anything.
    pub(crate) fn is_settled(&self) -> bool {
        self.cell.is_done()
    }

    fn settle(&self, until: Deadline) -> Option<Result<T, TaskError>> {
        if !self.cell.is_done() {
            let parker = Arc::new(Parker::default());
            if !self.cell.watch(&Waker::from(Arc::clone(&parker))) {
                self.driver
                    .wait(&parker, &mut || self.cell.is_done(), until);
            }
        }
        self.cell.take()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.driver.poll();
        if !self.cell.watch(context.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(self.cell.take().unwrap_or(Err(TaskError::AlreadyTaken)))
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("number", &self.number)
            .field("done", &self.cell.is_done())
            .field("running", &self.cell.is_running())
            .finish()
    }
}

/// Where the outcome of one task appears.
pub(crate) struct Cell<T> {
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    stage: Stage<T>,
    wakers: Vec<Waker>,
}

enum Stage<T> {
    Queued,
    Running,
    Done(Outcome<T>),
    Taken,
}

enum Outcome<T> {
    Here(Result<T, TaskError>),
    /// Bytes of a value, and how to read them: the thread that wants the value does it.
    Encoded(Vec<u8>, fn(&[u8]) -> Result<T, TaskError>),
}

impl<T> Cell<T> {
    pub(crate) fn new() -> Arc<Self> {
        let inner = Inner {
            stage: Stage::Queued,
            wakers: Vec::new(),
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
        })
    }

    /// Fills the cell with an outcome that is here; does nothing if it is filled.
    pub(crate) fn fill(&self, outcome: Result<T, TaskError>) {
        self.put(Outcome::Here(outcome));
    }

    /// Says whether a worker has the task now.
    pub(crate) fn set_running(&self, running: bool) {
        let mut inner = lock(&self.inner);
        match inner.stage {
            Stage::Queued | Stage::Running => {
                inner.stage = if running {
                    Stage::Running
                } else {
                    Stage::Queued
                };
            }
            Stage::Done(_) | Stage::Taken => {}
        }
    }

    fn put(&self, outcome: Outcome<T>) {
        let wakers = {
            let mut inner = lock(&self.inner);
            if matches!(inner.stage, Stage::Done(_) | Stage::Taken) {
                return;
            }
            inner.stage = Stage::Done(outcome);
            std::mem::take(&mut inner.wakers)
        };
        // Outside the lock, and caught: a waker is foreign code, and this thread has the outcomes
        // of other tasks to deliver too.
        for waker in wakers {
            let _ = run_caught(|| waker.wake());
        }
    }

    fn is_done(&self) -> bool {
        matches!(lock(&self.inner).stage, Stage::Done(_) | Stage::Taken)
    }

    fn is_running(&self) -> bool {
        matches!(lock(&self.inner).stage, Stage::Running)
    }

    fn watch(&self, waker: &Waker) -> bool {
        let mut inner = lock(&self.inner);
        let done = matches!(inner.stage, Stage::Done(_) | Stage::Taken);
        if !done && !inner.wakers.iter().any(|known| known.will_wake(waker)) {
            inner.wakers.push(waker.clone());
        }
        done
    }

    /// The outcome, once; `None` before it came.
    fn take(&self) -> Option<Result<T, TaskError>> {
        let outcome = {
            let mut inner = lock(&self.inner);
            match std::mem::replace(&mut inner.stage, Stage::Taken) {
                Stage::Done(outcome) => outcome,
                Stage::Taken => return Some(Err(TaskError::AlreadyTaken)),
                earlier => {
                    inner.stage = earlier;
                    return None;
                }
            }
        };
        Some(match outcome {
            Outcome::Here(outcome) => outcome,
            Outcome::Encoded(bytes, decode) => decode(&bytes),
        })
    }
}

/// A cell seen by a pool, which does not know the type of the value.
pub(crate) trait Settle: Send + Sync {
    /// See [`Cell::set_running`].
    fn set_running(&self, running: bool);
    /// Fills the cell with encoded bytes, to be decoded by the thread that wants the value.
    fn value(&self, bytes: Vec<u8>);
    /// Decodes the bytes now and fills the cell.
    fn value_now(&self, bytes: &[u8]);
    /// Fills the cell with an error.
    fn fail(&self, error: TaskError);
}

impl<T: DeserializeOwned + Send> Settle for Cell<T> {
    fn set_running(&self, running: bool) {
        Self::set_running(self, running);
    }

    fn value(&self, bytes: Vec<u8>) {
        self.put(Outcome::Encoded(bytes, decode));
    }

    fn value_now(&self, bytes: &[u8]) {
        self.fill(decode(bytes));
    }

    fn fail(&self, error: TaskError) {
        self.fill(Err(error));
    }
}

/// A decoder that panics must not take the thread along that happens to collect results.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, TaskError> {
    let reason = match run_caught(|| handoff::unpack(bytes)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.to_string(),
    };
    Err(TaskError::Undecodable { reason })
}
