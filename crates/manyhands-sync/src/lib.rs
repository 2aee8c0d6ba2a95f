#![doc = include_str!("../README.md")]
#![allow(
    unsafe_code,
    reason = "locks hand out references to what they guard, and views words as the kernel sees them"
)]

#[cfg(not(loom))]
mod barrier;
#[cfg(not(loom))]
mod condition;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod event;
#[cfg(not(loom))]
pub mod keeper;
#[cfg(not(loom))]
pub mod life;
#[cfg(not(loom))]
mod lock;
#[cfg(not(loom))]
pub mod member;
#[cfg(not(loom))]
mod once;
mod primitive;
pub mod raw;
#[cfg(not(loom))]
mod rlock;
#[cfg(not(loom))]
mod rwlock;
#[cfg(not(loom))]
mod semaphore;
#[cfg(not(loom))]
mod shareable;

#[cfg(not(loom))]
pub use barrier::{Barrier, BarrierState, Broken, NoParties};
#[cfg(not(loom))]
pub use condition::{Condition, ConditionState, WaitError};
#[cfg(not(loom))]
pub use error::{LockError, LockTimeoutError, TryLockError};
#[cfg(not(loom))]
pub use event::{Event, EventState};
#[cfg(not(loom))]
pub use lock::{Lock, LockGuard, LockState};
#[cfg(not(loom))]
pub use once::{Once, OnceError, OnceState, OnceStatus, OnceTimeoutError, TryOnceError};
#[cfg(not(loom))]
pub use rlock::{RLock, RLockGuard, RLockState};
#[cfg(not(loom))]
pub use rwlock::{ReadGuard, RwLock, RwLockState, WriteGuard};
#[cfg(not(loom))]
pub use semaphore::{
    AcquireError, AcquireTimeoutError, BoundedSemaphore, Permit, ReleaseError, Semaphore,
    SemaphoreState, TryAcquireError,
};
#[cfg(not(loom))]
pub use shareable::Shareable;
