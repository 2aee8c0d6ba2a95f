//! An executor whose workers are processes, which may die at any instruction.
//!
//! ```text
//!   any thread          this process (the owner)            |  one of the worker processes
//!                                                           |
//!   submit(f, args) --> encode --> worker idle? --- yes --> ring --> receive    board: Receiving
//!        |                 |                                |           |
//!        |                 no                               |        decode, call f    Running
//!        v                 v                                |           |
//!      Task              queue -- turn: idle worker? -----> ring        |
//!        |                                                  |        encode, send      Returned
//!   result() leads:        turn <-------------------------- ring <------+
//!   sleeps at the          |  |                             |           |
//!   doorbell, takes        |  +-- deadline passed: kill     |        ring the doorbell
//!   turns                  +-- life ended: read the board,  |
//!        |                     the exit status; judge       |   (nothing is shared by
//!        v                                                  |    two workers but the doorbell)
//!      decode
//! ```
//!
//! Each worker has two rings of its own, a board (one word that says how far it is) and nothing
//! that another worker could hold while it dies. The owner never blocks on a worker: it puts
//! into a ring only what fits, and reads only what is there. So a worker that dies, stops or
//! spins costs its own task and nothing else.
//!
//! | file | job |
//! |---|---|
//! | `builder` | settings, and which make no sense |
//! | `worker`, `frame`, `board` | the loop in the worker, what the rings carry, how far it is |
//! | `hand` | the owner's side of one worker |
//! | `schedule`, `job` | who gets which task; what an outcome or a death means |
//! | `retry`, `health`, `limits` | trying again, starting again, how much a task may use |
//! | `pump` | which thread does all this, when |
//! | `closing` | the end |
//!
//! Source: the picture follows CPython's `concurrent/futures/process.py`; changed: no queue is
//! shared by two workers, and no thread stands between the caller and the worker.

mod board;
mod builder;
mod closing;
mod frame;
mod hand;
mod health;
mod job;
mod limits;
mod pump;
mod retry;
mod schedule;
mod stats;
mod worker;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use manyhands_channel::Doorbell;
use manyhands_os::clock::Deadline;
use manyhands_process::{Callable, Code, StartMethod};
use manyhands_shm::handoff::Handoff;

pub use builder::{Builder, WorkerCount};
pub use stats::{Failures, Stats};

use crate::error::{BuildError, SubmitError};
use crate::executor::{Executor, Shutdown, ShutdownReport};
use crate::parker::lock;
use crate::task::{Cell, Driver, Settle, Task};
use job::Job;
use limits::Limits;
use retry::Policy;
use schedule::State;

/// How long dropping a pool waits for tasks that run.
const DROP_GRACE: Duration = Duration::from_secs(5);

/// What a pool was asked to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    name: String,
    workers: WorkerCount,
    start_method: StartMethod,
    limits: Limits,
    policy: Policy,
    max_tasks: Option<u64>,
}

/// Whether a pool takes tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
    Broken(String),
}

/// A pool without its handle: what the handle, its tasks and its supervisor share.
struct Core {
    plan: Plan,
    state: Mutex<State>,
    /// Wakes the supervisor when it does not lead.
    supervisor: Condvar,
    /// Wakes whoever leads.
    doorbell: Doorbell,
}

/// A pool of processes.
///
/// What a task does to its process (crash, `exit`, all memory, an endless loop) is that task's
/// error; the process is replaced and the other tasks go on.
///
/// Dropping the pool cancels what is queued, waits up to 5 seconds for what runs, and kills it.
///
/// # Examples
///
/// ```
/// use manyhands_executor::{Executor, ProcessPoolExecutor, TaskError};
///
/// fn divide(a: u32, b: u32) -> u32 {
///     if b == 0 {
///         std::process::abort();
///     }
///     a / b
/// }
///
/// let pool = ProcessPoolExecutor::builder().workers(2).build()?;
/// let good = pool.submit(divide, (84, 2))?;
/// let bad = pool.submit(divide, (1, 0))?;
/// assert!(matches!(bad.result(), Err(TaskError::Died(_))));
/// assert_eq!(good.result()?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `concurrent.futures.ProcessPoolExecutor`.
pub struct ProcessPoolExecutor {
    core: Arc<Core>,
}

impl ProcessPoolExecutor {
    /// A pool of `workers` processes without limits.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new(workers: usize) -> Result<Self, BuildError> {
        Self::builder().workers(workers).build()
    }

    /// Starts to set up a pool.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn start(plan: Plan) -> Result<Self, BuildError> {
        let doorbell = Doorbell::new().map_err(|error| BuildError::Memory {
            reason: error.to_string(),
        })?;
        let name = format!("{}-supervisor", plan.name);
        let state = Mutex::new(State::new());
        let core = Arc::new(Core {
            plan,
            state,
            supervisor: Condvar::new(),
            doorbell,
        });
        let supervised = Arc::clone(&core);
        thread::Builder::new()
            .name(name)
            .spawn(move || pump::supervise(&supervised))
            .map_err(|source| BuildError::Thread { source })?;
        Ok(Self { core })
    }

    /// What the pool has done and is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.poll();
        lock(&self.core.state).picture()
    }

    /// The process ids of the workers that live now.
    #[must_use]
    pub fn worker_ids(&self) -> Vec<u32> {
        self.core.poll();
        lock(&self.core.state).worker_ids()
    }
}

impl Executor for ProcessPoolExecutor {
    fn submit<F, A>(&self, f: F, arguments: A) -> Result<Task<F::Output>, SubmitError>
    where
        F: Callable<A>,
        A: Handoff + Send + 'static,
        F::Output: Handoff + Send + 'static,
    {
        let code = Code::of_call::<F, A>(&f);
        let (body, holds) =
            frame::pack_body(code, &(f.captures(), &arguments)).map_err(|error| {
                SubmitError::Unencodable {
                    reason: error.to_string(),
                }
            })?;
        let cell = Cell::<F::Output>::new();
        let settle: Arc<dyn Settle> = Arc::<Cell<F::Output>>::clone(&cell);
        let number = self.core.admit(Job::new(settle, body, holds))?;
        let driver: Arc<dyn Driver> = Arc::<Core>::clone(&self.core);
        Ok(Task::new(cell, driver, number))
    }

    fn width(&self) -> usize {
        self.core.plan.workers.most()
    }

    fn shutdown(&self, how: Shutdown, within: Duration) -> ShutdownReport {
        self.core.close(how, within)
    }
}

impl Core {
    fn admit(&self, job: Job) -> Result<u64, SubmitError> {
        let mut state = lock(&self.state);
        let number = state.admit(&self.plan, job)?;
        let deadline = self
            .plan
            .limits
            .time
            .map_or(Deadline::NEVER, Deadline::after);
        self.alert(&state, deadline);
        Ok(number)
    }
}

impl Drop for ProcessPoolExecutor {
    fn drop(&mut self) {
        self.core.close(Shutdown::CancelQueued, DROP_GRACE);
    }
}

impl fmt::Debug for ProcessPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPoolExecutor")
            .field("plan", &self.core.plan)
            .field("stats", &lock(&self.core.state).picture())
            .finish()
    }
}
