//! What can end a call on a queue of one process.

use std::fmt;

/// Why a value was not put; it comes back.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PutError<T> {
    /// There is no room now (`try_put` only).
    #[error("the queue is full")]
    Full(T),
    /// There was no room before the deadline.
    #[error("the queue stayed full until the deadline")]
    TimedOut(T),
    /// The queue was closed.
    #[error("the queue is closed")]
    Closed(T),
}

impl<T> PutError<T> {
    /// The value that was not put.
    pub fn into_value(self) -> T {
        match self {
            Self::Full(value) | Self::TimedOut(value) | Self::Closed(value) => value,
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::TimedOut(_) => "TimedOut(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

/// Why no value came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
}
