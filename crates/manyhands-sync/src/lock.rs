//! The lock with the data that it guards.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_os::process::Identity;

use crate::deadlock;
use crate::error::{LockError, LockTimeoutError, TryLockError};
use crate::member::Member;
use crate::raw::RawLock;
use crate::raw::condition::RawCondition;
use crate::shareable::{LastPlace, Shareable, refuse_pinned};

/// Mutual exclusion with the data inside: threads share it in private memory, processes share it
/// in shared memory (`Shared::new(Lock::new(..))` of `manyhands-shm`).
///
/// * A *panic* while holding it is no death: the guard unwinds, nothing is poisoned.
/// * A *death* while holding it, in shared memory, comes to the next locker as
///   [`LockError::OwnerDied`] with the guard inside, about 0.15 ms later: look at the data, repair
///   it, [`mark_consistent`](LockGuard::mark_consistent). Whoever unlocks without doing so passes
///   the news on to the next locker.
/// * It is not re-entrant: a thread that locks it twice waits for itself. Debug builds tell so
///   instead, as of any [deadlock]; use the form with a deadline where this can happen.
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
pub struct Lock<T: ?Sized> {
    raw: RawLock,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives `&mut T` to one thread at a time, which may be any: T must be Send.
unsafe impl<T: ?Sized + Send> Send for Lock<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Lock<T> {}

// SAFETY: the raw lock is made of atomics and is robust once placed; the data is Shareable, and a
// death in the middle of a change is reported to the next locker.
unsafe impl<T: ?Sized + Shareable> Shareable for Lock<T> {
    fn placed(&self, here: LastPlace) {
        const { refuse_pinned::<T>() };
        self.raw.placed(here);
        let data = self.data.get();
        // SAFETY: `placed` runs before anybody else can see the value, so nobody changes it.
        let data = unsafe { &*data };
        data.placed(here);
    }

    const PINNED: bool = true;

    fn is_held_here(&self) -> bool {
        self.raw.is_held_here()
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

    /// The data, out of the lock.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> Lock<T> {
    /// Takes the lock, and waits for it.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] holds the guard; [`LockError::TooManyHeld`];
    /// [`LockError::Deadlock`].
    #[inline]
    #[cfg_attr(any(debug_assertions, feature = "deadlock-detection"), track_caller)]
    pub fn lock(&self) -> Result<LockGuard<'_, T>, LockError<LockGuard<'_, T>>> {
        let wait = || LockError::settle(self.raw.lock(Deadline::NEVER), || self.guard());
        deadlock::watch(&self.raw, Location::caller(), || self.try_lock(), wait)
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] when it is not; the others as for [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<LockGuard<'_, T>, TryLockError<LockGuard<'_, T>>> {
        TryLockError::settle(self.raw.try_lock(), || self.guard())
    }

    /// Takes the lock, and waits for it at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`LockTimeoutError::TimedOut`]; the others as for [`lock`](Self::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<LockGuard<'_, T>, LockTimeoutError<LockGuard<'_, T>>> {
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
    ) -> Result<LockGuard<'_, T>, LockTimeoutError<LockGuard<'_, T>>> {
        self.lock_until(Deadline::at(deadline))
    }

    /// The data, when nobody else can have the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
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

    fn lock_until(
        &self,
        deadline: Deadline,
    ) -> Result<LockGuard<'_, T>, LockTimeoutError<LockGuard<'_, T>>> {
        LockTimeoutError::settle(self.raw.lock(deadline), &self.raw, || self.guard())
    }

    fn guard(&self) -> LockGuard<'_, T> {
        LockGuard {
            lock: self,
            notified: None,
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

impl<T: ?Sized> fmt::Debug for Lock<T> {
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
///
/// Nothing else leaves the lock, so nobody can leave one that he does not hold. A guard stays in its
/// thread, since a robust lock belongs to the thread that took it:
///
/// ```compile_fail
/// use manyhands_sync::Lock;
///
/// static LOCK: Lock<u64> = Lock::new(0);
/// let guard = LOCK.lock().expect("it is free");
/// std::thread::spawn(move || drop(guard));
/// ```
#[must_use = "the lock is left at once if the guard is not kept"]
pub struct LockGuard<'a, T: ?Sized> {
    lock: &'a Lock<T>,
    /// What this process was notified of since it last left the lock; until it leaves it again,
    /// its death wakes those who wait still.
    notified: Option<(&'a RawCondition, Member)>,
    /// Not `Send`: a shared lock is on its thread's robust list.
    thread: PhantomData<*mut ()>,
}

// SAFETY: a shared reference to the guard gives no more than `&T`.
unsafe impl<T: ?Sized + Sync> Sync for LockGuard<'_, T> {}

impl<'a, T: ?Sized> LockGuard<'a, T> {
    /// Declares the data whole again after an `OwnerDied`; the next locker gets `Ok`.
    pub fn mark_consistent(&mut self) {
        self.lock.raw.mark_consistent();
    }

    /// Waits without the lock, and takes the lock again, also when the wait unwinds. Tells whether
    /// it was notified, and of a holder who died meanwhile.
    pub(crate) fn wait(
        &mut self,
        condition: &'a RawCondition,
        deadline: Deadline,
    ) -> (bool, Option<Identity>) {
        /// Takes the lock back when dropped.
        struct Retake<'a, T: ?Sized>(&'a Lock<T>, &'a mut Option<Identity>);

        impl<T: ?Sized> Drop for Retake<'_, T> {
            fn drop(&mut self) {
                // The deadline never passes, and one lock was left just now, so there is room for
                // one on the thread's list: neither refusal can be.
                if let Ok(acquired) = self.0.raw.lock(Deadline::NEVER) {
                    *self.1 = acquired.owner_died();
                }
            }
        }

        let before = self.notified.take();
        let enrolled = condition.enroll();
        let mut died = None;
        let retake = Retake(self.lock, &mut died);
        // SAFETY: the guard stands for the lock being held by this thread; while it is not, the
        // guard is borrowed by this call, so nobody reaches the data through it.
        unsafe { self.lock.raw.unlock() };
        if let Some((condition, me)) = before {
            condition.leave(me);
        }
        let notified = condition.wait(enrolled, deadline);
        drop(retake);
        self.notified = enrolled.me.map(|me| (condition, me));
        (notified, died)
    }
}

impl<T: ?Sized> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let data = self.lock.data.get();
        // SAFETY: the guard stands for the lock being held by this thread, so nobody writes.
        unsafe { &*data }
    }
}

impl<T: ?Sized> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        let data = self.lock.data.get();
        // SAFETY: as above; `&mut self` excludes other references through this guard.
        unsafe { &mut *data }
    }
}

impl<T: ?Sized> Drop for LockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard is made by locking and cannot leave the thread that locked.
        unsafe { self.lock.raw.unlock() };
        if let Some((condition, me)) = self.notified {
            condition.leave(me);
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for LockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
