//! Many readers or one writer, with the data inside.

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
use crate::raw::rwlock::RawRwLock;
use crate::shareable::{LastPlace, Shareable, refuse_pinned};

/// A value that many may read at a time, or one may change.
///
/// * A writer that waits holds new readers back, so it is not starved; a thread that reads and
///   reads again while a writer waits therefore waits for itself.
/// * A *writer's* death in shared memory is told as that of a [`Lock`](crate::Lock)'s holder: to
///   every reader and writer until a writer calls the data consistent. A *reader's* death is not
///   told: its share goes back, and the next writer goes on about 0.2 ms later.
///
/// In shared memory it takes 4 KiB: each process's share is kept apart.
///
/// Python has none; this is `std::sync::RwLock`, also between processes.
///
/// # Examples
///
/// ```
/// use manyhands_sync::RwLock;
///
/// let prices = RwLock::new([1, 2, 3]);
/// {
///     let one = prices.read().expect("nobody dies");
///     let other = prices.read().expect("nobody dies");
///     assert_eq!(one[0] + other[2], 4);
///     assert!(prices.try_write().is_err());
/// }
/// prices.write().expect("nobody dies")[0] = 10;
/// assert_eq!(prices.into_inner(), [10, 2, 3]);
/// ```
#[repr(C)]
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    data: UnsafeCell<T>,
}

// SAFETY: the lock gives `&mut T` to one thread, which may be any: T must be Send.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: it gives `&T` to several threads at once: T must be Sync too.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

// SAFETY: the raw lock is made of atomics and robust locks; the data is Shareable, and a death in
// the middle of a change is reported.
unsafe impl<T: ?Sized + Shareable> Shareable for RwLock<T> {
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
        self.raw.gate().is_held_here()
    }
}

/// Which of the two ways in: the guard that it makes.
macro_rules! ways_in {
    (
        $guard:ident, $raw:ident, $try_raw:ident, $doing:literal,
        $lock:ident, $try_lock:ident, $timeout:ident, $deadline:ident, $until:ident
    ) => {
        #[doc = concat!($doing, " the value, and waits for it.")]
        ///
        /// # Errors
        ///
        /// [`LockError::OwnerDied`] holds the guard: a writer died; [`LockError::TooManyHeld`];
        /// [`LockError::Deadlock`] when it waits for a writer that waits for this thread.
        #[cfg_attr(any(debug_assertions, feature = "deadlock-detection"), track_caller)]
        pub fn $lock(&self) -> Result<$guard<'_, T>, LockError<$guard<'_, T>>> {
            let wait = || LockError::settle(self.raw.$raw(Deadline::NEVER), || $guard::new(self));
            deadlock::watch(
                self.raw.gate(),
                Location::caller(),
                || self.$try_lock(),
                wait,
            )
        }

        #[doc = concat!($doing, " the value if that is possible at once.")]
        ///
        /// # Errors
        ///
        /// [`TryLockError::WouldBlock`] when it is not; the others as for the waiting form.
        pub fn $try_lock(&self) -> Result<$guard<'_, T>, TryLockError<$guard<'_, T>>> {
            TryLockError::settle(self.raw.$try_raw(), || $guard::new(self))
        }

        #[doc = concat!($doing, " the value, and waits for it at most `timeout`.")]
        ///
        /// # Errors
        ///
        /// [`LockTimeoutError::TimedOut`]; the others as for the waiting form.
        pub fn $timeout(
            &self,
            timeout: Duration,
        ) -> Result<$guard<'_, T>, LockTimeoutError<$guard<'_, T>>> {
            self.$until(Deadline::after(timeout))
        }

        #[doc = concat!($doing, " the value, and waits for it until `deadline`.")]
        ///
        /// # Errors
        ///
        /// [`LockTimeoutError::TimedOut`]; the others as for the waiting form.
        pub fn $deadline(
            &self,
            deadline: Instant,
        ) -> Result<$guard<'_, T>, LockTimeoutError<$guard<'_, T>>> {
            self.$until(Deadline::at(deadline))
        }

        fn $until(
            &self,
            deadline: Deadline,
        ) -> Result<$guard<'_, T>, LockTimeoutError<$guard<'_, T>>> {
            let answer = self.raw.$raw(deadline);
            LockTimeoutError::settle(answer, self.raw.gate(), || $guard::new(self))
        }
    };
}

impl<T> RwLock<T> {
    /// A free lock around a value.
    pub const fn new(value: T) -> Self {
        Self {
            raw: RawRwLock::new(),
            data: UnsafeCell::new(value),
        }
    }

    /// The value, out of the lock.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    ways_in!(
        ReadGuard,
        read,
        try_read,
        "Reads",
        read,
        try_read,
        read_timeout,
        read_deadline,
        read_until
    );
    ways_in!(
        WriteGuard,
        write,
        try_write,
        "Changes",
        write,
        try_write,
        write_timeout,
        write_deadline,
        write_until
    );

    /// The value, when nobody else can have the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// What can be seen of the lock without taking it; old by the time it is read.
    pub fn inspect(&self) -> RwLockState {
        let readers = self.raw.readers();
        // Who has only passed into the gate holds no reader back yet, and is none that is told.
        let writer = (self.raw.is_barred())
            .then(|| self.raw.gate().holder())
            .flatten();
        // While readers are left the writer has not signed: the name there is an earlier one's.
        let signed = writer.is_some() && readers == 0;
        RwLockState {
            shared: self.raw.is_shared(),
            readers,
            writer,
            process: signed.then(|| self.raw.gate().holding_process()).flatten(),
            waiters: self.raw.gate().has_waiters(),
        }
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inspect();
        f.debug_struct("RwLock")
            .field("readers", &state.readers)
            .field("writer", &state.writer)
            .field("shared", &state.shared)
            .field("process", &state.process)
            .field("waiters", &state.waiters)
            .finish_non_exhaustive()
    }
}

/// What [`RwLock::inspect`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RwLockState {
    /// Whether the lock lies in shared memory.
    pub shared: bool,
    /// How many guards read.
    pub readers: u64,
    /// The kernel's number of the thread that writes, or waits in front to write: readers that
    /// come now wait behind it.
    pub writer: Option<u32>,
    /// Its process, once it writes; shared placement only.
    pub process: Option<Identity>,
    /// Whether somebody may sleep behind it.
    pub waiters: bool,
}

/// The value, to read; the share goes back when this is dropped.
#[must_use = "the lock is left at once if the guard is not kept"]
pub struct ReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

// SAFETY: `&ReadGuard` gives `&T`. (A guard may be dropped in another thread of the process: its
// share is the process's.)
unsafe impl<T: ?Sized + Sync> Sync for ReadGuard<'_, T> {}

impl<'a, T: ?Sized> ReadGuard<'a, T> {
    fn new(lock: &'a RwLock<T>) -> Self {
        Self { lock }
    }
}

impl<T: ?Sized> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let data = self.lock.data.get();
        // SAFETY: the guard stands for a reader's share, so there is no writer.
        unsafe { &*data }
    }
}

impl<T: ?Sized> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw.leave_read();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// The value, to change; the lock is left when this is dropped.
#[must_use = "the lock is left at once if the guard is not kept"]
pub struct WriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    /// Not `Send`: a shared lock is on its thread's robust list.
    thread: PhantomData<*mut ()>,
}

// SAFETY: a shared reference to the guard gives no more than `&T`.
unsafe impl<T: ?Sized + Sync> Sync for WriteGuard<'_, T> {}

impl<'a, T: ?Sized> WriteGuard<'a, T> {
    fn new(lock: &'a RwLock<T>) -> Self {
        Self {
            lock,
            thread: PhantomData,
        }
    }

    /// Declares the value whole again after an `OwnerDied`; the next one gets `Ok`.
    pub fn mark_consistent(&mut self) {
        self.lock.raw.mark_consistent();
    }
}

impl<T: ?Sized> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        let data = self.lock.data.get();
        // SAFETY: the guard stands for the one writer, which this thread is.
        unsafe { &*data }
    }
}

impl<T: ?Sized> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        let data = self.lock.data.get();
        // SAFETY: as above; `&mut self` excludes other references through this guard.
        unsafe { &mut *data }
    }
}

impl<T: ?Sized> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the guard is made by writing and cannot leave its thread.
        unsafe { self.lock.raw.leave_write() };
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
