//! The lock that its holder may take again.

use std::cell::RefCell;
use std::time::Duration;

use manyhands_sync::{LockError, LockTimeoutError, RLock, RLockGuard, Shareable, TryLockError};

use super::data::Data;
use super::lock::{ALL_BUT_WATCHED, for_ever};
use super::mutual::{AsIs, GivingUp, InTime, Leaving, LeavingAsIs, Mutual, Taking, TakingOver};
use crate::place::Placed;
use crate::place::last_place;
use crate::step::{Scene, Subject};

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![
        Taking::<Again>::NEW,
        Leaving::<Again>::NEW,
        TakingOver::<Again>::NEW,
        Taking::<Tried>::NEW,
        GivingUp::<Again>::NEW,
        LeavingAsIs::<Again>::NEW,
    ]
}

/// A re-entrant lock, taken twice and left twice, with its data.
#[repr(C)]
#[derive(Debug)]
pub struct Again {
    lock: RLock<()>,
    data: Data,
}

// SAFETY: a lock without a value and atomics; zero is a free lock; the guards are kept in a
// thread-local.
unsafe impl Placed for Again {}

type Guards = [RLockGuard<'static, ()>; 2];

thread_local! {
    static AGAIN: RefCell<Option<Guards>> = const { RefCell::new(None) };
}

impl Mutual for Again {
    const NAME: &'static str = "RLock<T>";
    const TAKING: &'static str = "lock, lock";
    const TAKING_SCENES: &'static [Scene] = ALL_BUT_WATCHED;
    // It takes two locks, so its sweeps are four times as long as others.
    const STRIDE: u32 = if cfg!(debug_assertions) { 3 } else { 1 };

    fn prepare(&self) {
        self.lock.placed(last_place());
    }

    fn take(&self) -> bool {
        match for_ever(self).lock.lock() {
            Ok(guard) => keep(self, guard, false),
            Err(LockError::OwnerDied { guard, .. }) => keep(self, guard, true),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn leave(&self) {
        AGAIN.set(None);
    }

    fn data(&self) -> &Data {
        &self.data
    }
}

/// Takes it again, and keeps both guards; true: an owner had died.
fn keep(again: &Again, outer: RLockGuard<'static, ()>, is_flagged: bool) -> bool {
    let mut outer = outer;
    if is_flagged {
        outer.mark_consistent();
    }
    let Ok(inner) = for_ever(again).lock.lock() else {
        panic!("the holder may take it again");
    };
    AGAIN.set(Some([outer, inner]));
    is_flagged
}

/// The same, tried first.
#[repr(transparent)]
#[derive(Debug)]
pub struct Tried(Again);

// SAFETY: as for `Again`.
unsafe impl Placed for Tried {}

impl Mutual for Tried {
    const NAME: &'static str = "RLock<T>";
    const TAKING: &'static str = "try_lock, lock";
    const TAKING_SCENES: &'static [Scene] = &[Scene::Alone, Scene::Racing];
    const STRIDE: u32 = Again::STRIDE;

    fn prepare(&self) {
        self.0.prepare();
    }

    fn take(&self) -> bool {
        match for_ever(self).0.lock.try_lock() {
            Ok(guard) => keep(&self.0, guard, false),
            Err(TryLockError::OwnerDied { guard, .. }) => keep(&self.0, guard, true),
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

impl InTime for Again {
    fn take_in_time(&self, limit: Duration) -> Option<bool> {
        match for_ever(self).lock.lock_timeout(limit) {
            Ok(guard) => Some(keep(self, guard, false)),
            Err(LockTimeoutError::OwnerDied { guard, .. }) => Some(keep(self, guard, true)),
            Err(_) => None,
        }
    }
}

impl AsIs for Again {
    fn take_as_is(&self) {
        let lock = &for_ever(self).lock;
        let (Ok(outer) | Err(LockError::OwnerDied { guard: outer, .. })) = lock.lock() else {
            panic!("few locks");
        };
        let Ok(inner) = lock.lock() else {
            panic!("the holder may take it again");
        };
        AGAIN.set(Some([outer, inner]));
    }
}
