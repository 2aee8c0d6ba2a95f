//! The receiving half of a connection.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use serde::de::DeserializeOwned;

use super::error::RecvError;
use super::incoming::Incoming;
use super::sealed::{Sealing, Session};
use super::stream::Stream;
use crate::select::RecvBytes;

/// The half of a [`SocketConnection`](super::SocketConnection) that receives.
pub struct SocketReceiver {
    stream: Arc<Stream>,
    incoming: Incoming,
    sealing: Option<Sealing>,
}

impl SocketReceiver {
    pub(super) fn new(stream: Arc<Stream>, incoming: Incoming, sealing: Option<Sealing>) -> Self {
        Self {
            stream,
            incoming,
            sealing,
        }
    }

    /// Receives a message; waits for it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`], [`RecvError::Cut`], and others.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives a message that is there.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::WouldBlock`].
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, RecvError> {
        self.recv_until(Deadline::now())
            .map_err(|error| match error {
                RecvError::TimedOut => RecvError::WouldBlock,
                error => error,
            })
    }

    /// Receives a message; waits no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::TimedOut`].
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Receives a message; waits no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::TimedOut`].
    pub fn recv_bytes_deadline(&mut self, deadline: Instant) -> Result<Vec<u8>, RecvError> {
        self.recv_until(Deadline::at(deadline))
    }

    /// Receives a message, for `.await` on any runtime. Dropped before it is ready, it has taken
    /// nothing: what has come of a message stays for the next call.
    ///
    /// While it waits, a thread of the library polls on its behalf, one for all. (As long as the system
    /// gives no thread or descriptor for that, the task is woken all the time.) For a limit of time use
    /// the runtime's.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes).
    pub fn recv_bytes_async(&mut self) -> RecvBytes<'_> {
        RecvBytes::new(self)
    }

    /// Receives a value, for `.await` on any runtime; see [`recv_bytes_async`](Self::recv_bytes_async).
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_async<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        decoded(&self.recv_bytes_async().await?)
    }

    /// Receives a message into a buffer of the caller's; its length in bytes.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::BufferTooShort`] with the message.
    ///
    /// Python: `Connection.recv_bytes_into`.
    pub fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        fill(buffer, self.recv_bytes()?)
    }

    /// As [`recv_bytes_into`](Self::recv_bytes_into), of a message that is there.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes_into`](Self::recv_bytes_into), and [`RecvError::WouldBlock`].
    pub fn try_recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        fill(buffer, self.try_recv_bytes()?)
    }

    /// As [`recv_bytes_into`](Self::recv_bytes_into); waits no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes_into`](Self::recv_bytes_into), and [`RecvError::TimedOut`].
    pub fn recv_bytes_into_timeout(
        &mut self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> Result<usize, RecvError> {
        fill(buffer, self.recv_bytes_timeout(timeout)?)
    }

    /// As [`recv_bytes_into`](Self::recv_bytes_into); waits no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes_into`](Self::recv_bytes_into), and [`RecvError::TimedOut`].
    pub fn recv_bytes_into_deadline(
        &mut self,
        buffer: &mut [u8],
        deadline: Instant,
    ) -> Result<usize, RecvError> {
        fill(buffer, self.recv_bytes_deadline(deadline)?)
    }

    /// Receives a value that the other end has sent with [`send`](super::SocketSender::send).
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes), and [`RecvError::Undecodable`].
    pub fn recv<T: DeserializeOwned>(&mut self) -> Result<T, RecvError> {
        decoded(&self.recv_bytes()?)
    }

    /// Receives a value; waits no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [`RecvError::TimedOut`].
    pub fn recv_timeout<T: DeserializeOwned>(&mut self, timeout: Duration) -> Result<T, RecvError> {
        decoded(&self.recv_bytes_timeout(timeout)?)
    }

    /// Receives the descriptors that one [`send_descriptors`](super::SocketSender::send_descriptors) has
    /// sent, up to 32; waits for them. They are closed on exec. Those of one such call, and no more, may be
    /// open in this process already when a message before them is received.
    ///
    /// Python: `reduction.recv_handle`; with [`Protocol::Python`](super::Protocol::Python) what Python's
    /// `send_handle` sends comes here.
    ///
    /// # Errors
    ///
    /// [`RecvError::NotOverTcp`]; [`RecvError::Message`] when a message comes first, which stays;
    /// [`RecvError::DescriptorsLost`]; and as [`recv_bytes`](Self::recv_bytes).
    pub fn recv_descriptors(&mut self) -> Result<Vec<OwnedFd>, RecvError> {
        self.descriptors_until(Deadline::NEVER)
    }

    /// Receives descriptors that are there.
    ///
    /// # Errors
    ///
    /// As [`recv_descriptors`](Self::recv_descriptors), and [`RecvError::WouldBlock`].
    pub fn try_recv_descriptors(&mut self) -> Result<Vec<OwnedFd>, RecvError> {
        let outcome = self.descriptors_until(Deadline::now());
        outcome.map_err(|error| match error {
            RecvError::TimedOut => RecvError::WouldBlock,
            error => error,
        })
    }

    /// Receives descriptors; waits no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv_descriptors`](Self::recv_descriptors), and [`RecvError::TimedOut`].
    pub fn recv_descriptors_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Vec<OwnedFd>, RecvError> {
        self.descriptors_until(Deadline::after(timeout))
    }

    /// Receives descriptors; waits no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`recv_descriptors`](Self::recv_descriptors), and [`RecvError::TimedOut`].
    pub fn recv_descriptors_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<Vec<OwnedFd>, RecvError> {
        self.descriptors_until(Deadline::at(deadline))
    }

    /// Waits until something has come, no longer than `timeout`: a message, the beginning of one, or
    /// the end. Nothing is taken.
    ///
    /// # Errors
    ///
    /// [`RecvError::Os`].
    pub fn poll_timeout(&self, timeout: Duration) -> Result<bool, RecvError> {
        if self.incoming.is_begun() {
            return Ok(true);
        }
        let deadline = Deadline::after(timeout);
        self.stream.wait_readable(deadline).map_err(RecvError::Os)
    }

    /// Whether there is perhaps a message, or an error, though nothing comes any more.
    pub(crate) fn has_unseen(&self) -> bool {
        self.incoming.has_unseen()
    }

    /// Whether what is sent is hidden, and protected against changes on its way.
    pub fn is_sealed(&self) -> bool {
        self.sealing.is_some()
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Vec<u8>, RecvError> {
        self.wait_for(deadline, |incoming, mut stream, session| {
            incoming.next(&mut stream, session)
        })
    }

    fn descriptors_until(&mut self, deadline: Deadline) -> Result<Vec<OwnedFd>, RecvError> {
        if !self.stream.is_unix() {
            return Err(RecvError::NotOverTcp);
        }
        self.wait_for(deadline, |incoming, mut stream, session| {
            incoming.next_descriptors(&mut stream, session)
        })
    }

    /// What `next` finds, as soon as it does.
    fn wait_for<T>(
        &mut self,
        deadline: Deadline,
        next: impl Fn(&mut Incoming, &Stream, Option<&mut Session>) -> Result<Option<T>, RecvError>,
    ) -> Result<T, RecvError> {
        loop {
            let mut session = self.sealing.as_ref().map(Sealing::lock);
            let found = next(&mut self.incoming, &self.stream, session.as_deref_mut());
            // The other half may send while this one waits.
            drop(session);
            if let Some(found) = found? {
                return Ok(found);
            }
            if !self.stream.wait_readable(deadline).map_err(RecvError::Os)? {
                return Err(RecvError::TimedOut);
            }
        }
    }
}

impl AsFd for SocketReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl fmt::Debug for SocketReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketReceiver")
            .field("is_sealed", &self.is_sealed())
            .field("is_broken", &self.incoming.is_broken())
            .finish_non_exhaustive()
    }
}

fn fill(buffer: &mut [u8], message: Vec<u8>) -> Result<usize, RecvError> {
    match buffer.get_mut(..message.len()) {
        Some(place) => {
            place.copy_from_slice(&message);
            Ok(message.len())
        }
        None => Err(RecvError::BufferTooShort { message }),
    }
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecvError> {
    let undecodable = |reason: String| Err(RecvError::Undecodable(reason));
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => undecodable(format!("{} bytes are left over", rest.len())),
        Err(error) => undecodable(error.to_string()),
    }
}
