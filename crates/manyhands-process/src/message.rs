//! What a parent, its zygote and a child in the making say to each other over sockets.
//!
//! The order is there before there is a child: the zygote receives it and leaves it to its fork; that of
//! a fresh image lies in its socket, with the arena's descriptor. It has two layers: the seat can be
//! read at once; the rest holds a handle to shared memory, which can be read only after the seat was
//! taken.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use manyhands_os::descriptor::{receive, send};
use manyhands_os::image;
use manyhands_shm::Region;
use manyhands_shm::arena::Seat;
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
/// No order is longer: it may hold an environment. As long as this, the buffer is fresh memory, of
/// which only the pages are touched that are written; a fork shares them.
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

/// What a zygote answers to its preloads, and then to each request (an order and a child's socket).
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
    tell_up_to(socket, message, descriptors, LONGEST)
}

/// Sends an order: to a zygote, or into the socket of a child that will be there.
pub(crate) fn order(
    socket: BorrowedFd<'_>,
    envelope: &Envelope,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), TellError> {
    tell_up_to(socket, envelope, descriptors, LONGEST_ORDER)
}

fn tell_up_to<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
    longest: usize,
) -> Result<(), TellError> {
    let parcel = handoff::pack(message).map_err(|_| TellError::Unencodable)?;
    if parcel.bytes.len() > longest {
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
    let mut buffer = vec![0; LONGEST];
    let (len, descriptors) = receive(socket, &mut buffer).ok()?;
    let message = handoff::unpack(buffer.get(..len).filter(|bytes| !bytes.is_empty())?).ok()?;
    Some((message, descriptors))
}

/// An order as it came, which is read by who will do it.
#[derive(Debug)]
pub(crate) struct RawOrder {
    buffer: Vec<u8>,
    len: usize,
}

impl RawOrder {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; LONGEST_ORDER],
            len: 0,
        }
    }

    /// Receives the next one, with its descriptors; `None` at the end.
    pub(crate) fn hear(&mut self, socket: BorrowedFd<'_>) -> Option<Vec<OwnedFd>> {
        let (len, descriptors) = receive(socket, &mut self.buffer).ok()?;
        self.len = len;
        (len > 0).then_some(descriptors)
    }

    /// What it says; `None` when it is none.
    pub(crate) fn read(&self) -> Option<Envelope> {
        handoff::unpack(self.buffer.get(..self.len)?).ok()
    }
}
