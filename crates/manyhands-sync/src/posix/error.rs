//! Why a mutex could not be placed, adopted, or made robust; what an event tells.

use std::{error, fmt};

use manyhands_os::OsError;

/// Why [`PosixLock::place`](super::PosixLock::place) made no lock.
#[derive(Debug)]
#[non_exhaustive]
pub enum PlaceError {
    /// This C library lays mutexes out in a way that is not known here.
    UnknownLayout,
    /// The C library refused.
    Refused(OsError),
}

/// Why [`PosixLock::adopt`](super::PosixLock::adopt) took no lock over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdoptError {
    /// This C library lays mutexes out in a way that is not known here.
    UnknownLayout,
    /// The mutex was made for the threads of one process; or the memory is zeroed.
    NotShared,
    /// It can be taken twice by one thread, hence guards no data; or it changes priorities; or no
    /// mutex lies there at all.
    WrongKind {
        /// The word in which the C library keeps the kind.
        kind: i32,
    },
}

/// Why [`PosixLock::make_robust`](super::PosixLock::make_robust) changed nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum RenewError {
    /// Somebody holds the lock.
    InUse,
    /// The C library refused.
    Refused(OsError),
}

/// The event was not set in time; in the box that raw_sync's `EventImpl::wait` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTimedOut;

/// No event of ours lies at the address; in the box of raw_sync's `EventInit::from_existing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnEvent;

const UNKNOWN_LAYOUT: &str = "this C library lays mutexes out in an unknown way";

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLayout => f.write_str(UNKNOWN_LAYOUT),
            Self::Refused(_) => f.write_str("the mutex could not be initialized"),
        }
    }
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLayout => f.write_str(UNKNOWN_LAYOUT),
            Self::NotShared => f.write_str("the mutex is not for processes to share"),
            Self::WrongKind { kind } => write!(f, "no mutex of a kind that can guard data: {kind}"),
        }
    }
}

impl fmt::Display for RenewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("somebody holds the lock"),
            Self::Refused(_) => f.write_str("the mutex could not be initialized"),
        }
    }
}

impl fmt::Display for EventTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event was not set in time")
    }
}

impl fmt::Display for NotAnEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no event of this library lies here")
    }
}

impl error::Error for EventTimedOut {}

impl error::Error for NotAnEvent {}

impl error::Error for PlaceError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            Self::UnknownLayout => None,
        }
    }
}

impl error::Error for AdoptError {}

impl error::Error for RenewError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            Self::InUse => None,
        }
    }
}
