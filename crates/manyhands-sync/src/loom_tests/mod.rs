//! Every order of the accesses of each protocol, by the model checker.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p manyhands-sync --lib loom_
//! ```
//!
//! The models run the code that ships, for two or three threads and a bounded number of
//! preemptions; `primitive/model.rs` has the atomics and the futex. Loom reports threads that sleep
//! for ever as a deadlock. In shared memory each thread counts as a member of its own.
//!
//! Each file names the bug that its models must find: with `MANYHANDS_PLANTED_BUG=event` in the
//! environment the models of `loom_tests::event` must fail, and so on. `cargo xtask test --only
//! loom` runs all of it.
//!
//! What loom cannot show here is a death between two accesses: `tests/` kills a real process at
//! every instruction instead.

mod barrier;
mod condition;
mod event;
mod lock;
mod rwlock;
mod semaphore;
mod word;

use std::sync::Arc;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::thread::{JoinHandle, spawn};

use crate::LastPlace;

/// A time that is over when `time_passes` is called, for those who sleep then.
const LATER: Duration = Duration::from_secs(1 << 30);

/// An object of the room, with a value whose uses it must order: loom reports two at a time.
struct Guarding<O> {
    object: O,
    value: UnsafeCell<u32>,
}

// SAFETY: loom checks that no two threads use the value at a time.
unsafe impl<O: Send> Send for Guarding<O> {}
// SAFETY: as above.
unsafe impl<O: Sync> Sync for Guarding<O> {}

impl<O> Guarding<O> {
    fn new(object: O) -> Arc<Self> {
        Arc::new(Self {
            object,
            value: UnsafeCell::new(0),
        })
    }

    fn add_one(&self) {
        self.value.with_mut(|value| {
            // SAFETY: loom reports a second user.
            unsafe { *value += 1 };
        });
    }

    fn value(&self) -> u32 {
        self.value.with(|value| {
            // SAFETY: loom reports a user who writes.
            unsafe { *value }
        })
    }
}

/// Runs `act` in a thread of its own, beside the caller.
///
/// The object is in an `Arc` of the standard library: loom's turns a failed model into an abort,
/// since it cannot be dropped any more.
fn beside<T, R>(object: &Arc<T>, act: impl FnOnce(&T) -> R + 'static) -> JoinHandle<R>
where
    T: Send + Sync + 'static,
    R: 'static,
{
    let object = Arc::clone(object);
    spawn(move || act(&object))
}

/// The end of a thread, with what it returned.
fn end<R: 'static>(thread: JoinHandle<R>) -> R {
    thread.join().expect("no panic")
}

/// Vouches for a value of a test.
fn last_place() -> LastPlace {
    // SAFETY: nothing is linked in a model.
    unsafe { LastPlace::new() }
}
