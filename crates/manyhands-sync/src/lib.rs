#![doc = include_str!("../README.md")]
#![allow(
    unsafe_code,
    reason = "locks hand out references to what they guard, and views words as the kernel sees them"
)]

mod barrier;
mod condition;
pub mod deadlock;
mod error;
mod event;
pub mod keeper;
pub mod life;
mod lock;
#[cfg(all(test, loom))]
mod loom_tests;
pub mod member;
mod once;
#[cfg(all(feature = "posix", target_env = "gnu", not(loom)))]
pub mod posix;
mod primitive;
pub mod raw;
mod rlock;
mod rwlock;
mod semaphore;
mod shareable;
pub mod spin;

pub use barrier::{Barrier, BarrierState, Broken, NoParties};
pub use condition::{Condition, ConditionState, WaitError};
pub use error::{LockError, LockTimeoutError, TryLockError};
pub use event::{Event, EventState};
pub use lock::{Lock, LockGuard, LockState};
pub use once::{Once, OnceError, OnceState, OnceStatus, OnceTimeoutError, TryOnceError};
pub use rlock::{RLock, RLockGuard, RLockState};
pub use rwlock::{ReadGuard, RwLock, RwLockState, WriteGuard};
pub use semaphore::{
    AcquireError, AcquireTimeoutError, BoundedSemaphore, Permit, ReleaseError, Semaphore,
    SemaphoreState, TryAcquireError,
};
pub use shareable::{LastPlace, Shareable};
