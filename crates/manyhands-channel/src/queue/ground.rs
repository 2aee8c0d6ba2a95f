//! What the queue's protocol stands on: the rooms below, or under loom a model of them.

#[cfg(loom)]
mod model;
#[cfg(not(loom))]
mod real;

#[cfg(loom)]
pub(super) use model::{
    Bed, Block, Lock, LockGuard, Memory, Section, ShortLock, Spin, deposit, enter, handle_of,
    has_deposits, is_alive, is_deposited, turn, wait, wait_beside, wake_all, withdraw,
};
#[cfg(not(loom))]
pub(super) use real::{
    Bed, Block, Lock, LockGuard, Memory, Section, ShortLock, Spin, deposit, enter, handle_of,
    has_deposits, is_alive, is_deposited, me, turn, wait, wait_beside, wake_all, withdraw,
};
