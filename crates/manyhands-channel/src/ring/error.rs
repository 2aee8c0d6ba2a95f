//! What can end a call on a ring; one type an operation.

use manyhands_os::process::Identity;
use manyhands_shm::{ArenaError, NoSpace};

use crate::ring::cursor::Corrupt;

/// Why [`ring`](crate::ring::ring) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// This process has no arena, and none could be made.
    #[error("there is no shared memory: {0}")]
    Arena(#[from] ArenaError),
    /// The arena has no room for the ring.
    #[error("there is no room for the ring: {0}")]
    NoSpace(#[from] NoSpace),
    /// A ring cannot be so large.
    #[error("a ring cannot have {asked} bytes, at most {limit}")]
    TooLarge {
        /// The bytes asked for.
        asked: usize,
        /// The most that there can be.
        limit: u64,
    },
    /// The new ring is not empty: somebody writes into memory that is not theirs.
    #[error("the ring is corrupt")]
    Corrupt,
}

/// Why a message was not sent. The message never existed for the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no room now (`try_send` and `try_reserve` only).
    #[error("the ring is full")]
    Full,
    /// The message is larger than the ring; `try_send` and `reserve` cannot cut it into pieces.
    #[error("a message of {size} bytes does not fit into a ring of {capacity}")]
    TooLarge {
        /// The size of the message.
        size: usize,
        /// The size of the ring.
        capacity: usize,
    },
    /// There was no room before the deadline.
    #[error("the ring stayed full until the deadline")]
    TimedOut,
    /// The receiver has closed its end.
    #[error("the receiver has closed the ring")]
    Closed,
    /// The receiver has died.
    #[error("the receiver has died{}", Who(.who))]
    PeerDied {
        /// Which process it was, if it was known.
        who: Option<Identity>,
    },
    /// This end was packed into a parcel, or closed here; it is no longer ours.
    #[error("this end of the ring was moved or closed")]
    Moved,
    /// The words of the ring contradict each other.
    #[error("the ring is corrupt")]
    Corrupt,
}

/// Why no message was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// There is no message now (`try_recv` and its kin only).
    #[error("the ring is empty")]
    Empty,
    /// There was no message before the deadline.
    #[error("no message came before the deadline")]
    TimedOut,
    /// The sender has closed its end, and every message it sent was received.
    #[error("the sender has closed the ring")]
    Closed,
    /// The sender has died, and every message it completed was received.
    #[error("the sender has died{}", Who(.who))]
    PeerDied {
        /// Which process it was, if it was known.
        who: Option<Identity>,
    },
    /// This end was packed into a parcel, or closed here; it is no longer ours.
    #[error("this end of the ring was moved or closed")]
    Moved,
    /// The words of the ring contradict each other.
    #[error("the ring is corrupt")]
    Corrupt,
}

/// Why bytes are no values of a type. See [`Slot::values_mut`](crate::ring::Slot::values_mut) and
/// [`Message::values`](crate::ring::Message::values).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{bytes} bytes are no values of {size} bytes that begin at multiples of {align}; copy the bytes, or \
     send a multiple of the size"
)]
pub struct NotValues {
    /// How many bytes there are.
    pub bytes: usize,
    /// The size of a value.
    pub size: usize,
    /// Values begin at multiples of so many bytes.
    pub align: usize,
}

impl NotValues {
    pub(crate) fn of<T>(bytes: usize) -> Self {
        Self {
            bytes,
            size: size_of::<T>(),
            align: align_of::<T>(),
        }
    }
}

/// Why this end of a ring can never be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    PeerDied { who: Option<Identity> },
    Corrupt,
}

impl From<End> for SendError {
    fn from(end: End) -> Self {
        match end {
            End::Closed => SendError::Closed,
            End::PeerDied { who } => SendError::PeerDied { who },
            End::Corrupt => SendError::Corrupt,
        }
    }
}

impl From<End> for RecvError {
    fn from(end: End) -> Self {
        match end {
            End::Closed => RecvError::Closed,
            End::PeerDied { who } => RecvError::PeerDied { who },
            End::Corrupt => RecvError::Corrupt,
        }
    }
}

impl From<Corrupt> for End {
    fn from(_: Corrupt) -> Self {
        End::Corrupt
    }
}

/// Shows the process in a message, if it is known.
pub(crate) struct Who<'a>(pub(crate) &'a Option<Identity>);

impl std::fmt::Display for Who<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(identity) => write!(formatter, " (process {})", identity.pid),
            None => Ok(()),
        }
    }
}
