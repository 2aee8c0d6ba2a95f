//! A connection that both ends trust.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{RecvError, SendError};
use super::frames::python_head;
use super::incoming::Incoming;
use super::sealed::Session;
use super::stream::Stream;

/// A message up to this length goes out together with its length.
const SMALL: usize = 16 << 10;

/// A connection to another program, made by [`Client::connect`](super::Client::connect) or
/// [`Listener::accept`](super::Listener::accept).
///
/// Messages keep their boundaries and may be empty. Dropping it says to the other end, which then gets
/// what was sent before and [`RecvError::Closed`]. To wait for several, wait until their
/// [descriptors](AsFd) can be read, after [`try_recv_bytes`](Self::try_recv_bytes) has found nothing.
///
/// Python: `Connection`; `send_bytes` and `recv_bytes` are the same. What Python's `send` sends is a
/// pickle, which no end of ours decodes.
pub struct SocketConnection {
    stream: Stream,
    incoming: Incoming,
    session: Option<Session>,
    /// What is left of a message that was not sent as a whole.
    unsent: Vec<u8>,
}

impl SocketConnection {
    pub(super) fn new(stream: Stream, incoming: Incoming, session: Option<Session>) -> Self {
        Self {
            stream,
            incoming,
            session,
            unsent: Vec::new(),
        }
    }

    /// Sends a message; waits until the other end, or the system, has room for it.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] and [`SendError::Os`].
    pub fn send_bytes(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_until(message, Deadline::NEVER)
    }

    /// Sends a message if there is room for it.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes), and [`SendError::WouldBlock`].
    pub fn try_send_bytes(&mut self, message: &[u8]) -> Result<(), SendError> {
        let outcome = self.send_until(message, Deadline::now());
        outcome.map_err(|error| match error {
            SendError::TimedOut => SendError::WouldBlock,
            error => error,
        })
    }

    /// Sends a message; waits no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes), and [`SendError::TimedOut`].
    pub fn send_bytes_timeout(
        &mut self,
        message: &[u8],
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_until(message, Deadline::after(timeout))
    }

    /// Sends a message; waits no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes), and [`SendError::TimedOut`].
    pub fn send_bytes_deadline(
        &mut self,
        message: &[u8],
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.send_until(message, Deadline::at(deadline))
    }

    /// Sends a value, encoded by postcard.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes), and [`SendError::Unencodable`].
    pub fn send<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SendError> {
        self.send_bytes(&encoded(value)?)
    }

    /// Sends a value; waits no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`SendError::TimedOut`].
    pub fn send_timeout<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_bytes_timeout(&encoded(value)?, timeout)
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

    /// Receives a value that the other end has sent with [`send`](Self::send).
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

    /// Whether what is sent is hidden, and protected against changes on its way.
    pub fn is_sealed(&self) -> bool {
        self.session.is_some()
    }

    fn send_until(&mut self, message: &[u8], deadline: Deadline) -> Result<(), SendError> {
        self.flush(deadline)?;
        if let Some(session) = &mut self.session {
            self.unsent = session.seal(message).map_err(SendError::Os)?;
            return self.flush(deadline);
        }
        let head = python_head(message.len());
        if message.len() <= SMALL {
            self.unsent = [&head, message].concat();
            return self.flush(deadline);
        }
        self.unsent = head;
        let outcome = self.flush(deadline);
        let written = match outcome {
            Ok(()) => self
                .stream
                .write_until(message, deadline)
                .map_err(not_sent)?,
            Err(SendError::TimedOut) => 0,
            Err(error) => return Err(error),
        };
        self.unsent.extend_from_slice(&message[written..]);
        match self.unsent.is_empty() {
            true => Ok(()),
            false => Err(SendError::TimedOut),
        }
    }

    /// Sends what is left of the message before.
    fn flush(&mut self, deadline: Deadline) -> Result<(), SendError> {
        let written = self.stream.write_until(&self.unsent, deadline);
        self.unsent.drain(..written.map_err(not_sent)?);
        match self.unsent.is_empty() {
            true => Ok(()),
            false => Err(SendError::TimedOut),
        }
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Vec<u8>, RecvError> {
        loop {
            let next = self.incoming.next(&mut self.stream, self.session.as_mut());
            if let Some(message) = next? {
                return Ok(message);
            }
            if !self.stream.wait_readable(deadline).map_err(RecvError::Os)? {
                return Err(RecvError::TimedOut);
            }
        }
    }
}

impl Drop for SocketConnection {
    fn drop(&mut self) {
        if let Some(session) = &mut self.session
            && self.unsent.is_empty()
            && let Ok(farewell) = session.seal_farewell()
        {
            // If there is no room for it, the other end is told of a cut.
            let _ = self.stream.write_until(&farewell, Deadline::now());
        }
    }
}

impl AsFd for SocketConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl fmt::Debug for SocketConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketConnection")
            .field("is_sealed", &self.is_sealed())
            .field("is_broken", &self.incoming.is_broken())
            .finish_non_exhaustive()
    }
}

fn not_sent(refused: std::io::Error) -> SendError {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    match refused.kind() {
        BrokenPipe | ConnectionReset => SendError::Closed,
        _ => SendError::Os(refused),
    }
}

fn encoded<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, SendError> {
    postcard::to_stdvec(value).map_err(|error| SendError::Unencodable(error.to_string()))
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecvError> {
    let undecodable = |reason: String| Err(RecvError::Undecodable(reason));
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => undecodable(format!("{} bytes are left over", rest.len())),
        Err(error) => undecodable(error.to_string()),
    }
}
