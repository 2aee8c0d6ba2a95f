//! Waiting until something about the data is so.

use std::time::{Duration, Instant};
use std::{error, fmt};

use manyhands_os::Deadline;
use manyhands_os::process::Identity;

use crate::lock::LockGuard;
use crate::raw::condition::RawCondition;
use crate::shareable::{LastPlace, Shareable};

/// Lets who holds a [`Lock`](crate::Lock) wait, without it, until somebody who has changed the data
/// says so.
///
/// * Who came first is notified first. A notification is not stored: when nobody waits, it is gone.
/// * In shared memory: when a process dies that waited, or was notified and has not left the lock
///   since, all others are woken, so that what it was told is not lost. Therefore, and because more than
///   256 that wait are woken by every notification, a wake does not prove anything: look at the
///   data again, or use [`wait_for`](Self::wait_for), which does.
/// * In shared memory it takes 5 KiB.
///
/// Use it with one lock at a time. To wait without holding the lock is no program:
///
/// ```compile_fail
/// use manyhands_sync::{Condition, Lock};
///
/// let (lock, condition) = (Lock::new(0), Condition::new());
/// condition.wait(&mut lock);
/// ```
///
/// Python: `threading.Condition`, `multiprocessing.Condition`.
///
/// # Examples
///
/// ```
/// use manyhands_sync::{Condition, Lock};
///
/// static BASKET: Lock<Vec<u32>> = Lock::new(Vec::new());
/// static FILLED: Condition = Condition::new();
///
/// let eater = std::thread::spawn(|| {
///     let mut basket = BASKET.lock().expect("nobody dies");
///     FILLED.wait_for(&mut basket, |basket| !basket.is_empty()).expect("nobody dies");
///     basket.pop()
/// });
/// BASKET.lock().expect("nobody dies").push(7);
/// FILLED.notify_one();
/// assert_eq!(eater.join().expect("no panic"), Some(7));
/// ```
#[repr(C)]
pub struct Condition {
    raw: RawCondition,
}

// SAFETY: made of atomics only, without pointers.
unsafe impl Shareable for Condition {
    fn placed(&self, here: LastPlace) {
        self.raw.placed(here);
    }

    const PINNED: bool = true;
}

/// The lock was taken again after a wait, with news: the guard is valid, and this is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// A process died while it held the lock, and the data may be half changed: repair it, and mark
    /// the guard consistent.
    OwnerDied {
        /// Who died, as far as known.
        who: Option<Identity>,
    },
}

impl Condition {
    /// A condition for which nobody waits.
    pub const fn new() -> Self {
        Self {
            raw: RawCondition::new(),
        }
    }

    /// Leaves the lock, waits to be notified, and takes the lock again.
    ///
    /// There is no form that does not wait: a notification is not stored, so there is nothing to
    /// take.
    ///
    /// # Errors
    ///
    /// [`WaitError::OwnerDied`]; the guard is valid in any case.
    pub fn wait<'a, T: ?Sized>(&'a self, guard: &mut LockGuard<'a, T>) -> Result<(), WaitError> {
        self.wait_until(guard, Deadline::NEVER).map(drop)
    }

    /// As [`wait`](Self::wait), at most `timeout`; false when nobody has notified. To take the lock
    /// again may last longer.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_timeout<'a, T: ?Sized>(
        &'a self,
        guard: &mut LockGuard<'a, T>,
        timeout: Duration,
    ) -> Result<bool, WaitError> {
        self.wait_until(guard, Deadline::after(timeout))
    }

    /// As [`wait_timeout`](Self::wait_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_deadline<'a, T: ?Sized>(
        &'a self,
        guard: &mut LockGuard<'a, T>,
        deadline: Instant,
    ) -> Result<bool, WaitError> {
        self.wait_until(guard, Deadline::at(deadline))
    }

    /// Waits until `is_so` says yes; it is asked with the lock held, before each wait.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_for<'a, T: ?Sized>(
        &'a self,
        guard: &mut LockGuard<'a, T>,
        is_so: impl FnMut(&mut T) -> bool,
    ) -> Result<(), WaitError> {
        self.wait_for_until(guard, Deadline::NEVER, is_so).map(drop)
    }

    /// As [`wait_for`](Self::wait_for), at most `timeout` in all; returns what `is_so` said last.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_for_timeout<'a, T: ?Sized>(
        &'a self,
        guard: &mut LockGuard<'a, T>,
        timeout: Duration,
        is_so: impl FnMut(&mut T) -> bool,
    ) -> Result<bool, WaitError> {
        self.wait_for_until(guard, Deadline::after(timeout), is_so)
    }

    /// As [`wait_for_timeout`](Self::wait_for_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_for_deadline<'a, T: ?Sized>(
        &'a self,
        guard: &mut LockGuard<'a, T>,
        deadline: Instant,
        is_so: impl FnMut(&mut T) -> bool,
    ) -> Result<bool, WaitError> {
        self.wait_for_until(guard, Deadline::at(deadline), is_so)
    }

    /// Wakes who has waited longest, if anybody waits.
    ///
    /// The lock need not be held; whoever holds it while it changes the data *and* notifies is sure
    /// that nobody looked in between.
    pub fn notify_one(&self) {
        self.raw.notify(1);
    }

    /// Wakes as many, of those who have waited longest.
    pub fn notify(&self, count: u32) {
        self.raw.notify(count);
    }

    /// Wakes everybody who waits.
    pub fn notify_all(&self) {
        self.raw.notify(u32::MAX);
    }

    /// How many wait now; old by the time it is read.
    pub fn waiting(&self) -> u32 {
        self.raw.waiting()
    }

    /// What can be seen of the condition without any lock; old by the time it is read.
    pub fn inspect(&self) -> ConditionState {
        ConditionState {
            shared: self.raw.is_shared(),
            waiting: self.raw.waiting(),
        }
    }

    fn wait_until<'a, T: ?Sized>(
        &'a self,
        guard: &mut LockGuard<'a, T>,
        deadline: Deadline,
    ) -> Result<bool, WaitError> {
        let (notified, died) = guard.wait(&self.raw, deadline);
        match died {
            None => Ok(notified),
            who => Err(WaitError::OwnerDied { who }),
        }
    }

    fn wait_for_until<'a, T: ?Sized>(
        &'a self,
        guard: &mut LockGuard<'a, T>,
        deadline: Deadline,
        mut is_so: impl FnMut(&mut T) -> bool,
    ) -> Result<bool, WaitError> {
        loop {
            if is_so(guard) {
                return Ok(true);
            }
            if !self.wait_until(guard, deadline)? {
                return Ok(is_so(guard));
            }
        }
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inspect();
        f.debug_struct("Condition")
            .field("waiting", &state.waiting)
            .field("shared", &state.shared)
            .finish()
    }
}

/// What [`Condition::inspect`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConditionState {
    /// Whether it lies in shared memory.
    pub shared: bool,
    /// How many wait in turn, 256 at most. The dead are counted until somebody has looked.
    pub waiting: u32,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied { who: Some(who) } => write!(f, "{who} died while it held the lock"),
            Self::OwnerDied { who: None } => f.write_str("a process died while it held the lock"),
        }
    }
}

impl error::Error for WaitError {}
