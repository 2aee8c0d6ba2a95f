//! Messages that are written where they are sent from.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use bytemuck::{Pod, try_cast_slice_mut};
use manyhands_os::Deadline;

use crate::patience::Patience;
use crate::ring::cursor::Pending;
use crate::ring::error::{NotValues, SendError};
use crate::ring::layout::RECORD_HEAD;
use crate::ring::producer::Producer;

impl Producer {
    /// Room for a message of `size` bytes, to be written in place; waits until there is some.
    ///
    /// What it costs does not depend on the size. Until it is [committed](Slot::commit) the message does
    /// not exist; a slot that is dropped, or whose process is killed, leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), or [`SendError::TooLarge`]: a slot is in one piece, and takes at
    /// most half of the ring.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::ring::ring;
    ///
    /// let (mut producer, mut consumer) = ring(1024)?;
    /// let mut slot = producer.reserve(4)?;
    /// slot.copy_from_slice(b"four");
    /// slot.commit();
    /// let _never_committed = producer.reserve(4)?;
    ///
    /// let message = consumer.recv_ref()?;
    /// assert_eq!(*message, *b"four");
    /// drop(message);
    /// assert!(consumer.try_recv_ref().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, size: usize) -> Result<Slot<'_>, SendError> {
        self.reserve_patiently(size, Patience::Until(Deadline::NEVER))
    }

    /// Room for a message of `size` bytes, if there is some now.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve), or [`SendError::Full`].
    pub fn try_reserve(&mut self, size: usize) -> Result<Slot<'_>, SendError> {
        self.reserve_patiently(size, Patience::None)
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
        self.reserve_patiently(size, Patience::Until(Deadline::after(timeout)))
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
        self.reserve_patiently(size, Patience::Until(Deadline::at(deadline)))
    }

    pub(crate) fn reserve_patiently(
        &mut self,
        size: usize,
        patience: Patience,
    ) -> Result<Slot<'_>, SendError> {
        let most = (self.writer.capacity() / 2 - RECORD_HEAD) as usize;
        let length = u32::try_from(size).ok().filter(|_| size <= most);
        let Some(length) = length else {
            self.check()?;
            return Err(self.too_large(size));
        };
        loop {
            let wanted = self.writer.claim_size(length);
            self.make_room(wanted, patience)?;
            let claimed = self.writer.claim(length);
            if let Some((offset, pending)) =
                claimed.map_err(|corrupt| self.finish(corrupt.into()))?
            {
                return Ok(Slot {
                    producer: self,
                    offset,
                    length,
                    pending,
                });
            }
        }
    }
}

/// Room for one message in the ring, to be written in place. Dropping it takes it back.
///
/// The bytes hold what was in the ring before; write all of them. They begin at a multiple of 8.
#[must_use = "a slot that is not committed was never sent"]
pub struct Slot<'a> {
    producer: &'a mut Producer,
    offset: u64,
    length: u32,
    pending: Pending,
}

impl Slot<'_> {
    /// Sends the message.
    pub fn commit(self) {
        let Self {
            producer, pending, ..
        } = self;
        producer.publish(pending);
    }

    /// The bytes as values.
    ///
    /// # Errors
    ///
    /// [`NotValues`] when the size is no multiple of that of a value, or values are to begin at
    /// multiples of more than 8.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::ring::ring;
    ///
    /// let (mut producer, mut consumer) = ring(1 << 16)?;
    /// let mut slot = producer.reserve(1000 * size_of::<f64>())?;
    /// for (index, value) in slot.values_mut::<f64>()?.iter_mut().enumerate() {
    ///     *value = index as f64 / 2.0;
    /// }
    /// slot.commit();
    /// let message = consumer.recv_ref()?;
    /// assert_eq!(message.values::<f64>()?[999], 499.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn values_mut<T: Pod>(&mut self) -> Result<&mut [T], NotValues> {
        let not_values = NotValues::of::<T>(self.len());
        try_cast_slice_mut(self).map_err(|_| not_values)
    }
}

impl Deref for Slot<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.producer
            .writer
            .memory()
            .slot(self.offset, self.length.into())
    }
}

impl DerefMut for Slot<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.producer
            .writer
            .memory_mut()
            .slot_mut(self.offset, self.length.into())
    }
}

impl fmt::Debug for Slot<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Slot")
            .field("size", &self.length)
            .finish_non_exhaustive()
    }
}
