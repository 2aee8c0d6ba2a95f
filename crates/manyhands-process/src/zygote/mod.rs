#![doc = include_str!("README.md")]

pub(crate) mod server;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manyhands_os::descriptor::poll_readable;
use manyhands_os::process::Pidfd;
use manyhands_os::{Deadline, OsError};
use manyhands_shm::arena;

use crate::abandoned::{self, Abandoned};
use crate::callable::Callable;
use crate::code::Code;
use crate::entry::{self, Role};
use crate::exit::{Exit, SpawnError};
use crate::message::{self, Envelope, Preload, TellError, ZygoteReply};
use crate::spawn::MakeError;

/// This process's zygote; see [`StartMethod::Zygote`](crate::StartMethod::Zygote).
#[derive(Debug)]
pub struct Zygote {
    socket: OwnedFd,
    process: Pidfd,
    pid: u32,
    /// What its children inherit from it and must have from us.
    surroundings: u64,
}

/// Why a zygote gave no answer.
#[derive(Debug)]
enum AskError {
    /// It has closed its socket, or ended.
    Gone,
    Spawn(SpawnError),
}

/// How long a zygote that has closed its socket may take to end.
const END_TIME: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Client {
    zygote: Option<Zygote>,
    preloads: Vec<Code>,
    has_started: bool,
}

static CLIENT: Mutex<Client> = Mutex::new(Client {
    zygote: None,
    preloads: Vec::new(),
    has_started: false,
});

fn client() -> MutexGuard<'static, Client> {
    CLIENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The zygote runs already, without what was to be preloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the zygote has been started already; preload before the first process is spawned")]
pub struct PreloadError;

impl Zygote {
    /// Has `f` run in the zygote when it starts, and whenever it is started anew: what `f` keeps
    /// in statics is there in each child, without its cost, in memory shared until it is
    /// written.
    ///
    /// `f` must leave no thread behind, and must not start processes; otherwise each spawn fails
    /// with [`SpawnError::Preload`].
    ///
    /// # Errors
    ///
    /// When the zygote runs already: call this before the first process is spawned.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_process::{Process, Zygote};
    /// use std::sync::OnceLock;
    ///
    /// static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
    ///
    /// Zygote::preload(|| {
    ///     TABLE.get_or_init(|| (0..1000).map(|n| n * n).collect());
    /// })?;
    /// let find = |n: usize| TABLE.get().expect("it was preloaded")[n];
    /// assert_eq!(Process::spawn(find, (30,))?.join()?, 900);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn preload<F: Callable<(), Output = (), Captures = ()>>(f: F) -> Result<(), PreloadError> {
        let mut client = client();
        if client.has_started {
            return Err(PreloadError);
        }
        client.preloads.push(Code::of_call::<F, ()>(&f));
        Ok(())
    }

    /// The process id of this process's zygote, `None` when none was started or it was seen dead.
    pub fn id() -> Option<u32> {
        client().zygote.as_ref().map(|zygote| zygote.pid)
    }

    fn start(preloads: &[Code], deadline: Deadline) -> Result<Self, MakeError> {
        let arena = arena::family().map_err(SpawnError::from)?;
        let (socket, theirs) = entry::socket_pair()?;
        let surroundings = surroundings();
        let pid = entry::start_image(Role::Zygote, theirs.as_fd(), &[])?;
        drop(theirs);
        let zygote = Self {
            socket,
            process: Pidfd::open(pid)?,
            pid,
            surroundings,
        };
        let preloads: Vec<Preload> = preloads.iter().copied().map(Preload::of).collect();
        let told = message::tell(zygote.socket.as_fd(), &preloads, &[arena.as_fd()]);
        match zygote.answer(told, deadline) {
            Ok((ZygoteReply::Ready, _)) => Ok(zygote),
            Ok((ZygoteReply::PreloadFailed(reason), _)) => {
                zygote.close();
                Err(MakeError::Spawn(SpawnError::Preload { reason }))
            }
            Ok(_) => Err(zygote.replace()),
            Err(AskError::Gone) => Err(zygote.gone()),
            Err(AskError::Spawn(error)) => {
                zygote.close();
                Err(MakeError::Spawn(error))
            }
        }
    }

    /// Waits for the answer to a message, if it was sent.
    fn answer(
        &self,
        told: Result<(), TellError>,
        deadline: Deadline,
    ) -> Result<(ZygoteReply, Vec<OwnedFd>), AskError> {
        match told {
            Ok(()) => {}
            Err(TellError::Os(error)) if is_hang_up(&error) => return Err(AskError::Gone),
            Err(error) => return Err(AskError::Spawn(error.into())),
        }
        // Its children have its end of the socket too until they close it, so its own end shows
        // first in the pidfd.
        let ready = poll_readable(&[self.socket.as_fd(), self.process.as_fd()], deadline)
            .map_err(|error| AskError::Spawn(error.into()))?;
        match (ready[0], ready[1]) {
            (true, _) => message::hear(self.socket.as_fd()).ok_or(AskError::Gone),
            (false, true) => Err(AskError::Gone),
            (false, false) => Err(AskError::Spawn(SpawnError::TimedOut)),
        }
    }

    /// It has ended, or is about to: takes its status.
    fn gone(self) -> MakeError {
        let ended = self.process.wait(Deadline::after(END_TIME));
        let Ok(Some(status)) = ended else {
            return self.replace();
        };
        MakeError::ZygoteGone(Exit::of_zygote(status))
    }

    /// What it says makes no sense: the next one starts afresh.
    fn replace(self) -> MakeError {
        self.kill();
        MakeError::ZygoteGone(Exit::Unknown)
    }

    /// Lets it end, which it does when its socket does, and leaves its status to be taken.
    fn close(self) {
        let pidfd = Arc::new(self.process);
        drop(self.socket);
        abandoned::leave(Abandoned { pidfd, place: None });
    }

    fn is_fit(&self) -> bool {
        self.surroundings == surroundings() && !self.process.has_ended()
    }
}

/// Has the zygote fork a child that gets the order with its descriptors, the first of which is the
/// socket that it answers in; starts the zygote if need be.
pub(crate) fn fork(
    order: &Envelope,
    descriptors: &[BorrowedFd<'_>],
    deadline: Deadline,
) -> Result<(u32, Pidfd), MakeError> {
    let mut client = client();
    client.has_started = true;
    if let Some(unfit) = client.zygote.take_if(|zygote| !zygote.is_fit()) {
        unfit.close();
    }
    let zygote = match client.zygote.take() {
        Some(zygote) => zygote,
        None => Zygote::start(&client.preloads, deadline)?,
    };
    let told = message::order(zygote.socket.as_fd(), order, descriptors);
    if let Err(error @ TellError::TooLong) = told {
        // The zygote has heard nothing.
        client.zygote = Some(zygote);
        return Err(SpawnError::from(error).into());
    }
    match zygote.answer(told, deadline) {
        Ok((ZygoteReply::Started { pid }, mut descriptors)) if !descriptors.is_empty() => {
            client.zygote = Some(zygote);
            Ok((pid, Pidfd::from_fd(descriptors.swap_remove(0))))
        }
        Ok((ZygoteReply::Refused { errno }, _)) => {
            client.zygote = Some(zygote);
            let refused = io::Error::from_raw_os_error(errno);
            Err(OsError::new("clone3", refused).into())
        }
        Ok(_) => Err(zygote.replace()),
        Err(AskError::Gone) => Err(zygote.gone()),
        // It says nothing in time: the next one starts afresh.
        Err(AskError::Spawn(error)) => {
            zygote.kill();
            Err(MakeError::Spawn(error))
        }
    }
}

fn is_hang_up(error: &OsError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.source.kind(), BrokenPipe | ConnectionReset)
}

/// A hash of the environment and the working directory, which a fork of the zygote has from the
/// zygote: when they change here, the zygote is started anew.
fn surroundings() -> u64 {
    let mut hasher = DefaultHasher::new();
    for variable in std::env::vars_os() {
        variable.hash(&mut hasher);
    }
    std::env::current_dir().ok().hash(&mut hasher);
    hasher.finish()
}

impl Zygote {
    fn kill(self) {
        const SIGKILL: i32 = 9;
        // One that has ended feels nothing.
        let _ = self.process.signal(SIGKILL);
        self.close();
    }
}
