#![doc = include_str!("../README.md")]
#![allow(
    unsafe_code,
    reason = "locks hand out references to what they guard, and views words as the kernel sees them"
)]

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
mod primitive;
pub mod raw;
#[cfg(not(loom))]
mod rlock;
#[cfg(not(loom))]
mod shareable;

#[cfg(not(loom))]
pub use error::{LockError, LockTimeoutError, TryLockError};
#[cfg(not(loom))]
pub use event::Event;
#[cfg(not(loom))]
pub use lock::{Lock, LockGuard, LockState};
#[cfg(not(loom))]
pub use rlock::{RLock, RLockGuard, RLockState};
#[cfg(not(loom))]
pub use shareable::Shareable;
