//! The lock that its holder may take again.

use std::cell::RefCell;

use manyhands_sync::{LockError, RLock, RLockGuard, Shareable};

use super::data::Data;
use super::lock::{ALL_BUT_WATCHED, for_ever};
use super::mutual::{Leaving, Mutual, Taking, TakingOver};
use crate::place::Placed;
use crate::step::{Scene, Subject};

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![
        Taking::<Again>::NEW,
        Leaving::<Again>::NEW,
        TakingOver::<Again>::NEW,
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

    fn prepare(&self) {
        self.lock.placed();
    }

    fn take(&self) -> bool {
        let lock = &for_ever(self).lock;
        let (outer, is_flagged) = match lock.lock() {
            Ok(guard) => (guard, false),
            Err(LockError::OwnerDied { mut guard, .. }) => {
                guard.mark_consistent();
                (guard, true)
            }
            Err(other) => panic!("{other:?}"),
        };
        let Ok(inner) = lock.lock() else {
            panic!("the holder may take it again");
        };
        AGAIN.set(Some([outer, inner]));
        is_flagged
    }

    fn leave(&self) {
        AGAIN.set(None);
    }

    fn data(&self) -> &Data {
        &self.data
    }
}
