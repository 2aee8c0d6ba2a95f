//! Bytes that are written where they are sent from, and read where they have come to.
//!
//! A pipe of `Vec<u8>` carries the bytes behind their number, which is a varint of postcard; so what is
//! sent in place can be received as a value, and the other way round.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_shm::UnpackError;

use crate::patience::Patience;
use crate::pipe::error::{RecvError, SendError};
use crate::pipe::{Connection, Receiver, Sender};
use crate::ring;

/// Room for one message in a pipe of bytes, to be written in place. Dropping it takes it back.
///
/// The bytes hold what was there before; write all of them.
#[must_use = "a slot that is not committed was never sent"]
#[derive(Debug)]
pub struct Slot<'a> {
    slot: ring::Slot<'a>,
    /// Where the bytes begin, behind their number.
    start: usize,
}

impl<'a> Slot<'a> {
    /// The most bytes that a varint takes.
    const MOST: usize = 10;

    fn new(
        sender: &'a mut Sender<Vec<u8>>,
        size: usize,
        patience: Patience,
    ) -> Result<Self, SendError> {
        let mut space = [0; Self::MOST];
        let number = match postcard::to_slice(&size, &mut space) {
            Ok(number) => &*number,
            Err(_) => unreachable!("a number takes no more than ten bytes"),
        };
        let (producer, start) = (sender.producer_mut(), number.len());
        let mut slot = producer.reserve_patiently(size.saturating_add(start), patience)?;
        slot[..start].copy_from_slice(number);
        Ok(Self { slot, start })
    }

    /// Sends the message.
    pub fn commit(self) {
        self.slot.commit();
    }
}

impl Deref for Slot<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.slot[self.start..]
    }
}

impl DerefMut for Slot<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.slot[self.start..]
    }
}

/// A message that was received and still lies in the pipe. Dropping it gives the room back.
#[must_use = "a message that is dropped was received"]
pub struct Message<'a> {
    message: ring::Message<'a>,
    /// Where the bytes begin, behind their number.
    start: usize,
}

impl<'a> Message<'a> {
    fn new(receiver: &'a mut Receiver<Vec<u8>>, patience: Patience) -> Result<Self, RecvError> {
        let message = receiver.consumer.recv_ref_patiently(patience)?;
        let malformed = |reason: String| RecvError::Undecodable(UnpackError::Malformed { reason });
        let (number, rest) = postcard::take_from_bytes::<u64>(&message)
            .map_err(|error| malformed(error.to_string()))?;
        if number != rest.len() as u64 {
            let reason = format!("{number} bytes are announced, {} are there", rest.len());
            return Err(malformed(reason));
        }
        let start = message.len() - rest.len();
        Ok(Self { message, start })
    }

    /// Whether it lies in the pipe, and was not copied.
    pub fn is_in_place(&self) -> bool {
        self.message.is_in_place()
    }
}

impl Deref for Message<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.message[self.start..]
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

impl Sender<Vec<u8>> {
    /// Room for a message of `size` bytes, to be written in place; waits until there is some. The other
    /// end may receive it by [`recv_ref`](Receiver::recv_ref) or as a value.
    ///
    /// What it costs does not depend on the size. Until it is [committed](Slot::commit) the message does
    /// not exist.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), or [`SendError::TooLarge`]: a slot takes at most half of the ring. See
    /// [`Pipe::simplex_with_capacity`](crate::Pipe::simplex_with_capacity).
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::Pipe;
    ///
    /// let (mut sender, mut receiver) = Pipe::simplex_with_capacity::<Vec<u8>>(4 << 20)?;
    /// let mut slot = sender.reserve(1 << 20)?;
    /// slot.fill(7); // a decoder or a camera writes here
    /// slot.commit();
    /// let image = receiver.recv_ref()?;
    /// assert_eq!(image.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 7 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, size: usize) -> Result<Slot<'_>, SendError> {
        Slot::new(self, size, Patience::Until(Deadline::NEVER))
    }

    /// Room for a message of `size` bytes, if there is some now.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve), or [`SendError::Full`].
    pub fn try_reserve(&mut self, size: usize) -> Result<Slot<'_>, SendError> {
        Slot::new(self, size, Patience::None)
    }

    /// As [`reserve`](Self::reserve); gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve), or [`SendError::TimedOut`].
    pub fn reserve_timeout(
        &mut self,
        size: usize,
        timeout: Duration,
    ) -> Result<Slot<'_>, SendError> {
        Slot::new(self, size, Patience::Until(Deadline::after(timeout)))
    }

    /// As [`reserve`](Self::reserve); gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve), or [`SendError::TimedOut`].
    pub fn reserve_deadline(
        &mut self,
        size: usize,
        deadline: Instant,
    ) -> Result<Slot<'_>, SendError> {
        Slot::new(self, size, Patience::Until(Deadline::at(deadline)))
    }
}

impl Receiver<Vec<u8>> {
    /// Receives a message where it lies; waits for one. Its room is the sender's again when what this
    /// returns is dropped. What goes round the end of the ring, or came in parts, is copied; what was
    /// [reserved](Sender::reserve) never is.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_ref(&mut self) -> Result<Message<'_>, RecvError> {
        Message::new(self, Patience::Until(Deadline::NEVER))
    }

    /// Receives a message where it lies, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_ref(&mut self) -> Result<Message<'_>, RecvError> {
        Message::new(self, Patience::None)
    }

    /// Receives a message where it lies; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_ref_timeout(&mut self, timeout: Duration) -> Result<Message<'_>, RecvError> {
        Message::new(self, Patience::Until(Deadline::after(timeout)))
    }

    /// Receives a message where it lies; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`recv_deadline`](Self::recv_deadline).
    pub fn recv_ref_deadline(&mut self, deadline: Instant) -> Result<Message<'_>, RecvError> {
        Message::new(self, Patience::Until(Deadline::at(deadline)))
    }
}

impl<R> Connection<Vec<u8>, R> {
    /// Room for a message to be written in place. See [`Sender::reserve`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reserve(&mut self, size: usize) -> Result<Slot<'_>, SendError> {
        self.sender.reserve(size)
    }

    /// See [`Sender::try_reserve`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_reserve(&mut self, size: usize) -> Result<Slot<'_>, SendError> {
        self.sender.try_reserve(size)
    }

    /// See [`Sender::reserve_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reserve_timeout(
        &mut self,
        size: usize,
        timeout: Duration,
    ) -> Result<Slot<'_>, SendError> {
        self.sender.reserve_timeout(size, timeout)
    }

    /// See [`Sender::reserve_deadline`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reserve_deadline(
        &mut self,
        size: usize,
        deadline: Instant,
    ) -> Result<Slot<'_>, SendError> {
        self.sender.reserve_deadline(size, deadline)
    }
}

impl<S> Connection<S, Vec<u8>> {
    /// Receives a message where it lies. See [`Receiver::recv_ref`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_ref(&mut self) -> Result<Message<'_>, RecvError> {
        self.receiver.recv_ref()
    }

    /// See [`Receiver::try_recv_ref`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv_ref(&mut self) -> Result<Message<'_>, RecvError> {
        self.receiver.try_recv_ref()
    }

    /// See [`Receiver::recv_ref_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_ref_timeout(&mut self, timeout: Duration) -> Result<Message<'_>, RecvError> {
        self.receiver.recv_ref_timeout(timeout)
    }

    /// See [`Receiver::recv_ref_deadline`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_ref_deadline(&mut self, deadline: Instant) -> Result<Message<'_>, RecvError> {
        self.receiver.recv_ref_deadline(deadline)
    }
}
