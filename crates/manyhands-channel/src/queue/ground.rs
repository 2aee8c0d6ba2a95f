//! What the queue's protocol stands on: the rooms below, or under loom a model of them.

#[cfg(loom)]
mod model;
#[cfg(not(loom))]
mod real;

#[cfg(loom)]
pub(super) use model::{
    Bed, Lock, LockGuard, Memory, Section, ShortLock, Spin, enter, is_alive, me, turn, wait,
    wait_beside, wake_all,
};
#[cfg(not(loom))]
pub(super) use real::{
    Bed, Lock, LockGuard, Memory, Section, ShortLock, Spin, enter, is_alive, me, turn, wait,
    wait_beside, wake_all,
};
