#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod client;
mod error;
mod manager;
mod pending;
mod protocol;
mod proxy;
mod reception;
mod server;

pub use error::{CallError, ConnectError, ShutdownError, StartError};
pub use manager::Manager;
pub use proxy::{Managed, ManagedDict, ManagedList, ManagedValue};
