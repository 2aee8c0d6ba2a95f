//! The sending half of a connection.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_os::descriptor::MAX_DESCRIPTORS;
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
    /// Descriptors that go when nothing is left of it.
    parting: Vec<OwnedFd>,
}

impl SocketSender {
    pub(super) fn new(stream: Arc<Stream>, sealing: Option<Sealing>) -> Self {
        Self {
            stream,
            sealing,
            unsent: Vec::new(),
            parting: Vec::new(),
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

    /// Sends descriptors, up to 32 together, over a unix socket; waits until the system has room for them.
    /// The other end gets descriptors of its own for the same files, by
    /// [`recv_descriptors`](super::SocketReceiver::recv_descriptors) in the order of messages.
    ///
    /// Python: `reduction.send_handle`; with [`Protocol::Python`](super::Protocol::Python) Python's
    /// `recv_handle` takes one of ours.
    ///
    /// # Errors
    ///
    /// [`SendError::NotOverTcp`], [`SendError::DescriptorCount`], [`SendError::Closed`], and
    /// [`SendError::Os`]: `TooManyReferences` (`ETOOMANYREFS`) when too many are on their way already.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::fd::AsFd;
    ///
    /// use manyhands_channel::socket::{Address, AuthKey, Client, Listener};
    ///
    /// let key = AuthKey::random()?;
    /// let address = Address::Abstract(format!("descriptors {}", std::process::id()).into());
    /// let mut listener = Listener::bind(&address, &key)?;
    /// let client = std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ///     let mut connection = Client::connect(&address, &key)?;
    ///     for end in connection.recv_descriptors()? {
    ///         std::io::PipeWriter::from(end).write_all(b"through the pipe")?;
    ///     }
    ///     Ok(())
    /// });
    /// let mut connection = listener.accept()?;
    /// let (mut reader, writer) = std::io::pipe()?;
    /// connection.send_descriptors(&[writer.as_fd()])?;
    /// drop(writer);
    /// let mut text = String::new();
    /// reader.read_to_string(&mut text)?;
    /// assert_eq!(text, "through the pipe");
    /// # client.join().expect("no panic").map_err(|error| error.to_string())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_descriptors(&mut self, all: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        self.pass_until(all, Deadline::NEVER)
    }

    /// Sends descriptors if there is room for them.
    ///
    /// # Errors
    ///
    /// As [`send_descriptors`](Self::send_descriptors), and [`SendError::WouldBlock`].
    pub fn try_send_descriptors(&mut self, all: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        let outcome = self.pass_until(all, Deadline::now());
        outcome.map_err(|error| match error {
            SendError::TimedOut => SendError::WouldBlock,
            error => error,
        })
    }

    /// Sends descriptors; waits no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send_descriptors`](Self::send_descriptors), and [`SendError::TimedOut`].
    pub fn send_descriptors_timeout(
        &mut self,
        all: &[BorrowedFd<'_>],
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.pass_until(all, Deadline::after(timeout))
    }

    /// Sends descriptors; waits no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`send_descriptors`](Self::send_descriptors), and [`SendError::TimedOut`].
    pub fn send_descriptors_deadline(
        &mut self,
        all: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), SendError> {
        self.pass_until(all, Deadline::at(deadline))
    }

    fn pass_until(&mut self, all: &[BorrowedFd<'_>], deadline: Deadline) -> Result<(), SendError> {
        if !self.stream.is_unix() {
            return Err(SendError::NotOverTcp);
        }
        if all.is_empty() || all.len() > MAX_DESCRIPTORS {
            return Err(SendError::DescriptorCount {
                count: all.len(),
                most: MAX_DESCRIPTORS,
            });
        }
        self.flush(deadline)?;
        // What cannot be sent in time goes later, when the caller's may be closed.
        let copies: Result<Vec<_>, _> = all.iter().map(BorrowedFd::try_clone_to_owned).collect();
        let copies = copies.map_err(SendError::Os)?;
        if let Some(sealing) = &self.sealing {
            let record = sealing.lock().seal_descriptors(all.len() as u8);
            self.unsent = record.map_err(SendError::Os)?;
        }
        self.parting = copies;
        self.flush(deadline)
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
        if !self.unsent.is_empty() {
            return Err(SendError::TimedOut);
        }
        if self.parting.is_empty() {
            return Ok(());
        }
        let passed = self.stream.pass_until(&self.parting, deadline);
        if !passed.map_err(not_sent)? {
            return Err(SendError::TimedOut);
        }
        self.parting.clear();
        Ok(())
    }
}

impl Drop for SocketSender {
    fn drop(&mut self) {
        if let Some(sealing) = &self.sealing
            && self.unsent.is_empty()
            && self.parting.is_empty()
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
