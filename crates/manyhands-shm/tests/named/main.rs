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
mod python;
mod refused;
mod segment;
mod space;
mod sweep;

use std::time::Duration;

use manyhands_os::Deadline;
use manyhands_shm::named::{self, OpenError, Segment};

/// A name that only this test of this run uses.
fn name(what: &str) -> String {
    format!("mh-test-{what}-{}", std::process::id())
}

/// Sweeps until the segment of a dead owner is gone. A sweeper of another test may have its lock, so
/// one sweep need not be enough.
fn await_swept(name: &str) {
    let deadline = Deadline::after(Duration::from_secs(60));
    loop {
        named::sweep().expect("the folder can be read");
        match Segment::try_open(name) {
            Err(OpenError::NotFound { .. }) => return,
            _ => assert!(!deadline.has_passed(), "{name} is not swept"),
        }
        std::thread::yield_now();
    }
}
