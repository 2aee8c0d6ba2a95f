//! Messages that are read where they have come to.

use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant};

use bytemuck::{Pod, try_cast_slice};
use manyhands_os::Deadline;

use crate::patience::Patience;
use crate::ring::consumer::Consumer;
use crate::ring::error::{NotValues, RecvError};

impl Consumer {
    /// Receives a message where it lies; waits for one. Its room is the sender's again when what this
    /// returns is dropped.
    ///
    /// What it costs does not depend on the size, when the sender has [reserved](super::Producer::reserve)
    /// the room. A message that goes round the end of the ring, or that came in parts, is copied.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_ref(&mut self) -> Result<Message<'_>, RecvError> {
        self.recv_ref_patiently(Patience::Until(Deadline::NEVER))
    }

    /// Receives a message where it lies, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_ref(&mut self) -> Result<Message<'_>, RecvError> {
        self.recv_ref_patiently(Patience::None)
    }

    /// Receives a message where it lies; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_ref_timeout(&mut self, timeout: Duration) -> Result<Message<'_>, RecvError> {
        self.recv_ref_patiently(Patience::Until(Deadline::after(timeout)))
    }

    /// Receives a message where it lies; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`recv_deadline`](Self::recv_deadline).
    pub fn recv_ref_deadline(&mut self, deadline: Instant) -> Result<Message<'_>, RecvError> {
        self.recv_ref_patiently(Patience::Until(Deadline::at(deadline)))
    }

    pub(crate) fn recv_ref_patiently(
        &mut self,
        patience: Patience,
    ) -> Result<Message<'_>, RecvError> {
        self.complete_in_place(patience)?;
        Ok(Message { consumer: self })
    }
}

/// A message that was received and still lies in the ring. Dropping it gives the room back.
///
/// If it is leaked, it is received again.
#[must_use = "a message that is dropped was received"]
pub struct Message<'a> {
    consumer: &'a mut Consumer,
}

impl Message<'_> {
    /// Whether it lies in the ring, and was not copied.
    pub fn is_in_place(&self) -> bool {
        self.consumer.message.is_in_place
    }

    /// The bytes as values. Those of a reserved slot begin at a multiple of 8.
    ///
    /// # Errors
    ///
    /// [`NotValues`] when the size is no multiple of that of a value, or the bytes do not begin where values may.
    pub fn values<T: Pod>(&self) -> Result<&[T], NotValues> {
        try_cast_slice(self).map_err(|_| NotValues::of::<T>(self.len()))
    }
}

impl Deref for Message<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Consumer {
            message, reader, ..
        } = &*self.consumer;
        match message.last.filter(|_| message.is_in_place) {
            Some(record) => {
                let (offset, length) = reader.place(record);
                reader.memory().payload(offset, length)
            }
            None => &message.bytes,
        }
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        self.consumer.release_message();
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Message")
            .field("size", &self.len())
            .field("is_in_place", &self.is_in_place())
            .finish_non_exhaustive()
    }
}
