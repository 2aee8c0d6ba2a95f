//! What can go wrong with memory that has a name; one type an operation.

use std::io;

use manyhands_os::error::OsError;

use super::owner::Owner;

/// Why a name cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is empty, or stands for a folder.
    #[error("the name is empty or stands for a folder; choose another")]
    Empty,
    /// It holds a zero byte, at which C would cut it off.
    #[error("the name holds a zero byte; choose another")]
    Nul,
    /// It holds a slash; names of shared memory know no folders.
    #[error("the name holds a slash; leave it out")]
    Slash,
    /// It is longer than the name of a file may be.
    #[error("the name has {len} bytes; at most 255 are possible")]
    TooLong {
        /// Its length.
        len: usize,
    },
}

/// A place is not inside of the bytes, or not where an atomic can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// There are not so many bytes.
    #[error("{len} bytes at offset {offset} are not inside of {size} bytes")]
    Outside {
        /// Where the access begins.
        offset: usize,
        /// How many bytes it needs.
        len: usize,
        /// How many bytes there are.
        size: usize,
    },
    /// An atomic must be at a multiple of its size.
    #[error("offset {offset} is no multiple of {align}")]
    Misaligned {
        /// The place.
        offset: usize,
        /// The size.
        align: usize,
    },
}

/// Why memory of a name could not be made. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The name is impossible.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Something has the name.
    #[error("shared memory named `{name}` exists already; open it, or unlink it first")]
    AlreadyExists {
        /// The name.
        name: String,
    },
    /// Python knows no shared memory of no bytes.
    #[error("shared memory must have at least one byte")]
    NoBytes,
    /// There are not enough pages.
    #[error(
        "no space for {asked} bytes of shared memory in {folder}, which {free}: {source}; \
         unlink what nobody uses, or make the file system larger",
        folder = manyhands_os::names::FOLDER,
        free = told(*.free)
    )]
    NoSpace {
        /// The bytes that were asked for, header included.
        asked: u64,
        /// The bytes that were free, if the file system has a limit.
        free: Option<u64>,
        /// The reason that the system gave.
        source: io::Error,
    },
    /// The operating system refused a call.
    #[error("cannot make shared memory: {0}")]
    Os(#[from] OsError),
}

fn told(free: Option<u64>) -> String {
    free.map_or("has no limit".into(), |free| format!("has {free} free"))
}

/// What is wrong with a file that has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is a symbolic link, folder, pipe or device.
    #[error("it is no ordinary file; somebody may have planted it")]
    NotPlain,
    /// It belongs to another user, who may be anybody.
    #[error("it belongs to user {user}, and this process runs as another")]
    OtherUser {
        /// The owner.
        user: u32,
    },
    /// Others may read or write it.
    #[error("its mode is {mode:o}, so others can reach it; want 600")]
    Mode {
        /// The permission bits.
        mode: u32,
    },
    /// It has another name too, by which somebody else may reach it.
    #[error("it has {links} names; want 1")]
    Links {
        /// How many names it has.
        links: u64,
    },
}

/// Why memory of a name could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name is impossible.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Nothing has the name.
    #[error("there is no shared memory named `{name}`; create it first")]
    NotFound {
        /// The name.
        name: String,
    },
    /// What has the name may be somebody else's.
    #[error("shared memory named `{name}` is refused: {why}")]
    Refused {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: Refusal,
    },
    /// Python's memory that was not given its length yet, or was never.
    #[error(
        "shared memory named `{name}` has no bytes (yet); its creator gives it some, or unlink it"
    )]
    NoBytes {
        /// The name.
        name: String,
    },
    /// It is no segment of ours, or its header is damaged.
    #[error("what is named `{name}` is no segment; unlink it, or choose another name")]
    NotASegment {
        /// The name.
        name: String,
    },
    /// Another release laid it out.
    #[error("segment `{name}` has layout {found}, this release knows {expected}; use one release")]
    Version {
        /// The name.
        name: String,
        /// The version in the segment.
        found: u32,
        /// The version of this release.
        expected: u32,
    },
    /// Another name has the same hash.
    #[error("segment `{name}` collides with `{other}`; choose another name")]
    Collision {
        /// The name.
        name: String,
        /// What the segment is called, cut off after 128 bytes.
        other: String,
    },
    /// It holds another type, or the same one laid out in another way.
    #[error(
        "segment `{name}` holds a type of shape {found:016x}, not {expected:016x} (zero stands for \
         plain bytes); both sides must have the same fields in the same order"
    )]
    Shape {
        /// The name.
        name: String,
        /// The shape in the segment.
        found: u64,
        /// The shape that was asked for.
        expected: u64,
    },
    /// It has fewer bytes than asked for.
    #[error("segment `{name}` has {found} bytes, not {asked}; unlink it, or ask for no more")]
    TooShort {
        /// The name.
        name: String,
        /// How many bytes it has.
        found: usize,
        /// How many were asked for.
        asked: usize,
    },
    /// The creator lives, and was not ready before the deadline.
    #[error("segment `{name}` is not ready; {owner} is making it, wait longer")]
    NotReady {
        /// The name.
        name: String,
        /// The creator.
        owner: Owner,
    },
    /// The creator ended before the segment was ready; there is nothing to wait for.
    #[error("{owner} ended before segment `{name}` was ready; sweep, and create it again")]
    CreatorDied {
        /// The name.
        name: String,
        /// The creator.
        owner: Owner,
    },
    /// Another process was removing it, until the deadline.
    #[error("another process is removing segment `{name}`; try again")]
    Busy {
        /// The name.
        name: String,
    },
    /// The operating system refused a call.
    #[error("cannot open shared memory: {0}")]
    Os(#[from] OsError),
}

/// Why memory of a name could neither be opened nor made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There was none, and it could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// There was one, and it could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why a name could not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnlinkError {
    /// The name is impossible.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Nothing has the name, or something else has it now.
    #[error("there is no shared memory named `{name}` any more")]
    NotFound {
        /// The name.
        name: String,
    },
    /// Another process has been about to remove it for a second; it may be stopped.
    #[error("another process is removing shared memory named `{name}`; try again")]
    Busy {
        /// The name.
        name: String,
    },
    /// The operating system refused a call.
    #[error("cannot unlink shared memory: {0}")]
    Os(#[from] OsError),
}
