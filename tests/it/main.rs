//! The integration tests: one binary, a module for each subject.

#![allow(
    unsafe_code,
    reason = "some deaths and some forks can be had by unsafe code only"
)]

use std::time::{Duration, Instant};

// Deaths at every instruction, and storms of deaths: what survives them.
mod crash;

// What processes die of, and what their parents learn.
mod deaths;

// Pipes, rings and doorbells between processes.
mod channel;

// Processes that fork by themselves, and start others.
mod forked;

// Ways to build and to load what starts processes.
mod contexts;

// What waiting costs.
mod idle;

// What strangers may say at the door.
mod strangers;

// What processes have open.
mod streams;

// Queues between processes.
mod queue;

// Waiting for many things of all kinds.
mod select;

// Tasks that wait for room.
mod sending;

// Connections to programs that were started apart, Python's among them.
mod sockets;

// Descriptors over such connections.
mod descriptors;

// What processes own in shared primitives, when they are killed.
mod sync;

// Locks between processes that live.
mod locks;

// Conditions on which processes and threads wait side by side.
mod conditions;

// Values, slices and text in shared memory.
mod values;

// Semaphores, events and barriers between processes that live.
mod meetings;

/// A time-out that is to be seen passing.
const SOON: Duration = Duration::from_millis(5);

/// Long enough for any machine; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(60);

/// Waits until something is so, which another process is about to make so.
fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < end, "it never came");
        std::thread::yield_now();
    }
}
