#![doc = include_str!("README.md")]

mod address;
mod client;
mod connection;
mod descriptors;
mod error;
mod frames;
mod greeting;
mod handshake;
mod incoming;
mod key;
mod listener;
mod python;
mod receiver;
mod sealed;
mod sender;
mod stream;
mod terms;

pub use address::{Address, NoAddress};
pub use client::Client;
pub use connection::SocketConnection;
pub use error::{AcceptError, AuthError, BindError, ConnectError, RecvError, SendError};
pub use key::{AuthKey, EmptyKey};
pub use listener::{Listener, ListenerStats};
pub use receiver::SocketReceiver;
pub use sender::SocketSender;
pub use terms::{Protocol, Terms};

#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;

#[cfg(test)]
mod tests;
