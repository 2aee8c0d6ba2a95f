//! Locks without data: the words, and what is built directly on them.

#[cfg(not(loom))]
pub(crate) mod barrier;
#[cfg(not(loom))]
pub(crate) mod condition;
#[cfg(not(loom))]
mod ledger;
#[cfg(not(loom))]
mod mutex;
#[cfg(not(loom))]
pub(crate) mod rwlock;
#[cfg(not(loom))]
pub(crate) mod semaphore;
#[cfg(not(loom))]
mod short;
mod word;

#[cfg(not(loom))]
pub use mutex::{Acquired, RawLock, RefusedLock};
#[cfg(not(loom))]
pub use short::{ShortGuard, ShortLock};
pub use word::{Taken, Word, net};

#[cfg(all(test, loom))]
mod loom_tests;
