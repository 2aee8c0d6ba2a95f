//! How a process ended.

use std::fmt;
use std::time::Duration;

use manyhands_os::OsError;
use manyhands_os::fault::Fault;
use manyhands_os::process::Status;
use manyhands_os::reload::ReloadError;
use manyhands_shm::{ArenaError, NoSpace, PackError, UnpackError};
use serde::{Deserialize, Serialize};

use crate::panics::Panic;

/// Why a process is no longer there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Exit {
    /// Its function returned, and the result was handed over.
    Finished,
    /// Its function panicked.
    Panicked(Panic),
    /// A panic that could not unwind ended it, in any of its threads: one in a destructor during
    /// another panic, one in a function that must not unwind, or any in a program that aborts on
    /// panics. The panic is the last one before the abort.
    PanicAborted(Panic),
    /// It exited with this code before its function returned.
    Exited(i32),
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// The kernel's reason for it (`si_code`), where the process could still tell: for
        /// `SIGSEGV`, `SIGBUS`, `SIGFPE`, `SIGILL`, `SIGABRT` and `SIGXCPU`. Above zero for what
        /// the process did itself, at most zero for what somebody sent.
        code: Option<i32>,
        /// The address that was touched, or that of the instruction for `SIGFPE` and `SIGILL`.
        address: Option<u64>,
        /// Whether it left a core file.
        core_dumped: bool,
        /// Whether this process sent the signal while the other had not ended, by
        /// [`terminate`](crate::Process::terminate) or [`kill`](crate::Process::kill). Of the same
        /// signal from two senders at one time, nobody can tell which it was.
        by_us: bool,
    },
    /// It used up its stack.
    StackOverflow,
    /// It met its memory limit.
    MemoryLimit {
        /// The bytes of the allocation that did not fit; known when the program's allocator is a
        /// [`CappedAllocator`](crate::CappedAllocator).
        asked: Option<u64>,
        /// The limit.
        allowed: u64,
    },
    /// It met its limit of processor time.
    ProcessorLimit {
        /// The limit, in whole seconds.
        allowed: Duration,
    },
    /// It has ended, and another part of this program took its status, or had the system throw it
    /// away by ignoring `SIGCHLD`.
    Unknown,
}

impl Exit {
    /// What the status and the process's own last note say together.
    pub(crate) fn of(
        status: Status,
        fault: Option<Fault>,
        panic: impl FnOnce() -> Panic,
        sent: u64,
    ) -> Self {
        let (signal, core_dumped) = match status {
            // A process that exited has outlived whatever it noted.
            Status::Exited(code) => return Self::Exited(code),
            Status::Signaled {
                signal,
                core_dumped,
            } => (Some(signal), core_dumped),
            Status::Unknown => (None, false),
        };
        // A note of another death than this one is of one that did not come.
        let fault = fault.filter(|fault| signal.is_none_or(|signal| fault.signal() == signal));
        match (fault, signal) {
            (Some(Fault::StackOverflow { .. }), _) => Self::StackOverflow,
            (Some(Fault::MemoryLimit { asked, allowed }), _) => {
                Self::MemoryLimit { asked, allowed }
            }
            (Some(Fault::ProcessorLimit { allowed }), _) => Self::ProcessorLimit {
                allowed: Duration::from_secs(allowed),
            },
            (Some(Fault::Panic), _) => Self::PanicAborted(panic()),
            (fault, signal) => {
                let (noted, code, address) = match fault {
                    Some(Fault::Signal {
                        signal,
                        code,
                        address,
                    }) => (Some(signal), Some(code), address),
                    _ => (None, None, None),
                };
                let Some(signal) = signal.or(noted) else {
                    return Self::Unknown;
                };
                Self::Signaled {
                    signal,
                    code,
                    address,
                    core_dumped,
                    by_us: sent & signal_bit(signal) != 0,
                }
            }
        }
    }
}

impl Exit {
    /// What the status of a zygote says, which leaves no note.
    pub(crate) fn of_zygote(status: Status) -> Self {
        Self::of(status, None, Panic::lost, 0)
    }
}

/// The place of a signal in a set of signals.
pub(crate) fn signal_bit(signal: i32) -> u64 {
    u32::try_from(signal)
        .ok()
        .and_then(|signal| 1_u64.checked_shl(signal))
        .unwrap_or(0)
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Panicked(panic) => panic.fmt(f),
            Self::PanicAborted(panic) => write!(f, "aborted, for its panic cannot unwind: {panic}"),
            Self::Exited(code) => write!(f, "exited with code {code} before it returned"),
            Self::Signaled {
                signal,
                address,
                core_dumped,
                by_us,
                ..
            } => {
                write!(f, "ended by signal {signal}")?;
                if let Some(name) = signal_name(*signal) {
                    write!(f, " ({name})")?;
                }
                if let Some(address) = address {
                    write!(f, " at address {address:#x}")?;
                }
                if *by_us {
                    f.write_str(", sent by its parent")?;
                }
                if *core_dumped {
                    f.write_str(", core dumped")?;
                }
                Ok(())
            }
            Self::StackOverflow => f.write_str("used up its stack"),
            Self::MemoryLimit {
                asked: Some(asked),
                allowed,
            } => write!(
                f,
                "asked for {asked} bytes, above its memory limit of {allowed}"
            ),
            Self::MemoryLimit {
                asked: None,
                allowed,
            } => write!(f, "met its memory limit of {allowed} bytes"),
            Self::ProcessorLimit { allowed } => {
                let seconds = allowed.as_secs();
                write!(f, "met its limit of {seconds} s of processor time")
            }
            Self::Unknown => {
                f.write_str("ended, and its status was taken by somebody else, or thrown away")
            }
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// Why [`Process::join`](crate::Process::join) brought no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The process ended without a result.
    #[error("process {pid} {exit}")]
    Ended {
        /// Its id.
        pid: u32,
        /// How it ended; never [`Exit::Finished`].
        exit: Exit,
    },
    /// The function returned, but its result could not be encoded.
    #[error("result of process {pid} could not be encoded: {reason}")]
    Unencodable {
        /// Its id.
        pid: u32,
        /// What the encoder said.
        reason: String,
    },
    /// The function returned, but its result could not be decoded here.
    #[error("result of process {pid} cannot be decoded: {source}")]
    Undecodable {
        /// Its id.
        pid: u32,
        /// What the decoder says.
        source: UnpackError,
    },
    /// The function returned, but there was no shared memory to hand its result over.
    #[error("no space for the {len} bytes that process {pid} returned")]
    NoSpace {
        /// Its id.
        pid: u32,
        /// The length of the result.
        len: u64,
    },
    /// The value was taken by an earlier call.
    #[error("the result of process {pid} was taken already")]
    Taken {
        /// Its id.
        pid: u32,
    },
    /// The operating system refused to wait.
    #[error("cannot wait for process {pid}: {source}")]
    Os {
        /// Its id.
        pid: u32,
        /// What was refused.
        source: OsError,
    },
}

impl ProcessError {
    /// How the process ended, for errors that are about its end.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Self::Ended { exit, .. } => Some(exit),
            _ => None,
        }
    }

    /// The panic that ended the process, if one did.
    pub fn panic(&self) -> Option<&Panic> {
        match self.exit()? {
            Exit::Panicked(panic) | Exit::PanicAborted(panic) => Some(panic),
            _ => None,
        }
    }
}

/// Why [`Process::spawn`](crate::Process::spawn) started nothing, or nothing that reached its
/// function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The constructor by which children of this program take over did not run in this process,
    /// so it would not run in the child either, and the child would run `main`.
    #[error("the entry hook did not run in this process: the linker dropped it, or left it out")]
    HookDidNotRun,
    /// This process is itself still being started: constructors, argument decoders and functions
    /// for [`Zygote::preload`](crate::Zygote::preload) cannot start processes.
    #[error("a process that is still being started cannot start others")]
    InsideStartingChild,
    /// Children of children of children, and so on, to the limit.
    #[error("{generation} generations of processes are the most")]
    TooDeep {
        /// The generation of this process.
        generation: u32,
    },
    /// The arguments cannot be encoded.
    #[error("arguments cannot be encoded: {0}")]
    Unencodable(#[source] PackError),
    /// There is no shared memory for the arguments, or no seat for the process.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    /// There is no arena.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// The operating system refused.
    #[error("cannot start a process: {0}")]
    Os(#[from] OsError),
    /// This code lies in a library of another program, which a child would not get.
    #[error(transparent)]
    Library(#[from] ReloadError),
    /// The child runs another build than this process, or lacks a library of it.
    #[error("the child has not the function: {reason}")]
    BuildMismatch {
        /// What the child found.
        reason: String,
    },
    /// The child could not decode the arguments.
    #[error("the child cannot decode the arguments: {reason}")]
    Undecodable {
        /// What its decoder said.
        reason: String,
    },
    /// The child could not join the family, or set its limits.
    #[error("the child could not get ready: {reason}")]
    Setup {
        /// What it was refused.
        reason: String,
    },
    /// A function given to [`Zygote::preload`](crate::Zygote::preload) failed.
    #[error("preloading failed in the zygote: {reason}")]
    Preload {
        /// What happened.
        reason: String,
    },
    /// The child did not get ready in time, and was killed.
    #[error("the child did not get ready in time")]
    TimedOut,
    /// The child died before it reached the function.
    #[error("the child {0}")]
    Died(Exit),
    /// Three zygotes in a row died before they answered; the last one so. What it preloads may be
    /// the cause, or somebody kills them.
    #[error("three zygotes died before they started a process, the last one {0}")]
    ZygoteDied(Exit),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit_of(status: Status, fault: Option<Fault>) -> Exit {
        let panic = || Panic {
            message: "no".into(),
            location: None,
            thread: "main".into(),
            backtrace: None,
        };
        Exit::of(status, fault, panic, signal_bit(15))
    }

    fn signaled(signal: i32) -> Status {
        Status::Signaled {
            signal,
            core_dumped: false,
        }
    }

    #[test]
    fn signal_that_was_sent_from_here_is_told_from_others() {
        let by_us = |exit| matches!(exit, Exit::Signaled { by_us: true, .. });
        assert!(by_us(exit_of(signaled(15), None)));
        assert!(!by_us(exit_of(signaled(9), None)));
    }

    #[test]
    fn last_note_explains_a_signal_but_not_an_exit() {
        let overflow = Some(Fault::StackOverflow { address: 1 });
        assert_eq!(exit_of(signaled(11), overflow), Exit::StackOverflow);
        assert_eq!(exit_of(Status::Exited(3), overflow), Exit::Exited(3));
        assert_eq!(exit_of(Status::Unknown, overflow), Exit::StackOverflow);
        assert_eq!(exit_of(Status::Unknown, None), Exit::Unknown);
        let panicked = exit_of(signaled(6), Some(Fault::Panic));
        assert!(matches!(panicked, Exit::PanicAborted(_)));
    }

    #[test]
    fn note_of_a_death_that_did_not_come_explains_no_other() {
        let faults = [
            Fault::Panic,
            Fault::StackOverflow { address: 1 },
            Fault::MemoryLimit {
                asked: None,
                allowed: 1,
            },
        ];
        for fault in faults {
            let exit = exit_of(signaled(9), Some(fault));
            assert!(matches!(exit, Exit::Signaled { signal: 9, .. }), "{exit}");
        }
    }

    #[test]
    fn exits_read_as_sentences() {
        let text = exit_of(signaled(15), None).to_string();
        assert_eq!(text, "ended by signal 15 (SIGTERM), sent by its parent");
    }
}
