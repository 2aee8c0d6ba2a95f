//! The atomics of this crate: the standard library's, or the model checker's under `--cfg loom`.
//!
//! Every atomic operation of the ring goes through here, so that the model in
//! `ring/loom_tests.rs` runs the very code that ships.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};

/// Whether the bug of this name is planted, to see a model find it: never in what ships.
#[cfg(not(loom))]
pub(crate) const fn is_planted(_: &str) -> bool {
    false
}

/// Whether the environment says that the bug of this name is planted.
#[cfg(loom)]
pub(crate) fn is_planted(bug: &str) -> bool {
    std::env::var("MANYHANDS_PLANTED_BUG").is_ok_and(|planted| planted == bug)
}
