//! Keeping signal handlers out of the library's own threads.

use std::mem::MaybeUninit;

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
