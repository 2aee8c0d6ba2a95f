//! What can go wrong with sockets; one type an operation.

use std::io;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {source}")]
pub struct BindError {
    /// Where.
    pub address: String,
    /// What the system says; `AddrInUse` when somebody listens there.
    pub source: io::Error,
}

/// Why no connection was accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Nobody has come, and there was no time to wait.
    #[error("nobody has come")]
    WouldBlock,
    /// Nobody has come in time.
    #[error("nobody has come in time")]
    TimedOut,
    /// The system refused a call.
    #[error("cannot accept a connection: {0}")]
    Os(#[from] io::Error),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The other end was not reached, or did not say who it is, in time.
    #[error("the other end was not there in time")]
    TimedOut,
    /// The system refused a call; `ConnectionRefused` or `NotFound` when nobody listens.
    #[error("cannot connect: {0}")]
    Os(#[from] io::Error),
    /// The two ends did not agree who they are.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// Why two ends did not agree who they are. Nothing of it tells a stranger more than that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The other end has another key.
    #[error("the other end has another key")]
    WrongKey,
    /// The other end says that ours is another key.
    #[error("the other end refused our key")]
    Rejected,
    /// What came is no part of this handshake.
    #[error("the other end speaks another protocol: {0}")]
    Foreign(&'static str),
    /// The other end can do no better than HMAC-MD5 (CPython before 3.12), which the terms forbid.
    #[error("the other end asks for HMAC-MD5; Terms::legacy_md5 would allow it")]
    Legacy,
    /// A message of the handshake was longer than 256 bytes.
    #[error("a message of the handshake was too long")]
    TooLong,
    /// The other end has hung up.
    #[error("the other end has hung up")]
    HungUp,
    /// The other end is a process of another user.
    #[error("the other end belongs to user {user}")]
    OtherUser {
        /// Which one.
        user: u32,
    },
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The other end is closed, or dead.
    #[error("the other end is closed")]
    Closed,
    /// There was no room for all of the message, and no time to wait. It is begun: what is left of it
    /// goes before the next message.
    #[error("the message is on its way still")]
    WouldBlock,
    /// As [`WouldBlock`](Self::WouldBlock), after waiting.
    #[error("the message was not sent as a whole in time, and is on its way still")]
    TimedOut,
    /// Descriptors pass through unix sockets only, and this connection is another one.
    #[error("descriptors cannot be sent over TCP; listen at a unix socket for that")]
    NotOverTcp,
    /// There are none, or more than go together; nothing was sent.
    #[error("{count} descriptors cannot be sent together: from 1 to {most} can")]
    DescriptorCount {
        /// How many were to be sent.
        count: usize,
        /// How many can be.
        most: usize,
    },
    /// The value's `Serialize` implementation refused; nothing was sent.
    #[error("the value cannot be encoded: {0}")]
    Unencodable(String),
    /// The system refused a call.
    #[error("cannot send: {0}")]
    Os(io::Error),
}

/// Why no message was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The other end is closed, and all messages were received.
    #[error("the other end is closed")]
    Closed,
    /// The connection ended in the middle of a message, or in a sealed session without a farewell:
    /// the other end has died, or somebody has cut the line.
    #[error("the connection was cut")]
    Cut,
    /// No whole message is there, and there was no time to wait. Nothing is lost.
    #[error("there is no message")]
    WouldBlock,
    /// No whole message has come in time. Nothing is lost.
    #[error("no message has come in time")]
    TimedOut,
    /// The message is longer than [`Terms::most_bytes`](super::Terms::most_bytes) allows; the
    /// connection cannot be used any more.
    #[error("a message of {len} bytes is announced, {most} are allowed")]
    TooLong {
        /// What was announced.
        len: u64,
        /// What is allowed.
        most: u64,
    },
    /// What came is no message, or was changed on its way; the connection cannot be used any more.
    #[error("what came is no message, or was changed on its way")]
    Corrupt,
    /// Descriptors pass through unix sockets only, and this connection is another one.
    #[error("descriptors cannot be received over TCP; listen at a unix socket for that")]
    NotOverTcp,
    /// Descriptors have come where a message was expected. They are closed, and the next message can
    /// be received.
    #[error("descriptors have come in the place of a message, and are closed")]
    Descriptors,
    /// A message has come where descriptors were expected; it can be received.
    #[error("a message has come in the place of descriptors")]
    Message,
    /// Descriptors have come of which some were lost: they are more than go together, or this process
    /// has too many. The others are closed, and what comes next can be received.
    #[error("descriptors were lost: too many have come, or too many are open here; all are closed")]
    DescriptorsLost,
    /// The message does not fit into the buffer; here it is.
    #[error("a message of {} bytes does not fit into the buffer", message.len())]
    BufferTooShort {
        /// The message.
        message: Vec<u8>,
    },
    /// The message is no value of this type. It is gone, and the next one can be received.
    #[error("the message is no such value: {0}")]
    Undecodable(String),
    /// The system refused a call.
    #[error("cannot receive: {0}")]
    Os(io::Error),
}
