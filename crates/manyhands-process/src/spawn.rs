//! Starting a child: from an order in a socket to a child that runs its function.
//!
//! 1. The parent reserves a seat in the arena for a child, and makes the page that the child waits at: its berth.
//! 2. It has the zygote fork a process for it, or starts the program again. It has the child's pidfd in both
//!    cases, so there is no child that nobody knows.
//! 3. The child sits down, and waits at the page.
//! 4. The parent gives it an order there, with the arguments: a block of shared memory. Descriptors come in
//!    a socket.
//! 5. The child unpacks the arguments, says so, and runs the function.
//!
//! By the zygote, the first three are done before the process is needed.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use manyhands_os::descriptor::{MAX_DESCRIPTORS, is_readable, poll_readable};
use manyhands_os::futex::{self, Wake, Watch};
use manyhands_os::process::Pidfd;
use manyhands_os::{Deadline, OsError};
use manyhands_shm::arena::{self, Block};
use manyhands_shm::handoff::{self, Holds, Parcel};
use manyhands_sync::life::{self, WaitEnd};

use crate::abandoned::{self, Place};
use crate::active_children;
use crate::code::Code;
use crate::current_process::ParentProcess;
use crate::entry::{self, Role};
use crate::exit::{Exit, SpawnError};
use crate::limits::Limits;
use crate::logs::{self, Origin};
use crate::member::Member;
use crate::message::{self, Berth, Order, Preload, Refusal};
use crate::page::{Kind, Page, Stage, Words, bytes_of};
use crate::settings::Settings;
use crate::streams::{Ends, Stdio, Streams};
use crate::zygote::{self, Spare, passage};

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

/// All that a child needs to be told, and no child yet.
struct Start {
    order: Block,
    /// What comes with the order, in its order.
    given: Vec<Arc<OwnedFd>>,
    ends: Ends,
    /// Keep what the order refers to alive until the child has it.
    _holds: Holds,
}

impl Start {
    fn prepare(options: &Options, code: Code, arguments: &Parcel) -> Result<Self, SpawnError> {
        let (mut streams, mut ends) = Streams::open(&options.stdio)?;
        let log_level = options.forwards_logs.then(logs::level_here);
        if log_level.is_some() {
            streams.add_logs(&mut ends)?;
        }
        let mut settings = Settings {
            streams: streams.sources,
            log_level,
            ..options.settings.clone()
        };
        if options.method == StartMethod::Exec {
            // It starts with them.
            settings.environment.clear();
        }
        let mut given = streams.given;
        given.extend(options.inherited.iter().cloned());
        // One less than a message takes: that of a fresh image has the arena too.
        if given.len() >= MAX_DESCRIPTORS {
            let reason = format!("{} descriptors are too many to inherit", given.len());
            return Err(SpawnError::Setup { reason });
        }
        let order = Order {
            settings,
            descriptors: given.len(),
            code,
            library: code.library(),
            name: options.name.clone(),
            parent: ParentProcess::here(),
            limits: options.limits,
            initializer: options.initializer.clone(),
        };
        let parcel = handoff::pack(&order).map_err(SpawnError::Unencodable)?;
        Ok(Self {
            order: Order::to_block(&parcel.bytes, &arguments.bytes)?,
            given,
            ends,
            _holds: parcel.holds,
        })
    }
}

/// Has a process made, or takes one that was, and gives it its order.
fn start(
    options: &Options,
    code: Code,
    arguments: &Parcel,
    deadline: Deadline,
) -> Result<Started, MakeError> {
    let start = Start::prepare(options, code, arguments)?;
    match options.method {
        StartMethod::Exec => start_image(options, start, deadline),
        StartMethod::Zygote => {
            let started = start_spare(start, deadline);
            zygote::ask_for_next();
            started
        }
    }
}

fn start_image(options: &Options, start: Start, deadline: Deadline) -> Result<Started, MakeError> {
    let page = Page::new().map_err(SpawnError::from)?;
    let arena = arena::family().map_err(SpawnError::from)?;
    let seat = arena.reserve_seat().map_err(SpawnError::from)?;
    let make = || -> Result<_, MakeError> {
        let (socket, theirs) = entry::socket_pair()?;
        let berth = Berth::new(seat, &page).map_err(SpawnError::Unencodable)?;
        let given = start.given.iter().map(|fd| fd.as_fd());
        let descriptors: Vec<_> = given.chain([arena.as_fd()]).collect();
        message::tell(socket.as_fd(), &berth, &descriptors).map_err(SpawnError::from)?;
        let changes = &options.settings.environment;
        let pid = entry::start_image(Role::Child, theirs.as_fd(), changes)?;
        // Before the next one is opened: there may be no other descriptor left for it.
        drop(theirs);
        Ok((pid, Pidfd::open(pid)?, socket))
    };
    let (pid, pidfd, socket) = make().inspect_err(|_| abandoned::release(seat))?;
    let place = Place { seat, page };
    let started = Started::new(Spare { pid, pidfd, place }, start.ends, start._holds);
    let given = started.give(start.order);
    match given.and_then(|()| started.wait_seated(&socket, deadline)) {
        Ok(()) => Ok(started),
        Err(trouble) => Err(started.fail(trouble)),
    }
}

fn start_spare(start: Start, deadline: Deadline) -> Result<Started, MakeError> {
    let spare = zygote::take(deadline)?;
    let seat = spare.place.seat;
    let descriptors: Vec<_> = start.given.iter().map(|fd| fd.as_fd()).collect();
    let started = Started::new(spare, start.ends, start._holds);
    let given = match descriptors.is_empty() {
        true => started.give(start.order),
        false => passage::send_to(seat, &descriptors, || {
            let given = started.give(start.order);
            let received = given.and_then(|()| started.wait_stage(Stage::Ordered, deadline));
            // Nobody may receive them later.
            received.inspect_err(|_| started.kill())
        }),
    };
    match given {
        Ok(()) => Ok(started),
        Err(trouble) => Err(started.fail(trouble)),
    }
}

/// How long a child that has not sat down yet is waited for before it is looked after, for it has no life
/// word that would tell its end. It takes a tenth of that; one that is stopped or starved is looked after more
/// and more rarely.
const COMING: Duration = Duration::from_millis(1);
const COMING_LATE: Duration = Duration::from_millis(100);

/// Why a child does not come as far as it should.
#[derive(Debug)]
enum Trouble {
    /// It has ended, or is about to.
    Dead,
    /// The deadline passed.
    Late,
    Refused(Refusal),
    Os(OsError),
}

impl From<OsError> for Trouble {
    fn from(error: OsError) -> Self {
        Self::Os(error)
    }
}

/// A child that gets ready.
struct Started {
    member: Member,
    ends: Ends,
    _holds: Holds,
}

impl Started {
    fn new(process: Spare, ends: Ends, holds: Holds) -> Self {
        Self {
            member: Member::new(process.pid, process.pidfd, process.place),
            ends,
            _holds: holds,
        }
    }

    fn words(&self) -> &Words {
        self.member.place().page.words()
    }

    fn give(&self, order: Block) -> Result<(), Trouble> {
        let child = self.member.place().seat.participant();
        let given = self.words().give_order(order, child);
        given.map_err(|_| Trouble::Dead)
    }

    /// Waits until the child has come so far.
    fn wait_stage(&self, wanted: Stage, deadline: Deadline) -> Result<(), Trouble> {
        let mut coming = COMING;
        loop {
            let stage = self.words().stage();
            if stage >= wanted {
                return Ok(());
            }
            let watch = self.words().watch_stage(stage);
            let end = match self.member.place().seat.participant().life() {
                Some(life) if life.is_vacant() => {
                    let slice = deadline.earlier(Deadline::after(coming));
                    coming = COMING_LATE.min(coming * 2);
                    self.wait_coming(watch, slice, deadline)
                }
                Some(life) => life::wait(watch, &[life], deadline),
                None => WaitEnd::Death(0),
            };
            match end {
                WaitEnd::Woken => {}
                WaitEnd::TimedOut => return Err(Trouble::Late),
                // It may have come so far, and ended, since it was looked at.
                WaitEnd::Death(_) if self.words().stage() >= wanted => {}
                WaitEnd::Death(_) => return Err(Trouble::Dead),
            }
        }
    }

    /// Waits for a child that has not sat down, and looks after it when the slice is over.
    fn wait_coming(&self, watch: Watch<'_>, slice: Deadline, deadline: Deadline) -> WaitEnd {
        match futex::wait(watch.word, watch.expected, watch.scope, slice) {
            Wake::TimedOut if !self.member.is_alive() => WaitEnd::Death(0),
            Wake::TimedOut if deadline.has_passed() => WaitEnd::TimedOut,
            Wake::Woken | Wake::Changed | Wake::TimedOut => WaitEnd::Woken,
        }
    }

    /// Waits until a fresh image has sat down, which then closes its end of the socket.
    fn wait_seated(&self, socket: &OwnedFd, deadline: Deadline) -> Result<(), Trouble> {
        let ready = poll_readable(&[socket.as_fd(), self.member.as_fd()], deadline)?;
        if ready == [false, false] {
            return Err(Trouble::Late);
        }
        // It may have spoken and ended between the two looks. One that has sat down and ended need not have left an
        // end to be seen here: what was forked meanwhile, by another start or by C code, has a copy of it.
        let word = match ready[0] || is_readable(socket.as_fd())? {
            true => message::hear(socket.as_fd()),
            false => None,
        };
        match word {
            Some((refusal, _)) => Err(Trouble::Refused(refusal)),
            None if self.words().stage() == Stage::Coming => Err(Trouble::Dead),
            None => Ok(()),
        }
    }

    fn wait_running(self, deadline: Deadline) -> Result<(Member, Ends), MakeError> {
        match self.wait_stage(Stage::Running, deadline) {
            Ok(()) => Ok((self.member, self.ends)),
            Err(trouble) => Err(self.fail(trouble)),
        }
    }

    /// Sees to it that the child ends.
    fn fail(self, trouble: Trouble) -> MakeError {
        let error = match trouble {
            Trouble::Dead => return self.died(),
            Trouble::Late => SpawnError::TimedOut,
            Trouble::Refused(refusal) => refusal.into(),
            Trouble::Os(source) => source.into(),
        };
        self.kill();
        error.into()
    }

    /// The child has ended, or is about to: what it said, or how.
    fn died(self) -> MakeError {
        if let Some(error) = self.refusal() {
            self.kill();
            return error.into();
        }
        match self.member.wait_outcome(Deadline::after(END_TIME)) {
            Ok(Some(_)) => {
                let exit = self.member.exit().unwrap_or(Exit::Unknown);
                match self.words().stage() {
                    Stage::Coming | Stage::Seated => MakeError::SpareGone(exit),
                    Stage::Ordered | Stage::Running => SpawnError::Died(exit).into(),
                }
            }
            Ok(None) => self.fail(Trouble::Late),
            Err(source) => self.fail(Trouble::Os(source)),
        }
    }

    /// Why the child did not run its function, if it said so.
    fn refusal(&self) -> Option<SpawnError> {
        let words = self.words();
        let reason = match words.reported()? {
            Kind::Refused => {
                let refusal = words.accept()?;
                return Some(handoff::unpack::<Refusal>(&bytes_of(&refusal)).ok()?.into());
            }
            Kind::NoSpace { .. } => "there is no shared memory for it to say why".to_owned(),
            Kind::Value | Kind::Panic | Kind::Unencodable => return None,
        };
        Some(SpawnError::Setup { reason })
    }

    fn kill(&self) {
        // A child that has ended feels nothing; one that cannot be killed is left behind.
        let _ = self.member.pidfd().signal(SIGKILL);
        let _ = self.member.wait_outcome(Deadline::after(END_TIME));
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
