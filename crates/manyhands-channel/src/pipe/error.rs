//! What can end a call on a pipe; one type an operation.

use manyhands_os::process::Identity;
use manyhands_shm::{PackError, UnpackError};

use crate::ring::{self, Who};

/// Why a pipe was not made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the pipe: {0}")]
pub struct PipeError(#[from] ring::RingError);

/// Why a value was not sent. For the receiver it never existed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no room now (`try_send` and `try_reserve` only).
    #[error("the pipe is full")]
    Full,
    /// The encoded value is larger than the ring; `try_send` and `reserve` cannot cut it into pieces.
    #[error("a message of {size} bytes does not fit into a ring of {capacity}")]
    TooLarge {
        /// The size of the encoded value.
        size: usize,
        /// The size of the ring.
        capacity: usize,
    },
    /// There was no room before the deadline.
    #[error("the pipe stayed full until the deadline")]
    TimedOut,
    /// The receiver has closed its end.
    #[error("the receiver has closed the pipe")]
    Closed,
    /// The receiver has died.
    #[error("the receiver has died{}", Who(.who))]
    PeerDied {
        /// Which process it was, if it was known.
        who: Option<Identity>,
    },
    /// This end was packed into a parcel, or closed here; it is no longer ours.
    #[error("this end of the pipe was moved or closed")]
    Moved,
    /// The value cannot be encoded.
    #[error("the value cannot be encoded: {0}")]
    Unencodable(#[from] PackError),
    /// The words of the ring contradict each other.
    #[error("the pipe is corrupt")]
    Corrupt,
}

/// Why no value was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// There is no value now (`try_recv` and `try_recv_ref` only).
    #[error("the pipe is empty")]
    Empty,
    /// There was no value before the deadline.
    #[error("no value came before the deadline")]
    TimedOut,
    /// The sender has closed its end, and every value it sent was received.
    #[error("the sender has closed the pipe")]
    Closed,
    /// The sender has died, and every value it completed was received.
    #[error("the sender has died{}", Who(.who))]
    PeerDied {
        /// Which process it was, if it was known.
        who: Option<Identity>,
    },
    /// This end was packed into a parcel, or closed here; it is no longer ours.
    #[error("this end of the pipe was moved or closed")]
    Moved,
    /// A message came, and is no encoding of such a value; it is gone, the next one may be right.
    #[error("the message is no such value: {0}")]
    Undecodable(#[from] UnpackError),
    /// The words of the ring contradict each other.
    #[error("the pipe is corrupt")]
    Corrupt,
}

impl From<ring::SendError> for SendError {
    fn from(error: ring::SendError) -> Self {
        use ring::SendError as Ring;
        match error {
            Ring::Full => SendError::Full,
            Ring::TooLarge { size, capacity } => SendError::TooLarge { size, capacity },
            Ring::TimedOut => SendError::TimedOut,
            Ring::Closed => SendError::Closed,
            Ring::PeerDied { who } => SendError::PeerDied { who },
            Ring::Moved => SendError::Moved,
            Ring::Corrupt => SendError::Corrupt,
        }
    }
}

impl From<ring::RecvError> for RecvError {
    fn from(error: ring::RecvError) -> Self {
        use ring::RecvError as Ring;
        match error {
            Ring::Empty => RecvError::Empty,
            Ring::TimedOut => RecvError::TimedOut,
            Ring::Closed => RecvError::Closed,
            Ring::PeerDied { who } => RecvError::PeerDied { who },
            Ring::Moved => RecvError::Moved,
            Ring::Corrupt => RecvError::Corrupt,
        }
    }
}
