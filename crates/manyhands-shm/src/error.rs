//! What can go wrong with memory that processes share; one type an operation.

use std::io;

use manyhands_os::error::OsError;
use manyhands_os::memory::ReserveError;
use manyhands_sync::keeper::KeeperError;

/// Why there is no arena: [`family`](crate::arena::family) or [`join`](crate::arena::join) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// The operating system refused a call.
    #[error("cannot make or map the arena: {0}")]
    Os(#[from] OsError),
    /// There is no memory for the arena's own records.
    #[error("cannot make the arena: {0}")]
    Memory(#[source] ReserveError),
    /// The keeper thread, which shows others that this process lives, could not do so.
    #[error("cannot hold the life word: {0}")]
    Keeper(#[from] KeeperError),
    /// An arena cannot have this length.
    #[error("an arena cannot have {len} bytes")]
    Length {
        /// The length.
        len: u64,
    },
    /// The descriptor is no arena of this release, or an arena that was never finished.
    #[error("the descriptor is no arena of layout {expected} (found {found})")]
    Incompatible {
        /// The layout version in the memory.
        found: u32,
        /// The layout version of this release.
        expected: u32,
    },
    /// This process is a member of a family already.
    #[error("this process has an arena already")]
    AlreadyJoined,
    /// There is no map to sit down in: [`prepare`](crate::arena::prepare) was not called.
    #[error("the arena was not prepared in this process")]
    NotPrepared,
    /// The seat is no longer reserved: the parent has died or released it, or somebody took it.
    #[error("seat {slot} is not reserved for this process")]
    SeatGone {
        /// The seat's number.
        slot: u16,
    },
    /// The process that reserved the seat has ended.
    #[error("the process that reserved seat {slot} has ended")]
    ParentGone {
        /// The seat's number.
        slot: u16,
    },
}

/// There is no room for something in the arena.
///
/// Nothing was changed; the caller may free blocks and try again.
#[derive(Debug, thiserror::Error)]
#[error("no space for {asked} bytes of shared memory ({free} bytes are free): {short_of}")]
#[non_exhaustive]
pub struct NoSpace {
    /// The bytes that were asked for; for a seat, the bytes of its record.
    pub asked: usize,
    /// The bytes of all unused blocks that would have been large enough.
    pub free: usize,
    /// What there is not enough of.
    pub short_of: ShortOf,
}

/// What there was not enough of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShortOf {
    /// Every block of this size or a larger one is in use, or no block is so large.
    #[error("all blocks of that size are in use")]
    Blocks,
    /// The system has no pages to back a block.
    #[error("the system has no memory to back it: {0}")]
    Memory(#[source] io::Error),
    /// As many processes as a family can have are in it.
    #[error("all seats are taken")]
    Seats,
    /// There is no arena, and none could be made.
    #[error("there is no arena: {0}")]
    Arena(#[source] Box<ArenaError>),
}

impl NoSpace {
    /// There is no arena to take `asked` bytes from.
    pub(crate) fn without_arena(asked: usize, reason: ArenaError) -> NoSpace {
        let short_of = ShortOf::Arena(Box::new(reason));
        NoSpace {
            asked,
            free: 0,
            short_of,
        }
    }
}

impl From<ArenaError> for NoSpace {
    fn from(reason: ArenaError) -> NoSpace {
        NoSpace::without_arena(0, reason)
    }
}

/// The process that something was meant for has ended.
#[derive(Debug, Copy, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the participant has ended")]
pub struct ParticipantGone;

/// Why a value could not be packed into a parcel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The value's `Serialize` implementation refused, or its kind cannot be encoded.
    #[error("the value cannot be encoded: {reason}")]
    Refused {
        /// What the encoder says.
        reason: String,
    },
}

/// Why bytes could not be unpacked into a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The bytes are no encoding of such a value, or a handle in them is no longer valid.
    #[error("the bytes are not such a value: {reason}")]
    Malformed {
        /// What the decoder says.
        reason: String,
    },
    /// Bytes were left over after the value.
    #[error("{count} bytes are left over after the value")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

/// A handle was serialized by something else than [`pack`](crate::handoff::pack).
///
/// Only a parcel keeps the object behind a handle alive until the receiver has it.
#[derive(Debug, Copy, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a handle to shared memory can only be serialized into a parcel (handoff::pack)")]
pub struct OutsideParcel;
