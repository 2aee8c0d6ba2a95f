//! Memory with a name, between real processes and with a real Python.
//!
//! This program starts itself again as its children; what a child does is in `children`.
#![allow(
    clippy::print_stdout,
    reason = "children answer on their standard output, and a test that is skipped says so"
)]

mod children;
mod killed;
mod list;
mod memory;
mod owned;
mod python;
mod refused;
mod segment;
mod space;
mod sweep;

use std::time::Duration;

use manyhands_os::Deadline;
use manyhands_shm::named::{self, OpenError, Segment, SharedMemory};

/// A name that only this test of this run uses.
fn name(what: &str) -> String {
    format!("mh-test-{what}-{}", std::process::id())
}

/// Sweeps until the segment of a dead owner is gone.
fn await_swept(name: &str) {
    await_not_found(name, || Segment::try_open(name).err());
}

/// Sweeps until the shared memory of a dead owner is gone.
fn await_gone(name: &str) {
    await_not_found(name, || SharedMemory::open(name).err());
}

/// A sweeper of another test may have a lock, so one sweep need not be enough.
fn await_not_found(name: &str, open: impl Fn() -> Option<OpenError>) {
    let deadline = Deadline::after(Duration::from_secs(60));
    loop {
        named::sweep().expect("the folder can be read");
        if matches!(open(), Some(OpenError::NotFound { .. })) {
            return;
        }
        assert!(!deadline.has_passed(), "{name} is not swept");
        std::thread::yield_now();
    }
}
