//! Typed connections between two threads or processes.
//!
//! A [`Connection`] sends values of one type and receives values of another; it is a [`Sender`]
//! and a [`Receiver`], each over a ring of its own. What is sent is encoded at once, so a value
//! that cannot be encoded fails at the call, and the receiver gets a copy. Handles to shared
//! memory, ends of rings and connections may be inside: they arrive as the same objects.

mod error;
mod in_place;
mod receiver;
mod sender;

use std::fmt;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use error::{PipeError, RecvError, SendError};
pub use in_place::{Message, Slot};
pub use receiver::Receiver;
pub use sender::Sender;

use crate::ring::ring;
use crate::select::{Recv, Sending};

/// The bytes of each ring of a pipe, unless the caller says otherwise.
const CAPACITY: usize = 64 << 10;

/// Makes connected pairs.
///
/// # Examples
///
/// ```
/// use manyhands_channel::Pipe;
///
/// let (mut here, mut there) = Pipe::duplex::<u64, String>()?;
/// std::thread::scope(|threads| {
///     threads.spawn(move || {
///         let number = there.recv().expect("one number comes");
///         there.send(&format!("got {number}")).expect("somebody listens");
///     });
///     here.send(&42).expect("somebody listens");
///     assert_eq!(here.recv().expect("an answer comes"), "got 42");
/// });
/// # Ok::<(), manyhands_channel::PipeError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Pipe;

impl Pipe {
    /// Two connections; what one sends the other receives.
    ///
    /// # Errors
    ///
    /// [`PipeError`], when there is no room for the rings.
    #[expect(
        clippy::type_complexity,
        reason = "two connections, each the mirror of the other"
    )]
    pub fn duplex<A, B>() -> Result<(Connection<A, B>, Connection<B, A>), PipeError> {
        Self::duplex_with_capacity(CAPACITY)
    }

    /// As [`duplex`](Self::duplex), with rings of `capacity` bytes each.
    ///
    /// Messages may be larger; they then go in parts.
    ///
    /// # Errors
    ///
    /// [`PipeError`], when there is no room for the rings.
    #[expect(
        clippy::type_complexity,
        reason = "two connections, each the mirror of the other"
    )]
    pub fn duplex_with_capacity<A, B>(
        capacity: usize,
    ) -> Result<(Connection<A, B>, Connection<B, A>), PipeError> {
        let (here_sender, there_receiver) = Self::simplex_with_capacity(capacity)?;
        let (there_sender, here_receiver) = Self::simplex_with_capacity(capacity)?;
        Ok((
            Connection::new(here_sender, here_receiver),
            Connection::new(there_sender, there_receiver),
        ))
    }

    /// A sender and its receiver.
    ///
    /// # Errors
    ///
    /// [`PipeError`], when there is no room for the ring.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::Pipe;
    ///
    /// let (mut sender, mut receiver) = Pipe::simplex::<(u8, String)>()?;
    /// sender.send(&(1, "one".to_string()))?;
    /// assert_eq!(receiver.recv()?, (1, "one".to_string()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn simplex<T>() -> Result<(Sender<T>, Receiver<T>), PipeError> {
        Self::simplex_with_capacity(CAPACITY)
    }

    /// As [`simplex`](Self::simplex), with a ring of `capacity` bytes.
    ///
    /// # Errors
    ///
    /// [`PipeError`], when there is no room for the ring.
    pub fn simplex_with_capacity<T>(
        capacity: usize,
    ) -> Result<(Sender<T>, Receiver<T>), PipeError> {
        let (producer, consumer) = ring(capacity)?;
        Ok((Sender::new(producer), Receiver::new(consumer)))
    }
}

/// One side of a duplex pipe: sends values of type `S` and receives values of type `R`.
///
/// Send it to another process inside a parcel (as an argument of a spawn, or through another
/// connection) to move it there; every call on what is left here then fails with "moved".
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Connection<S, R> {
    sender: Sender<S>,
    pub(crate) receiver: Receiver<R>,
}

impl<S, R> Connection<S, R> {
    /// Joins a sender and a receiver.
    pub fn new(sender: Sender<S>, receiver: Receiver<R>) -> Self {
        Self { sender, receiver }
    }

    /// Takes the two halves apart, for two threads.
    pub fn split(self) -> (Sender<S>, Receiver<R>) {
        (self.sender, self.receiver)
    }

    /// Closes both directions. The other side receives what was sent before.
    pub fn close(&mut self) {
        self.sender.close();
        self.receiver.close();
    }
}

impl<S: Serialize, R> Connection<S, R> {
    /// Sends a value; waits while there is no room. See [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub fn send(&mut self, value: &S) -> Result<(), SendError> {
        self.sender.send(value)
    }

    /// Sends a value if there is room now.
    ///
    /// # Errors
    ///
    /// As [`Sender::try_send`].
    pub fn try_send(&mut self, value: &S) -> Result<(), SendError> {
        self.sender.try_send(value)
    }

    /// Sends a value; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Sender::send_timeout`].
    pub fn send_timeout(&mut self, value: &S, timeout: Duration) -> Result<(), SendError> {
        self.sender.send_timeout(value, timeout)
    }

    /// Sends a value; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`Sender::send_deadline`].
    pub fn send_deadline(&mut self, value: &S, deadline: Instant) -> Result<(), SendError> {
        self.sender.send_deadline(value, deadline)
    }

    /// Sends a value, for `.await` on any runtime. See [`Sender::send_async`].
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub fn send_async<'a>(&'a mut self, value: &'a S) -> Sending<'a, S> {
        self.sender.send_async(value)
    }
}

impl<S, R: DeserializeOwned> Connection<S, R> {
    /// Receives a value; waits for one. See [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`].
    pub fn recv(&mut self) -> Result<R, RecvError> {
        self.receiver.recv()
    }

    /// Receives a value if there is one now.
    ///
    /// # Errors
    ///
    /// As [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<R, RecvError> {
        self.receiver.try_recv()
    }

    /// Receives a value; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv_timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<R, RecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// Receives a value; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv_deadline`].
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<R, RecvError> {
        self.receiver.recv_deadline(deadline)
    }

    /// Receives a value, for `.await` on any runtime. See [`Receiver::recv_async`].
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`].
    pub fn recv_async(&mut self) -> Recv<'_, R> {
        self.receiver.recv_async()
    }

    /// Whether a value, or the end of all values, is there; waits up to `timeout` for it.
    ///
    /// # Errors
    ///
    /// As [`Receiver::poll_timeout`].
    pub fn poll_timeout(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        self.receiver.poll_timeout(timeout)
    }
}

impl<S, R> fmt::Debug for Connection<S, R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("sender", &self.sender)
            .field("receiver", &self.receiver)
            .finish()
    }
}

#[cfg(test)]
mod tests;
