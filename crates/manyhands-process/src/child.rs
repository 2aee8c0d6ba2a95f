//! What a child does from its first instruction to its last.

use std::io::{self, PipeReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::start::InterruptAction;
use manyhands_os::{Deadline, OsError, fault, image, process, setup, start};
use manyhands_shm::ArenaError;
use manyhands_shm::arena::{self, Arena, Participant, Seat};
use manyhands_shm::handoff::{self, Parcel};

use crate::active_threads::in_main_thread;
use crate::code::{CallError, Trampoline};
use crate::current_process::ParentProcess;
use crate::entry::{self, LOST};
use crate::inherited;
use crate::logs;
use crate::message::{self, Envelope, Order, Preload, Refusal, Reply};
use crate::orphan::{self, OnParentDeath};
use crate::page::{Kind, Page, copy_into};
use crate::panics::{self, Panic, run_caught};

/// The exit code of a process whose function panicked, as Rust's runtime has it.
const PANICKED: i32 = 101;
/// The exit code of a process that could not do as it was told.
const FAILED: i32 = 1;

/// This process's page, for the panic hook.
static PAGE: OnceLock<&'static Page> = OnceLock::new();
/// This process's name, which its first thread bears.
static NAME: OnceLock<String> = OnceLock::new();

/// The process that started this one.
static PARENT: OnceLock<ParentProcess> = OnceLock::new();

/// This process's name, `None` when it was not started by this library.
pub(crate) fn name() -> Option<&'static str> {
    NAME.get().map(String::as_str)
}

/// The process that started this one, `None` when it was not started by this library.
pub(crate) fn parent() -> Option<&'static ParentProcess> {
    PARENT.get()
}

/// The name of the process's first thread, if this is it.
pub(crate) fn first_thread_name() -> Option<&'static str> {
    NAME.get().filter(|_| in_main_thread()).map(String::as_str)
}

/// The life of a fork of the zygote, which gets ready as far as it can, and waits for its order.
pub(crate) fn start_as_fork(
    socket: OwnedFd,
    interrupts: InterruptAction,
    seat: Seat,
    lifeline: PipeReader,
) -> ! {
    let bound = orphan::leave_to_zygote(lifeline).map_err(unready);
    let joined = arena::join_here(seat).and_then(|arena| {
        arena.check_parent(seat)?;
        Ok(arena)
    });
    if let Err(ArenaError::SeatGone { .. } | ArenaError::ParentGone { .. }) = joined {
        // Nobody waits for it, and nobody would end it.
        start::exit_at_once(0);
    }
    let joined = bound.and_then(|()| joined.map_err(unready));
    // The parent needs no further child, or is gone.
    let Some((envelope, descriptors)) = message::hear_order(socket.as_fd()) else {
        start::exit_at_once(0);
    };
    interrupts.restore();
    main(socket, envelope, descriptors, Some(joined))
}

/// The life of a fresh image, with its order in the socket, and the arena behind what comes with it.
pub(crate) fn start_as_image(socket: OwnedFd) -> ! {
    let Some((envelope, mut descriptors)) = message::hear_order(socket.as_fd()) else {
        start::exit_at_once(LOST);
    };
    let arena = descriptors.pop().ok_or_else(|| unready("no arena came"));
    match arena.and_then(|arena| arena::prepare(arena).map_err(unready)) {
        Ok(()) => main(socket, envelope, descriptors, None),
        Err(refusal) => refuse(&socket, refusal),
    }
}

/// Does what is ordered, hands the result over, and exits.
fn main(
    socket: OwnedFd,
    envelope: Option<Envelope>,
    descriptors: Vec<OwnedFd>,
    joined: Option<Result<&'static Arena, Refusal>>,
) -> ! {
    // A zygote without standard streams may have made it under the number of one.
    let Ok(socket) = setup::above_streams(socket) else {
        start::exit_at_once(LOST);
    };
    let envelope = envelope.ok_or_else(|| unready("what came is no order"));
    let ready = envelope.and_then(|envelope| {
        let joined = joined.transpose()?;
        Ready::prepare(envelope, descriptors, joined)
    });
    match ready {
        Ok(ready) => ready.run(socket),
        Err(refusal) => refuse(&socket, refusal),
    }
}

fn refuse(socket: &OwnedFd, refusal: Refusal) -> ! {
    let told = message::tell(socket.as_fd(), &Reply::Refused(refusal), &[]);
    start::exit_at_once(if told.is_ok() { FAILED } else { LOST })
}

/// A child that is ready to run its function.
struct Ready {
    page: &'static Page,
    parent: Participant,
    arena: &'static Arena,
    function: Trampoline,
}

impl Ready {
    /// In a process that has `joined` its family, or will first.
    fn prepare(
        envelope: Envelope,
        descriptors: Vec<OwnedFd>,
        joined: Option<&'static Arena>,
    ) -> Result<Self, Refusal> {
        let (arena, is_fork) = match joined {
            Some(arena) => (arena, true),
            // This thread ends with the process.
            None => (arena::join_here(envelope.seat).map_err(unready)?, false),
        };
        let on_parent_death = envelope.settings.on_parent_death;
        let on_interrupt = envelope.settings.on_interrupt;
        let log_level = envelope.settings.log_level;
        let mut descriptors = envelope.settings.apply(descriptors).map_err(unready)?;
        let logs = match log_level {
            Some(level) if !descriptors.is_empty() => Some((descriptors.remove(0), level)),
            _ => None,
        };
        inherited::keep(descriptors);
        if !(is_fork && on_parent_death == OnParentDeath::Kill) {
            orphan::follow(arena, envelope.seat, on_parent_death).map_err(unready)?;
        }
        let order: Order = handoff::unpack(&envelope.order).map_err(unready)?;
        let page = Page::attach(order.page, order.argument_len)
            .ok_or_else(|| unready("the page is too short"))?
            .leak();
        watch_faults(page)?;
        let interrupts = on_interrupt.apply(&page.words().interrupt);
        interrupts.map_err(unready)?;
        if let Some(name) = &order.name {
            start::name_this_thread(name);
        }
        PARENT.get_or_init(|| order.parent);
        NAME.get_or_init(|| order.name.unwrap_or_else(|| "main".to_owned()));
        let function = message::resolve(order.code, order.library.as_deref())
            .map_err(Refusal::BuildMismatch)?;
        if let Some((socket, level)) = logs {
            logs::install(socket, level, page).map_err(unready)?;
        }
        if let Some(initializer) = &order.initializer {
            initialize(initializer)?;
        }
        order.limits.apply().map_err(unready)?;
        Ok(Self {
            page,
            parent: envelope.seat.parent(),
            arena,
            function,
        })
    }

    fn run(self, socket: OwnedFd) -> ! {
        // A private copy: what lies in the page is empty for whoever looks later.
        let arguments = self.page.arguments();
        let mut socket = Some(socket);
        let mut unpacked = || {
            if let Some(socket) = socket.take() {
                let _ = message::tell(socket.as_fd(), &Reply::Running, &[]);
                entry::set_running();
            }
        };
        let outcome = run_caught(|| {
            self.function
                .call_watched(&mut (), &arguments, &mut unpacked)
        });
        match (outcome, socket) {
            // It did not get as far as the function.
            (Ok(Err(e)), Some(socket)) => refuse(&socket, Refusal::Undecodable(e.to_string())),
            (Err(panic), Some(socket)) => refuse(&socket, Refusal::Panicked(panic)),
            (Ok(Ok(value)), _) => self.finish(Kind::Value, &value, 0),
            (Err(panic), None) => self.finish_panicked(&panic),
            (Ok(Err(error)), None) => self.finish_unencodable(&error),
        }
    }

    fn finish_panicked(&self, panic: &Panic) -> ! {
        let parcel = handoff::pack(panic).expect("texts can always be packed");
        self.finish(Kind::Panic, &parcel, PANICKED)
    }

    fn finish_unencodable(&self, error: &CallError) -> ! {
        let reason = error.to_string();
        let parcel = handoff::pack(&reason).expect("texts can always be packed");
        self.finish(Kind::Unencodable, &parcel, FAILED)
    }

    /// Hands the report over, and exits when the parent has what it needs.
    fn finish(&self, kind: Kind, parcel: &Parcel, code: i32) -> ! {
        // What was printed comes before the report, as the caller expects.
        let _ = io::stdout().flush();
        let words = self.page.words();
        match self.arena.allocate(parcel.bytes.len()) {
            Ok(block) => {
                copy_into(&block, &parcel.bytes);
                // A parent that is gone ends this process too.
                let _ = words.report(kind, block, self.parent);
            }
            Err(_) => words.tell(Kind::NoSpace {
                len: parcel.bytes.len() as u64,
            }),
        }
        // Handles in the result are alive until the parent has its own.
        if !parcel.holds.is_empty() {
            words.wait_taken();
        }
        std::process::exit(code)
    }
}

/// Runs what is to run before the arguments are unpacked.
fn initialize(initializer: &Preload) -> Result<(), Refusal> {
    let function = initializer.resolve().map_err(Refusal::BuildMismatch)?;
    let arguments = [];
    let outcome = run_caught(|| function.call(&mut (), &arguments)).map_err(Refusal::Panicked)?;
    outcome.map(drop).map_err(unready)
}

/// Whether this process's first thread, the one that runs the function, is watched for overflows.
/// Relaxed: touched by that thread only.
static IS_WATCHED: AtomicBool = AtomicBool::new(false);

/// Does once in a zygote what is the same in all its children: each page that is not touched in a
/// child saves it a fault, two microseconds.
pub(crate) fn prepare_in_zygote() -> Result<(), OsError> {
    // Registers what a fork has to forget.
    process::thread_id();
    // Finds the system's clock.
    Deadline::now();
    panics::tell(note_panic);
    // The first time, what it keeps for the thread is made known to the loader.
    let _ = run_caught(|| ());
    // The program's load base is looked up at the first place.
    let _ = image::place_of(start_as_image as fn(OwnedFd) -> ! as *const ());
    fault::prepare(std::thread::panicking)?;
    watch_stack()
}

fn watch_stack() -> Result<(), OsError> {
    if IS_WATCHED.swap(true, Relaxed) {
        return Ok(());
    }
    fault::watch_this_thread()
}

/// Sees to it that a fault and a fatal panic leave a note in the page.
fn watch_faults(page: &'static Page) -> Result<(), Refusal> {
    PAGE.get_or_init(|| page);
    panics::tell(note_panic);
    watch_stack().map_err(unready)?;
    fault::install(&page.words().fault, std::thread::panicking).map_err(unready)
}

fn note_panic(panic: &Panic) {
    if let Some(page) = PAGE.get() {
        page.words().panic.write(panic);
    }
}

fn unready(reason: impl ToString) -> Refusal {
    Refusal::Setup(reason.to_string())
}
