//! The receiving end of a ring.

use std::fmt;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_shm::arena::Participant;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::doorbell::Doorbell;
use crate::patience::Patience;
use crate::ring::cursor::{Reader, Record};
use crate::ring::endpoint::{self, Endpoint};
use crate::ring::error::{End, RecvError};
use crate::ring::layout::Kind;
use crate::ring::memory::Mapped;
use crate::ring::parking::Bunk;
use crate::ring::seat::SeatWord;
use crate::ring::view::{Peer, Side};
use crate::select::bed::Bed;
use crate::select::source::InMemory;

/// The end of a ring that messages come out of.
///
/// It belongs to one thread of one process at a time. Serializing it into a parcel moves it: here
/// every further call fails with [`RecvError::Moved`], and whoever unpacks the parcel has it, with
/// every message that was not received yet. If the parcel is dropped unread, the end is closed.
pub struct Consumer {
    pub(super) reader: Reader<Mapped>,
    endpoint: Endpoint,
    bell: Option<Doorbell>,
    end: Option<End>,
    pub(super) message: Collected,
}

/// The message that is being received.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) bytes: Vec<u8>,
    /// How many of the bytes were given back to the ring; the rest is of the record in `last`.
    kept: usize,
    /// A first part has come, and no last one.
    begun: bool,
    /// The record that completed the message; its bytes are still the ring's.
    pub(super) last: Option<Record>,
    /// The record is the whole message and was not copied out.
    pub(super) is_in_place: bool,
}

impl Consumer {
    pub(crate) fn new(reader: Reader<Mapped>, endpoint: Endpoint) -> Self {
        Self {
            reader,
            endpoint,
            bell: None,
            end: None,
            message: Collected::default(),
        }
    }

    /// Rings `bell` each time that a message was taken, and when this end is closed.
    ///
    /// For a sender that feeds many rings and waits for room in any of them. The bell moves with
    /// the end.
    pub fn attach_doorbell(&mut self, bell: &Doorbell) {
        self.bell = Some(bell.clone());
    }

    /// Receives a message into `message`, whose former content is lost; waits for one.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] or [`RecvError::PeerDied`], both only when every completed message
    /// was received; [`RecvError::Moved`] or [`RecvError::Corrupt`].
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<(), RecvError> {
        self.recv_patiently(message, Patience::Until(Deadline::NEVER))
    }

    /// Receives a message if there is one now.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), or [`RecvError::Empty`].
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<(), RecvError> {
        self.recv_patiently(message, Patience::None)
    }

    /// Receives a message; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), or [`RecvError::TimedOut`].
    pub fn recv_timeout(
        &mut self,
        message: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<(), RecvError> {
        self.recv_patiently(message, Patience::Until(Deadline::after(timeout)))
    }

    /// Receives a message; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), or [`RecvError::TimedOut`].
    pub fn recv_deadline(
        &mut self,
        message: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<(), RecvError> {
        self.recv_patiently(message, Patience::Until(Deadline::at(deadline)))
    }

    /// Whether a message, or the end of all messages, is there; waits up to `timeout` for it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Moved`] or [`RecvError::Corrupt`].
    pub fn poll_timeout(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        match self.complete(Patience::Until(Deadline::after(timeout))) {
            Ok(()) | Err(RecvError::Closed | RecvError::PeerDied { .. }) => Ok(true),
            Err(RecvError::Empty | RecvError::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Receives a message and shows it to `read` before the sender learns that it was taken.
    ///
    /// So handles in it are still held by the sender while `read` unpacks them. A panic in `read`
    /// takes the message too.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    #[inline]
    pub fn recv_with<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R, RecvError> {
        self.take(Patience::Until(Deadline::NEVER), read)
    }

    /// As [`recv_with`](Self::recv_with), if there is a message now.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_with<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Result<R, RecvError> {
        self.take(Patience::None, read)
    }

    /// Who has the other end, or had it last.
    pub fn peer(&self) -> Option<Participant> {
        self.endpoint.peer_owner()
    }

    /// The most bytes that the ring holds.
    pub fn capacity(&self) -> usize {
        self.reader.capacity() as usize
    }

    /// Closes this end: the sender's next call fails with "closed".
    pub fn close(&mut self) {
        if self.endpoint.is_ours() {
            self.endpoint.close();
            self.ring_bell();
        }
    }

    #[inline]
    pub(crate) fn take<R>(
        &mut self,
        patience: Patience,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, RecvError> {
        /// Gives the message back to the ring, also when `read` panics.
        struct Taken<'a>(&'a mut Consumer);
        impl Drop for Taken<'_> {
            fn drop(&mut self) {
                self.0.release_message();
            }
        }
        self.complete(patience)?;
        let taken = Taken(self);
        Ok(read(&taken.0.message.bytes))
    }

    fn recv_patiently(
        &mut self,
        message: &mut Vec<u8>,
        patience: Patience,
    ) -> Result<(), RecvError> {
        self.complete(patience)?;
        // Swapped, not copied: the two buffers serve each other from now on.
        std::mem::swap(&mut self.message.bytes, message);
        self.release_message();
        Ok(())
    }

    /// Waits until a whole message is in `self.message`.
    #[inline]
    fn complete(&mut self, patience: Patience) -> Result<(), RecvError> {
        if !self.endpoint.is_ours() {
            return Err(RecvError::Moved);
        }
        if self.message.is_in_place {
            self.copy_out();
        }
        while self.message.last.is_none() {
            if let Some(record) = self.next(patience)? {
                self.collect(record)?;
            }
        }
        Ok(())
    }

    /// Waits until a whole message is in `self.message`, or in the ring in one piece.
    pub(super) fn complete_in_place(&mut self, patience: Patience) -> Result<(), RecvError> {
        if !self.endpoint.is_ours() {
            return Err(RecvError::Moved);
        }
        while self.message.last.is_none() {
            match self.next(patience)? {
                Some(record)
                    if record.kind == Kind::Whole && self.reader.is_in_one_piece(record) =>
                {
                    self.message.bytes.clear();
                    (self.message.kept, self.message.begun) = (0, false);
                    (self.message.last, self.message.is_in_place) = (Some(record), true);
                }
                Some(record) => self.collect(record)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Copies a message that was shown in the ring, by somebody who has forgotten it there.
    #[cold]
    fn copy_out(&mut self) {
        if let Some(record) = self.message.last.filter(|_| self.message.is_in_place) {
            self.reader.append(record, &mut self.message.bytes);
            self.message.is_in_place = false;
        }
    }

    /// The next record, or `None` after a wait; looks at the peer only when there is none.
    #[inline]
    fn next(&mut self, patience: Patience) -> Result<Option<Record>, RecvError> {
        if let Some(record) = self.look()? {
            return Ok(Some(record));
        }
        let peer = match self.end {
            Some(end) => Peer::Ended(end),
            None => self.endpoint.peer(),
        };
        let word = match peer {
            Peer::Lives(word) => word,
            // Once more: what it committed before it ended is visible now that the end is.
            Peer::Ended(end) => match self.look()? {
                Some(record) => return Ok(Some(record)),
                None => return Err(self.finish(end)),
            },
        };
        match patience.left() {
            Some(deadline) => self.sleep(word, deadline),
            None if matches!(patience, Patience::None) => return Err(RecvError::Empty),
            None => return Err(RecvError::TimedOut),
        }
        Ok(None)
    }

    #[inline]
    fn look(&mut self) -> Result<Option<Record>, RecvError> {
        if self.end == Some(End::Corrupt) {
            return Err(RecvError::Corrupt);
        }
        self.reader
            .next()
            .map_err(|corrupt| self.finish(corrupt.into()))
    }

    fn sleep(&mut self, peer: SeatWord, deadline: Deadline) {
        let Self {
            reader, endpoint, ..
        } = self;
        endpoint.wait(|| reader.has_record(), peer, deadline);
    }

    /// Adds a record to the message.
    #[inline]
    fn collect(&mut self, record: Record) -> Result<(), RecvError> {
        if matches!(record.kind, Kind::Whole | Kind::First) {
            // A former message that was begun and not completed was given up by the sender.
            self.message.bytes.clear();
        } else if !self.message.begun {
            return Err(self.finish(End::Corrupt));
        }
        self.message.kept = self.message.bytes.len();
        self.reader.append(record, &mut self.message.bytes);
        self.message.begun = record.kind != Kind::Whole;
        if matches!(record.kind, Kind::Whole | Kind::Last) {
            self.message.last = Some(record);
            return Ok(());
        }
        self.message.kept = self.message.bytes.len();
        self.release(record);
        Ok(())
    }

    #[inline]
    pub(super) fn release_message(&mut self) {
        self.message.begun = false;
        self.message.is_in_place = false;
        self.message.kept = 0;
        self.message.bytes.clear();
        if let Some(record) = self.message.last.take() {
            self.release(record);
        }
    }

    #[inline]
    fn release(&mut self, record: Record) {
        self.reader.release(record);
        self.ring_bell();
    }

    #[inline]
    fn ring_bell(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// Remembers why this end is of no more use.
    fn finish(&mut self, end: End) -> RecvError {
        self.end = Some(end);
        end.into()
    }
}

/// Ready is also the beginning of a message, which the receiving calls then wait for the rest of.
impl InMemory for Consumer {
    fn is_ready(&self) -> bool {
        let is_over = !self.endpoint.is_ours() || self.end.is_some();
        is_over
            || self.message.last.is_some()
            || self.reader.has_record()
            || matches!(self.endpoint.peer(), Peer::Ended(_))
    }

    fn lie_down(&self, _: Deadline) -> Option<Bed> {
        let view = self.endpoint.view();
        view.lie_down_at(Bunk::Own, || self.reader.has_record())
    }

    fn get_up(&self) {
        self.endpoint.get_up();
    }

    fn remote(&self) -> Box<dyn InMemory + Send> {
        Box::new(self.endpoint.view().clone())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Serialize for Consumer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The record that completed a message is still in the ring: its new owner reads it there.
        let parts = &self.message.bytes[..self.message.kept];
        let begun = self.message.begun.then_some(parts);
        endpoint::serialize(&self.endpoint, self.bell.as_ref(), &begun, serializer)
    }
}

impl<'de> Deserialize<'de> for Consumer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (region, ticket, bell, begun) = Deserialize::deserialize(deserializer)?;
        let begun: Option<Vec<u8>> = begun;
        let endpoint = Endpoint::arrive(region, ticket, Side::Consumer)?;
        let reader = Reader::attach(endpoint.memory().clone());
        let reader = reader.map_err(|_| D::Error::custom("the ring is corrupt"))?;
        let mut consumer = Self::new(reader, endpoint);
        consumer.bell = bell;
        if let Some(bytes) = begun {
            consumer.message.begun = true;
            consumer.message.kept = bytes.len();
            consumer.message.bytes = bytes;
        }
        Ok(consumer)
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Consumer")
            .field("capacity", &self.capacity())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}
