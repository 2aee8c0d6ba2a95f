//! What a parent, its zygote and a child in the making say to each other, encoded.
//!
//! A child is told its *berth* first: the seat that it sits down in, and the page that it waits at. Its order
//! comes there.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use manyhands_os::descriptor::{receive_whole, send};
use manyhands_os::image;
use manyhands_shm::arena::{self, Block, Participant, Seat};
use manyhands_shm::handoff;
use manyhands_shm::{NoSpace, PackError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::code::{Code, Trampoline};
use crate::current_process::ParentProcess;
use crate::exit::SpawnError;
use crate::limits::Limits;
use crate::page::{Page, copy_into};
use crate::panics::Panic;
use crate::settings::Settings;

/// No message is longer: paths and names are the only parts of open length.
const LONGEST: usize = 16 << 10;

/// Where a child waits for its order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Berth {
    pub(crate) seat: Seat,
    /// The page, encoded: it can be read only after the seat was taken.
    page: Vec<u8>,
}

impl Berth {
    /// Of the process that has this seat, or will have; it holds the page from now on.
    pub(crate) fn new(seat: Seat, page: &Page) -> Result<Self, PackError> {
        // Of a seat that is gone, the process is too, and shows it.
        let _ = page.region().hold_for(seat.participant());
        let page = handoff::pack(page.region())?.bytes;
        Ok(Self { seat, page })
    }

    /// The page, for the process that has the seat.
    pub(crate) fn page(&self) -> Option<Page> {
        handoff::unpack(&self.page).ok().and_then(Page::attach)
    }
}

/// What a child is to do; its arguments lie behind.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) settings: Settings,
    /// How many descriptors come with it.
    pub(crate) descriptors: usize,
    pub(crate) code: Code,
    /// The library that holds the code; `None` for the program itself.
    pub(crate) library: Option<PathBuf>,
    pub(crate) name: Option<String>,
    pub(crate) parent: ParentProcess,
    pub(crate) limits: Limits,
    pub(crate) initializer: Option<Preload>,
}

const LENGTH: usize = size_of::<u64>();

impl Order {
    /// A block of this process with an encoded order and its arguments.
    pub(crate) fn to_block(order: &[u8], arguments: &[u8]) -> Result<Block, NoSpace> {
        let len = LENGTH + order.len() + arguments.len();
        let block = arena::allocate(len)?;
        let order_len = (order.len() as u64).to_ne_bytes();
        copy_into(&block, &[&order_len, order, arguments]);
        Ok(block)
    }

    /// The order and its arguments in the bytes of such a block.
    pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (len, rest) = bytes.split_first_chunk::<LENGTH>()?;
        rest.split_at_checked(usize::try_from(u64::from_ne_bytes(*len)).ok()?)
    }
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

/// What a zygote is told first, with the descriptors of the arena, of the record that both share, of the
/// lifeline of its forks, and of the socket in which their orders' descriptors come.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ZygoteStart {
    pub(crate) functions: Vec<Preload>,
    /// Whose zygote it is.
    pub(crate) parent: Participant,
}

/// What a zygote answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ZygoteReply {
    /// Everything was preloaded.
    Ready,
    PreloadFailed(String),
    /// There is news in the record, for which its parent said that it waits.
    News,
}

/// Sends one message; its receiver may be gone, which it will learn from the socket's end.
pub(crate) fn tell<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), TellError> {
    let parcel = handoff::pack(message).map_err(|_| TellError::Unencodable)?;
    match parcel.bytes.len() > LONGEST {
        true => Err(TellError::TooLong),
        false => send(socket, &parcel.bytes, descriptors).map_err(TellError::Os),
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
                reason: "the names of what to preload are too long".to_owned(),
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
