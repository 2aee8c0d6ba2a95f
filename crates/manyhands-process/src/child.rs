//! What a child does from its first instruction to its last.

use std::io::{self, PipeReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::start::InterruptAction;
use manyhands_os::{Deadline, OsError, fault, image, process, start};
use manyhands_shm::ArenaError;
use manyhands_shm::arena::{self, Arena, Block, Seat};
use manyhands_shm::handoff::{self, Parcel};

use crate::active_threads::in_main_thread;
use crate::code::{CallError, Trampoline};
use crate::current_process::ParentProcess;
use crate::entry::{self, LOST};
use crate::inherited;
use crate::logs;
use crate::message::{self, Berth, Order, Preload, Refusal};
use crate::orphan::{self, OnParentDeath};
use crate::page::{Kind, Page, Stage, bytes_of, copy_into};
use crate::panics::{self, Panic, run_caught};
use crate::zygote::passage;

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

/// The life of a fork of the zygote, which gets ready as far as it can, and waits for its order, whose
/// `descriptors` come in a socket.
pub(crate) fn start_as_fork(
    descriptors: OwnedFd,
    interrupts: InterruptAction,
    berth: &[u8],
    lifeline: PipeReader,
) -> ! {
    let Ok(berth) = handoff::unpack::<Berth>(berth) else {
        start::exit_at_once(LOST);
    };
    let bound = orphan::leave_to_zygote(lifeline).map_err(unready);
    let joined = arena::join_here(berth.seat).and_then(|arena| {
        arena.check_parent(berth.seat)?;
        Ok(arena)
    });
    let child = match joined {
        Ok(arena) => Child::at(&berth, arena),
        // Nobody waits for it, and nobody would end it.
        Err(ArenaError::SeatGone { .. } | ArenaError::ParentGone { .. }) => start::exit_at_once(0),
        Err(_) => None,
    };
    let Some(child) = child else {
        start::exit_at_once(LOST);
    };
    let order = child.wait_order();
    interrupts.restore();
    child.obey(order, true, |count| {
        bound?;
        passage::receive(descriptors, berth.seat, count).map_err(unready)
    })
}

/// The life of a fresh image, which is told its berth in the socket, with the arena and the descriptors of its order.
pub(crate) fn start_as_image(socket: OwnedFd) -> ! {
    let Some((berth, mut descriptors)) = message::hear::<Berth>(socket.as_fd()) else {
        start::exit_at_once(LOST);
    };
    let arena = descriptors.pop().ok_or_else(|| unready("no arena came"));
    let child = arena.and_then(|arena| {
        arena::prepare(arena).map_err(unready)?;
        // This thread ends with the process.
        let arena = arena::join_here(berth.seat).map_err(unready)?;
        Child::at(&berth, arena).ok_or_else(|| unready("the page is too short"))
    });
    match child {
        Ok(child) => {
            // The parent looks at the page from now on.
            drop(socket);
            child.obey(child.wait_order(), false, |_| Ok(descriptors))
        }
        Err(refusal) => {
            let told = message::tell(socket.as_fd(), &refusal, &[]);
            start::exit_at_once(if told.is_ok() { FAILED } else { LOST })
        }
    }
}

/// A process that sits at its berth.
#[derive(Clone, Copy)]
struct Child {
    seat: Seat,
    page: &'static Page,
    arena: &'static Arena,
}

impl Child {
    fn at(berth: &Berth, arena: &'static Arena) -> Option<Self> {
        let page = berth.page()?.leak();
        page.words().come(Stage::Seated);
        Some(Self {
            seat: berth.seat,
            page,
            arena,
        })
    }

    /// Waits for the order; ends when there will be none.
    fn wait_order(&self) -> Block {
        let order = self.page.words().wait_order();
        order.unwrap_or_else(|| start::exit_at_once(0))
    }

    /// Does what is ordered, hands the result over, and exits. `given` gets the descriptors that come with
    /// the order, so many.
    fn obey(
        &self,
        order: Block,
        is_fork: bool,
        given: impl FnOnce(usize) -> Result<Vec<OwnedFd>, Refusal>,
    ) -> ! {
        let bytes = bytes_of(&order);
        drop(order);
        let ready = Order::split(&bytes).ok_or_else(|| unready("what came is no order"));
        let ready = ready.and_then(|(order, arguments)| {
            let order = handoff::unpack(order).map_err(unready)?;
            Ok((self.prepare(order, is_fork, given)?, arguments))
        });
        match ready {
            Ok((function, arguments)) => self.run(function, arguments),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn refuse(&self, refusal: &Refusal) -> ! {
        let parcel = handoff::pack(refusal).expect("texts can always be packed");
        self.report(Kind::Refused, &parcel);
        start::exit_at_once(FAILED)
    }

    /// Gets ready to run the function.
    fn prepare(
        &self,
        order: Order,
        is_fork: bool,
        given: impl FnOnce(usize) -> Result<Vec<OwnedFd>, Refusal>,
    ) -> Result<Trampoline, Refusal> {
        let words = self.page.words();
        let descriptors = given(order.descriptors)?;
        match order.descriptors {
            // Nobody waits for it.
            0 => words.pass(Stage::Ordered),
            _ => words.come(Stage::Ordered),
        }
        let on_parent_death = order.settings.on_parent_death;
        let on_interrupt = order.settings.on_interrupt;
        let log_level = order.settings.log_level;
        let mut descriptors = order.settings.apply(descriptors).map_err(unready)?;
        let logs = match log_level {
            Some(level) if !descriptors.is_empty() => Some((descriptors.remove(0), level)),
            _ => None,
        };
        inherited::keep(descriptors);
        if !(is_fork && on_parent_death == OnParentDeath::Kill) {
            orphan::follow(self.arena, self.seat, on_parent_death).map_err(unready)?;
        }
        watch_faults(self.page)?;
        let interrupts = on_interrupt.apply(&words.interrupt);
        interrupts.map_err(unready)?;
        if let Some(name) = &order.name {
            start::name_this_thread(name);
        }
        PARENT.get_or_init(|| order.parent);
        NAME.get_or_init(|| order.name.unwrap_or_else(|| "main".to_owned()));
        let function = message::resolve(order.code, order.library.as_deref())
            .map_err(Refusal::BuildMismatch)?;
        if let Some((socket, level)) = logs {
            logs::install(socket, level, self.page).map_err(unready)?;
        }
        if let Some(initializer) = &order.initializer {
            initialize(initializer)?;
        }
        order.limits.apply().map_err(unready)?;
        Ok(function)
    }

    fn run(&self, function: Trampoline, arguments: &[u8]) -> ! {
        let mut is_running = false;
        let mut unpacked = || {
            is_running = true;
            self.page.words().come(Stage::Running);
            entry::set_running();
        };
        let outcome = run_caught(|| function.call_watched(&mut (), arguments, &mut unpacked));
        match (outcome, is_running) {
            // It did not get as far as the function.
            (Ok(Err(e)), false) => self.refuse(&Refusal::Undecodable(e.to_string())),
            (Err(panic), false) => self.refuse(&Refusal::Panicked(panic)),
            (Ok(Ok(value)), _) => self.finish(Kind::Value, &value, 0),
            (Err(panic), true) => self.finish_panicked(&panic),
            (Ok(Err(error)), true) => self.finish_unencodable(&error),
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
        self.report(kind, parcel);
        // Handles in the result are alive until the parent has its own.
        if !parcel.holds.is_empty() {
            self.page.words().wait_taken();
        }
        std::process::exit(code)
    }

    fn report(&self, kind: Kind, parcel: &Parcel) {
        let words = self.page.words();
        match self.arena.allocate(parcel.bytes.len()) {
            Ok(block) => {
                copy_into(&block, &[&parcel.bytes]);
                // A parent that is gone ends this process too.
                let _ = words.report(kind, block, self.seat.parent());
            }
            Err(_) => words.tell(Kind::NoSpace {
                len: parcel.bytes.len() as u64,
            }),
        }
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
