#![doc = include_str!("README.md")]

pub(crate) mod passage;
mod record;
pub(crate) mod server;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manyhands_os::descriptor::poll_readable;
use manyhands_os::process::{Identity, Pidfd};
use manyhands_os::{Deadline, OsError};
use manyhands_shm::arena::{self, Seat};
use manyhands_shm::handoff;
use manyhands_sync::life::LifeWord;

use crate::abandoned::{self, Abandoned, Place};
use crate::callable::Callable;
use crate::code::Code;
use crate::entry::{self, Role};
use crate::exit::{Exit, SpawnError};
use crate::message::{self, Berth, Preload, TellError, ZygoteReply, ZygoteStart};
use crate::page::Page;
use crate::spawn::MakeError;
use record::{Answer, Record};

/// This process's zygote; see [`StartMethod::Zygote`](crate::StartMethod::Zygote).
#[derive(Debug)]
pub struct Zygote {
    socket: OwnedFd,
    process: Pidfd,
    pid: u32,
    /// What its children inherit from it and must have from us.
    surroundings: u64,
    record: Record,
    /// The berth of the fork that it was asked for, and that nobody has taken.
    asked: Option<Place>,
}

/// A process that waits at its berth for its order: one that the zygote has forked ahead, or a fresh image.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) pid: u32,
    pub(crate) pidfd: Pidfd,
    pub(crate) place: Place,
}

/// Why a zygote gave no answer.
#[derive(Debug)]
enum AskError {
    /// It has closed its socket, or ended.
    Gone,
    /// It says what makes no sense.
    Nonsense,
    /// It says nothing by the deadline.
    Late,
    /// The system refused this process something, or the zygote the fork. Later it may not.
    Refused(SpawnError),
    /// The fork has ended, and somebody else has taken its status.
    SpareGone,
}

const SIGKILL: i32 = 9;
const ESRCH: i32 = 3;

impl From<TellError> for AskError {
    fn from(error: TellError) -> Self {
        match error.is_hang_up() {
            true => Self::Gone,
            false => Self::Refused(error.into()),
        }
    }
}

impl From<AskError> for MakeError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Gone | AskError::Nonsense => Self::ZygoteGone(Exit::Unknown),
            AskError::Late => SpawnError::TimedOut.into(),
            AskError::Refused(error) => error.into(),
            AskError::SpareGone => Self::SpareGone(Exit::Unknown),
        }
    }
}

/// How long a zygote may take to end that was killed or has closed its socket.
const END_TIME: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Client {
    zygote: Option<Zygote>,
    preloads: Vec<Code>,
    has_started: bool,
    /// Kills the children when this process ends; one for all zygotes.
    lifeline: Option<(PipeReader, PipeWriter)>,
}

static CLIENT: Mutex<Client> = Mutex::new(Client {
    zygote: None,
    preloads: Vec::new(),
    has_started: false,
    lifeline: None,
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

    /// The process id of the process that was forked ahead and waits to be the next child; `None`
    /// while there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_process::{Process, Zygote};
    ///
    /// assert_eq!(Zygote::spare(), None);
    /// Process::spawn(|| (), ())?.join()?;
    /// let next = loop {
    ///     if let Some(next) = Zygote::spare() {
    ///         break next;
    ///     }
    ///     std::thread::yield_now();
    /// };
    /// assert_eq!(Process::spawn(|| (), ())?.id(), next);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spare() -> Option<u32> {
        client().zygote.as_ref()?.unreceived()
    }

    fn start(
        preloads: &[Code],
        lifeline: &PipeReader,
        deadline: Deadline,
    ) -> Result<Self, MakeError> {
        let arena = arena::family().map_err(SpawnError::from)?;
        let (socket, theirs) = entry::socket_pair()?;
        let (record, file) = Record::create()?;
        let passage = passage::end_of_forks()?;
        let surroundings = surroundings();
        let pid = entry::start_image(Role::Zygote, theirs.as_fd(), &[])?;
        drop(theirs);
        let zygote = Self {
            socket,
            process: Pidfd::open(pid)?,
            pid,
            surroundings,
            record,
            asked: None,
        };
        let preloads = preloads.iter().copied().map(Preload::of).collect();
        let request = ZygoteStart {
            functions: preloads,
            parent: arena.me(),
        };
        let descriptors = [
            arena.as_fd(),
            file.as_fd(),
            lifeline.as_fd(),
            passage.as_fd(),
        ];
        let told = message::tell(zygote.socket.as_fd(), &request, &descriptors);
        let answered = told
            .map_err(AskError::from)
            .and_then(|()| zygote.reply(deadline));
        match answered {
            Ok(ZygoteReply::Ready) => Ok(zygote),
            Ok(ZygoteReply::PreloadFailed(reason)) => {
                zygote.end();
                Err(MakeError::Spawn(SpawnError::Preload { reason }))
            }
            Ok(_) => Err(zygote.replace()),
            Err(AskError::Gone) => Err(zygote.gone()),
            Err(error) => {
                zygote.end();
                Err(error.into())
            }
        }
    }

    /// Asks for a fork, unless one is on its way; whether it was.
    fn ask(&mut self) -> Result<bool, AskError> {
        if self.asked.is_some() {
            return Ok(true);
        }
        // Before the seat is kept for it.
        let page = Page::new().map_err(refused)?;
        let arena = arena::family().map_err(refused)?;
        let seat = arena.reserve_seat().map_err(refused)?;
        let berth = Berth::new(seat, &page).expect("a handle can always be packed");
        let berth = handoff::pack(&berth).expect("numbers can always be packed");
        self.record.request(&berth.bytes);
        self.asked = Some(Place { seat, page });
        Ok(false)
    }

    /// Receives the fork that waits, or has one made.
    fn receive(&mut self, deadline: Deadline) -> Result<Spare, AskError> {
        loop {
            let was_asked = self.ask()?;
            match self.await_fork(deadline) {
                Ok(pid) => return self.take_fork(pid),
                // That was at the last request; things may be better now.
                Err(AskError::Refused(_)) if was_asked && self.asked.is_none() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the answer to the last request, unless it came before: the id of the fork.
    fn await_fork(&mut self, deadline: Deadline) -> Result<u32, AskError> {
        loop {
            match self.record.answered() {
                Some(Answer::Forked(pid)) => return Ok(pid),
                Some(Answer::Refused(number)) => {
                    self.leave_unreceived();
                    let source = io::Error::from_raw_os_error(number);
                    return Err(refused(OsError::new("clone3", source)));
                }
                None => {}
            }
            self.record.wait_answer();
            if self.record.answered().is_some() {
                continue;
            }
            match self.reply(deadline) {
                Ok(ZygoteReply::News) => {}
                Ok(_) => return Err(AskError::Nonsense),
                // It has forked, and then it ended.
                Err(AskError::Gone) if self.record.last().is_some() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the fork of this id. It waits on when there is no descriptor left for it.
    fn take_fork(&mut self, pid: u32) -> Result<Spare, AskError> {
        let opened = match Pidfd::open(pid) {
            Ok(pidfd) => Some(pidfd),
            Err(error) if error.source.raw_os_error() == Some(ESRCH) => None,
            Err(error) => return Err(refused(error)),
        };
        let place = self.asked.take().ok_or(AskError::Nonsense)?;
        let Some(pidfd) = opened.filter(|_| has_number(place.seat, pid)) else {
            abandoned::release(place.seat);
            return Err(AskError::SpareGone);
        };
        Ok(Spare { pid, pidfd, place })
    }

    /// Waits for a message.
    fn reply(&self, deadline: Deadline) -> Result<ZygoteReply, AskError> {
        // Its forks have its end of the socket too until they close it, so its own end shows
        // first in the pidfd.
        let ready = poll_readable(&[self.socket.as_fd(), self.process.as_fd()], deadline)
            .map_err(refused)?;
        match (ready[0], ready[1]) {
            (true, _) => match message::hear(self.socket.as_fd()) {
                Some((reply, _)) => Ok(reply),
                None => Err(AskError::Gone),
            },
            (false, true) => Err(AskError::Gone),
            (false, false) => Err(AskError::Late),
        }
    }

    /// The fork that is on its way.
    fn unreceived(&self) -> Option<u32> {
        self.asked.as_ref()?;
        self.record.last()
    }

    /// It has ended, or is about to: takes its status.
    fn gone(mut self) -> MakeError {
        let ended = self.process.wait(Deadline::after(END_TIME));
        let Ok(Some(status)) = ended else {
            return self.replace();
        };
        self.leave_unreceived();
        MakeError::ZygoteGone(Exit::of_zygote(status))
    }

    /// What it says makes no sense: the next one starts afresh.
    fn replace(self) -> MakeError {
        self.end();
        MakeError::ZygoteGone(Exit::Unknown)
    }

    /// Ends it. It holds nothing that could be lost, wherever it is.
    fn end(mut self) {
        // One that has ended feels nothing.
        let _ = self.process.signal(SIGKILL);
        // After its end it forks no more.
        let _ = self.process.wait_end(Deadline::after(END_TIME));
        self.leave_unreceived();
        let pidfd = Arc::new(self.process);
        abandoned::leave(Abandoned { pidfd, place: None });
    }

    /// Leaves the fork that was not received. The zygote makes none now.
    fn leave_unreceived(&mut self) {
        let pid = self.unreceived();
        let Some(place) = self.asked.take() else {
            return;
        };
        // Its status may have been taken by a stranger; then there is nothing, or somebody else's
        // process.
        let opened = pid.and_then(|pid| Some((pid, Pidfd::open(pid).ok()?)));
        match opened.filter(|(pid, _)| has_number(place.seat, *pid)) {
            Some((_, pidfd)) => leave(pidfd, place),
            None => {
                // It may live, and not have sat down yet.
                place.page.words().cancel();
                abandoned::release(place.seat);
            }
        }
    }

    fn is_fit(&self) -> bool {
        self.surroundings == surroundings() && !self.process.has_ended()
    }
}

/// Leaves a process that was given no order.
fn leave(pidfd: Pidfd, place: Place) {
    place.page.words().cancel();
    if lives(place.seat) {
        // It need not be one that runs. One that has ended meanwhile feels nothing.
        let _ = pidfd.signal(SIGKILL);
    }
    abandoned::leave(Abandoned {
        pidfd: Arc::new(pidfd),
        place: Some(place),
    });
}

/// Takes the process that was forked ahead; starts the zygote if need be.
pub(crate) fn take(deadline: Deadline) -> Result<Spare, MakeError> {
    let client = &mut *client();
    client.has_started = true;
    if let Some(unfit) = client.zygote.take_if(|zygote| !zygote.is_fit()) {
        unfit.end();
    }
    let mut zygote = match client.zygote.take() {
        Some(zygote) => zygote,
        None => {
            let lifeline = match &client.lifeline {
                Some(lifeline) => lifeline,
                None => client.lifeline.insert(new_lifeline()?),
            };
            Zygote::start(&client.preloads, &lifeline.0, deadline)?
        }
    };
    let outcome = zygote.receive(deadline);
    match outcome {
        Ok(_) | Err(AskError::Refused(_) | AskError::SpareGone) => client.zygote = Some(zygote),
        Err(AskError::Gone) => return Err(zygote.gone()),
        Err(AskError::Nonsense) => return Err(zygote.replace()),
        // The next one starts afresh.
        Err(AskError::Late) => zygote.end(),
    }
    outcome.map_err(MakeError::from)
}

/// Has the zygote fork the next process meanwhile.
pub(crate) fn ask_for_next() {
    // Somebody who has the lock takes one, and asks afterwards.
    if let Ok(mut client) = CLIENT.try_lock()
        && let Some(zygote) = &mut client.zygote
    {
        // One that is gone shows when the next process is taken.
        let _ = zygote.ask();
    }
}

fn refused(error: impl Into<SpawnError>) -> AskError {
    AskError::Refused(error.into())
}

/// Whether the process with this number, which was just opened, is the fork that sits here. A number
/// passes to another process when the status was taken; that of a fork is taken by strangers only,
/// who wait for any child.
fn has_number(seat: Seat, pid: u32) -> bool {
    let is_it = |identity: Identity| identity.pid == pid && identity.is_running();
    // It had its number when it was opened, if it lives now. It may not have sat down yet: then it is
    // not old.
    lives(seat) || seat.participant().identity().is_none_or(is_it)
}

fn lives(seat: Seat) -> bool {
    seat.participant().life().is_some_and(LifeWord::is_alive)
}

fn new_lifeline() -> Result<(PipeReader, PipeWriter), OsError> {
    io::pipe().map_err(|e| OsError::new("pipe2", e))
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
