//! Permits: at most so many at a time.

use std::time::{Duration, Instant};
use std::{error, fmt};

use manyhands_os::Deadline;

use crate::raw::semaphore::{RawSemaphore, TimedOut};
use crate::shareable::{LastPlace, Shareable};

/// A number of permits, which threads, or processes in shared memory, take and give back.
///
/// * A [`Permit`] goes back when it is dropped. In shared memory the permits of a process that
///   dies go back as well, in about 0.2 ms.
/// * Who waits is served in turn: a permit that comes free goes to who came first, so nobody
///   overtakes. (More than 128 wait for their turn to wait, in no order.)
/// * [`release`](Self::release) without a permit adds one; with [`Permit::forget`] this is Python's
///   semaphore, which one acquires and another releases. A forgotten permit is nobody's, so it
///   does not come back when a process dies.
///
/// It takes 6 KiB: each process's share is kept apart, and each waiter's place.
///
/// Python: `threading.Semaphore`, `multiprocessing.Semaphore`.
///
/// # Examples
///
/// ```
/// use manyhands_sync::Semaphore;
///
/// static CONNECTIONS: Semaphore = Semaphore::new(2);
/// let first = CONNECTIONS.acquire()?;
/// let second = CONNECTIONS.acquire()?;
/// assert!(CONNECTIONS.try_acquire().is_err());
/// drop(first);
/// assert!(CONNECTIONS.try_acquire().is_ok());
/// # drop(second);
/// # Ok::<(), manyhands_sync::AcquireError>(())
/// ```
#[repr(C)]
pub struct Semaphore {
    raw: RawSemaphore,
}

// SAFETY: made of atomics only, without pointers but those of a raw lock, which is robust.
unsafe impl Shareable for Semaphore {
    fn placed(&self, here: LastPlace) {
        self.raw.placed(here);
    }

    const PINNED: bool = true;
}

/// As a [`Semaphore`], but never with more permits than it was made with.
///
/// Python: `threading.BoundedSemaphore`, `multiprocessing.BoundedSemaphore`.
///
/// # Examples
///
/// ```
/// use manyhands_sync::BoundedSemaphore;
///
/// let seats = BoundedSemaphore::new(1);
/// assert!(seats.release(1).is_err());
/// seats.acquire()?.forget();
/// assert!(seats.release(1).is_ok());
/// # Ok::<(), manyhands_sync::AcquireError>(())
/// ```
#[repr(C)]
pub struct BoundedSemaphore {
    raw: RawSemaphore,
    most: u32,
    _padding: u32,
}

// SAFETY: as for `Semaphore`; the bound is plain data that never changes.
unsafe impl Shareable for BoundedSemaphore {
    fn placed(&self, here: LastPlace) {
        self.raw.placed(here);
    }

    const PINNED: bool = true;
}

/// The right to be one of so many; goes back when dropped.
#[must_use = "the permit goes back at once if it is not kept"]
pub struct Permit<'a> {
    raw: &'a RawSemaphore,
}

impl Permit<'_> {
    /// Keeps the permit taken, as nobody's; `release` of the semaphore makes a new one.
    pub fn forget(self) {
        self.raw.forget();
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.raw.give_back();
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// What can be seen of a semaphore without taking it; old by the time it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SemaphoreState {
    /// Whether it lies in shared memory.
    pub shared: bool,
    /// The free permits; those of the dead are counted once somebody has looked for them.
    pub free: u32,
    /// All permits, free and taken.
    pub supply: u32,
    /// How many wait in turn, 128 at most. The dead are counted until somebody has looked.
    pub waiting: u32,
}

macro_rules! acquiring {
    () => {
        /// Takes a permit, and waits for it.
        ///
        /// # Errors
        ///
        /// None at present: see [`AcquireError`].
        pub fn acquire(&self) -> Result<Permit<'_>, AcquireError> {
            // Each round ends with a permit: the deadline never passes.
            while self.raw.acquire(Deadline::NEVER) == Err(TimedOut) {}
            Ok(Permit { raw: &self.raw })
        }

        /// Takes a permit if one is free.
        ///
        /// # Errors
        ///
        /// [`TryAcquireError`] when none is.
        pub fn try_acquire(&self) -> Result<Permit<'_>, TryAcquireError> {
            self.raw
                .try_acquire()
                .then(|| Permit { raw: &self.raw })
                .ok_or(TryAcquireError)
        }

        /// Takes a permit, and waits for it at most `timeout`.
        ///
        /// # Errors
        ///
        /// [`AcquireTimeoutError`].
        pub fn acquire_timeout(
            &self,
            timeout: Duration,
        ) -> Result<Permit<'_>, AcquireTimeoutError> {
            self.acquire_until(Deadline::after(timeout))
        }

        /// Takes a permit, and waits for it until `deadline`.
        ///
        /// # Errors
        ///
        /// [`AcquireTimeoutError`].
        pub fn acquire_deadline(
            &self,
            deadline: Instant,
        ) -> Result<Permit<'_>, AcquireTimeoutError> {
            self.acquire_until(Deadline::at(deadline))
        }

        /// What can be seen without taking anything.
        pub fn inspect(&self) -> SemaphoreState {
            SemaphoreState {
                shared: self.raw.is_shared(),
                free: self.raw.free(),
                supply: self.raw.supply(),
                waiting: self.raw.waiting(),
            }
        }

        fn acquire_until(&self, deadline: Deadline) -> Result<Permit<'_>, AcquireTimeoutError> {
            match self.raw.acquire(deadline) {
                Ok(()) => Ok(Permit { raw: &self.raw }),
                Err(TimedOut) => Err(AcquireTimeoutError::TimedOut),
            }
        }
    };
}

impl Semaphore {
    /// A semaphore with so many permits.
    pub const fn new(permits: u32) -> Self {
        Self {
            raw: RawSemaphore::new(permits),
        }
    }

    acquiring!();

    /// Adds permits that nobody had.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`] when there would be 2^32 or more.
    pub fn release(&self, permits: u32) -> Result<(), ReleaseError> {
        self.raw
            .add(permits, u32::MAX)
            .then_some(())
            .ok_or(ReleaseError { most: u32::MAX })
    }
}

impl BoundedSemaphore {
    /// A semaphore with so many permits, and never more.
    pub const fn new(permits: u32) -> Self {
        Self {
            raw: RawSemaphore::new(permits),
            most: permits,
            _padding: 0,
        }
    }

    acquiring!();

    /// Adds permits in place of forgotten ones.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`] when there would be more than at first; then none is added.
    pub fn release(&self, permits: u32) -> Result<(), ReleaseError> {
        self.raw
            .add(permits, self.most)
            .then_some(())
            .ok_or(ReleaseError { most: self.most })
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inspect();
        f.debug_struct("Semaphore")
            .field("free", &state.free)
            .field("supply", &state.supply)
            .field("shared", &state.shared)
            .field("waiting", &state.waiting)
            .finish()
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inspect();
        f.debug_struct("BoundedSemaphore")
            .field("free", &format_args!("{}/{}", state.free, self.most))
            .field("shared", &state.shared)
            .field("waiting", &state.waiting)
            .finish()
    }
}

/// Why [`Semaphore::acquire`] took no permit: there is no such reason today.
///
/// The type leaves room for a wait that is refused because it would never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcquireError {}

/// Why [`Semaphore::try_acquire`] took no permit: none is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TryAcquireError;

/// Why [`Semaphore::acquire_timeout`] took no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcquireTimeoutError {
    /// None came free in time.
    TimedOut,
}

/// There would be too many permits; none was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseError {
    /// How many there can be.
    pub most: u32,
}

impl fmt::Display for AcquireError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no permit is free")
    }
}

impl fmt::Display for AcquireTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "timed out: no permit came free",
        })
    }
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there can be at most {} permits", self.most)
    }
}

impl error::Error for AcquireError {}
impl error::Error for TryAcquireError {}
impl error::Error for AcquireTimeoutError {}
impl error::Error for ReleaseError {}
