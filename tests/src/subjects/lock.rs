//! The locks of `manyhands-sync`: the short one of the library, the raw one, and `Lock<T>`.

use std::cell::RefCell;
use std::time::Duration;

use manyhands_os::Deadline;
use manyhands_sync::raw::{RawLock, ShortGuard, ShortLock};
use manyhands_sync::{Lock, LockError, LockGuard, LockTimeoutError, Shareable, TryLockError};

use super::data::Data;
use super::mutual::{AsIs, GivingUp, InTime, Leaving, LeavingAsIs, Mutual, Taking, TakingOver};
use crate::place::Placed;
use crate::place::last_place;
use crate::step::{Scene, Subject};

pub(super) const ALL_BUT_WATCHED: &[Scene] = &[
    Scene::Alone,
    Scene::Woken,
    Scene::WokenByDeath,
    Scene::Robbed,
    Scene::Racing,
];

/// No deadline that a test reaches.
const AN_HOUR: Duration = Duration::from_secs(3600);

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![
        Taking::<Short>::NEW,
        Leaving::<Short>::NEW,
        TakingOver::<Short>::NEW,
        Taking::<Raw>::NEW,
        Leaving::<Raw>::NEW,
        TakingOver::<Raw>::NEW,
        Taking::<Whole>::NEW,
        Leaving::<Whole>::NEW,
        TakingOver::<Whole>::NEW,
        Taking::<Timed>::NEW,
        Taking::<Tried>::NEW,
        GivingUp::<Short>::NEW,
        GivingUp::<Raw>::NEW,
        GivingUp::<Whole>::NEW,
        LeavingAsIs::<Whole>::NEW,
    ]
}

/// The library's own short lock, with its data.
#[repr(C)]
#[derive(Debug)]
pub struct Short {
    lock: ShortLock,
    data: Data,
}

// SAFETY: both are made of atomics; zero is a free lock; the guard is kept in a thread-local.
unsafe impl Placed for Short {}

thread_local! {
    static SHORT: RefCell<Option<ShortGuard<'static>>> = const { RefCell::new(None) };
    static WHOLE: RefCell<Option<LockGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// The place outlives everybody; `Mutual` has no lifetime to say so.
pub(super) fn for_ever<T: Placed>(placed: &T) -> &'static T {
    let placed: *const T = placed;
    // SAFETY: a `Placed` of a test lies in a `Place`, which is never unmapped.
    unsafe { &*placed }
}

impl Mutual for Short {
    const NAME: &'static str = "ShortLock";
    const HAS_PAIRS: bool = true;
    const TAKING_SCENES: &'static [Scene] = ALL_BUT_WATCHED;

    fn take(&self) -> bool {
        let mut guard = for_ever(self).lock.lock();
        let is_flagged = guard.owner_died();
        if is_flagged {
            guard.mark_consistent();
        }
        SHORT.set(Some(guard));
        is_flagged
    }

    fn leave(&self) {
        SHORT.set(None);
    }

    fn data(&self) -> &Data {
        &self.data
    }
}

/// The raw lock, with its data.
#[repr(C)]
#[derive(Debug)]
pub struct Raw {
    lock: RawLock,
    data: Data,
}

// SAFETY: both are made of atomics; zero is a free lock.
unsafe impl Placed for Raw {}

impl Mutual for Raw {
    const NAME: &'static str = "RawLock";
    const HAS_PAIRS: bool = true;
    const TAKING_SCENES: &'static [Scene] = ALL_BUT_WATCHED;

    fn prepare(&self) {
        self.lock.placed(last_place());
    }

    fn take(&self) -> bool {
        match self.lock.lock(Deadline::NEVER) {
            Ok(acquired) if acquired.owner_died().is_none() => false,
            Ok(_) => {
                self.lock.mark_consistent();
                true
            }
            Err(refused) => panic!("{refused:?}"),
        }
    }

    fn leave(&self) {
        // SAFETY: `take` of this thread took it.
        unsafe { self.lock.unlock() };
    }

    fn data(&self) -> &Data {
        &self.data
    }
}

/// The lock of users, with its data.
#[repr(C)]
#[derive(Debug)]
pub struct Whole {
    lock: Lock<()>,
    data: Data,
}

// SAFETY: a lock without a value and atomics; zero is a free lock; the guard is kept in a
// thread-local.
unsafe impl Placed for Whole {}

/// Keeps the guard; true: an owner had died.
fn keep(guard: LockGuard<'static, ()>, is_flagged: bool) -> bool {
    let mut guard = guard;
    if is_flagged {
        guard.mark_consistent();
    }
    WHOLE.set(Some(guard));
    is_flagged
}

impl Mutual for Whole {
    const NAME: &'static str = "Lock<T>";
    const TAKING_SCENES: &'static [Scene] = ALL_BUT_WATCHED;

    fn prepare(&self) {
        self.lock.placed(last_place());
    }

    fn take(&self) -> bool {
        match for_ever(self).lock.lock() {
            Ok(guard) => keep(guard, false),
            Err(LockError::OwnerDied { guard, .. }) => keep(guard, true),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn leave(&self) {
        WHOLE.set(None);
    }

    fn data(&self) -> &Data {
        &self.data
    }
}

/// As [`Whole`], taken with a deadline.
#[repr(transparent)]
struct Timed(Whole);

// SAFETY: as for `Whole`.
unsafe impl Placed for Timed {}

impl Mutual for Timed {
    const NAME: &'static str = "Lock<T>";
    const TAKING: &'static str = "lock_timeout";
    const TAKING_SCENES: &'static [Scene] = ALL_BUT_WATCHED;

    fn prepare(&self) {
        self.0.prepare();
    }

    fn take(&self) -> bool {
        match for_ever(self).0.lock.lock_timeout(AN_HOUR) {
            Ok(guard) => keep(guard, false),
            Err(LockTimeoutError::OwnerDied { guard, .. }) => keep(guard, true),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn leave(&self) {
        self.0.leave();
    }

    fn data(&self) -> &Data {
        &self.0.data
    }
}

/// As [`Whole`], taken only if free; others retry, the victim does not.
#[repr(transparent)]
struct Tried(Whole);

// SAFETY: as for `Whole`.
unsafe impl Placed for Tried {}

impl Mutual for Tried {
    const NAME: &'static str = "Lock<T>";
    const TAKING: &'static str = "try_lock";
    const TAKING_SCENES: &'static [Scene] = &[Scene::Alone, Scene::Racing];

    fn prepare(&self) {
        self.0.prepare();
    }

    fn take(&self) -> bool {
        match for_ever(self).0.lock.try_lock() {
            Ok(guard) => keep(guard, false),
            Err(TryLockError::OwnerDied { guard, .. }) => keep(guard, true),
            Err(TryLockError::WouldBlock) => self.0.take(),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn leave(&self) {
        self.0.leave();
    }

    fn data(&self) -> &Data {
        &self.0.data
    }
}

impl InTime for Short {
    fn take_in_time(&self, limit: Duration) -> Option<bool> {
        let mut guard = for_ever(self).lock.lock_deadline(Deadline::after(limit))?;
        let is_flagged = guard.owner_died();
        if is_flagged {
            guard.mark_consistent();
        }
        SHORT.set(Some(guard));
        Some(is_flagged)
    }
}

impl InTime for Raw {
    const TIME_OUT_STRIDE: u32 = 1;

    fn take_in_time(&self, limit: Duration) -> Option<bool> {
        let acquired = self.lock.lock(Deadline::after(limit)).ok()?;
        let is_flagged = acquired.owner_died().is_some();
        if is_flagged {
            self.lock.mark_consistent();
        }
        Some(is_flagged)
    }
}

impl InTime for Whole {
    fn take_in_time(&self, limit: Duration) -> Option<bool> {
        match for_ever(self).lock.lock_timeout(limit) {
            Ok(guard) => Some(keep(guard, false)),
            Err(LockTimeoutError::OwnerDied { guard, .. }) => Some(keep(guard, true)),
            Err(_) => None,
        }
    }
}

impl AsIs for Whole {
    fn take_as_is(&self) {
        match for_ever(self).lock.lock() {
            Ok(guard) | Err(LockError::OwnerDied { guard, .. }) => WHOLE.set(Some(guard)),
            Err(other) => panic!("{other:?}"),
        }
    }
}
