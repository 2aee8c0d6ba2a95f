//! What locking has to tell beside the guard.
//!
//! One type for each kind of call, for all locks: `G` is the guard.

use std::{error, fmt};

use manyhands_os::process::Identity;

use crate::deadlock::Cycle;
use crate::raw::{Acquired, RawLock, RefusedLock};

/// What a lock's `lock` has to tell.
#[non_exhaustive]
pub enum LockError<G> {
    /// The lock is yours; but a process died while it held it, and the data may be half changed.
    OwnerDied {
        /// The data: repair it and mark it consistent.
        guard: G,
        /// Who died, as far as known.
        who: Option<Identity>,
    },
    /// This thread holds 2,000 shared locks; the kernel could not mark more at its death.
    TooManyHeld,
    /// A program of the C library left the lock unrepaired after a death, and so unusable for ever;
    /// only locks of the feature `posix` know this.
    NotRecoverable,
    /// The wait would never end: the holder waits for this thread. Leave what you hold, so that the
    /// others go on, and try again. Where deadlocks are [looked for](crate::deadlock) only.
    Deadlock {
        /// Who waits for whom, this thread first.
        cycle: Cycle,
    },
}

/// What a lock's `try_lock` has to tell.
#[non_exhaustive]
pub enum TryLockError<G> {
    /// As [`LockError::OwnerDied`].
    OwnerDied {
        /// The data: repair it and mark it consistent.
        guard: G,
        /// Who died, as far as known.
        who: Option<Identity>,
    },
    /// Somebody holds the lock.
    WouldBlock,
    /// As [`LockError::TooManyHeld`].
    TooManyHeld,
    /// As [`LockError::NotRecoverable`].
    NotRecoverable,
}

/// What a lock's `lock_timeout` and `lock_deadline` have to tell.
#[non_exhaustive]
pub enum LockTimeoutError<G> {
    /// As [`LockError::OwnerDied`].
    OwnerDied {
        /// The data: repair it and mark it consistent.
        guard: G,
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
    /// As [`LockError::NotRecoverable`].
    NotRecoverable,
}

// How the answer of a raw lock becomes that of a lock with data; `guard` makes the guard of a lock
// that was taken.

impl<G> LockError<G> {
    #[inline]
    pub(crate) fn settle(
        answer: Result<Acquired, RefusedLock>,
        guard: impl FnOnce() -> G,
    ) -> Result<G, Self> {
        match answer {
            Ok(acquired) => match acquired.owner_died() {
                None => Ok(guard()),
                who => Err(Self::OwnerDied {
                    guard: guard(),
                    who,
                }),
            },
            Err(RefusedLock::TimedOut) => unreachable!("the deadline never passes"),
            Err(RefusedLock::TooManyHeld) => Err(Self::TooManyHeld),
        }
    }

    /// The guard, when there is one: for data that is whole after any write.
    pub fn into_guard(self) -> Option<G> {
        match self {
            Self::OwnerDied { guard, .. } => Some(guard),
            Self::TooManyHeld | Self::NotRecoverable | Self::Deadlock { .. } => None,
        }
    }
}

impl<G> TryLockError<G> {
    #[inline]
    pub(crate) fn settle(
        answer: Result<Acquired, RefusedLock>,
        guard: impl FnOnce() -> G,
    ) -> Result<G, Self> {
        match answer {
            Ok(acquired) => match acquired.owner_died() {
                None => Ok(guard()),
                who => Err(Self::OwnerDied {
                    guard: guard(),
                    who,
                }),
            },
            Err(RefusedLock::TimedOut) => Err(Self::WouldBlock),
            Err(RefusedLock::TooManyHeld) => Err(Self::TooManyHeld),
        }
    }
}

impl<G> LockTimeoutError<G> {
    /// `lock` is asked who has it.
    pub(crate) fn settle(
        answer: Result<Acquired, RefusedLock>,
        lock: &RawLock,
        guard: impl FnOnce() -> G,
    ) -> Result<G, Self> {
        match answer {
            Ok(acquired) => match acquired.owner_died() {
                None => Ok(guard()),
                who => Err(Self::OwnerDied {
                    guard: guard(),
                    who,
                }),
            },
            Err(RefusedLock::TimedOut) => Err(Self::TimedOut {
                holder: lock.holder(),
                process: lock.holding_process(),
            }),
            Err(RefusedLock::TooManyHeld) => Err(Self::TooManyHeld),
        }
    }
}

const TOO_MANY_HELD: &str = "this thread holds 2000 shared locks, more cannot be made kill-safe";

const NOT_RECOVERABLE: &str = "the lock was left unrepaired after a death, nobody can take it";

fn write_owner_died(f: &mut fmt::Formatter<'_>, who: Option<Identity>) -> fmt::Result {
    match who {
        Some(who) => write!(f, "{who} died while it held the lock"),
        None => f.write_str("a process died while it held the lock"),
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied { who, .. } => write_owner_died(f, *who),
            Self::TooManyHeld => f.write_str(TOO_MANY_HELD),
            Self::NotRecoverable => f.write_str(NOT_RECOVERABLE),
            Self::Deadlock { cycle } => fmt::Display::fmt(cycle, f),
        }
    }
}

impl<G> fmt::Display for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied { who, .. } => write_owner_died(f, *who),
            Self::WouldBlock => f.write_str("somebody holds the lock"),
            Self::TooManyHeld => f.write_str(TOO_MANY_HELD),
            Self::NotRecoverable => f.write_str(NOT_RECOVERABLE),
        }
    }
}

impl<G> fmt::Display for LockTimeoutError<G> {
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
            Self::NotRecoverable => f.write_str(NOT_RECOVERABLE),
        }
    }
}

macro_rules! error_by_display {
    ($($name:ident),*) => {$(
        impl<G> fmt::Debug for $name<G> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl<G> error::Error for $name<G> {}
    )*};
}

error_by_display!(LockError, TryLockError, LockTimeoutError);
