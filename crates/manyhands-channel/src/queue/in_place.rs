//! Bytes that are written where they are sent from, and read where they have come to: blocks of the
//! arena, which change hands.
//!
//! A queue of `Vec<u8>` carries the bytes behind their number, which is a varint of postcard; so what is
//! put in place can be got as a value, and the other way round. The number is filled up to eight bytes
//! here, so that what is behind it begins where values of eight bytes may.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use bytemuck::{Pod, try_cast_slice, try_cast_slice_mut};
use manyhands_os::Deadline;
use manyhands_shm::arena::{self, Block};
use manyhands_shm::{NoSpace, UnpackError};

use super::layout::Kind;
use super::message::{Call, Taking};
use super::raw::Message;
use super::{GetError, PutError, Queue};
use crate::patience::Patience;
use crate::ring::{NotValues, bytes_in, bytes_in_mut};

/// The bytes of the number in front of what is put in place.
const NUMBER: usize = 8;

/// The most bytes that such a number counts.
const MOST: u64 = 1 << (7 * NUMBER);

/// A varint of eight bytes, whatever the number.
fn long_varint(number: u64) -> [u8; NUMBER] {
    let mut bytes = [0; NUMBER];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let is_last = index == NUMBER - 1;
        *byte = (number >> (7 * index)) as u8 & 0x7f | if is_last { 0 } else { 0x80 };
    }
    bytes
}

/// Memory for one message of a queue, to be written in place. Dropping it gives it back.
///
/// The bytes hold what was there before; write all of them. They begin at a multiple of 8.
#[must_use = "a slot that is not committed was never put"]
pub struct QueueSlot<'a> {
    queue: &'a Queue<Vec<u8>>,
    block: Block,
}

/// A slot that was not put, and why.
pub struct NotPut<'a> {
    /// The slot, to try again.
    pub slot: QueueSlot<'a>,
    /// Why it was not put.
    pub error: PutError,
}

impl<'a> QueueSlot<'a> {
    /// Puts the message; waits while the queue has no room for it, which is as much as for a few bytes.
    ///
    /// # Errors
    ///
    /// [`NotPut`], with the slot, as for [`Queue::put`].
    pub fn commit(self) -> Result<(), NotPut<'a>> {
        self.commit_patiently(Patience::Until(Deadline::NEVER))
    }

    /// Puts the message if there is room now.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit), or [`PutError::Full`].
    pub fn try_commit(self) -> Result<(), NotPut<'a>> {
        self.commit_patiently(Patience::None)
    }

    /// As [`commit`](Self::commit), but gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit), or [`PutError::TimedOut`].
    pub fn commit_timeout(self, timeout: Duration) -> Result<(), NotPut<'a>> {
        self.commit_patiently(Patience::Until(Deadline::after(timeout)))
    }

    /// As [`commit`](Self::commit), but gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`commit_timeout`](Self::commit_timeout).
    pub fn commit_deadline(self, deadline: Instant) -> Result<(), NotPut<'a>> {
        self.commit_patiently(Patience::Until(Deadline::at(deadline)))
    }

    fn commit_patiently(self, patience: Patience) -> Result<(), NotPut<'a>> {
        let Self { queue, block } = self;
        let mut block = Some(block);
        let put = queue.put_block(&mut block, Kind::Block, patience);
        match (put, block) {
            (Err(stop), Some(block)) => Err(NotPut {
                slot: Self { queue, block },
                error: stop.into(),
            }),
            _ => Ok(()),
        }
    }

    /// The bytes as values.
    ///
    /// # Errors
    ///
    /// [`NotValues`] when the size is no multiple of that of a value, or values are to begin at
    /// multiples of more than 8.
    pub fn values_mut<T: Pod>(&mut self) -> Result<&mut [T], NotValues> {
        let not_values = NotValues::of::<T>(self.len());
        try_cast_slice_mut(self).map_err(|_| not_values)
    }
}

impl Deref for QueueSlot<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytes_in(&self.block)[NUMBER..]
    }
}

impl DerefMut for QueueSlot<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut bytes_in_mut(&mut self.block)[NUMBER..]
    }
}

impl fmt::Debug for QueueSlot<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("QueueSlot")
            .field("size", &self.len())
            .finish_non_exhaustive()
    }
}

impl std::error::Error for NotPut<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl fmt::Display for NotPut<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, formatter)
    }
}

impl fmt::Debug for NotPut<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NotPut")
            .field("slot", &self.slot)
            .field("error", &self.error)
            .finish()
    }
}

/// The bytes of a message that was taken from a queue, where they lie. Nobody else has them.
pub struct QueueMessage {
    bytes: Bytes,
    /// Where the bytes begin, behind their number.
    start: usize,
}

enum Bytes {
    InPlace(Block),
    Copied(Vec<u8>),
}

impl QueueMessage {
    fn new(bytes: Bytes) -> Result<Self, UnpackError> {
        let malformed = |reason: String| UnpackError::Malformed { reason };
        let all = bytes.as_slice();
        let (number, rest) =
            postcard::take_from_bytes::<u64>(all).map_err(|error| malformed(error.to_string()))?;
        if number != rest.len() as u64 {
            let reason = format!("{number} bytes are announced, {} are there", rest.len());
            return Err(malformed(reason));
        }
        let start = all.len() - rest.len();
        Ok(Self { bytes, start })
    }

    /// Whether it lies where it was put, and was not copied: any that was [reserved](Queue::reserve), and
    /// any that is large for its queue.
    pub fn is_in_place(&self) -> bool {
        matches!(self.bytes, Bytes::InPlace(_))
    }

    /// The bytes as values.
    ///
    /// # Errors
    ///
    /// [`NotValues`] when the size is no multiple of that of a value, or the bytes do not begin where values may;
    /// those of a reserved slot begin at a multiple of 8.
    pub fn values<T: Pod>(&self) -> Result<&[T], NotValues> {
        try_cast_slice(self).map_err(|_| NotValues::of::<T>(self.len()))
    }
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::InPlace(block) => bytes_in(block),
            Self::Copied(bytes) => bytes,
        }
    }
}

impl Deref for QueueMessage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes.as_slice()[self.start..]
    }
}

impl fmt::Debug for QueueMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("QueueMessage")
            .field("size", &self.len())
            .field("is_in_place", &self.is_in_place())
            .finish_non_exhaustive()
    }
}

impl Queue<Vec<u8>> {
    /// Memory for a message of `size` bytes, to be written in place and put by
    /// [`commit`](QueueSlot::commit); it may be got by [`get_ref`](Self::get_ref), by value, or by a
    /// [lease](Self::lease).
    ///
    /// Nothing is copied: the memory changes hands, so what it costs does not depend on the size; but when
    /// none is free of which pages were kept, they are taken from the system, which costs by the page. Until it
    /// is committed the message does not exist; if this process is killed before, the memory is free again,
    /// and if it is killed after, whoever gets the message has it.
    ///
    /// # Errors
    ///
    /// [`PutError::Closed`], [`PutError::NoSpace`].
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::Queue;
    ///
    /// let frames = Queue::<Vec<u8>>::bounded(10)?;
    /// let mut slot = frames.reserve(1000 * size_of::<f64>())?;
    /// for (index, value) in slot.values_mut::<f64>()?.iter_mut().enumerate() {
    ///     *value = index as f64 / 2.0; // a decoder or a camera writes here
    /// }
    /// slot.commit().map_err(|refused| refused.error)?;
    ///
    /// let frame = frames.get_ref()?;
    /// assert!(frame.is_in_place());
    /// assert_eq!(frame.values::<f64>()?[999], 499.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Python: no equal.
    pub fn reserve(&self, size: usize) -> Result<QueueSlot<'_>, PutError> {
        if self.is_closed() {
            return Err(PutError::Closed);
        }
        let whole = size.checked_add(NUMBER).filter(|_| (size as u64) < MOST);
        // What cannot be counted cannot be allocated.
        let mut block =
            arena::allocate(whole.unwrap_or(usize::MAX)).map_err(|mut error: NoSpace| {
                error.asked = size;
                error
            })?;
        bytes_in_mut(&mut block)[..NUMBER].copy_from_slice(&long_varint(size as u64));
        Ok(QueueSlot { queue: self, block })
    }

    /// Takes the first message where it lies; waits for one. A small one that was put by value is
    /// copied. The memory is free again when what this returns is dropped.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_ref(&self) -> Result<QueueMessage, GetError> {
        self.get_ref_patiently(Patience::Until(Deadline::NEVER))
    }

    /// Takes the first message where it lies, if there is one now.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub fn try_get_ref(&self) -> Result<QueueMessage, GetError> {
        self.get_ref_patiently(Patience::None)
    }

    /// As [`get_ref`](Self::get_ref), but gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`get_timeout`](Self::get_timeout).
    pub fn get_ref_timeout(&self, timeout: Duration) -> Result<QueueMessage, GetError> {
        self.get_ref_patiently(Patience::Until(Deadline::after(timeout)))
    }

    /// As [`get_ref`](Self::get_ref), but gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`get_deadline`](Self::get_deadline).
    pub fn get_ref_deadline(&self, deadline: Instant) -> Result<QueueMessage, GetError> {
        self.get_ref_patiently(Patience::Until(Deadline::at(deadline)))
    }

    fn get_ref_patiently(&self, patience: Patience) -> Result<QueueMessage, GetError> {
        let mut bytes = Vec::new();
        let mut into = Taking::one(&mut bytes);
        let message = self.raw.get(&mut into, Call::Take, patience)?;
        let bytes = match message {
            Message::Block(block) => Bytes::InPlace(block),
            // Bytes have no handles, and nothing is leased here.
            Message::Taken | Message::Seen(_) | Message::Leased(_) => Bytes::Copied(bytes),
        };
        Ok(QueueMessage::new(bytes)?)
    }
}

#[cfg(test)]
mod tests;
