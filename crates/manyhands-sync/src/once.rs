//! Something that is done once.

use std::panic::Location;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};
use std::{error, fmt};

use manyhands_os::Deadline;
use manyhands_os::process::Identity;

use crate::deadlock::{self, Cycle};
use crate::primitive::AtomicU32;
use crate::raw::{Acquired, RawLock, RefusedLock};
use crate::shareable::{LastPlace, Shareable};

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
    fn placed(&self, here: LastPlace) {
        self.lock.placed(here);
    }
}

/// What the function of [`Once::call`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OnceState {
    /// Somebody began, and panicked or died before the end.
    pub interrupted: bool,
}

/// What [`Once::inspect`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OnceStatus {
    /// Whether it lies in shared memory.
    pub shared: bool,
    /// Whether it is done.
    pub done: bool,
    /// Whether somebody began, and nobody is at it now, and it is not done.
    pub interrupted: bool,
    /// The kernel's number of the thread that is at it.
    pub thread: Option<u32>,
    /// The process that is at it, as far as known; shared placement only.
    pub process: Option<Identity>,
    /// Whether somebody may sleep until it is done.
    pub waiters: bool,
}

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
    /// [`OnceError`].
    #[cfg_attr(any(debug_assertions, feature = "deadlock-detection"), track_caller)]
    pub fn call(&self, f: impl FnOnce(OnceState)) -> Result<(), OnceError> {
        if self.is_done() {
            return Ok(());
        }
        let acquired = self.take(Location::caller())?;
        self.run(acquired, f);
        Ok(())
    }

    /// Runs `f` unless it is done, or somebody else is at it.
    ///
    /// # Errors
    ///
    /// [`TryOnceError`]; `f` has not run then.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_sync::{Once, TryOnceError};
    ///
    /// let once = Once::new();
    /// once.call(|_| {
    ///     let other = std::thread::scope(|threads| threads.spawn(|| once.try_call(|_| ())).join());
    ///     assert!(matches!(other, Ok(Err(TryOnceError::WouldBlock))));
    /// })?;
    /// assert!(once.try_call(|_| unreachable!("it is done")).is_ok());
    /// # Ok::<(), manyhands_sync::OnceError>(())
    /// ```
    pub fn try_call(&self, f: impl FnOnce(OnceState)) -> Result<(), TryOnceError> {
        if self.is_done() {
            return Ok(());
        }
        match self.lock.try_lock() {
            Ok(acquired) => {
                self.run(acquired, f);
                Ok(())
            }
            Err(RefusedLock::TooManyHeld) => Err(TryOnceError::TooManyHeld),
            Err(_) => Err(TryOnceError::WouldBlock),
        }
    }

    /// As [`call`](Self::call); waits at most `timeout` while somebody else is at it.
    ///
    /// # Errors
    ///
    /// [`OnceTimeoutError`]; `f` has not run then.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_sync::Once;
    /// use std::time::Duration;
    ///
    /// let once = Once::new();
    /// let mut runs = 0;
    /// once.call_timeout(Duration::from_secs(1), |_| runs += 1)?;
    /// once.call_timeout(Duration::from_secs(1), |_| runs += 1)?;
    /// assert_eq!(runs, 1);
    /// # Ok::<(), manyhands_sync::OnceTimeoutError>(())
    /// ```
    pub fn call_timeout(
        &self,
        timeout: Duration,
        f: impl FnOnce(OnceState),
    ) -> Result<(), OnceTimeoutError> {
        self.call_until(Deadline::after(timeout), f)
    }

    /// As [`call`](Self::call); waits until `deadline` while somebody else is at it.
    ///
    /// # Errors
    ///
    /// [`OnceTimeoutError`]; `f` has not run then.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_sync::Once;
    /// use std::time::Instant;
    ///
    /// let once = Once::new();
    /// // Nobody is at it, so there is nothing to wait for.
    /// once.call_deadline(Instant::now(), |_| ())?;
    /// assert!(once.is_done());
    /// # Ok::<(), manyhands_sync::OnceTimeoutError>(())
    /// ```
    pub fn call_deadline(
        &self,
        deadline: Instant,
        f: impl FnOnce(OnceState),
    ) -> Result<(), OnceTimeoutError> {
        self.call_until(Deadline::at(deadline), f)
    }

    /// Whether it is done.
    pub fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in `run`; what was done is visible.
        self.state.load(Acquire) == DONE
    }

    /// What can be seen without waiting; old by the time it is read.
    pub fn inspect(&self) -> OnceStatus {
        // Acquire: as in `is_done`.
        let state = self.state.load(Acquire);
        let thread = self.lock.holder().filter(|_| state != DONE);
        OnceStatus {
            shared: self.lock.is_shared(),
            done: state == DONE,
            interrupted: state == BEGUN && thread.is_none(),
            thread,
            process: thread.and_then(|_| self.lock.holding_process()),
            waiters: self.lock.has_waiters(),
        }
    }

    fn call_until(
        &self,
        deadline: Deadline,
        f: impl FnOnce(OnceState),
    ) -> Result<(), OnceTimeoutError> {
        if self.is_done() {
            return Ok(());
        }
        match self.lock.lock(deadline) {
            Ok(acquired) => {
                self.run(acquired, f);
                Ok(())
            }
            Err(RefusedLock::TooManyHeld) => Err(OnceTimeoutError::TooManyHeld),
            Err(RefusedLock::TimedOut) => Err(OnceTimeoutError::TimedOut {
                holder: self.lock.holder(),
                process: self.lock.holding_process(),
            }),
        }
    }

    /// Takes the lock, unless that would never end.
    #[inline]
    fn take(&self, site: &'static Location<'static>) -> Result<Acquired, OnceError> {
        // The deadline never passes, so it is not the other refusal.
        let wait = || {
            let taken = self.lock.lock(Deadline::NEVER);
            taken.map_err(|_| OnceError::TooManyHeld)
        };
        if !deadlock::ENABLED {
            return wait();
        }
        match self.lock.try_lock() {
            Ok(acquired) => Ok(acquired),
            Err(RefusedLock::TooManyHeld) => Err(OnceError::TooManyHeld),
            Err(RefusedLock::TimedOut) => match deadlock::announce(&self.lock, site) {
                Ok(_waiting) => wait(),
                Err(cycle) => Err(OnceError::Deadlock { cycle }),
            },
        }
    }

    /// Runs `f` unless it is done meanwhile, in the lock that was taken, and leaves the lock.
    #[cold]
    fn run(&self, acquired: Acquired, f: impl FnOnce(OnceState)) {
        /// Leaves the lock also when `f` panics.
        struct Inside<'a>(&'a RawLock);

        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                // SAFETY: made with the lock held, below, in the same thread.
                unsafe { self.0.unlock() };
            }
        }

        let _inside = Inside(&self.lock);
        if acquired.owner_died().is_some() {
            // A death is told by the state, which was stored before `f` ran.
            self.lock.mark_consistent();
        }
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
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inspect();
        f.debug_struct("Once")
            .field("done", &state.done)
            .field("interrupted", &state.interrupted)
            .field("shared", &state.shared)
            .field("thread", &state.thread)
            .field("process", &state.process)
            .field("waiters", &state.waiters)
            .finish()
    }
}

/// Why [`Once::call`] did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnceError {
    /// This thread holds 2,000 shared locks.
    TooManyHeld,
    /// The wait would never end: whoever is at it is this thread, which called from inside the
    /// function, or waits for it. Where deadlocks are [looked for](crate::deadlock) only.
    Deadlock {
        /// Who waits for whom, this thread first.
        cycle: Cycle,
    },
}

/// Why [`Once::try_call`] did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryOnceError {
    /// Somebody else is at it.
    WouldBlock,
    /// As [`OnceError::TooManyHeld`].
    TooManyHeld,
}

/// Why [`Once::call_timeout`] did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnceTimeoutError {
    /// Somebody else was at it all the time.
    TimedOut {
        /// The kernel's number of the thread that was at it, at the end.
        holder: Option<u32>,
        /// Its process, at the end, as far as known.
        process: Option<Identity>,
    },
    /// As [`OnceError::TooManyHeld`].
    TooManyHeld,
}

const TOO_MANY_HELD: &str = "this thread holds 2000 shared locks, and this takes one more";

impl fmt::Display for OnceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyHeld => f.write_str(TOO_MANY_HELD),
            Self::Deadlock { cycle } => fmt::Display::fmt(cycle, f),
        }
    }
}

impl fmt::Display for TryOnceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WouldBlock => "somebody else is at it",
            Self::TooManyHeld => TOO_MANY_HELD,
        })
    }
}

impl fmt::Display for OnceTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut {
                process: Some(process),
                ..
            } => write!(f, "timed out: {process} is at it"),
            Self::TimedOut {
                holder: Some(thread),
                ..
            } => write!(f, "timed out: thread {thread} is at it"),
            Self::TimedOut { .. } => f.write_str("timed out"),
            Self::TooManyHeld => f.write_str(TOO_MANY_HELD),
        }
    }
}

impl error::Error for OnceError {}
impl error::Error for TryOnceError {}
impl error::Error for OnceTimeoutError {}
