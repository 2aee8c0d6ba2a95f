#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod executor;
mod map;
mod parker;
mod pool;
pub mod processes;
mod task;
pub mod threads;
mod waiting;

pub use error::{BuildError, Cause, Death, Phase, SubmitError, TaskError};
pub use executor::{Executor, Shutdown, ShutdownReport};
pub use map::{Map, MapUnordered};
pub use pool::{Imap, ImapUnordered, Pool};
pub use processes::{Builder, Failures, ProcessPoolExecutor, Stats, WorkerCount};
pub use task::Task;
pub use threads::{ThreadPoolExecutor, Work};
pub use waiting::{AsCompleted, Until, as_completed, wait, wait_deadline, wait_timeout};
