//! What can go wrong with managers and their objects; one type an operation.

use std::time::Duration;

use manyhands_channel::ring::RingError;
use manyhands_process::{Exit, Panic, SpawnError};
use manyhands_shm::{ArenaError, NoSpace, PackError, UnpackError};

use crate::protocol::Failure;

/// Why [`Manager::start`](crate::Manager::start) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no room for what the manager's clients meet at.
    #[error("no room for the manager: {0}")]
    NoSpace(#[from] NoSpace),
    /// The server process was not started.
    #[error("the manager's process was not started: {0}")]
    Spawn(#[from] SpawnError),
    /// The server process was started, and did not greet us.
    #[error("cannot connect to the new manager: {0}")]
    Connect(#[from] ConnectError),
}

/// Why this process could not become a client of a manager.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The manager has ended.
    #[error("the manager has ended")]
    ManagerGone,
    /// The manager did not take us up in that time: something else keeps it busy.
    #[error("the manager did not answer within {waited:?}")]
    Busy {
        /// How long we waited.
        waited: Duration,
    },
    /// There is no room for the rings.
    #[error("no room for the connection: {0}")]
    Ring(#[from] RingError),
    /// This process has no arena.
    #[error("there is no shared memory: {0}")]
    Arena(#[from] ArenaError),
    /// The ends of the rings cannot be packed.
    #[error("the connection cannot be sent: {0}")]
    Unsendable(#[from] PackError),
    /// The letter to the manager is larger than its reception takes; a mistake of this crate.
    #[error("the manager's reception takes no letter of this size")]
    Confused,
    /// The proxy belongs to the manager that this process is.
    #[error("a manager cannot be a client of itself")]
    Itself,
}

/// Why a call on a managed object brought no result.
///
/// Only with [`Panicked`](CallError::Panicked) and
/// [`ResultUnencodable`](CallError::ResultUnencodable) the function has surely run; with
/// [`ManagerGone`](CallError::ManagerGone) it may have, but then the object is gone too.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The manager's process has ended, and all its objects with it.
    #[error("the manager has ended")]
    ManagerGone,
    /// The function panicked at the owner. The object is still there, as the function left it:
    /// what it had changed before the panic is changed.
    #[error("the function panicked at the manager: {0}")]
    Panicked(Panic),
    /// The arguments cannot be encoded. Nothing was sent.
    #[error("the arguments cannot be encoded: {0}")]
    ArgumentsUnencodable(#[source] PackError),
    /// The arguments cannot be decoded at the owner. The function did not run.
    #[error("the manager cannot decode the arguments: {reason}")]
    ArgumentsUndecodable {
        /// What the decoder says.
        reason: String,
    },
    /// The function has run, and its result cannot be encoded.
    #[error("the manager cannot encode the result: {reason}")]
    ResultUnencodable {
        /// What the encoder says.
        reason: String,
    },
    /// The function has run, and its result cannot be decoded here.
    #[error("the result cannot be decoded: {0}")]
    ResultUndecodable(#[source] UnpackError),
    /// The manager does not have the function, or has it for another kind of object. It runs
    /// another build, or a library that is loaded here is not loaded there.
    #[error("the manager does not know the function: {reason}")]
    WrongFunction {
        /// What the manager says.
        reason: String,
    },
    /// The object is gone: the parcel that the proxy came in was not kept until it was unpacked.
    #[error("the manager has no such object")]
    NoSuchObject,
    /// This process could not become a client of the manager.
    #[error("cannot connect to the manager: {0}")]
    Connect(#[from] ConnectError),
    /// The manager answered something else than was asked.
    #[error("the manager's answer fits no question")]
    Confused,
    /// No answer came before the deadline; what was asked may still be done.
    #[error("the manager did not answer in time")]
    TimedOut,
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Panicked(panic) => CallError::Panicked(panic),
            Failure::Undecodable { reason } => CallError::ArgumentsUndecodable { reason },
            Failure::Unencodable { reason } => CallError::ResultUnencodable { reason },
            Failure::WrongFunction { reason } => CallError::WrongFunction { reason },
            Failure::NoSuchObject => CallError::NoSuchObject,
        }
    }
}

/// Why [`Manager::shutdown`](crate::Manager::shutdown) was not a clean one. The manager has ended
/// all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// It did not end in time, and was killed.
    #[error("the manager was killed: it had not ended within {within:?}")]
    Killed {
        /// The time that it was given.
        within: Duration,
    },
    /// It had ended before, by itself or by somebody's hand.
    #[error("the manager had ended before: {exit:?}")]
    EndedBefore {
        /// How, if that is known.
        exit: Option<Exit>,
    },
}
