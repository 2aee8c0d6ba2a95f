#![doc = include_str!("README.md")]

mod ground;
pub(crate) mod layout;
mod ledger;
mod message;
mod raw;
mod section;
mod sleep;
mod tally;

#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod home;
#[cfg(not(loom))]
mod in_place;
#[cfg(not(loom))]
mod lease;
#[cfg(not(loom))]
mod many;
#[cfg(not(loom))]
mod packed;
#[cfg(not(loom))]
mod tasks;
#[cfg(not(loom))]
mod typed;
#[cfg(not(loom))]
mod watch;

#[cfg(not(loom))]
pub use error::{
    GetError, GetManyError, JoinError, LeaseLost, PutError, PutManyError, QueueError, TaskDoneError,
};
#[cfg(not(loom))]
pub use in_place::{NotPut, QueueMessage, QueueSlot};
#[cfg(not(loom))]
pub use lease::Lease;
#[cfg(not(loom))]
pub(crate) use packed::Packed;
#[cfg(not(loom))]
pub(crate) use raw::RawQueue;
#[cfg(not(loom))]
pub use typed::{Queue, QueueBuilder, QueueStats};
#[cfg(not(loom))]
pub(crate) use watch::QueueRoom;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
