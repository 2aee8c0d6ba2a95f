//! The lock with the data that it guards.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};
use std::{error, fmt};

use manyhands_os::Deadline;
use manyhands_os::process::Identity;

use crate::raw::{Acquired, RawLock, RefusedLock};
use crate::shareable::Shareable;

/// Mutual exclusion with the data inside: threads share it in private memory, processes share it
/// in shared memory (`Shared::new(Lock::new(..))` of `manyhands-shm`).
///
/// * A *panic* while holding it is no death: the guard unwinds, nothing is poisoned.
/// * A *death* while holding it, in shared memory, comes to the next locker as
///   [`LockError::OwnerDied`] with the guard inside, about 0.15 ms later: look at the data, repair
///   it, [`mark_consistent`](LockGuard::mark_consistent). Whoever unlocks without doing so passes
///   the news on to the next locker.
/// * It is not re-entrant: a thread that locks it twice waits for itself; use the form with a
///   deadline where this can happen.
/// * A guard that is leaked (`mem::forget`) keeps the lock held until its thread ends.
///
/// Python: `threading.Lock`, `multiprocessing.Lock`, and `Value` with its lock.
///
/// # Examples
///
/// ```
/// use manyhands_sync::Lock;
///
/// static TOTAL: Lock<u64> = Lock::new(0);
/// std::thread::scope(|threads| {
///     for _ in 0..4 {
///         threads.spawn(|| *TOTAL.lock().expect("private locks have no dead owners") += 1);
///     }
/// });
/// assert_eq!(*TOTAL.lock().expect("as above"), 4);
/// ```
#[repr(C)]
pub struct Lock<T> {
    raw: RawLock,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives `&mut T` to one thread at a time, which may be any: T must be Send.
unsafe impl<T: Send> Send for Lock<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Lock<T> {}

// SAFETY: the raw lock is made of atomics and is robust once placed; the data is Shareable, and a
// death in the middle of a change is reported to the next locker.
unsafe impl<T: Shareable> Shareable for Lock<T> {
    fn placed(&self) {
        self.raw.placed();
        let data = self.data.get();
        // SAFETY: `placed` runs before anybody else can see the value, so nobody changes it.
        let data = unsafe { &*data };
        data.placed();
    }
}

impl<T> Lock<T> {
    /// A free lock around a value.
    pub const fn new(value: T) -> Self {
        Self {
            raw: RawLock::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// Takes the lock, and waits for it.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] holds the guard; [`LockError::TooManyHeld`].
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_, T>, LockError<'_, T>> {
        match self.raw.lock(Deadline::NEVER) {
            Ok(Acquired { owner_died: None }) => Ok(self.guard(None)),
            Ok(Acquired {
                owner_died: Some(who),
            }) => Err(LockError::OwnerDied {
                guard: self.guard(Some(who)),
                who,
            }),
            Err(_) => Err(LockError::TooManyHeld),
        }
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] when it is not; the others as for [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<LockGuard<'_, T>, TryLockError<'_, T>> {
        match self.raw.try_lock() {
            Ok(Acquired { owner_died: None }) => Ok(self.guard(None)),
            Ok(Acquired {
                owner_died: Some(who),
            }) => Err(TryLockError::OwnerDied {
                guard: self.guard(Some(who)),
                who,
            }),
            Err(RefusedLock::TimedOut { .. }) => Err(TryLockError::WouldBlock),
            Err(RefusedLock::TooManyHeld) => Err(TryLockError::TooManyHeld),
        }
    }

    /// Takes the lock, and waits for it at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::TimedOut`]; the others as for [`lock`](Self::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<LockGuard<'_, T>, LockTimeoutError<'_, T>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Takes the lock, and waits for it until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`lock_timeout`](Self::lock_timeout).
    pub fn lock_deadline(
        &self,
        deadline: Instant,
    ) -> Result<LockGuard<'_, T>, LockTimeoutError<'_, T>> {
        self.lock_until(Deadline::at(deadline))
    }

    /// The data, when nobody else can have the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// The data, out of the lock.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }

    /// What can be seen of the lock without taking it; old by the time it is read.
    pub fn inspect(&self) -> LockState {
        LockState {
            shared: self.raw.is_shared(),
            thread: self.raw.holder(),
            process: self.raw.holding_process(),
            waiters: self.raw.has_waiters(),
        }
    }

    fn lock_until(&self, deadline: Deadline) -> Result<LockGuard<'_, T>, LockTimeoutError<'_, T>> {
        match self.raw.lock(deadline) {
            Ok(Acquired { owner_died: None }) => Ok(self.guard(None)),
            Ok(Acquired {
                owner_died: Some(who),
            }) => Err(LockTimeoutError::OwnerDied {
                guard: self.guard(Some(who)),
                who,
            }),
            Err(RefusedLock::TimedOut { holder }) => Err(LockTimeoutError::TimedOut {
                holder,
                process: self.raw.holding_process(),
            }),
            Err(RefusedLock::TooManyHeld) => Err(LockTimeoutError::TooManyHeld),
        }
    }

    fn guard(&self, unrepaired: Option<Option<Identity>>) -> LockGuard<'_, T> {
        LockGuard {
            lock: self,
            unrepaired,
            thread: PhantomData,
        }
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Lock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inspect();
        f.debug_struct("Lock")
            .field("locked", &state.thread.is_some())
            .field("shared", &state.shared)
            .field("thread", &state.thread)
            .field("process", &state.process)
            .field("waiters", &state.waiters)
            .finish_non_exhaustive()
    }
}

/// What [`Lock::inspect`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockState {
    /// Whether the lock lies in shared memory.
    pub shared: bool,
    /// The kernel's number of the holding thread, `None` when the lock is free.
    pub thread: Option<u32>,
    /// The holding process, as far as known; shared placement only.
    pub process: Option<Identity>,
    /// Whether somebody may sleep for the lock.
    pub waiters: bool,
}

/// The data, as long as the lock is held; the lock is left when this is dropped.
#[must_use = "the lock is left at once if the guard is not kept"]
pub struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
    /// The dead holder whose damage nobody has repaired yet.
    unrepaired: Option<Option<Identity>>,
    /// Not `Send`: a shared lock is on its thread's robust list.
    thread: PhantomData<*mut ()>,
}

// SAFETY: a shared reference to the guard gives no more than `&T`.
unsafe impl<T: Sync> Sync for LockGuard<'_, T> {}

impl<T> LockGuard<'_, T> {
    /// Declares the data whole again after an `OwnerDied`; the next locker gets `Ok`.
    pub fn mark_consistent(&mut self) {
        self.lock.raw.mark_consistent();
        self.unrepaired = None;
    }
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let data = self.lock.data.get();
        // SAFETY: the guard stands for the lock being held by this thread, so nobody writes.
        unsafe { &*data }
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        let data = self.lock.data.get();
        // SAFETY: as above; `&mut self` excludes other references through this guard.
        unsafe { &mut *data }
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard is made by locking and cannot leave the thread that locked.
        unsafe { self.lock.raw.unlock(self.unrepaired) };
    }
}

impl<T: fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// What [`Lock::lock`] has to tell.
#[non_exhaustive]
pub enum LockError<'a, T> {
    /// The lock is yours; but a process died while it held it, and the data may be half changed.
    OwnerDied {
        /// The data: repair it and mark it consistent.
        guard: LockGuard<'a, T>,
        /// Who died, as far as known.
        who: Option<Identity>,
    },
    /// This thread holds 2,000 shared locks; the kernel could not mark more at its death.
    TooManyHeld,
}

/// What [`Lock::try_lock`] has to tell.
#[non_exhaustive]
pub enum TryLockError<'a, T> {
    /// As [`LockError::OwnerDied`].
    OwnerDied {
        /// The data: repair it and mark it consistent.
        guard: LockGuard<'a, T>,
        /// Who died, as far as known.
        who: Option<Identity>,
    },
    /// Somebody holds the lock.
    WouldBlock,
    /// As [`LockError::TooManyHeld`].
    TooManyHeld,
}

/// What [`Lock::lock_timeout`] has to tell.
#[non_exhaustive]
pub enum LockTimeoutError<'a, T> {
    /// As [`LockError::OwnerDied`].
    OwnerDied {
        /// The data: repair it and mark it consistent.
        guard: LockGuard<'a, T>,
        /// Who died, as far as known.
        who: Option<Identity>,
    },
    /// Somebody held the lock all the time.
    TimedOut {
        /// The kernel's number of the holding thread, at the end.
        holder: Option<u32>,
        /// The holding process, at the end, as far as known.
        process: Option<Identity>,
    },
    /// As [`LockError::TooManyHeld`].
    TooManyHeld,
}

impl<'a, T> LockError<'a, T> {
    /// The guard, when there is one: for data that is whole after any write.
    pub fn into_guard(self) -> Option<LockGuard<'a, T>> {
        match self {
            Self::OwnerDied { guard, .. } => Some(guard),
            Self::TooManyHeld => None,
        }
    }
}

const TOO_MANY_HELD: &str = "this thread holds 2000 shared locks, more cannot be made kill-safe";

fn write_owner_died(f: &mut fmt::Formatter<'_>, who: Option<Identity>) -> fmt::Result {
    match who {
        Some(who) => write!(f, "{who} died while it held the lock"),
        None => f.write_str("a process died while it held the lock"),
    }
}

impl<T> fmt::Display for LockError<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied { who, .. } => write_owner_died(f, *who),
            Self::TooManyHeld => f.write_str(TOO_MANY_HELD),
        }
    }
}

impl<T> fmt::Display for TryLockError<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied { who, .. } => write_owner_died(f, *who),
            Self::WouldBlock => f.write_str("somebody holds the lock"),
            Self::TooManyHeld => f.write_str(TOO_MANY_HELD),
        }
    }
}

impl<T> fmt::Display for LockTimeoutError<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied { who, .. } => write_owner_died(f, *who),
            Self::TimedOut {
                process: Some(process),
                ..
            } => {
                write!(f, "timed out: {process} holds the lock")
            }
            Self::TimedOut {
                holder: Some(thread),
                ..
            } => {
                write!(f, "timed out: thread {thread} holds the lock")
            }
            Self::TimedOut { .. } => f.write_str("timed out"),
            Self::TooManyHeld => f.write_str(TOO_MANY_HELD),
        }
    }
}

macro_rules! error_by_display {
    ($($name:ident),*) => {$(
        impl<T> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl<T> error::Error for $name<'_, T> {}
    )*};
}

error_by_display!(LockError, TryLockError, LockTimeoutError);
