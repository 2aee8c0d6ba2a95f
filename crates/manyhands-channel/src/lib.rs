#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![cfg_attr(
    loom,
    allow(
        dead_code,
        reason = "the model has the protocol only, and nobody who calls it"
    )
)]

mod patience;
mod primitive;

#[cfg(not(loom))]
mod doorbell;
#[cfg(not(loom))]
mod linger;
#[cfg(not(loom))]
pub mod local;
#[cfg(not(loom))]
pub mod pipe;
pub mod queue;
pub mod ring;
#[cfg(not(loom))]
pub mod select;
#[cfg(not(loom))]
pub mod socket;

#[cfg(not(loom))]
pub use doorbell::{Doorbell, Rung};
#[cfg(not(loom))]
pub use local::{LifoQueue, LocalQueue, LocalStats, PriorityQueue};
#[cfg(not(loom))]
pub use pipe::{Connection, Pipe, PipeError, Receiver, RecvError, SendError, Sender};
#[cfg(not(loom))]
pub use queue::{
    GetError, GetManyError, JoinError, Lease, LeaseLost, NotPut, PutError, PutManyError, Queue,
    QueueBuilder, QueueError, QueueMessage, QueueSlot, QueueStats, TaskDoneError,
};
#[cfg(not(loom))]
pub use select::{
    Pollable, Room, Select, WaitError, Waitable, try_wait, wait, wait_deadline, wait_timeout,
};
#[cfg(not(loom))]
pub use socket::{
    Address, AuthKey, Client, Listener, SocketConnection, SocketReceiver, SocketSender,
};
