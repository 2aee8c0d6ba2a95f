//! What is measured, one file a room.

mod locks;
mod memory;
mod rings;

use std::time::{Duration, Instant};

use crate::{Broken, Scenario};

/// Everything that takes seconds.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend(locks::scenarios());
    all.extend(memory::scenarios());
    all.extend(rings::scenarios());
    all
}

/// Peers that take long, or need something installed; what is missing is left out.
#[must_use]
pub fn with_slow_peers() -> Vec<Scenario> {
    Vec::new()
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
