//! A lock of the C library's kind, around data beside it.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use libc::pthread_mutex_t;
use manyhands_os::Deadline;

use super::error::{AdoptError, PlaceError, RenewError};
use super::mutex::{Acquired, RawMutex, Refused};
use crate::error::{LockError, LockTimeoutError, TryLockError};
use crate::shareable::{LastPlace, Shareable};

/// A pthread mutex in shared memory, which raw_sync and C programs may use as well, with the data
/// that it guards.
///
/// The mutex lies in the first `sizeof(pthread_mutex_t)` bytes of the memory, from the first address
/// on that is aligned as a pointer, as raw_sync's does. The value is a handle: each process makes its
/// own, one by [`place`](Self::place), all others by [`adopt`](Self::adopt).
///
/// * A *death* of a holder comes as [`LockError::OwnerDied`] with the guard; POSIX does not tell who
///   it was. Whoever drops the guard without [`mark_consistent`](PosixLockGuard::mark_consistent)
///   passes the news on, to raw_sync (as error 130) and C programs (as `EOWNERDEAD`) too.
/// * A C program that unlocks without `pthread_mutex_consistent` makes the mutex unusable for all:
///   [`LockError::NotRecoverable`]. raw_sync never repairs; it treats the news as a failure and
///   leaves the lock taken: whoever comes next waits until that thread ends.
/// * The C library's unlock can lose sleepers when the one that it woke is killed at once. Who waits
///   here looks again each second, and so is late at worst; a C program or raw_sync then waits until
///   somebody else has waited.
/// * A *panic* while holding it is no death: the guard unwinds, nothing is poisoned.
/// * It is not re-entrant: a thread that locks it twice waits for itself, or panics if the mutex was
///   made error-checking.
///
/// # Examples
///
/// See the [module](super).
pub struct PosixLock<'m, T> {
    mutex: RawMutex,
    data: &'m UnsafeCell<T>,
}

// SAFETY: the lock gives `&mut T` to one thread at a time, which may be any: T must be Send. The
// mutex may be used by any thread.
unsafe impl<T: Send> Send for PosixLock<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for PosixLock<'_, T> {}

impl<'m, T: Shareable> PosixLock<'m, T> {
    /// The bytes that a lock needs at `memory`: as raw_sync's `LockInit::size_of(Some(memory))`.
    pub fn size_of(memory: *mut u8) -> usize {
        RawMutex::padding(memory) + size_of::<pthread_mutex_t>()
    }

    /// Makes a free, robust lock at `memory`, around data that has reached its last place.
    ///
    /// # Errors
    ///
    /// [`PlaceError`]; practically never.
    ///
    /// # Safety
    ///
    /// * [`size_of`](Self::size_of) bytes from `memory` on must be mapped, writable, and beside the
    ///   data, for `'m`; and when a guard is leaked, until its thread has ended.
    /// * Nobody else may use the memory or the data before this has returned.
    /// * Afterwards all processes must use the memory as a mutex of one C library, of one word size;
    ///   and touch the data only while they hold it, and leave a valid `T`.
    pub unsafe fn place(memory: *mut u8, data: &'m UnsafeCell<T>) -> Result<Self, PlaceError> {
        if !RawMutex::layout_is_known() {
            return Err(PlaceError::UnknownLayout);
        }
        // SAFETY: as the caller vouches; `init` comes first.
        let mutex = unsafe { RawMutex::new(memory) };
        mutex.init(true).map_err(PlaceError::Refused)?;
        // SAFETY: nobody else uses the data yet.
        let value = unsafe { &*data.get() };
        // SAFETY: as the caller vouches, the data stays there and nobody uses it yet.
        value.placed(unsafe { LastPlace::new() });
        Ok(Self { mutex, data })
    }

    /// Takes over the lock at `memory`, which raw_sync, a C program or [`place`](Self::place) made.
    ///
    /// It may be in use. Whether it tells of deaths is for its maker to decide:
    /// [`is_robust`](Self::is_robust) tells. raw_sync makes it without.
    ///
    /// # Errors
    ///
    /// [`AdoptError`]: what lies there is not a mutex that processes may share and that can guard
    /// data.
    ///
    /// # Safety
    ///
    /// As for [`place`](Self::place), but the mutex and a valid `T` must be there already, and be
    /// used so already.
    pub unsafe fn adopt(memory: *mut u8, data: &'m UnsafeCell<T>) -> Result<Self, AdoptError> {
        if !RawMutex::layout_is_known() {
            return Err(AdoptError::UnknownLayout);
        }
        // SAFETY: as the caller vouches.
        let mutex = unsafe { RawMutex::new(memory) };
        if !mutex.is_exclusive() {
            let kind = mutex.kind();
            return Err(AdoptError::WrongKind { kind });
        }
        if !mutex.is_shared() {
            return Err(AdoptError::NotShared);
        }
        Ok(Self { mutex, data })
    }

    /// Makes the lock robust: for one that raw_sync's `Mutex::new` made.
    ///
    /// # Errors
    ///
    /// [`RenewError::InUse`] when it is held, with nothing changed.
    ///
    /// # Safety
    ///
    /// Nobody else may use the lock while this runs: the mutex is made anew, and who waited for the
    /// old one would wait for ever.
    pub unsafe fn make_robust(&mut self) -> Result<(), RenewError> {
        if self.mutex.is_robust() {
            return Ok(());
        }
        match self.mutex.try_lock() {
            Ok(_) => self.mutex.unlock(),
            Err(_) => return Err(RenewError::InUse),
        }
        self.mutex.init(true).map_err(RenewError::Refused)
    }
}

impl<T> PosixLock<'_, T> {
    /// Whether the death of a holder is told. glibc has no function that tells this of a mutex: it
    /// is read from glibc's own word.
    pub fn is_robust(&self) -> bool {
        self.mutex.is_robust()
    }

    /// The mutex, for the C library's functions: a `pthread_mutex_t *`.
    pub fn as_raw(&self) -> *mut c_void {
        self.mutex.as_ptr().cast()
    }

    /// Takes the lock, and waits for it.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] holds the guard; [`LockError::NotRecoverable`];
    /// [`LockError::TooManyHeld`], here from 40 locks on.
    ///
    /// # Panics
    ///
    /// When this thread holds the lock already and its maker made it error-checking; when something
    /// else was written over it.
    pub fn lock(&self) -> Result<PosixLockGuard<'_, T>, LockError<PosixLockGuard<'_, T>>> {
        match self.mutex.lock(Deadline::NEVER) {
            Ok(acquired) => self.guard(acquired).map_err(|guard| {
                let who = None;
                LockError::OwnerDied { guard, who }
            }),
            Err(Refused::NotRecoverable) => Err(LockError::NotRecoverable),
            Err(Refused::TooManyHeld) => Err(LockError::TooManyHeld),
            Err(Refused::TimedOut) => unreachable!("the deadline never passes"),
        }
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] when it is not; the others as for [`lock`](Self::lock).
    ///
    /// # Panics
    ///
    /// When something else was written over the lock.
    pub fn try_lock(&self) -> Result<PosixLockGuard<'_, T>, TryLockError<PosixLockGuard<'_, T>>> {
        match self.mutex.try_lock() {
            Ok(acquired) => self.guard(acquired).map_err(|guard| {
                let who = None;
                TryLockError::OwnerDied { guard, who }
            }),
            Err(Refused::NotRecoverable) => Err(TryLockError::NotRecoverable),
            Err(Refused::TooManyHeld) => Err(TryLockError::TooManyHeld),
            Err(Refused::TimedOut) => Err(TryLockError::WouldBlock),
        }
    }

    /// Takes the lock, and waits for it at most `timeout`, on the monotonic clock.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::TimedOut`]; the others as for [`lock`](Self::lock).
    ///
    /// # Panics
    ///
    /// As for [`lock`](Self::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<PosixLockGuard<'_, T>, LockTimeoutError<PosixLockGuard<'_, T>>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Takes the lock, and waits for it until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`lock_timeout`](Self::lock_timeout).
    ///
    /// # Panics
    ///
    /// As for [`lock`](Self::lock).
    pub fn lock_deadline(
        &self,
        deadline: Instant,
    ) -> Result<PosixLockGuard<'_, T>, LockTimeoutError<PosixLockGuard<'_, T>>> {
        self.lock_until(Deadline::at(deadline))
    }

    /// What can be seen of the lock without taking it; old by the time it is read.
    pub fn inspect(&self) -> PosixLockState {
        PosixLockState {
            robust: self.is_robust(),
            thread: self.mutex.holder(),
            waiters: self.mutex.has_waiters(),
        }
    }

    fn lock_until(
        &self,
        deadline: Deadline,
    ) -> Result<PosixLockGuard<'_, T>, LockTimeoutError<PosixLockGuard<'_, T>>> {
        match self.mutex.lock(deadline) {
            Ok(acquired) => self.guard(acquired).map_err(|guard| {
                let who = None;
                LockTimeoutError::OwnerDied { guard, who }
            }),
            Err(Refused::NotRecoverable) => Err(LockTimeoutError::NotRecoverable),
            Err(Refused::TooManyHeld) => Err(LockTimeoutError::TooManyHeld),
            Err(Refused::TimedOut) => Err(LockTimeoutError::TimedOut {
                holder: self.mutex.holder(),
                process: None,
            }),
        }
    }

    /// The guard of a lock that was taken, as an error after a death.
    fn guard(&self, acquired: Acquired) -> Result<PosixLockGuard<'_, T>, PosixLockGuard<'_, T>> {
        let unrepaired = acquired.owner_died;
        let guard = PosixLockGuard {
            lock: self,
            unrepaired,
            thread: PhantomData,
        };
        if unrepaired { Err(guard) } else { Ok(guard) }
    }
}

impl<T> fmt::Debug for PosixLock<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inspect();
        f.debug_struct("PosixLock")
            .field("locked", &state.thread.is_some())
            .field("robust", &state.robust)
            .field("thread", &state.thread)
            .field("waiters", &state.waiters)
            .finish_non_exhaustive()
    }
}

/// What [`PosixLock::inspect`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PosixLockState {
    /// Whether the death of a holder is told.
    pub robust: bool,
    /// The kernel's number of the holding thread, `None` when the lock is free.
    pub thread: Option<u32>,
    /// Whether somebody may sleep for the lock.
    pub waiters: bool,
}

/// The data, as long as the lock is held; the lock is left when this is dropped.
#[must_use = "the lock is left at once if the guard is not kept"]
pub struct PosixLockGuard<'a, T> {
    lock: &'a PosixLock<'a, T>,
    /// A holder died, and nobody has repaired its damage yet.
    unrepaired: bool,
    /// Not `Send`: the mutex belongs to the thread that took it.
    thread: PhantomData<*mut ()>,
}

// SAFETY: a shared reference to the guard gives no more than `&T`.
unsafe impl<T: Sync> Sync for PosixLockGuard<'_, T> {}

impl<T> PosixLockGuard<'_, T> {
    /// Declares the data whole again after an `OwnerDied`; the next locker gets `Ok`.
    pub fn mark_consistent(&mut self) {
        if self.unrepaired {
            self.lock.mutex.mark_consistent();
            self.unrepaired = false;
        }
    }
}

impl<T> Deref for PosixLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let data = self.lock.data.get();
        // SAFETY: the guard stands for the lock being held by this thread, so nobody writes.
        unsafe { &*data }
    }
}

impl<T> DerefMut for PosixLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        let data = self.lock.data.get();
        // SAFETY: as above; `&mut self` excludes other references through this guard.
        unsafe { &mut *data }
    }
}

impl<T> Drop for PosixLockGuard<'_, T> {
    fn drop(&mut self) {
        if self.unrepaired {
            // SAFETY: the guard is made by locking, in this thread, and locking told of a death.
            unsafe { self.lock.mutex.abandon() };
        } else {
            self.lock.mutex.unlock();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for PosixLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
