//! Starting a child: from an order in a socket to a child that runs its function.
//!
//! 1. The parent reserves a seat in the arena, and makes the page with the arguments.
//! 2. It takes the process that the zygote has forked ahead, and sends it the order, or starts the
//!    program again with the order in its socket. It has the child's pidfd in both cases, so there is no
//!    child that nobody knows.
//! 3. The child reads the order, sits down, unpacks the arguments, says so, and runs the function.
//! 4. The zygote is asked for the next fork.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use manyhands_os::descriptor::{MAX_DESCRIPTORS, is_readable, poll_readable};
use manyhands_os::process::Pidfd;
use manyhands_os::{Deadline, OsError};
use manyhands_shm::arena::{self, Seat};
use manyhands_shm::handoff::{self, Holds, Parcel};

use crate::abandoned::{self, Place};
use crate::active_children;
use crate::code::Code;
use crate::current_process::ParentProcess;
use crate::entry::{self, Role};
use crate::exit::{Exit, SpawnError};
use crate::limits::Limits;
use crate::logs::{self, Origin};
use crate::member::Member;
use crate::message::{self, Envelope, Order, Preload, Refusal, Reply, Silence};
use crate::page::Page;
use crate::settings::Settings;
use crate::streams::{Ends, Stdio, Streams};
use crate::zygote::{self, Spare};

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
    // A fork that is gone was as good as the next one; an image ends by what the next one has too.
    let mut retries = match options.method {
        StartMethod::Zygote => 2,
        StartMethod::Exec => 0,
    };
    loop {
        let started = start(options, code, arguments, deadline);
        match started.and_then(|started| started.wait_running(deadline)) {
            Ok((member, mut ends)) => {
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
            // Killed before they knew what for.
            Err(MakeError::ZygoteGone(_) | MakeError::SpareGone(_)) if retries > 0 => retries -= 1,
            Err(MakeError::ZygoteGone(exit)) => return Err(SpawnError::ZygoteDied(exit)),
            Err(MakeError::SpareGone(exit)) => return Err(SpawnError::Died(exit)),
            Err(MakeError::Spawn(error)) => return Err(error),
        }
    }
}

/// Why there is no process.
#[derive(Debug)]
pub(crate) enum MakeError {
    /// The zygote ended.
    ZygoteGone(Exit),
    /// The fork ended before it had its order.
    SpareGone(Exit),
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
    envelope: Envelope,
    streams: Streams,
    ends: Ends,
    /// Keep the page alive until the child has it.
    _holds: Holds,
}

impl Start {
    /// For the process that has this seat, or will have.
    fn prepare(
        options: &Options,
        code: Code,
        arguments: &Parcel,
        seat: Seat,
    ) -> Result<Self, SpawnError> {
        let page = Page::new(&arguments.bytes)?;
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
        // Of a seat that is gone, the process is too, and shows it.
        let _ = page.region().hold_for(seat.participant());
        Ok(Self {
            place: Place { seat, page },
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

    /// Sends the order, with its descriptors and more of them.
    fn send(
        &self,
        options: &Options,
        socket: BorrowedFd<'_>,
        more: &[BorrowedFd<'_>],
    ) -> Result<(), MakeError> {
        let order = message::encode_order(&self.envelope).map_err(SpawnError::from)?;
        let inherited = options.inherited.iter().map(|fd| fd.as_fd());
        let given = self.streams.given().chain(inherited);
        let descriptors: Vec<_> = given.chain(more.iter().copied()).collect();
        // One less than a message takes: that of a fresh image has the arena too.
        if descriptors.len() >= MAX_DESCRIPTORS + more.len() {
            let reason = format!("{} descriptors are too many to inherit", descriptors.len());
            return Err(SpawnError::Setup { reason }.into());
        }
        match message::send_order(socket, &order, &descriptors) {
            Err(error) if error.is_hang_up() => Err(MakeError::SpareGone(Exit::Unknown)),
            told => Ok(told.map_err(SpawnError::from)?),
        }
    }

    fn started(self, process: Spare) -> Started {
        Started {
            member: Member::new(process.pid, process.pidfd, self.place),
            socket: process.socket,
            ends: self.ends,
            _holds: self._holds,
        }
    }
}

/// Has a process made, or takes one that was, and gives it its order.
fn start(
    options: &Options,
    code: Code,
    arguments: &Parcel,
    deadline: Deadline,
) -> Result<Started, MakeError> {
    match options.method {
        StartMethod::Exec => start_image(options, code, arguments),
        StartMethod::Zygote => {
            let started = start_spare(options, code, arguments, deadline);
            zygote::ask_for_next();
            started
        }
    }
}

fn start_image(options: &Options, code: Code, arguments: &Parcel) -> Result<Started, MakeError> {
    let arena = arena::family().map_err(SpawnError::from)?;
    let seat = arena.reserve_seat().map_err(SpawnError::from)?;
    let make = || {
        let start = Start::prepare(options, code, arguments, seat)?;
        let (socket, theirs) = entry::socket_pair()?;
        start.send(options, socket.as_fd(), &[arena.as_fd()])?;
        let changes = &options.settings.environment;
        let pid = entry::start_image(Role::Child, theirs.as_fd(), changes)?;
        // Before the next one is opened: there may be no other descriptor left for it.
        drop(theirs);
        let process = Spare {
            pid,
            pidfd: Pidfd::open(pid)?,
            seat,
            socket,
        };
        Ok(start.started(process))
    };
    make().inspect_err(|_| abandoned::release(seat))
}

fn start_spare(
    options: &Options,
    code: Code,
    arguments: &Parcel,
    deadline: Deadline,
) -> Result<Started, MakeError> {
    let spare = zygote::take(deadline)?;
    let told = Start::prepare(options, code, arguments, spare.seat)
        .map_err(MakeError::from)
        .and_then(|start| {
            start.send(options, spare.socket.as_fd(), &[])?;
            Ok(start)
        });
    match told {
        Ok(start) => Ok(start.started(spare)),
        Err(MakeError::SpareGone(_)) => Err(spare.gone()),
        Err(error) => {
            spare.leave();
            Err(error)
        }
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
    fn wait_running(self, deadline: Deadline) -> Result<(Member, Ends), MakeError> {
        let (socket, process) = (self.socket.as_fd(), self.member.as_fd());
        // The socket once more: the child may have replied and ended between the two looks.
        let ready = poll_readable(&[socket, process], deadline).and_then(|ready| match ready[..] {
            [false, true] => Ok((is_readable(socket)?, true)),
            _ => Ok((ready[0], ready[1])),
        });
        match ready {
            Err(source) => return Err(self.end(SpawnError::Os(source)).into()),
            Ok((false, false)) => return Err(self.end(SpawnError::TimedOut).into()),
            Ok((false, true)) => return Err(self.died().into()),
            Ok((true, _)) => {}
        }
        match message::hear_reply(self.socket.as_fd()) {
            Ok(Reply::Running) => Ok((self.member, self.ends)),
            Ok(Reply::Refused(refusal)) => Err(self.end(refusal.into()).into()),
            Err(Silence::Ended) => Err(self.died().into()),
            Err(Silence::Unread) => match self.died() {
                SpawnError::Died(exit) => Err(MakeError::SpareGone(exit)),
                error => Err(error.into()),
            },
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
