//! The way with isolation: each file is a task of a pool of processes.
//!
//! What a file does to its process becomes its verdict. The pool tries a file again whose process
//! died, once; a second death ends it. A process killed by somebody else is not the file's
//! fault: such a file is tried again as long as it has time.

use crate::fatal::Fatal;
use crate::in_process::panicked;
use crate::options::Options;
use crate::verdict::Verdict;
use crate::way::{Ending, Way};
use crate::work::{self, Job};
use manyhands::executor::{Cause, Death};
use manyhands::os::limits::limit_core;
use manyhands::{Executor as _, ProcessPoolExecutor, Shutdown, SubmitError, TaskError};
use std::time::Duration;

/// A file is tried so often again after its process died of it.
const RETRIES: u32 = 1;
/// A file that ended so many processes is not tried again.
const QUARANTINE_AFTER: u32 = 2;
/// How long a worker that is to end may take before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// Runs files in the processes of a pool.
#[derive(Debug)]
pub(crate) struct Processes {
    pool: ProcessPoolExecutor,
}

impl Processes {
    /// Starts the pool.
    ///
    /// # Errors
    ///
    /// What the pool says, in one line.
    pub(crate) fn start(options: &Options) -> Result<Processes, Fatal> {
        // The core of a worker would be left in the folder that rescue was started in.
        limit_core(0).map_err(|error| Fatal::new(format!("cannot forbid core files: {error}")))?;
        let pool = ProcessPoolExecutor::builder()
            .name("rescue")
            .workers(options.jobs())
            .task_timeout(options.time)
            .memory_limit(options.mem)
            .retries(RETRIES)
            .quarantine_after(QUARANTINE_AFTER)
            .retries_after_outside_kill(u32::MAX)
            .build()
            .map_err(|error| Fatal::new(format!("cannot start the pool: {error}")))?;
        Ok(Processes { pool })
    }
}

impl Way for Processes {
    fn examine(&self, job: Job) -> Ending {
        let ended = self
            .pool
            .submit(work::examine, (job,))
            .map_err(SubmitError::into);
        match ended.and_then(|task| task.result()) {
            Ok(outcome) => outcome.into(),
            Err(error) => ending(error),
        }
    }

    fn restarts(&self) -> u64 {
        self.pool.stats().restarts
    }

    fn stop(&self) {
        self.pool.shutdown(Shutdown::Now, STOP_WITHIN);
    }
}

/// What a failed task says about its file.
fn ending(error: TaskError) -> Ending {
    Ending::Verdict(match error {
        TaskError::Panicked(panic) => panicked(&panic.message, panic.location.as_deref()),
        TaskError::Died(death) => died(&death.cause),
        TaskError::Deadline { limit, .. } => {
            let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            Verdict::Deadline { limit_ms }
        }
        TaskError::MemoryLimit { asked, allowed } => Verdict::MemoryLimit { asked, allowed },
        TaskError::StackOverflow => Verdict::StackOverflow,
        TaskError::Quarantined { deaths } => quarantined(&deaths),
        // The pool itself: no file is to blame, and the next would fare the same.
        other => return Ending::Broken(other.to_string()),
    })
}

/// Deaths of a cause that explains itself are that cause; others are kept, with their signals.
fn quarantined(deaths: &[Death]) -> Verdict {
    let explained = deaths
        .last()
        .map(|death| died(&death.cause))
        .filter(|verdict| {
            let kind = verdict.kind();
            let tells = matches!(
                verdict,
                Verdict::StackOverflow | Verdict::MemoryLimit { .. }
            );
            tells && deaths.iter().all(|death| died(&death.cause).kind() == kind)
        });
    explained.unwrap_or_else(|| Verdict::Quarantined {
        deaths: deaths
            .iter()
            .map(|death| died(&death.cause).to_string())
            .collect(),
    })
}

/// One death as a verdict.
fn died(cause: &Cause) -> Verdict {
    match cause {
        Cause::Signaled { signal, .. } => Verdict::Signal {
            signal: *signal,
            name: signal_name(*signal),
        },
        Cause::OutsideKill => Verdict::Signal {
            signal: 9,
            name: "SIGKILL from outside".into(),
        },
        Cause::StackOverflow => Verdict::StackOverflow,
        Cause::MemoryLimit { asked, allowed } => Verdict::MemoryLimit {
            asked: *asked,
            allowed: *allowed,
        },
        Cause::Panicked(panic) => panicked(&panic.message, panic.location.as_deref()),
        Cause::Exited(code) => Verdict::error(format!("its process ended with exit code {code}")),
        other => Verdict::error(format!("its process ended: {other}")),
    }
}

/// The name of a signal that ends processes, for those that have the same number on every Linux.
fn signal_name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    }
    .to_owned()
}
