//! Something that is done once.

use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manyhands_os::Deadline;

use crate::raw::{RawLock, RefusedLock};
use crate::shareable::Shareable;

/// Runs a function once among all threads, or processes in shared memory; the others wait for it.
///
/// If whoever runs it panics or dies, it is not done, and the next one runs it again: with
/// [`OnceState::interrupted`] set, since a part of it may have been done.
///
/// # Examples
///
/// ```
/// use manyhands_sync::Once;
///
/// static START: Once = Once::new();
/// let mut runs = 0;
/// START.call(|_| runs += 1)?;
/// START.call(|_| runs += 1)?;
/// assert_eq!((runs, START.is_done()), (1, true));
/// # Ok::<(), manyhands_sync::OnceError>(())
/// ```
#[repr(C)]
pub struct Once {
    lock: RawLock,
    state: AtomicU32,
    _padding: u32,
}

const NOT_BEGUN: u32 = 0;
const BEGUN: u32 = 1;
const DONE: u32 = 2;

// SAFETY: made of atomics and a raw lock, which is robust once placed.
unsafe impl Shareable for Once {
    fn placed(&self) {
        self.lock.placed();
    }
}

/// What the function of [`Once::call`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OnceState {
    /// Somebody began, and panicked or died before the end.
    pub interrupted: bool,
}

/// Why [`Once::call`] did nothing: this thread holds 2,000 shared locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnceError;

impl Once {
    /// Something not yet done.
    pub const fn new() -> Self {
        Self {
            lock: RawLock::new(),
            state: AtomicU32::new(NOT_BEGUN),
            _padding: 0,
        }
    }

    /// Runs `f` unless it is done; waits while somebody else runs it.
    ///
    /// # Errors
    ///
    /// [`OnceError`]; in private memory never.
    pub fn call(&self, f: impl FnOnce(OnceState)) -> Result<(), OnceError> {
        if self.is_done() {
            Ok(())
        } else {
            self.call_contended(f)
        }
    }

    /// Whether it is done.
    pub fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in `call_contended`; what was done is visible.
        self.state.load(Acquire) == DONE
    }

    #[cold]
    fn call_contended(&self, f: impl FnOnce(OnceState)) -> Result<(), OnceError> {
        /// Leaves the lock also when `f` panics.
        struct Inside<'a>(&'a RawLock);

        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                // SAFETY: made after locking, below, in the same thread.
                unsafe { self.0.unlock(None) };
            }
        }

        match self.lock.lock(Deadline::NEVER) {
            // A death is told by the state, which was stored before `f` ran.
            Ok(acquired) if acquired.owner_died.is_some() => self.lock.mark_consistent(),
            Ok(_) => {}
            Err(RefusedLock::TimedOut { .. }) => unreachable!("the deadline never passes"),
            Err(RefusedLock::TooManyHeld) => return Err(OnceError),
        }
        let _inside = Inside(&self.lock);
        // Relaxed: the lock orders it.
        let before = self.state.load(Relaxed);
        if before != DONE {
            self.state.store(BEGUN, Relaxed);
            f(OnceState {
                interrupted: before == BEGUN,
            });
            // Release: pairs with the Acquire in `is_done`.
            self.state.store(DONE, Release);
        }
        Ok(())
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("done", &self.is_done())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for OnceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this thread holds 2000 shared locks, and this takes one more")
    }
}

impl std::error::Error for OnceError {}
