//! A connection that both ends trust.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{RecvError, SendError};
use super::incoming::Incoming;
use super::receiver::SocketReceiver;
use super::sealed::{Sealing, Session};
use super::sender::SocketSender;
use super::stream::Stream;
use crate::select::RecvBytes;

/// A connection to another program, made by [`Client::connect`](super::Client::connect) or
/// [`Listener::accept`](super::Listener::accept).
///
/// Messages keep their boundaries and may be empty. Dropping it says to the other end, which then gets
/// what was sent before and [`RecvError::Closed`]. To wait for several, wait until their
/// [descriptors](AsFd) can be read, after [`try_recv_bytes`](Self::try_recv_bytes) has found nothing.
///
/// Python: `Connection`; `send_bytes` and `recv_bytes` are the same. What Python's `send` sends is a
/// pickle, which no end of ours decodes.
#[derive(Debug)]
pub struct SocketConnection {
    sender: SocketSender,
    pub(crate) receiver: SocketReceiver,
}

impl SocketConnection {
    pub(super) fn new(stream: Stream, incoming: Incoming, session: Option<Session>) -> Self {
        let (stream, sealing) = (Arc::new(stream), session.map(Sealing::new));
        Self {
            sender: SocketSender::new(Arc::clone(&stream), sealing.clone()),
            receiver: SocketReceiver::new(stream, incoming, sealing),
        }
    }

    /// Its halves, for a thread that sends and another that receives.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    ///
    /// use manyhands_channel::socket::{AuthKey, Client, Listener};
    ///
    /// let key = AuthKey::random()?;
    /// let mut listener = Listener::bind(&"127.0.0.1:0".parse()?, &key)?;
    /// let address = listener.address().clone();
    /// let echo = thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ///     let (mut sender, mut receiver) = Client::connect(&address, &key)?.split();
    ///     Ok(sender.send_bytes(&receiver.recv_bytes()?)?)
    /// });
    /// let mut connection = listener.accept()?;
    /// connection.send_bytes(b"hello")?;
    /// assert_eq!(connection.recv_bytes()?, b"hello");
    /// assert!(echo.join().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(self) -> (SocketSender, SocketReceiver) {
        (self.sender, self.receiver)
    }

    /// Whether what is sent is hidden, and protected against changes on its way.
    pub fn is_sealed(&self) -> bool {
        self.receiver.is_sealed()
    }

    /// See [`SocketSender::send_bytes`](super::SocketSender::send_bytes).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_bytes(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.send_bytes(message)
    }

    /// See [`SocketSender::try_send_bytes`](super::SocketSender::try_send_bytes).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send_bytes(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.try_send_bytes(message)
    }

    /// See [`SocketSender::send_bytes_timeout`](super::SocketSender::send_bytes_timeout).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_bytes_timeout(
        &mut self,
        message: &[u8],
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.sender.send_bytes_timeout(message, timeout)
    }

    /// See [`SocketSender::send_bytes_deadline`](super::SocketSender::send_bytes_deadline).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_bytes_deadline(
        &mut self,
        message: &[u8],
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.sender.send_bytes_deadline(message, deadline)
    }

    /// See [`SocketSender::send`](super::SocketSender::send).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
        self.sender.send(value)
    }

    /// See [`SocketSender::send_timeout`](super::SocketSender::send_timeout).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_timeout<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.sender.send_timeout(value, timeout)
    }

    /// See [`SocketReceiver::recv_bytes`](super::SocketReceiver::recv_bytes).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.receiver.recv_bytes()
    }

    /// See [`SocketReceiver::recv_bytes_async`](super::SocketReceiver::recv_bytes_async).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_bytes_async(&mut self) -> RecvBytes<'_> {
        self.receiver.recv_bytes_async()
    }

    /// See [`SocketReceiver::recv_async`](super::SocketReceiver::recv_async).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn recv_async<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        self.receiver.recv_async().await
    }

    /// See [`SocketReceiver::try_recv_bytes`](super::SocketReceiver::try_recv_bytes).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.receiver.try_recv_bytes()
    }

    /// See [`SocketReceiver::recv_bytes_timeout`](super::SocketReceiver::recv_bytes_timeout).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.receiver.recv_bytes_timeout(timeout)
    }

    /// See [`SocketReceiver::recv_bytes_deadline`](super::SocketReceiver::recv_bytes_deadline).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_bytes_deadline(&mut self, deadline: Instant) -> Result<Vec<u8>, RecvError> {
        self.receiver.recv_bytes_deadline(deadline)
    }

    /// See [`SocketReceiver::recv_bytes_into`](super::SocketReceiver::recv_bytes_into).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.receiver.recv_bytes_into(buffer)
    }

    /// See [`SocketReceiver::try_recv_bytes_into`](super::SocketReceiver::try_recv_bytes_into).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.receiver.try_recv_bytes_into(buffer)
    }

    /// See [`SocketReceiver::recv_bytes_into_timeout`](super::SocketReceiver::recv_bytes_into_timeout).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_bytes_into_timeout(
        &mut self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<usize, RecvError> {
        self.receiver.recv_bytes_into_timeout(buffer, timeout)
    }

    /// See [`SocketReceiver::recv_bytes_into_deadline`](super::SocketReceiver::recv_bytes_into_deadline).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_bytes_into_deadline(
        &mut self,
        buffer: &mut [u8],
        deadline: Instant,
    ) -> Result<usize, RecvError> {
        self.receiver.recv_bytes_into_deadline(buffer, deadline)
    }

    /// See [`SocketReceiver::recv`](super::SocketReceiver::recv).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        self.receiver.recv()
    }

    /// See [`SocketReceiver::recv_timeout`](super::SocketReceiver::recv_timeout).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_timeout<T: DeserializeOwned>(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// See [`SocketSender::send_descriptors`](super::SocketSender::send_descriptors).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_descriptors(&mut self, all: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        self.sender.send_descriptors(all)
    }

    /// See [`SocketSender::try_send_descriptors`](super::SocketSender::try_send_descriptors).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send_descriptors(&mut self, all: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        self.sender.try_send_descriptors(all)
    }

    /// See [`SocketSender::send_descriptors_timeout`](super::SocketSender::send_descriptors_timeout).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_descriptors_timeout(
        &mut self,
        all: &[BorrowedFd<'_>],
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.sender.send_descriptors_timeout(all, timeout)
    }

    /// See [`SocketSender::send_descriptors_deadline`](super::SocketSender::send_descriptors_deadline).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_descriptors_deadline(
        &mut self,
        all: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.sender.send_descriptors_deadline(all, deadline)
    }

    /// See [`SocketReceiver::recv_descriptors`](super::SocketReceiver::recv_descriptors).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_descriptors(&mut self) -> Result<Vec<OwnedFd>, RecvError> {
        self.receiver.recv_descriptors()
    }

    /// See [`SocketReceiver::try_recv_descriptors`](super::SocketReceiver::try_recv_descriptors).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv_descriptors(&mut self) -> Result<Vec<OwnedFd>, RecvError> {
        self.receiver.try_recv_descriptors()
    }

    /// See [`SocketReceiver::recv_descriptors_timeout`](super::SocketReceiver::recv_descriptors_timeout).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_descriptors_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Vec<OwnedFd>, RecvError> {
        self.receiver.recv_descriptors_timeout(timeout)
    }

    /// See [`SocketReceiver::recv_descriptors_deadline`](super::SocketReceiver::recv_descriptors_deadline).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_descriptors_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<Vec<OwnedFd>, RecvError> {
        self.receiver.recv_descriptors_deadline(deadline)
    }

    /// See [`SocketReceiver::poll_timeout`](super::SocketReceiver::poll_timeout).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn poll_timeout(&self, timeout: Duration) -> Result<bool, RecvError> {
        self.receiver.poll_timeout(timeout)
    }
}

impl AsFd for SocketConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
