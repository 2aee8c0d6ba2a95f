//! What a child does from its first instruction to its last.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::{OsError, fault, image, setup, start};
use manyhands_shm::arena::{Arena, Participant};
use manyhands_shm::handoff::{self, Parcel};

use crate::active_threads::in_main_thread;
use crate::code::{CallError, Trampoline};
use crate::current_process::ParentProcess;
use crate::entry::{self, LOST};
use crate::inherited;
use crate::message::{self, Order, Preload, Refusal, Reply};
use crate::orphan;
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

/// Receives the order, runs the function, hands the result over, and exits.
pub(crate) fn main(socket: OwnedFd) -> ! {
    // A zygote without standard streams may have received it under the number of one.
    let Ok(socket) = setup::above_streams(socket) else {
        start::exit_at_once(LOST);
    };
    let hello = Reply::Hello {
        pid: std::process::id(),
    };
    // A parent that is gone shows at the next step.
    let _ = message::tell(socket.as_fd(), &hello, &[]);
    match Ready::prepare(&socket) {
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
    fn prepare(socket: &OwnedFd) -> Result<Self, Refusal> {
        let Some((envelope, descriptors)) = message::hear_order(socket.as_fd()) else {
            // The parent has given up, or is gone.
            start::exit_at_once(LOST);
        };
        let on_parent_death = envelope.settings.on_parent_death;
        let mut descriptors = envelope.settings.apply(descriptors).map_err(unready)?;
        let arena_fd = descriptors.pop().ok_or_else(|| unready("no arena came"))?;
        inherited::keep(descriptors);
        let arena = orphan::join(arena_fd, envelope.seat, on_parent_death).map_err(unready)?;
        let order: Order = handoff::unpack(&envelope.order).map_err(unready)?;
        let page = Page::attach(order.page, order.argument_len)
            .ok_or_else(|| unready("the page is too short"))?
            .leak();
        watch_faults(page)?;
        if let Some(name) = &order.name {
            start::name_this_thread(name);
        }
        PARENT.get_or_init(|| order.parent);
        NAME.get_or_init(|| order.name.unwrap_or_else(|| "main".to_owned()));
        let function = message::resolve(order.code, order.library.as_deref())
            .map_err(Refusal::BuildMismatch)?;
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
                begin(&socket, self.page);
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

/// Between the arguments and the function: tells the parent, and waits for its word.
fn begin(socket: &OwnedFd, page: &Page) {
    let _ = message::tell(socket.as_fd(), &Reply::Running, &[]);
    if !page.words().wait_go() {
        start::exit_at_once(LOST);
    }
    entry::set_running();
}

/// Whether this process's first thread, the one that runs the function, is watched for overflows.
/// Relaxed: touched by that thread only.
static IS_WATCHED: AtomicBool = AtomicBool::new(false);

/// Does once in a zygote what is the same in all its children.
pub(crate) fn prepare_in_zygote() -> Result<(), OsError> {
    // The program's load base is looked up at the first place.
    let _ = image::place_of(main as fn(OwnedFd) -> ! as *const ());
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
    panics::tell(|panic| {
        if let Some(page) = PAGE.get() {
            page.words().panic.write(panic);
        }
    });
    watch_stack().map_err(unready)?;
    fault::install(&page.words().fault, std::thread::panicking).map_err(unready)
}

fn unready(reason: impl ToString) -> Refusal {
    Refusal::Setup(reason.to_string())
}
