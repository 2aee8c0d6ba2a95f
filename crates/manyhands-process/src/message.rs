//! What a parent, its zygote and a child in the making say to each other over sockets.
//!
//! A child finds its order in its socket; that of a fresh image comes with the arena's descriptor. The
//! order has two layers: the seat can be read at once; the rest holds a handle to shared memory, which
//! can be read only after the seat was taken.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use manyhands_os::descriptor::{receive_whole, send};
use manyhands_os::image;
use manyhands_shm::Region;
use manyhands_shm::arena::{Participant, Seat};
use manyhands_shm::handoff;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::code::{Code, Trampoline};
use crate::current_process::ParentProcess;
use crate::exit::SpawnError;
use crate::limits::Limits;
use crate::panics::Panic;
use crate::settings::Settings;

/// No message is longer: paths and names are the only parts of open length.
const LONGEST: usize = 16 << 10;
/// No order is longer: it may hold an environment.
const LONGEST_ORDER: usize = 160 << 10;

/// The outer layer of an order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) seat: Seat,
    pub(crate) settings: Settings,
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
    pub(crate) initializer: Option<Preload>,
}

/// What a child tells before it runs its function.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
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

/// A function without arguments and value, which a zygote is told first, or a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Preload {
    code: Code,
    library: Option<PathBuf>,
}

impl Preload {
    pub(crate) fn of(code: Code) -> Self {
        Self {
            code,
            library: code.library(),
        }
    }

    /// Finds the function; loads its library first, if it has to.
    pub(crate) fn resolve(&self) -> Result<Trampoline, String> {
        resolve(self.code, self.library.as_deref())
    }
}

/// Finds a function in this process; loads its library first, if it has to.
pub(crate) fn resolve(code: Code, library: Option<&Path>) -> Result<Trampoline, String> {
    if let Some(library) = library
        && !image::is_loaded(library)
    {
        image::load(library).map_err(|e| e.to_string())?;
    }
    code.resolve().map_err(|e| e.to_string())
}

/// What a zygote is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ZygoteRequest {
    /// First, with the descriptors of the arena, of the page that both share, and of the lifeline of
    /// its forks.
    Preload {
        functions: Vec<Preload>,
        /// Whose zygote it is.
        parent: Participant,
    },
    /// Then, any number of times, with the socket that the order for the fork will come in: the fork
    /// sits down here.
    Fork(Seat),
}

/// What a zygote answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ZygoteReply {
    /// Everything was preloaded.
    Ready,
    PreloadFailed(String),
    /// It has forked this one.
    Forked {
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
    let bytes = encode_up_to(message, LONGEST)?;
    send(socket, &bytes, descriptors).map_err(TellError::Os)
}

/// An order as it is sent, by [`send_order`].
pub(crate) fn encode_order(envelope: &Envelope) -> Result<Vec<u8>, TellError> {
    encode_up_to(envelope, LONGEST_ORDER)
}

/// Sends an order into a child's socket.
pub(crate) fn send_order(
    socket: BorrowedFd<'_>,
    order: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), TellError> {
    send(socket, order, descriptors).map_err(TellError::Os)
}

fn encode_up_to<T: Serialize>(message: &T, longest: usize) -> Result<Vec<u8>, TellError> {
    let parcel = handoff::pack(message).map_err(|_| TellError::Unencodable)?;
    match parcel.bytes.len() > longest {
        true => Err(TellError::TooLong),
        false => Ok(parcel.bytes),
    }
}

/// Why a message was not sent.
#[derive(Debug)]
pub(crate) enum TellError {
    Unencodable,
    TooLong,
    Os(manyhands_os::OsError),
}

impl TellError {
    /// Whether it was not sent because nobody has the other end any more.
    pub(crate) fn is_hang_up(&self) -> bool {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        match self {
            Self::Os(error) => matches!(error.source.kind(), BrokenPipe | ConnectionReset),
            Self::TooLong | Self::Unencodable => false,
        }
    }
}

impl From<TellError> for SpawnError {
    fn from(error: TellError) -> Self {
        match error {
            TellError::Os(source) => Self::Os(source),
            TellError::TooLong | TellError::Unencodable => Self::Setup {
                reason: "its name, directory and environment are too long".to_owned(),
            },
        }
    }
}

/// Receives one message; `None` at the end, or when what came is no such message.
pub(crate) fn hear<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Option<(T, Vec<OwnedFd>)> {
    let (bytes, descriptors) = receive_whole(socket, LONGEST).ok()?;
    let message = handoff::unpack(&bytes).ok()?;
    Some((message, descriptors))
}

/// Why no reply came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The child is gone, or makes no sense.
    Ended,
    /// The child is gone, and has not received its order: it lay in the socket when that was closed.
    Unread,
}

/// Receives the reply of a child that was sent its order.
pub(crate) fn hear_reply(socket: BorrowedFd<'_>) -> Result<Reply, Silence> {
    match receive_whole(socket, LONGEST) {
        Ok((bytes, _)) => handoff::unpack(&bytes).map_err(|_| Silence::Ended),
        Err(error) if error.source.kind() == io::ErrorKind::ConnectionReset => Err(Silence::Unread),
        Err(_) => Err(Silence::Ended),
    }
}

/// Waits for an order, and for the descriptors that come with it; `None` at the socket's end. What
/// came may be no order.
pub(crate) fn hear_order(socket: BorrowedFd<'_>) -> Option<(Option<Envelope>, Vec<OwnedFd>)> {
    let (bytes, descriptors) = receive_whole(socket, LONGEST_ORDER).ok()?;
    (!bytes.is_empty()).then(|| (handoff::unpack(&bytes).ok(), descriptors))
}
