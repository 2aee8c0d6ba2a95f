//! What can end a call on a queue; one type an operation.

use std::fmt;

use manyhands_shm::{ArenaError, NoSpace, PackError, UnpackError};

use super::layout::LEASES;
use super::raw::Stop;

/// Why a queue was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// This process has no arena, and none could be made.
    #[error("there is no shared memory: {0}")]
    Arena(#[from] ArenaError),
    /// The arena has no room for the queue.
    #[error("there is no room for the queue: {0}")]
    NoSpace(#[from] NoSpace),
    /// A queue for no message, or for more than there can be.
    #[error(
        "a queue cannot be for {items} messages and {bytes} bytes: at least 1, at most 2^31 messages and 1 GiB"
    )]
    Size {
        /// The messages asked for.
        items: usize,
        /// The bytes asked for.
        bytes: usize,
    },
    /// The new queue is not empty: somebody writes into memory that is not theirs.
    #[error("the queue is corrupt")]
    Corrupt,
}

/// Why a value was not put. It never was in the queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// There is no room now (`try_put` only).
    #[error("the queue is full")]
    Full,
    /// There was no room before the deadline.
    #[error("the queue stayed full until the deadline")]
    TimedOut,
    /// The queue was closed.
    #[error("the queue is closed")]
    Closed,
    /// The value cannot be encoded.
    #[error("the value cannot be encoded: {0}")]
    Unencodable(#[from] PackError),
    /// The value is too large for the queue itself, and the arena has no room for it.
    #[error("there is no room for a value so large: {0}")]
    NoSpace(#[from] NoSpace),
    /// This thread holds as many shared locks as the kernel looks after.
    #[error("this thread holds too many locks")]
    TooManyHeld,
    /// The words of the queue contradict each other.
    #[error("the queue is corrupt")]
    Corrupt,
}

/// A lease that was not this process' any more when it was committed; somebody else may have the value.
pub struct LeaseLost<T> {
    /// The value.
    pub value: T,
}

impl<T> std::error::Error for LeaseLost<T> {}

impl<T> fmt::Display for LeaseLost<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lease of the value was lost")
    }
}

impl<T> fmt::Debug for LeaseLost<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseLost").finish_non_exhaustive()
    }
}

/// Why no value came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// There is no value now (`try_get` only).
    #[error("the queue is empty")]
    Empty,
    /// There was no value before the deadline.
    #[error("no value came before the deadline")]
    TimedOut,
    /// The queue was closed, and every value in it was taken.
    #[error("the queue is closed")]
    Closed,
    /// A message came, and is no encoding of such a value, or an end of a pipe in it has died with its
    /// sender. It is gone, the next one may be right.
    #[error("the message is no such value: {0}")]
    Undecodable(#[from] UnpackError),
    /// All processes together have as many leases of the queue as there can be (`lease` only).
    #[error("{most} values are leased, which is the most that can be")]
    TooManyLeases {
        /// The most leases.
        most: usize,
    },
    /// Another call of this thread on the queue has not returned: decoding a value must not get
    /// another one.
    #[error("a call on the queue inside of another one")]
    Reentered,
    /// This thread holds as many shared locks as the kernel looks after.
    #[error("this thread holds too many locks")]
    TooManyHeld,
    /// The value is large, and this process has no room in its address space for the part of the arena
    /// that it is in. It stays in the queue, for others.
    #[error("this process has no addresses left for the value; raise its limit of address space")]
    OutOfAddressSpace,
    /// The words of the queue contradict each other.
    #[error("the queue is corrupt")]
    Corrupt,
}

/// Why not all values were put. Those that were come out in their order.
#[derive(Debug, thiserror::Error)]
#[error("after {put} values: {error}")]
pub struct PutManyError {
    /// How many were put: the first ones.
    pub put: usize,
    /// Why the next one was not.
    #[source]
    pub error: PutError,
}

/// Why not all values that were taken can be given.
pub struct GetManyError<T> {
    /// The others; none unless `error` is [`GetError::Undecodable`].
    pub values: Vec<T>,
    /// What was wrong; with the first one, if with several.
    pub error: GetError,
}

impl<T> std::error::Error for GetManyError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<T> fmt::Display for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<T> fmt::Debug for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetManyError")
            .field("values", &self.values.len())
            .field("error", &self.error)
            .finish()
    }
}

/// Why a value was not reported as done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// Every value that was taken has been reported.
    #[error("more values were reported as done than were taken")]
    TooMany,
}

/// Why the queue is not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Not now (`try_join` only).
    #[error("{values} values are not done")]
    Unfinished {
        /// Those in the queue, and those taken and not reported.
        values: usize,
    },
    /// Not before the deadline. Those who took the last values may have died.
    #[error("{values} values were not done by the deadline")]
    TimedOut {
        /// Those in the queue, and those taken and not reported.
        values: usize,
    },
}

impl From<Stop> for PutError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::WouldBlock => Self::Full,
            Stop::TimedOut => Self::TimedOut,
            Stop::Closed => Self::Closed,
            Stop::TooManyHeld => Self::TooManyHeld,
            // No code of the user's runs while a producer has the turn: its name there is not ours.
            // Nor does it look at messages.
            Stop::Reentered | Stop::TooManyLeases | Stop::OutOfAddressSpace | Stop::Corrupt => {
                Self::Corrupt
            }
        }
    }
}

impl From<Stop> for GetError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::WouldBlock => Self::Empty,
            Stop::TimedOut => Self::TimedOut,
            Stop::Closed => Self::Closed,
            Stop::TooManyLeases => Self::TooManyLeases { most: LEASES },
            Stop::Reentered => Self::Reentered,
            Stop::TooManyHeld => Self::TooManyHeld,
            Stop::OutOfAddressSpace => Self::OutOfAddressSpace,
            Stop::Corrupt => Self::Corrupt,
        }
    }
}
