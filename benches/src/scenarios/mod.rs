//! What is measured, one file a room.

mod foreign;
mod handoffs;
#[cfg(feature = "peers")]
mod iceoryx;
mod in_place;
mod locks;
mod memory;
mod pipes;
mod processes;
mod python;
mod queues;
mod rescue;
mod rings;
mod starts;
mod streams;

use std::time::{Duration, Instant};

use crate::{Broken, Scenario};

/// What needs nothing but this package.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend(locks::scenarios());
    all.extend(handoffs::scenarios());
    all.extend(memory::scenarios());
    all.extend(rings::scenarios());
    all.extend(pipes::scenarios());
    all.extend(in_place::scenarios());
    all.extend(queues::scenarios());
    all.extend(starts::scenarios());
    all.extend(processes::scenarios());
    all
}

/// What needs a program of this workspace, built for release.
#[must_use]
pub fn of_programs() -> Vec<Scenario> {
    let mut all = starts::of_programs();
    all.extend(rescue::scenarios());
    all
}

/// Ours against CPython's; nothing where there is no `python3`.
#[must_use]
pub fn of_python() -> Vec<Scenario> {
    python::scenarios()
}

/// Times `work`, then asks whether it did what it should.
fn timed(
    work: impl FnOnce(),
    is_right: impl FnOnce() -> bool,
    promise: &str,
) -> Result<Duration, Broken> {
    let start = Instant::now();
    work();
    let took = start.elapsed();
    if is_right() {
        Ok(took)
    } else {
        Err(format!("did not {promise}"))
    }
}
