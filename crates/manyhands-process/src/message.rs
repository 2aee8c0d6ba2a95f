//! What a parent, its zygote and a child in the making say to each other over sockets.
//!
//! The order lies in the child's socket before there is a child, with the arena's descriptor. It has
//! two layers: the seat can be read at once; the rest holds a handle to shared memory, which can
//! be read only after the seat was taken.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use manyhands_os::descriptor::{receive, send};
use manyhands_shm::Region;
use manyhands_shm::arena::Seat;
use manyhands_shm::handoff;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::current_process::ParentProcess;
use crate::limits::Limits;
use crate::panics::Panic;

/// No message is longer: paths and names are the only parts of open length.
const LONGEST: usize = 16 << 10;

/// The outer layer of an order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) seat: Seat,
    pub(crate) order: Vec<u8>,
}

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) page: Region,
    pub(crate) argument_len: u64,
    pub(crate) code: Code,
    /// The library that holds the code; `None` for the program itself.
    pub(crate) library: Option<PathBuf>,
    pub(crate) name: Option<String>,
    pub(crate) parent: ParentProcess,
    pub(crate) limits: Limits,
}

/// What a child tells before it runs its function.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It exists; so that it is found even if its zygote dies before it can tell.
    Hello { pid: u32 },
    /// The arguments are unpacked.
    Running,
    /// It cannot do what it was ordered, and exits.
    Refused(Refusal),
}

/// Why a child cannot run its function.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Refusal {
    BuildMismatch(String),
    Undecodable(String),
    Setup(String),
    Panicked(Panic),
}

/// What a zygote is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Preload {
    pub(crate) code: Code,
    pub(crate) library: Option<PathBuf>,
}

/// What a zygote answers to its preloads, and then to each request (a byte and a child's socket).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ZygoteReply {
    Ready,
    PreloadFailed(String),
    /// With the child's pidfd.
    Started {
        pid: u32,
    },
    /// The system refused to fork, with this error number.
    Refused {
        errno: i32,
    },
}

/// Sends one message; its receiver may be gone, which it will learn from the socket's end.
pub(crate) fn tell<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), TellError> {
    let parcel = handoff::pack(message).map_err(|_| TellError::Unencodable)?;
    if parcel.bytes.len() > LONGEST {
        return Err(TellError::TooLong);
    }
    send(socket, &parcel.bytes, descriptors).map_err(TellError::Os)
}

/// Why a message was not sent.
#[derive(Debug)]
pub(crate) enum TellError {
    Unencodable,
    TooLong,
    Os(manyhands_os::OsError),
}

/// Receives one message; `None` at the end, or when what came is no such message.
pub(crate) fn hear<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Option<(T, Vec<OwnedFd>)> {
    let mut buffer = vec![0; LONGEST];
    let (len, descriptors) = receive(socket, &mut buffer).ok()?;
    let message = handoff::unpack(buffer.get(..len).filter(|bytes| !bytes.is_empty())?).ok()?;
    Some((message, descriptors))
}
