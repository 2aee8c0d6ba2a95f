//! The sending half of a connection.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use serde::Serialize;

use super::error::SendError;
use super::frames::python_head;
use super::sealed::Sealing;
use super::stream::Stream;

/// A message up to this length goes out together with its length.
const SMALL: usize = 16 << 10;

/// The half of a [`SocketConnection`](super::SocketConnection) that sends.
///
/// Dropping it says to the other end that nothing more comes; the other half can still receive.
pub struct SocketSender {
    stream: Arc<Stream>,
    sealing: Option<Sealing>,
    /// What is left of a message that was not sent as a whole.
    unsent: Vec<u8>,
}

impl SocketSender {
    pub(super) fn new(stream: Arc<Stream>, sealing: Option<Sealing>) -> Self {
        Self {
            stream,
            sealing,
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

    fn send_until(&mut self, message: &[u8], deadline: Deadline) -> Result<(), SendError> {
        self.flush(deadline)?;
        if let Some(sealing) = &self.sealing {
            self.unsent = sealing.lock().seal(message).map_err(SendError::Os)?;
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
}

impl Drop for SocketSender {
    fn drop(&mut self) {
        if let Some(sealing) = &self.sealing
            && self.unsent.is_empty()
            && let Ok(farewell) = sealing.lock().seal_farewell()
        {
            // If there is no room for it, the other end is told of a cut.
            let _ = self.stream.write_until(&farewell, Deadline::now());
        }
        self.stream.end();
    }
}

impl AsFd for SocketSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl fmt::Debug for SocketSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketSender")
            .field("is_sealed", &self.sealing.is_some())
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
