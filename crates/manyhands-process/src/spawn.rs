//! Starting a child: from an order in a socket to a child that runs its function.
//!
//! 1. The parent reserves a seat in the arena, makes the page with the arguments, and a socket pair.
//! 2. A process is made that has the other end, and the order: by the zygote, which is sent both and
//!    forks; or by exec, with the order in the socket.
//! 3. The child reads the order, sits down, unpacks the arguments, says so, and waits for the
//!    parent's word in the page.
//! 4. The parent, which has the child's pidfd by now, gives the word.
//!
//! The word is there for a zygote that is killed between its fork and its answer: its child is
//! then told to leave, and another one started, so that the function runs once.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use manyhands_os::descriptor::poll_readable;
use manyhands_os::process::Pidfd;
use manyhands_os::{Deadline, OsError};
use manyhands_shm::arena;
use manyhands_shm::handoff::{self, Holds, Parcel};

use crate::abandoned::{self, Abandoned, Place};
use crate::active_children;
use crate::code::Code;
use crate::current_process::ParentProcess;
use crate::entry::{self, Role};
use crate::exit::{Exit, SpawnError};
use crate::limits::Limits;
use crate::logs::{self, Origin};
use crate::member::Member;
use crate::message::{self, Envelope, Order, Preload, Refusal, Reply};
use crate::page::Page;
use crate::settings::Settings;
use crate::streams::{Ends, Stdio, Streams};
use crate::zygote;

/// How a child's process is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartMethod {
    /// Forked from a small, single-threaded process of this program, which is started at first
    /// use: fast, and independent of how large and how threaded this process is.
    #[default]
    Zygote,
    /// A fresh image of this program.
    Exec,
}

/// What to start, beside the function.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) name: Option<String>,
    pub(crate) method: StartMethod,
    pub(crate) limits: Limits,
    pub(crate) start_timeout: Duration,
    pub(crate) settings: Settings,
    pub(crate) stdio: [Stdio; 3],
    pub(crate) inherited: Vec<Arc<OwnedFd>>,
    pub(crate) initializer: Option<Preload>,
    pub(crate) is_daemon: bool,
    pub(crate) forwards_logs: bool,
}

impl Options {
    /// What no child could do.
    fn check(&self) -> Result<(), SpawnError> {
        let changes = &self.settings.environment;
        let Some(wrong) = changes.iter().find(|change| !change.is_possible()) else {
            return Ok(());
        };
        let reason = format!("the environment cannot have this: {wrong:?}");
        Err(SpawnError::Setup { reason })
    }
}

const SIGKILL: i32 = 9;

/// How long a child that must end is waited for before it is left to end alone.
const END_TIME: Duration = Duration::from_secs(5);

/// Starts a child and waits until it has unpacked its arguments.
pub(crate) fn spawn(
    options: &Options,
    code: Code,
    arguments: &Parcel,
) -> Result<(Member, Ends), SpawnError> {
    entry::check()?;
    options.check()?;
    if !options.is_daemon {
        active_children::wait_at_exit()?;
    }
    abandoned::sweep();
    let deadline = Deadline::after(options.start_timeout);
    let mut retries = 2;
    loop {
        let start = Start::prepare(options, code, arguments)?;
        match start.make_process(options, deadline) {
            Ok(started) => {
                let (member, mut ends) = started.wait_running(deadline)?;
                if let Some(socket) = ends.logs.take() {
                    let origin = Origin {
                        pid: member.pid(),
                        name: options.name.clone(),
                        page: member.place().page.clone(),
                    };
                    logs::receive_from(origin, socket)?;
                }
                member.enlist(options.name.clone(), options.is_daemon);
                return Ok((member, ends));
            }
            // The zygote was killed; the next one is as good.
            Err(MakeError::ZygoteGone(_)) if retries > 0 => retries -= 1,
            Err(MakeError::ZygoteGone(exit)) => return Err(SpawnError::ZygoteDied(exit)),
            Err(MakeError::Spawn(error)) => return Err(error),
        }
    }
}

/// Why there is no process.
#[derive(Debug)]
pub(crate) enum MakeError {
    /// The zygote ended; it may have forked before.
    ZygoteGone(Exit),
    Spawn(SpawnError),
}

impl From<OsError> for MakeError {
    fn from(source: OsError) -> Self {
        Self::Spawn(SpawnError::Os(source))
    }
}

impl From<SpawnError> for MakeError {
    fn from(error: SpawnError) -> Self {
        Self::Spawn(error)
    }
}

/// All that a child needs, and no child yet.
struct Start {
    place: Place,
    ours: OwnedFd,
    theirs: OwnedFd,
    envelope: Envelope,
    streams: Streams,
    ends: Ends,
    /// Keep the page alive until the child has it.
    _holds: Holds,
}

impl Start {
    fn prepare(options: &Options, code: Code, arguments: &Parcel) -> Result<Self, SpawnError> {
        let arena = arena::family()?;
        let page = Page::new(&arguments.bytes)?;
        let (ours, theirs) = entry::socket_pair()?;
        let order = Order {
            page: page.region().clone(),
            argument_len: page.argument_len(),
            code,
            library: code.library(),
            name: options.name.clone(),
            parent: ParentProcess::here(),
            limits: options.limits,
            initializer: options.initializer.clone(),
        };
        let (mut streams, mut ends) = Streams::open(&options.stdio)?;
        let log_level = options.forwards_logs.then(logs::level_here);
        if log_level.is_some() {
            streams.add_logs(&mut ends)?;
        }
        let parcel = handoff::pack(&order).map_err(SpawnError::Unencodable)?;
        let mut settings = Settings {
            streams: streams.sources,
            log_level,
            ..options.settings.clone()
        };
        if options.method == StartMethod::Exec {
            // It starts with them.
            settings.environment.clear();
        }
        let seat = arena.reserve_seat()?;
        // From here on the place is to be cleaned. A seat that was reserved just now is not gone.
        let _ = page.region().hold_for(seat.participant());
        Ok(Self {
            place: Place { seat, page },
            ours,
            theirs,
            envelope: Envelope {
                seat,
                settings,
                order: parcel.bytes,
            },
            streams,
            ends,
            _holds: parcel.holds,
        })
    }

    fn make_process(self, options: &Options, deadline: Deadline) -> Result<Started, MakeError> {
        let made = self.have_made(options, deadline);
        match made {
            Ok((pid, pidfd)) => {
                self.place.page.words().go();
                Ok(Started {
                    member: Member::new(pid, pidfd, self.place),
                    socket: self.ours,
                    ends: self.ends,
                    _holds: self._holds,
                })
            }
            Err(error) => {
                self.give_up();
                Err(error)
            }
        }
    }

    fn have_made(&self, options: &Options, deadline: Deadline) -> Result<(u32, Pidfd), MakeError> {
        let inherited = options.inherited.iter().map(|fd| fd.as_fd());
        let descriptors = self.streams.given().chain(inherited);
        match options.method {
            StartMethod::Exec => {
                let arena = arena::family().map_err(SpawnError::from)?;
                let descriptors: Vec<_> = descriptors.chain([arena.as_fd()]).collect();
                message::order(self.ours.as_fd(), &self.envelope, &descriptors)
                    .map_err(SpawnError::from)?;
                let changes = &options.settings.environment;
                let pid = entry::start_image(Role::Child, self.theirs.as_fd(), changes)?;
                Ok((pid, Pidfd::open(pid)?))
            }
            StartMethod::Zygote => {
                let theirs = [self.theirs.as_fd()].into_iter();
                let descriptors: Vec<_> = theirs.chain(descriptors).collect();
                zygote::fork(&self.envelope, &descriptors, deadline)
            }
        }
    }

    /// No process is known; but a zygote that was killed may have forked one.
    fn give_up(self) {
        let Self {
            place,
            ours,
            theirs,
            _holds,
            ..
        } = self;
        place.page.words().cancel();
        drop(theirs);
        // Such a child closes its end when it reads the word, and has sat down before. Without one,
        // the end is at once.
        let deadline = Deadline::after(END_TIME);
        while poll_readable(&[ours.as_fd()], deadline).is_ok_and(|ready| ready[0])
            && message::hear::<Reply>(ours.as_fd()).is_some()
        {}
        if let Some(identity) = place.seat.participant().identity()
            && let Ok(pidfd) = Pidfd::open(identity.pid).map(Arc::new)
            && identity.is_running()
        {
            let place = Some(place);
            return abandoned::leave(Abandoned { pidfd, place });
        }
        place.clean();
    }
}

/// A child that gets ready.
struct Started {
    member: Member,
    socket: OwnedFd,
    ends: Ends,
    _holds: Holds,
}

impl Started {
    fn wait_running(self, deadline: Deadline) -> Result<(Member, Ends), SpawnError> {
        let descriptors = [self.socket.as_fd(), self.member.as_fd()];
        let ready = match poll_readable(&descriptors, deadline) {
            Ok(ready) => ready,
            Err(source) => return Err(self.end(SpawnError::Os(source))),
        };
        if !ready[0] && !ready[1] {
            return Err(self.end(SpawnError::TimedOut));
        }
        if !ready[0] {
            return Err(self.died());
        }
        match message::hear::<Reply>(self.socket.as_fd()) {
            Some((Reply::Running, _)) => Ok((self.member, self.ends)),
            Some((Reply::Refused(refusal), _)) => Err(self.end(refusal.into())),
            None => Err(self.died()),
        }
    }

    /// The child closed its socket without a word, so it has ended, or is about to.
    fn died(self) -> SpawnError {
        match self.member.wait_outcome(Deadline::after(END_TIME)) {
            Ok(Some(_)) => SpawnError::Died(self.member.exit().unwrap_or(Exit::Unknown)),
            Ok(None) => self.end(SpawnError::TimedOut),
            Err(source) => self.end(SpawnError::Os(source)),
        }
    }

    /// Sees to it that the child ends.
    fn end(self, error: SpawnError) -> SpawnError {
        // A child that has ended feels nothing; one that cannot be killed is left behind.
        let _ = self.member.pidfd().signal(SIGKILL);
        let _ = self.member.wait_outcome(Deadline::after(END_TIME));
        error
    }
}

impl From<Refusal> for SpawnError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BuildMismatch(reason) => Self::BuildMismatch { reason },
            Refusal::Undecodable(reason) => Self::Undecodable { reason },
            Refusal::Setup(reason) => Self::Setup { reason },
            Refusal::Panicked(panic) => Self::Died(Exit::Panicked(panic)),
        }
    }
}
