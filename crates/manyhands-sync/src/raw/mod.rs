//! Locks without data: the words, and what is built directly on them.

pub(crate) mod barrier;
pub(crate) mod condition;
mod ledger;
mod mutex;
pub(crate) mod rwlock;
pub(crate) mod semaphore;
mod short;
mod word;

pub use mutex::{Acquired, RawLock, RefusedLock};
pub use short::{ShortGuard, ShortLock};
pub use word::{Taken, Word, net};
