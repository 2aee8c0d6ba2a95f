#![doc = include_str!("README.md")]

mod cursor;
mod layout;
#[cfg(not(loom))]
mod message;
mod parking;

#[cfg(loom)]
pub(crate) mod loom_cells;

#[cfg(not(loom))]
mod consumer;
#[cfg(not(loom))]
mod endpoint;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod memory;
#[cfg(not(loom))]
mod one_to_one;
#[cfg(not(loom))]
mod producer;
#[cfg(not(loom))]
mod seat;
#[cfg(not(loom))]
mod slot;
#[cfg(not(loom))]
mod view;

#[cfg(not(loom))]
pub use consumer::Consumer;
pub(crate) use cursor::Corrupt;
#[cfg(not(loom))]
pub(crate) use error::Who;
#[cfg(not(loom))]
pub use error::{NotValues, RecvError, RingError, SendError};
pub(crate) use layout::{Line, RECORD_HEAD, record_size};
#[cfg(not(loom))]
pub(crate) use memory::{Mapped, block_of, bytes_in, bytes_in_mut, place_locks};
#[cfg(not(loom))]
pub use message::Message;
#[cfg(not(loom))]
pub use one_to_one::ring;
#[cfg(not(loom))]
pub use producer::{Producer, Progress};
#[cfg(not(loom))]
pub use slot::Slot;
#[cfg(not(loom))]
pub(crate) use view::View;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
