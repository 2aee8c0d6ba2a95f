//! The integration tests: one binary, a module for each subject.
//!
//! Only threads take part, but for a few cases, and nobody is a member: what a *process* leaves when
//! it dies is swept in the package `tests`. The numbers in names are those of the behaviors that
//! CPython's own tests check.

#![allow(
    unsafe_code,
    reason = "a signal handler is installed, and locks lie in raw memory"
)]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use manyhands_sync::{LastPlace, Shareable};

// Meeting points.
mod barriers;
// Waiting for a notification, in turn.
mod conditions;
// The same cases for every lock, ours and others'.
mod conformance;
// Threads that would wait for themselves.
#[cfg(any(debug_assertions, feature = "deadlock-detection"))]
mod deadlocks;
// Flags that one sets and many wait for.
mod events;
// Locks that one thread holds.
mod locks;
// What is done once.
mod once;
// Locks that raw_sync and C programs made or use.
#[cfg(all(feature = "posix", target_env = "gnu"))]
mod posix;
// Our event for users of raw_sync.
#[cfg(all(feature = "posix", target_env = "gnu"))]
mod posix_events;
// Locks that their holder may take again.
mod rlocks;
// Many readers or one writer.
mod rwlocks;
// Permits.
mod semaphores;
// Waits that signals interrupt.
mod signals;
// All states of the word, with a kill at any of them.
mod word_protocol;

/// A time-out that is to be seen passing.
const SOON: Duration = Duration::from_millis(5);

/// Long enough for any machine; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(60);

/// Runs a test for both placements: private, and the mode of shared memory.
fn each_placement<T: Shareable>(make: impl Fn() -> T, test: impl Fn(Arc<T>)) {
    test(Arc::new(make()));
    let shared = Arc::new(make());
    shared.placed(last_place());
    test(shared);
}

/// Waits until something is so, which another thread is about to make so.
fn until(mut what: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < end, "it never came");
        thread::yield_now();
    }
}

/// Vouches for a value of a test.
fn last_place() -> LastPlace {
    // SAFETY: whoever uses it lets all threads end that hold a lock in the value, or leaks the
    // value.
    unsafe { LastPlace::new() }
}
