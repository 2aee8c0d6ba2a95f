//! The atomics of this crate: the standard library's, or the model checker's under `--cfg loom`.
//!
//! Every atomic operation of the ring goes through here, so that the model in
//! `ring/loom_tests.rs` runs the very code that ships.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
