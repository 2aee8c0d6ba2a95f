//! The lock that raw_sync and C programs can use as well: taken, left, and left unrepaired.

use std::cell::{RefCell, UnsafeCell};

use manyhands_sync::LockError;
use manyhands_sync::posix::{PosixLock, PosixLockGuard};

use super::data::Data;
use super::lock::for_ever;
use super::mutual::{AsIs, Leaving, LeavingAsIs, Mutual, Taking, TakingOver};
use crate::place::{Late, Placed};
use crate::step::{Scene, Subject};

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![
        Taking::<Foreign>::NEW,
        Leaving::<Foreign>::NEW,
        TakingOver::<Foreign>::NEW,
        LeavingAsIs::<Foreign>::NEW,
    ]
}

/// A mutex of the C library with our handle, and its data.
#[repr(C)]
struct Foreign {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    handle: Late<PosixLock<'static, ()>>,
    data: Data,
}

// SAFETY: the mutex is made for several processes, and used through the handle only.
unsafe impl Sync for Foreign {}
// SAFETY: `prepare` makes the mutex; nothing to drop; the guard is kept in a thread-local.
unsafe impl Placed for Foreign {}

type Guard = PosixLockGuard<'static, ()>;

thread_local! {
    static HELD: RefCell<Option<Guard>> = const { RefCell::new(None) };
}

impl Foreign {
    /// Takes the lock; true: it says that an owner has died, and has not been told otherwise.
    fn take_as_it_is(&self) -> bool {
        // SAFETY: `prepare` has filled it.
        let handle = unsafe { for_ever(self).handle.get() };
        let (guard, is_flagged) = match handle.lock() {
            Ok(guard) => (guard, false),
            Err(LockError::OwnerDied { guard, .. }) => (guard, true),
            Err(other) => panic!("{other:?}"),
        };
        HELD.set(Some(guard));
        is_flagged
    }
}

impl Mutual for Foreign {
    const NAME: &'static str = "PosixLock";
    // When robbed it hangs without its look once a second, as the control does.
    const TAKING_SCENES: &'static [Scene] = &[
        Scene::Alone,
        Scene::Woken,
        Scene::WokenByDeath,
        Scene::Racing,
    ];

    fn prepare(&self) {
        let nothing = Box::leak(Box::new(UnsafeCell::new(())));
        // SAFETY: the place stays, at this address in every process; nobody uses it yet.
        let lock = unsafe { PosixLock::place(self.mutex.get().cast(), nothing) };
        // SAFETY: as above.
        unsafe { self.handle.fill(lock.expect("glibc")) };
    }

    fn take(&self) -> bool {
        let is_flagged = self.take_as_it_is();
        HELD.with_borrow_mut(|guard| guard.as_mut().map(Guard::mark_consistent));
        is_flagged
    }

    fn leave(&self) {
        HELD.set(None);
    }

    fn data(&self) -> &Data {
        &self.data
    }
}

impl AsIs for Foreign {
    fn take_as_is(&self) {
        self.take_as_it_is();
    }
}
