//! Telling that a thread has used up its stack.
//!
//! A thread that is watched has a second stack for the handler of its faults, at the low end of
//! which stand the bounds of its own; the handler compares them with the address that was touched.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::{io, ptr};

use crate::error::OsError;

/// What stands at the low end of a handler's stack, which the handler never reaches.
#[repr(C)]
struct StackBounds {
    mark: u64,
    /// The lowest address of the thread's own stack.
    low: usize,
}

const STACK_MARK: u64 = 0x6d61_6e79_6861_6e64;

/// How far from the low end of a stack a fault still means that the stack is used up: below, the
/// kernel's guard gap; above, the guard page, which some C libraries count in.
const GAP_BELOW: usize = 1 << 20;
const GAP_ABOVE: usize = 64 << 10;

impl StackBounds {
    fn is_overflow_at(&self, address: usize) -> bool {
        address >= self.low.saturating_sub(GAP_BELOW)
            && address < self.low.saturating_add(GAP_ABOVE)
    }
}

/// Whether a fault at `address` means that the stack of the interrupted thread is used up.
///
/// # Safety
///
/// `stack` must be the kernel's record of the present handler stack.
pub(crate) unsafe fn is_overflow(stack: &libc::stack_t, address: usize) -> bool {
    // SAFETY: the caller vouches for the record.
    unsafe { bounds_of(stack) }.is_some_and(|bounds| bounds.is_overflow_at(address))
}

/// The bounds at the low end of a handler's stack, if it is one of ours.
///
/// # Safety
///
/// `stack` must be the kernel's record of the present handler stack.
unsafe fn bounds_of(stack: &libc::stack_t) -> Option<&StackBounds> {
    if stack.ss_sp.is_null() || stack.ss_flags & libc::SS_DISABLE != 0 {
        return None;
    }
    // SAFETY: a handler's stack is mapped, aligned to a page or to what `malloc` gives, and
    // longer than the bounds; whatever bytes are there are valid integers.
    let bounds = unsafe { &*stack.ss_sp.cast::<StackBounds>() };
    (bounds.mark == STACK_MARK).then_some(bounds)
}

/// The bytes of a handler's stack; the kernel's own frame takes up to 12 KiB on some processors.
const HANDLER_STACK: usize = 64 << 10;

/// Gives the calling thread a stack for its fault handler, for good, and notes where the
/// thread's own stack ends. For threads that come and go there is [`watch_until_dropped`].
///
/// # Errors
///
/// When memory is short, or the C library does not know the thread's stack.
pub fn watch_this_thread() -> Result<(), OsError> {
    std::mem::forget(watch_until_dropped()?);
    Ok(())
}

/// The handler's stack of a thread, which is taken away again when this is dropped, by that thread.
#[derive(Debug)]
#[must_use = "the thread is watched until this is dropped"]
pub struct Watched {
    /// Ours, and a raw pointer, so that this stays in its thread.
    memory: *mut c_void,
    former: libc::stack_t,
}

/// Gives the calling thread a stack for its fault handler, and notes where the thread's own stack
/// ends.
///
/// # Errors
///
/// As [`watch_this_thread`].
///
/// # Examples
///
/// ```
/// let watched = manyhands_os::fault::watch_until_dropped()?;
/// drop(watched);
/// # Ok::<(), manyhands_os::OsError>(())
/// ```
pub fn watch_until_dropped() -> Result<Watched, OsError> {
    let low = stack_low_end()?;
    // SAFETY: a new private mapping, at an address that the kernel chooses.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            HANDLER_STACK,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(OsError::last("mmap"));
    }
    let bounds = StackBounds {
        mark: STACK_MARK,
        low,
    };
    // SAFETY: the mapping is ours alone, aligned to a page, and longer than the bounds.
    unsafe { memory.cast::<StackBounds>().write(bounds) };
    let stack = libc::stack_t {
        ss_sp: memory,
        ss_flags: 0,
        ss_size: HANDLER_STACK,
    };
    let mut former = NO_STACK;
    // SAFETY: the memory stays mapped until the thread has another stack, and is used for nothing
    // else; the former record is written to our own place.
    if unsafe { libc::sigaltstack(&raw const stack, &raw mut former) } != 0 {
        let error = OsError::last("sigaltstack");
        // SAFETY: the mapping was made above, and nobody else knows of it.
        unsafe { libc::munmap(memory, HANDLER_STACK) };
        return Err(error);
    }
    Ok(Watched { memory, former })
}

const NO_STACK: libc::stack_t = libc::stack_t {
    ss_sp: ptr::null_mut(),
    ss_flags: libc::SS_DISABLE,
    ss_size: 0,
};

impl Drop for Watched {
    fn drop(&mut self) {
        let mut present = NO_STACK;
        // SAFETY: writes the present record to our own place, and changes nothing.
        unsafe { libc::sigaltstack(ptr::null(), &raw mut present) };
        // Somebody may have put a stack of its own in place of ours.
        if present.ss_sp == self.memory {
            // SAFETY: what the thread had before; no handler runs here, so the kernel lets go of ours.
            unsafe { libc::sigaltstack(&raw const self.former, ptr::null_mut()) };
        }
        // SAFETY: made by `watch_until_dropped`, and no longer the stack of any handler: a thread's
        // is known to that thread only, and `Watched` never leaves its thread.
        unsafe { libc::munmap(self.memory, HANDLER_STACK) };
    }
}

fn stack_low_end() -> Result<usize, OsError> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the call has no precondition.
    let this_thread = unsafe { libc::pthread_self() };
    // SAFETY: the call initializes the place that it is given; the thread is running.
    let code = unsafe { libc::pthread_getattr_np(this_thread, attributes.as_mut_ptr()) };
    let refused = |code| OsError::new("pthread_getattr_np", io::Error::from_raw_os_error(code));
    if code != 0 {
        return Err(refused(code));
    }
    let (mut low, mut size) = (ptr::null_mut(), 0);
    // SAFETY: initialized by the call above; the results are written to our own places.
    let code =
        unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size) };
    // SAFETY: initialized above, and not used afterwards.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    if code != 0 {
        return Err(refused(code));
    }
    Ok(low.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_has_its_former_handler_stack_again() {
        let present = || {
            let mut present = NO_STACK;
            // SAFETY: writes the present record to our own place, and changes nothing.
            unsafe { libc::sigaltstack(ptr::null(), &raw mut present) };
            present.ss_sp.addr()
        };
        let before = present();
        let watched = watch_until_dropped().expect("memory");
        assert_eq!(present(), watched.memory.addr());
        drop(watched);
        assert_eq!(present(), before);
    }

    #[test]
    fn overflow_is_told_by_its_address() {
        let bounds = StackBounds {
            mark: STACK_MARK,
            low: 0x7000_0000,
        };
        assert!(bounds.is_overflow_at(0x7000_0000 - 8));
        assert!(bounds.is_overflow_at(0x7000_0ff8));
        assert!(!bounds.is_overflow_at(0));
        assert!(!bounds.is_overflow_at(0x7100_0000));
    }
}
