//! What can go wrong: with building a pool, with handing a task in, and with a task.
//!
//! One type per operation: [`BuildError`], [`SubmitError`], [`TaskError`]. A worker's death is
//! data, [`Death`]: the cause, how far the task had come, which process it was, which attempt.

use std::fmt;
use std::io;
use std::time::Duration;

use manyhands_os::process::Identity;
use manyhands_process::Panic;

/// How far a task had come when its worker died; whether a retry is safe follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The called function had not begun: running the task again repeats nothing.
    NotStarted,
    /// The called function had begun and not returned: its side effects may have happened.
    Running,
    /// The called function had returned; its value died with the worker.
    ResultLost,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotStarted => "before the task started",
            Self::Running => "while the task ran",
            Self::ResultLost => "after the task, before its result arrived",
        })
    }
}

/// What ended a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The task called `exit` with this code.
    Exited(i32),
    /// A signal that the worker brought upon itself, `SIGSEGV` or `SIGABRT` for example.
    Signaled {
        /// The number of the signal.
        signal: i32,
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
    },
    /// `SIGKILL` that this pool did not send: an operator, or the kernel short of memory.
    OutsideKill,
    /// The stack was used up.
    StackOverflow,
    /// An allocation went past the worker's memory limit.
    MemoryLimit {
        /// Bytes of the allocation that was refused; `None` when the kernel refused it unseen.
        asked: Option<u64>,
        /// The limit in bytes.
        allowed: u64,
    },
    /// The worker's own loop panicked, or a panic could not be caught.
    Panicked(Panic),
    /// Somebody else collected the exit status.
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled {
                signal,
                core_dumped: false,
            } => write!(f, "signal {signal}"),
            Self::Signaled {
                signal,
                core_dumped: true,
            } => {
                write!(f, "signal {signal}, core dumped")
            }
            Self::OutsideKill => f.write_str("killed from outside"),
            Self::StackOverflow => f.write_str("stack overflow"),
            Self::MemoryLimit { asked, allowed } => memory_limit(f, *asked, *allowed),
            Self::Panicked(panic) => write!(f, "panic: {panic}"),
            Self::Unknown => f.write_str("unknown cause"),
        }
    }
}

/// The death of one worker with a task in its hands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Death {
    /// What ended the worker.
    pub cause: Cause,
    /// How far the task had come.
    pub phase: Phase,
    /// The worker process.
    pub worker: Identity,
    /// Which attempt at the task this was; the first is 1.
    pub attempt: u32,
    /// Wall time from the hand-over of this attempt to the death.
    pub ran: Duration,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cause,
            phase,
            worker,
            attempt,
            ran,
        } = self;
        write!(
            f,
            "worker {} died {phase} (attempt {attempt}, {} ms): {cause}",
            worker.pid,
            ran.as_millis()
        )
    }
}

/// Why a task has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// The function panicked; the worker lives on.
    Panicked(Panic),
    /// The worker died.
    Died(Death),
    /// The task used up its time, counted over all its attempts; its worker was killed.
    Deadline {
        /// The limit.
        limit: Duration,
        /// Wall time used by all attempts.
        ran: Duration,
    },
    /// The task went past its memory limit; its worker died of it.
    MemoryLimit {
        /// Bytes of the allocation that was refused; `None` when the kernel refused it unseen.
        asked: Option<u64>,
        /// The limit in bytes.
        allowed: u64,
    },
    /// The task used up its stack; its worker died of it.
    StackOverflow,
    /// The task killed as many workers as the pool lets one task kill.
    Quarantined {
        /// Each of these deaths, in order.
        deaths: Vec<Death>,
    },
    /// The encoded result is larger than the pool's output limit.
    OutputLimit {
        /// Bytes of the result.
        size: u64,
        /// The limit in bytes.
        allowed: u64,
    },
    /// The task was cancelled.
    Cancelled,
    /// The arguments could not be decoded in the worker, or the result here.
    Undecodable {
        /// What the decoder said.
        reason: String,
    },
    /// The result, or in a `map` the item, could not be encoded.
    Unencodable {
        /// What the encoder said.
        reason: String,
    },
    /// The pool was shut down before the task was done.
    PoolShutDown,
    /// The pool cannot start workers.
    Broken {
        /// Why the last start failed.
        reason: String,
    },
    /// An earlier call has taken the result already.
    AlreadyTaken,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => write!(f, "the task panicked: {panic}"),
            Self::Died(death) => write!(f, "{death}"),
            Self::Deadline { limit, ran } => write!(
                f,
                "the task ran for {} ms, its limit is {} ms",
                ran.as_millis(),
                limit.as_millis()
            ),
            Self::MemoryLimit { asked, allowed } => memory_limit(f, *asked, *allowed),
            Self::StackOverflow => f.write_str("stack overflow"),
            Self::Quarantined { deaths } => {
                write!(f, "quarantined: the task killed {} workers", deaths.len())?;
                deaths
                    .last()
                    .map_or(Ok(()), |death| write!(f, ", last: {}", death.cause))
            }
            Self::OutputLimit { size, allowed } => {
                write!(f, "the result has {size} bytes, {allowed} are allowed")
            }
            Self::Cancelled => f.write_str("the task was cancelled"),
            Self::Undecodable { reason } => write!(f, "not decodable: {reason}"),
            Self::Unencodable { reason } => write!(f, "not encodable: {reason}"),
            Self::PoolShutDown => f.write_str("the pool was shut down"),
            Self::Broken { reason } => write!(f, "the pool cannot start workers: {reason}"),
            Self::AlreadyTaken => f.write_str("the result was taken before"),
        }
    }
}

impl std::error::Error for TaskError {}

fn memory_limit(f: &mut fmt::Formatter<'_>, asked: Option<u64>, allowed: u64) -> fmt::Result {
    match asked {
        Some(asked) => write!(
            f,
            "memory limit: asked for {asked} more bytes, {allowed} allowed"
        ),
        None => write!(f, "memory limit: {allowed} bytes allowed"),
    }
}

/// Why a task was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmitError {
    /// The arguments cannot be encoded.
    Unencodable {
        /// What the encoder said.
        reason: String,
    },
    /// The pool was shut down.
    PoolShutDown,
    /// The pool cannot start workers.
    Broken {
        /// Why the last start failed.
        reason: String,
    },
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unencodable { reason } => write!(f, "not encodable: {reason}"),
            Self::PoolShutDown => f.write_str("the pool was shut down"),
            Self::Broken { reason } => write!(f, "the pool cannot start workers: {reason}"),
        }
    }
}

impl std::error::Error for SubmitError {}

impl From<SubmitError> for TaskError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Unencodable { reason } => Self::Unencodable { reason },
            SubmitError::PoolShutDown => Self::PoolShutDown,
            SubmitError::Broken { reason } => Self::Broken { reason },
        }
    }
}

/// Why a pool was not built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// No worker was asked for, or the range of counts is empty.
    NoWorkers,
    /// More workers than one thread can watch at a time.
    TooManyWorkers {
        /// Workers asked for.
        asked: usize,
        /// The most that can be.
        limit: usize,
    },
    /// A memory limit in which no worker can start.
    MemoryLimitTooSmall {
        /// Bytes asked for.
        asked: u64,
        /// The least that can be.
        least: u64,
    },
    /// A time limit, an output limit or a count of zero, with which no task can succeed.
    Zero {
        /// The setting.
        setting: &'static str,
    },
    /// A thread of the pool could not be started.
    Thread {
        /// What the operating system said.
        source: io::Error,
    },
    /// The shared memory of the pool could not be made.
    Memory {
        /// What was refused.
        reason: String,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorkers => f.write_str("a pool needs at least one worker"),
            Self::TooManyWorkers { asked, limit } => {
                write!(
                    f,
                    "{asked} workers asked for, at most {limit} can be watched"
                )
            }
            Self::MemoryLimitTooSmall { asked, least } => {
                write!(
                    f,
                    "memory limit of {asked} bytes, at least {least} are needed"
                )
            }
            Self::Zero { setting } => write!(f, "{setting} must not be zero"),
            Self::Thread { source } => write!(f, "cannot start a thread: {source}"),
            Self::Memory { reason } => write!(f, "no shared memory for the pool: {reason}"),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Thread { source } => Some(source),
            _ => None,
        }
    }
}
