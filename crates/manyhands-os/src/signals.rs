//! Keeping signal handlers out of the library's own threads, and interrupts of the keyboard out of
//! children.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32};

use crate::error::OsError;

/// Runs `start` with all signals blocked, so that a thread which it starts never runs a handler.
///
/// # Examples
///
/// ```
/// let thread = manyhands_os::signals::blocked(|| std::thread::spawn(|| 42));
/// assert_eq!(thread.join().expect("it returns"), 42);
/// ```
pub fn blocked<R>(start: impl FnOnce() -> R) -> R {
    let _restore = Restore {
        mask: set_mask(&full_set()),
    };
    start()
}

/// Puts the former mask back, also when `start` panics.
struct Restore {
    mask: libc::sigset_t,
}

impl Drop for Restore {
    fn drop(&mut self) {
        set_mask(&self.mask);
    }
}

/// Set by the parent before it sends an interrupt; null as long as none is to be left to a parent.
static ASKED: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

/// From now on `SIGINT` does to this process what it does by default if `asked` is not zero, and
/// nothing if it is: the keyboard, or one who signals the whole process group, sets no word.
///
/// A word, and not the sender that the system tells: of two signals that come at one time the
/// system delivers the first only, so a parent's would be lost behind one of the keyboard.
///
/// A process that ignores the signal goes on to do so. Programs that this process starts by `exec`
/// have the default action.
///
/// # Errors
///
/// When the system refuses the handler.
pub fn leave_interrupts_to_parent(asked: &'static AtomicU32) -> Result<(), OsError> {
    // SAFETY: all fields are integers or nullable pointers, for which zero is valid.
    let mut former: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: asks for the present action, and writes it to the place given.
    let code = unsafe { libc::sigaction(libc::SIGINT, ptr::null(), &raw mut former) };
    if code != 0 {
        return Err(OsError::last("sigaction"));
    }
    if former.sa_sigaction == libc::SIG_IGN {
        return Ok(());
    }
    // Release: pairs with the Acquire load in the handler.
    ASKED.store(ptr::from_ref(asked).cast_mut(), Release);
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_interrupt as *const () as usize;
    action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: `action` is complete, and its handler has the type that it asks for.
    let code = unsafe { libc::sigaction(libc::SIGINT, &raw const action, ptr::null_mut()) };
    if code != 0 {
        return Err(OsError::last("sigaction"));
    }
    Ok(())
}

extern "C" fn on_interrupt(signal: c_int) {
    // SAFETY: the pointer is null, or came from a reference that lives as long as the process.
    // Acquire: pairs with the Release store where the handler is installed.
    let asked = unsafe { ASKED.load(Acquire).as_ref() };
    // Acquire: pairs with the Release store that comes before the signal is sent. A store that is
    // missed here is followed by a signal that comes when this handler has returned.
    if asked.is_none_or(|asked| asked.load(Acquire) == 0) {
        return;
    }
    // SAFETY: the default action of a signal may be set at any time, in a handler too.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: safe in a handler; the signal is blocked here, and arrives at the return.
    unsafe { libc::raise(signal) };
}

/// Lets interrupts through that were blocked in this thread since the start of its process, because
/// the process had not chosen yet what to do on them.
pub fn unblock_interrupts() {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` writes the whole set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was written above.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGINT) };
    // SAFETY: the set is valid; nothing is written.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) };
}

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigfillset` writes the whole set that it is given.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: it was written above.
    unsafe { set.assume_init() }
}

fn set_mask(mask: &libc::sigset_t) -> libc::sigset_t {
    let mut former = MaybeUninit::uninit();
    // SAFETY: both sets are valid; the call cannot fail with SIG_SETMASK and writes the former.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, former.as_mut_ptr()) };
    // SAFETY: it was written above.
    unsafe { former.assume_init() }
}
