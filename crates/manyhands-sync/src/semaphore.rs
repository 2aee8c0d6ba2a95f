//! Permits: at most so many at a time.

use std::time::{Duration, Instant};
use std::{error, fmt};

use manyhands_os::Deadline;

use crate::raw::semaphore::{RawSemaphore, Refused};
use crate::shareable::Shareable;

/// A number of permits, which threads, or processes in shared memory, take and give back.
///
/// * A [`Permit`] goes back when it is dropped. In shared memory the permits of a process that
///   dies go back as well, in about 0.2 ms.
/// * Who waits is served in turn: a newcomer does not overtake those who wait.
/// * [`release`](Self::release) without a permit adds one; with [`Permit::forget`] this is Python's
///   semaphore, which one acquires and another releases. A forgotten permit is nobody's, so it
///   does not come back when a process dies.
///
/// In shared memory it takes 4 KiB: each process's share is kept apart.
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
    fn placed(&self) {
        self.raw.placed();
    }
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
    fn placed(&self) {
        self.raw.placed();
    }
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
    /// Whether somebody waits.
    pub waiters: bool,
}

macro_rules! acquiring {
    () => {
        /// Takes a permit, and waits for it.
        ///
        /// # Errors
        ///
        /// [`AcquireError::TooManyHeld`]; in private memory never.
        pub fn acquire(&self) -> Result<Permit<'_>, AcquireError> {
            match self.raw.acquire(Deadline::NEVER) {
                Ok(()) => Ok(Permit { raw: &self.raw }),
                Err(_) => Err(AcquireError::TooManyHeld),
            }
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
                waiters: self.raw.has_waiters(),
            }
        }

        fn acquire_until(&self, deadline: Deadline) -> Result<Permit<'_>, AcquireTimeoutError> {
            match self.raw.acquire(deadline) {
                Ok(()) => Ok(Permit { raw: &self.raw }),
                Err(Refused::TimedOut) => Err(AcquireTimeoutError::TimedOut),
                Err(Refused::TooManyHeld) => Err(AcquireTimeoutError::TooManyHeld),
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
            .field("waiters", &state.waiters)
            .finish()
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inspect();
        f.debug_struct("BoundedSemaphore")
            .field("free", &format_args!("{}/{}", state.free, self.most))
            .field("shared", &state.shared)
            .field("waiters", &state.waiters)
            .finish()
    }
}

/// Why [`Semaphore::acquire`] took no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcquireError {
    /// This thread holds 2,000 shared locks; to wait for a permit takes one more.
    TooManyHeld,
}

/// Why [`Semaphore::try_acquire`] took no permit: none is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TryAcquireError;

/// Why [`Semaphore::acquire_timeout`] took no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcquireTimeoutError {
    /// None came free in time.
    TimedOut,
    /// As [`AcquireError::TooManyHeld`].
    TooManyHeld,
}

/// There would be too many permits; none was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseError {
    /// How many there can be.
    pub most: u32,
}

const TOO_MANY_HELD: &str = "this thread holds 2000 shared locks, waiting takes one more";

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TOO_MANY_HELD)
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
            Self::TooManyHeld => TOO_MANY_HELD,
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
