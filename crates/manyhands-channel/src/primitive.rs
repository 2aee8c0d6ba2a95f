//! The atomics of this crate: the standard library's, or the model checker's under `--cfg loom`.
//!
//! Every atomic operation of ring and queue goes through here, so that the models, in modules named
//! `loom_tests`, run the very code that ships.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

#[cfg(not(loom))]
pub(crate) use manyhands_os::Deadline;

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

/// In the models no time passes.
#[cfg(loom)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    has_passed: bool,
}

#[cfg(loom)]
impl Deadline {
    pub(crate) const NEVER: Self = Self { has_passed: false };

    pub(crate) fn now() -> Self {
        Self { has_passed: true }
    }

    pub(crate) fn has_passed(self) -> bool {
        self.has_passed
    }
}
