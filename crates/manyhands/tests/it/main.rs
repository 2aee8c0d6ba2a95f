//! The integration tests: one binary, a module for each subject.

use std::time::Duration;

// Circles of processes that wait for each other.
#[cfg(any(debug_assertions, feature = "deadlock-detection"))]
mod deadlocks;
// Every room is reachable through the facade, and what is reached works.
mod rooms;

/// No wait of these tests takes nearly as long, unless something is broken.
const LONG: Duration = Duration::from_secs(30);
