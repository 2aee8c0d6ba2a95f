//! A lock that its holder may take again.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_os::process::{Identity, thread_token};

use crate::deadlock;
use crate::error::{LockError, LockTimeoutError, TryLockError};
use crate::primitive::{AtomicU32, AtomicU64};
use crate::raw::{Acquired, RawLock, RefusedLock};
use crate::shareable::{LastPlace, Shareable};

/// A re-entrant lock with the data inside: the thread that holds it may take it again, any number
/// of times, and gives it up with the last guard.
///
/// Since several guards of one thread can exist at once, they give `&T`; what is to be changed
/// inside is a `Cell` in private memory, or an atomic. The owner is one thread of one process: a
/// forked child of the holder does not own it. Deaths, panics and placement are as for
/// [`Lock`](crate::Lock).
///
/// Python: `threading.RLock`, `multiprocessing.RLock`.
///
/// # Examples
///
/// ```
/// use manyhands_sync::RLock;
/// use std::cell::Cell;
///
/// let visits = RLock::new(Cell::new(0));
/// let outer = visits.lock().expect("nobody dies");
/// let inner = visits.lock().expect("the same thread may");
/// inner.set(inner.get() + 1);
/// assert_eq!((outer.get(), visits.inspect().depth), (1, 2));
/// ```
#[repr(C)]
pub struct RLock<T> {
    raw: RawLock,
    /// The token of the owning thread, or what a dead or former owner left. Only a thread that
    /// finds its own token can be the owner, so nobody else needs the right value.
    owner: AtomicU64,
    /// How often the owner holds it; written by the owner alone.
    depth: AtomicU32,
    _padding: u32,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives `&T` to one thread at a time, which may be any: T must be Send.
unsafe impl<T: Send> Send for RLock<T> {}
// SAFETY: as above; never to two threads at once, so T need not be Sync.
unsafe impl<T: Send> Sync for RLock<T> {}

// SAFETY: the raw lock is robust once placed; the rest is atomics and Shareable data.
unsafe impl<T: Shareable> Shareable for RLock<T> {
    fn placed(&self, here: LastPlace) {
        self.raw.placed(here);
        let data = self.data.get();
        // SAFETY: `placed` runs before anybody else can see the value, so nobody changes it.
        let data = unsafe { &*data };
        data.placed(here);
    }

    const PINNED: bool = true;

    fn is_held_here(&self) -> bool {
        let data = self.data.get();
        // SAFETY: nobody ever gets `&mut T` of a placed lock, so nobody changes the value but by
        // its own means; and a Shareable is Sync.
        self.raw.is_held_here() || unsafe { &*data }.is_held_here()
    }
}

impl<T> RLock<T> {
    /// A free lock around a value.
    pub const fn new(value: T) -> Self {
        Self {
            raw: RawLock::new(),
            owner: AtomicU64::new(0),
            depth: AtomicU32::new(0),
            _padding: 0,
            data: UnsafeCell::new(value),
        }
    }

    /// Takes the lock once more, and waits for it if another thread has it.
    ///
    /// # Errors
    ///
    /// As for [`Lock::lock`](crate::Lock::lock).
    ///
    /// # Panics
    ///
    /// When one thread holds it 2^32 - 1 times.
    #[cfg_attr(any(debug_assertions, feature = "deadlock-detection"), track_caller)]
    pub fn lock(&self) -> Result<RLockGuard<'_, T>, LockError<RLockGuard<'_, T>>> {
        let take = |raw: &RawLock| raw.lock(Deadline::NEVER);
        let wait = || LockError::settle(self.enter(take), || self.guard());
        deadlock::watch(&self.raw, Location::caller(), || self.try_lock(), wait)
    }

    /// Takes the lock once more if no other thread has it.
    ///
    /// # Errors
    ///
    /// As for [`Lock::try_lock`](crate::Lock::try_lock).
    pub fn try_lock(&self) -> Result<RLockGuard<'_, T>, TryLockError<RLockGuard<'_, T>>> {
        TryLockError::settle(self.enter(RawLock::try_lock), || self.guard())
    }

    /// Takes the lock once more, and waits for it at most `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`Lock::lock_timeout`](crate::Lock::lock_timeout).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RLockGuard<'_, T>, LockTimeoutError<RLockGuard<'_, T>>> {
        self.lock_until(Deadline::after(timeout))
    }

    /// Takes the lock once more, and waits for it until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`Lock::lock_timeout`](crate::Lock::lock_timeout).
    pub fn lock_deadline(
        &self,
        deadline: Instant,
    ) -> Result<RLockGuard<'_, T>, LockTimeoutError<RLockGuard<'_, T>>> {
        self.lock_until(Deadline::at(deadline))
    }

    /// Whether the calling thread holds the lock.
    pub fn is_mine(&self) -> bool {
        // Relaxed: only this thread writes its own token, so it reads what it wrote.
        self.owner.load(Relaxed) == thread_token() && self.raw.holder().is_some()
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
    pub fn inspect(&self) -> RLockState {
        let thread = self.raw.holder();
        RLockState {
            shared: self.raw.is_shared(),
            thread,
            process: self.raw.holding_process(),
            // Relaxed: for information.
            depth: if thread.is_some() {
                self.depth.load(Relaxed)
            } else {
                0
            },
            waiters: self.raw.has_waiters(),
        }
    }

    fn lock_until(
        &self,
        deadline: Deadline,
    ) -> Result<RLockGuard<'_, T>, LockTimeoutError<RLockGuard<'_, T>>> {
        let answer = self.enter(|raw| raw.lock(deadline));
        LockTimeoutError::settle(answer, &self.raw, || self.guard())
    }

    /// Takes the raw lock by `take`, unless it is this thread's already.
    fn enter(
        &self,
        take: impl FnOnce(&RawLock) -> Result<Acquired, RefusedLock>,
    ) -> Result<Acquired, RefusedLock> {
        let token = thread_token();
        // Relaxed, here and below: the values are this thread's own, or another's token, which
        // differs from this one whatever its age.
        if self.owner.load(Relaxed) == token {
            let deeper = self
                .depth
                .load(Relaxed)
                .checked_add(1)
                .expect("2^32 guards fit nowhere");
            self.depth.store(deeper, Relaxed);
            return Ok(Acquired::SOUND);
        }
        let acquired = take(&self.raw)?;
        self.depth.store(1, Relaxed);
        self.owner.store(token, Relaxed);
        Ok(acquired)
    }

    fn guard(&self) -> RLockGuard<'_, T> {
        RLockGuard {
            lock: self,
            thread: PhantomData,
        }
    }
}

impl<T: Default> Default for RLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> fmt::Debug for RLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inspect();
        f.debug_struct("RLock")
            .field("locked", &state.thread.is_some())
            .field("depth", &state.depth)
            .field("shared", &state.shared)
            .field("thread", &state.thread)
            .field("process", &state.process)
            .field("waiters", &state.waiters)
            .finish_non_exhaustive()
    }
}

/// What [`RLock::inspect`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RLockState {
    /// Whether the lock lies in shared memory.
    pub shared: bool,
    /// The kernel's number of the holding thread, `None` when the lock is free.
    pub thread: Option<u32>,
    /// The holding process, as far as known; shared placement only.
    pub process: Option<Identity>,
    /// How often the holder has it; zero when the lock is free.
    pub depth: u32,
    /// Whether somebody may sleep for the lock.
    pub waiters: bool,
}

/// The data, as long as the lock is held; the last guard of its thread leaves the lock.
#[must_use = "the lock is left at once if the guard is not kept"]
pub struct RLockGuard<'a, T> {
    lock: &'a RLock<T>,
    /// Not `Send`: the lock is this thread's.
    thread: PhantomData<*mut ()>,
}

// SAFETY: a shared reference to the guard gives no more than `&T`.
unsafe impl<T: Sync> Sync for RLockGuard<'_, T> {}

impl<T> RLockGuard<'_, T> {
    /// Declares the data whole again after an `OwnerDied`; the next locker gets `Ok`.
    pub fn mark_consistent(&mut self) {
        self.lock.raw.mark_consistent();
    }
}

impl<T> Deref for RLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let data = self.lock.data.get();
        // SAFETY: the guard stands for the lock being held by this thread, and nobody ever gets
        // `&mut T` from a held lock.
        unsafe { &*data }
    }
}

impl<T> Drop for RLockGuard<'_, T> {
    fn drop(&mut self) {
        // Relaxed: see `enter`.
        let depth = self.lock.depth.load(Relaxed);
        if depth > 1 {
            self.lock.depth.store(depth - 1, Relaxed);
            return;
        }
        self.lock.owner.store(0, Relaxed);
        // SAFETY: the guard is made by locking and cannot leave the thread that locked, and this
        // is its last one.
        unsafe { self.lock.raw.unlock() };
    }
}

impl<T: fmt::Debug> fmt::Debug for RLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
