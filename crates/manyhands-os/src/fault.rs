//! What a dying process can still say.
//!
//! A fault ends a process in the middle of anything. Its signal handler writes a [`FaultNote`],
//! a few integers in memory that another process can read, then lets the fault happen again
//! with the default action, so that the status and the core file are those of the fault.
//!
//! The handler runs on a stack of its own ([`watch_this_thread`]), because the fault may be that
//! the thread's stack is used up. It allocates nothing, locks nothing, and calls nothing that is
//! not safe in a signal handler.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};
use std::{fmt, io, ptr};

use crate::error::OsError;
use crate::limits;
use crate::overflow::is_overflow;
pub use crate::overflow::{Watched, watch_this_thread, watch_until_dropped};

/// Where a dying process leaves the cause; zeroed memory is an empty note.
#[derive(Debug)]
#[repr(C)]
pub struct FaultNote {
    state: AtomicU32,
    kind: AtomicU32,
    signal: AtomicU32,
    code: AtomicU32,
    /// The address of a fault, or the bytes asked for.
    first: AtomicU64,
    /// The bytes or seconds allowed.
    second: AtomicU64,
}

const EMPTY: u32 = 0;
/// Somebody writes the note; it stays so if the process dies right then.
const WRITING: u32 = 1;
const WRITTEN: u32 = 2;

const KIND_FAULT: u32 = 1;
const KIND_STACK_OVERFLOW: u32 = 2;
const KIND_MEMORY_LIMIT: u32 = 3;
const KIND_PANIC: u32 = 4;
const KIND_FAULT_AT: u32 = 5;
const KIND_PROCESSOR_LIMIT: u32 = 6;

/// What a note says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A signal that the process raised itself by what it did.
    Signal {
        /// The signal's number.
        signal: i32,
        /// The kernel's code for the reason (`si_code`).
        code: i32,
        /// The address that was touched, or that of the instruction for `SIGFPE` and `SIGILL`;
        /// `None` where the kernel tells none.
        address: Option<u64>,
    },
    /// A watched thread's stack was used up.
    StackOverflow {
        /// The address that was touched.
        address: u64,
    },
    /// Memory above the limit was asked for.
    MemoryLimit {
        /// The bytes of the allocation that did not fit, where known.
        asked: Option<u64>,
        /// The limit in bytes.
        allowed: u64,
    },
    /// The limit of processor time was met.
    ProcessorLimit {
        /// The limit in seconds.
        allowed: u64,
    },
    /// A panic ended the process: it could not unwind.
    Panic,
}

impl Fault {
    /// The number of the signal that ends the process after it has noted this.
    pub fn signal(&self) -> i32 {
        match self {
            Self::Signal { signal, .. } => *signal,
            Self::StackOverflow { .. } => libc::SIGSEGV,
            Self::MemoryLimit { .. } | Self::Panic => libc::SIGABRT,
            Self::ProcessorLimit { .. } => libc::SIGXCPU,
        }
    }
}

impl FaultNote {
    /// An empty note.
    pub const fn new() -> Self {
        Self {
            state: AtomicU32::new(EMPTY),
            kind: AtomicU32::new(0),
            signal: AtomicU32::new(0),
            code: AtomicU32::new(0),
            first: AtomicU64::new(0),
            second: AtomicU64::new(0),
        }
    }

    /// What was written, `None` if nothing was, or not to the end.
    pub fn read(&self) -> Option<Fault> {
        // Acquire: pairs with the Release store in `write`; the fields were stored before.
        if self.state.load(Acquire) != WRITTEN {
            return None;
        }
        // Relaxed: see above; nobody writes again.
        let (first, second) = (self.first.load(Relaxed), self.second.load(Relaxed));
        match self.kind.load(Relaxed) {
            kind @ (KIND_FAULT | KIND_FAULT_AT) => Some(Fault::Signal {
                signal: self.signal.load(Relaxed) as i32,
                code: self.code.load(Relaxed) as i32,
                address: (kind == KIND_FAULT_AT).then_some(first),
            }),
            KIND_STACK_OVERFLOW => Some(Fault::StackOverflow { address: first }),
            KIND_MEMORY_LIMIT => Some(Fault::MemoryLimit {
                asked: (first != 0).then_some(first),
                allowed: second,
            }),
            KIND_PROCESSOR_LIMIT => Some(Fault::ProcessorLimit { allowed: second }),
            KIND_PANIC => Some(Fault::Panic),
            _ => None,
        }
    }

    /// Writes the note; the first writer wins, for what follows is its consequence.
    ///
    /// Safe to call in a signal handler.
    pub fn write(&self, fault: Fault) {
        // Relaxed: the exchange orders nothing, it only chooses one writer.
        if self
            .state
            .compare_exchange(EMPTY, WRITING, Relaxed, Relaxed)
            .is_err()
        {
            return;
        }
        let (kind, first, second) = match fault {
            Fault::Signal {
                signal,
                code,
                address,
            } => {
                // Relaxed: the Release store below publishes all fields.
                self.signal.store(signal as u32, Relaxed);
                self.code.store(code as u32, Relaxed);
                match address {
                    Some(address) => (KIND_FAULT_AT, address, 0),
                    None => (KIND_FAULT, 0, 0),
                }
            }
            Fault::StackOverflow { address } => (KIND_STACK_OVERFLOW, address, 0),
            Fault::MemoryLimit { asked, allowed } => {
                (KIND_MEMORY_LIMIT, asked.unwrap_or(0), allowed)
            }
            Fault::ProcessorLimit { allowed } => (KIND_PROCESSOR_LIMIT, 0, allowed),
            Fault::Panic => (KIND_PANIC, 0, 0),
        };
        self.kind.store(kind, Relaxed);
        self.first.store(first, Relaxed);
        self.second.store(second, Relaxed);
        // Release: pairs with the Acquire load in `read`.
        self.state.store(WRITTEN, Release);
    }
}

impl Default for FaultNote {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal {
                signal,
                address: Some(address),
                ..
            } => write!(f, "signal {signal} at address {address:#x}"),
            Self::Signal { signal, .. } => write!(f, "signal {signal}"),
            Self::StackOverflow { address } => write!(f, "stack overflow at {address:#x}"),
            Self::MemoryLimit {
                asked: Some(asked),
                allowed,
            } => write!(f, "asked for {asked} bytes above a limit of {allowed}"),
            Self::MemoryLimit {
                asked: None,
                allowed,
            } => write!(f, "memory above the limit of {allowed} bytes"),
            Self::ProcessorLimit { allowed } => {
                write!(f, "processor time above the limit of {allowed} s")
            }
            Self::Panic => f.write_str("panic that could not unwind"),
        }
    }
}

/// The process whose note it is: a fork has the handler and the memory too, and its death is not
/// that of the process it was forked from. Relaxed: stored before the note is.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// Null until [`install`].
static NOTE: AtomicPtr<FaultNote> = AtomicPtr::new(ptr::null_mut());
static IS_PANICKING: OnceLock<fn() -> bool> = OnceLock::new();

/// The note of this process, if one was installed.
pub(crate) fn installed() -> Option<&'static FaultNote> {
    // Acquire: pairs with the Release store in `install`; the note's memory was ready before.
    let note = NOTE.load(Acquire);
    if OWNER.load(Relaxed) != std::process::id() {
        return None;
    }
    // SAFETY: `install` stores only `&'static` references, or nobody has stored yet.
    unsafe { note.as_ref() }
}

/// The signals that leave a note.
const NOTED: [c_int; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGABRT,
    libc::SIGXCPU,
];

/// Whether faults of this process leave a note.
pub fn is_installed() -> bool {
    installed().is_some()
}

/// Makes faults of this process write to `note`. For processes that belong to this library: it
/// replaces what others installed for `SIGSEGV`, `SIGBUS`, `SIGFPE`, `SIGILL`, `SIGABRT` and
/// `SIGXCPU`.
///
/// `is_panicking` tells in the handler whether the thread panics; it must be safe to call there,
/// as `std::thread::panicking` is: it reads two integers.
///
/// # Errors
///
/// When the system refuses the handlers.
pub fn install(note: &'static FaultNote, is_panicking: fn() -> bool) -> Result<(), OsError> {
    OWNER.store(std::process::id(), Relaxed);
    // Release: pairs with the Acquire load in `installed`.
    NOTE.store(ptr::from_ref(note).cast_mut(), Release);
    prepare(is_panicking)
}

/// What [`install`] does before there is a note: for a process whose forks will have one each. Until
/// then a fault does what it does by default. Done once.
///
/// # Errors
///
/// When the system refuses the handlers.
pub fn prepare(is_panicking: fn() -> bool) -> Result<(), OsError> {
    // Whoever comes second, another thread or a fork, finds the same handlers.
    if IS_PANICKING.set(is_panicking).is_err() {
        return Ok(());
    }
    for signal in NOTED {
        // SAFETY: all fields are integers or nullable pointers, for which zero is valid.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `action` is complete, and its handler has the type that SA_SIGINFO asks for.
        let code = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        if code != 0 {
            return Err(OsError::last("sigaction"));
        }
    }
    Ok(())
}

/// Writes the note, then lets the signal do what it does by default.
extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid record to a handler installed with SA_SIGINFO.
    let info = unsafe { &*info };
    let code = info.si_code;
    if let Some(note) = installed() {
        // SAFETY: the kernel passes the interrupted state to a handler installed with SA_SIGINFO.
        let context = unsafe { &*context.cast::<libc::ucontext_t>() };
        let fault = match signal {
            libc::SIGABRT => abort_cause(code, context),
            libc::SIGXCPU => processor_cause(code),
            _ => {
                // SAFETY: the four others carry an address, if the processor raised them.
                let address = unsafe { info.si_addr() }.addr();
                access_cause(signal, code, address, &context.uc_stack)
            }
        };
        note.write(fault);
    }
    // SAFETY: the default action of a signal may be set at any time, in a handler too.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // A fault of the processor happens again when the handler returns. What was sent does not.
    if code <= 0 || matches!(signal, libc::SIGABRT | libc::SIGXCPU) {
        // SAFETY: safe in a handler; the signal is blocked here, and arrives at the return.
        unsafe { libc::raise(signal) };
    }
}

fn abort_cause(code: i32, context: &libc::ucontext_t) -> Fault {
    if IS_PANICKING.get().is_some_and(|ask| ask()) {
        return Fault::Panic;
    }
    let errno = io::Error::last_os_error().raw_os_error();
    // C++ aborts when an allocation fails, with nothing on its way that changes the number. Rust
    // aborts too, but may print a backtrace before.
    let lacks_memory = || errno == Some(libc::ENOMEM) || is_in_allocation_error(context);
    match limits::memory_limit() {
        Some(allowed) if lacks_memory() => Fault::MemoryLimit {
            asked: limits::refused_bytes(),
            allowed,
        },
        _ => Fault::Signal {
            signal: libc::SIGABRT,
            code,
            address: None,
        },
    }
}

/// `si_code` of what the kernel sends without a reason of the processor's.
const SI_KERNEL: i32 = 0x80;

fn processor_cause(code: i32) -> Fault {
    match limits::processor_limit() {
        Some(allowed) if code == SI_KERNEL => Fault::ProcessorLimit { allowed },
        // Somebody else sent it.
        _ => Fault::Signal {
            signal: libc::SIGXCPU,
            code,
            address: None,
        },
    }
}

/// How far up the stack the caller is looked for that reports a failed allocation, in words: the
/// few frames between it and the abort take a fifth of this.
const FRAMES: usize = 512;
/// A return address this close behind the start of the (short) function lies in it.
const FUNCTION_LENGTH: usize = 64;

/// Whether the interrupted thread is inside of [`std::alloc::handle_alloc_error`]: whether a return
/// address into it lies on the stack.
fn is_in_allocation_error(context: &libc::ucontext_t) -> bool {
    let reporter = std::alloc::handle_alloc_error as *const ();
    let inside = reporter.addr()..=reporter.addr() + FUNCTION_LENGTH;
    let top = ptr::with_exposed_provenance::<usize>(stack_pointer(context) & !7);
    (0..FRAMES).any(|index| {
        // SAFETY: reads a word of the interrupted thread's stack.
        // - where: aligned, above the stack pointer and at most 4 KiB: the frames of the abort,
        //   of its callers, and what the C library and the kernel lay above them.
        // - who: the thread itself is stopped here.
        // - what: any bits are valid for an integer.
        let word = unsafe { top.wrapping_add(index).read_volatile() };
        inside.contains(&word)
    })
}

#[cfg(target_arch = "x86_64")]
fn stack_pointer(context: &libc::ucontext_t) -> usize {
    context.uc_mcontext.gregs[libc::REG_RSP as usize] as usize
}

#[cfg(target_arch = "aarch64")]
fn stack_pointer(context: &libc::ucontext_t) -> usize {
    context.uc_mcontext.sp as usize
}

fn access_cause(signal: i32, code: i32, address: usize, stack: &libc::stack_t) -> Fault {
    let is_overflow = signal == libc::SIGSEGV
        && code > 0
        // SAFETY: the kernel's record of the stack that this handler runs on.
        && unsafe { is_overflow(stack, address) };
    let address = address as u64;
    if is_overflow {
        return Fault::StackOverflow { address };
    }
    let has_address = code > 0 && code != SI_KERNEL;
    Fault::Signal {
        signal,
        code,
        address: has_address.then_some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_note_stays() {
        let note = FaultNote::new();
        assert_eq!(note.read(), None);
        let first = Fault::MemoryLimit {
            asked: Some(10),
            allowed: 5,
        };
        note.write(first);
        note.write(Fault::Panic);
        assert_eq!(note.read(), Some(first));
    }

    #[test]
    fn each_fault_is_read_as_it_was_written() {
        let faults = [
            Fault::Signal {
                signal: 11,
                code: -6,
                address: Some(u64::MAX),
            },
            Fault::Signal {
                signal: 6,
                code: -6,
                address: None,
            },
            Fault::StackOverflow { address: 4096 },
            Fault::MemoryLimit {
                asked: None,
                allowed: 1,
            },
            Fault::ProcessorLimit { allowed: 3 },
            Fault::Panic,
        ];
        for fault in faults {
            let note = FaultNote::new();
            note.write(fault);
            assert_eq!(note.read(), Some(fault));
        }
    }
}
