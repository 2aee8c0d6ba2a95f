//! The sending end of a ring.

use std::fmt;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_shm::Region;
use manyhands_shm::arena::Participant;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::doorbell::Doorbell;
use crate::patience::Patience;
use crate::ring::cursor::{Pending, Writer};
use crate::ring::endpoint::{self, Endpoint, Progression};
use crate::ring::error::{End, SendError};
use crate::ring::layout::{Kind, RECORD_HEAD, record_size};
use crate::ring::memory::Mapped;
use crate::ring::parking::Bunk;
use crate::ring::seat::SeatWord;
use crate::ring::view::{Peer, Side};
use crate::select::bed::Bed;
use crate::select::source::InMemory;

/// The end of a ring that messages are put into.
///
/// It belongs to one thread of one process at a time. Serializing it into a parcel moves it: here
/// every further call fails with [`SendError::Moved`], and whoever unpacks the parcel has it. If
/// the parcel is dropped unread, the end is closed.
///
/// Messages arrive in the order of the calls. A call that fails has sent nothing.
pub struct Producer {
    pub(super) writer: Writer<Mapped>,
    endpoint: Endpoint,
    bell: Option<Doorbell>,
    end: Option<End>,
}

/// How far a message got that [`Producer::push`] sends in parts.
#[derive(Debug, Default)]
pub struct Progress {
    sent: usize,
}

impl Producer {
    pub(crate) fn new(writer: Writer<Mapped>, endpoint: Endpoint) -> Self {
        Self {
            writer,
            endpoint,
            bell: None,
            end: None,
        }
    }

    /// Rings `bell` after every message from now on, and when this end is closed.
    ///
    /// The bell moves with the end.
    pub fn attach_doorbell(&mut self, bell: &Doorbell) {
        self.bell = Some(bell.clone());
    }

    /// Sends `message`; waits while the ring has too little room.
    ///
    /// A message larger than the ring goes in parts while the receiver takes them; should the
    /// sender die in the middle, it never existed.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`], [`SendError::PeerDied`], [`SendError::Moved`] or
    /// [`SendError::Corrupt`].
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_patiently(message, Patience::Until(Deadline::NEVER))
    }

    /// Sends `message` if there is room for all of it now.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), or [`SendError::Full`], or [`SendError::TooLarge`] when it can
    /// never be sent so.
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_patiently(message, Patience::None)
    }

    /// Sends `message`; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), or [`SendError::TimedOut`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_patiently(message, Patience::Until(Deadline::after(timeout)))
    }

    /// Sends `message`; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), or [`SendError::TimedOut`].
    pub fn send_deadline(&mut self, message: &[u8], deadline: Instant) -> Result<(), SendError> {
        self.send_patiently(message, Patience::Until(Deadline::at(deadline)))
    }

    /// Sends as much of `message` as there is room for, without waiting; true when all is sent.
    ///
    /// For one thread that feeds many rings and must wait for none. Call it again with the same
    /// message and progress until it is sent; sending anything else before gives the begun message
    /// up, and the receiver never sees it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::ring::{Progress, ring};
    ///
    /// let (mut producer, mut consumer) = ring(64)?;
    /// let message = vec![7; 1000];
    /// let mut progress = Progress::default();
    /// let mut received = Vec::new();
    /// while !producer.push(&message, &mut progress)? {
    ///     // The receiver takes the parts as they come; the message is whole at the end.
    ///     assert!(consumer.try_recv(&mut received).is_err());
    /// }
    /// consumer.recv(&mut received)?;
    /// assert_eq!(received, message);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn push(&mut self, message: &[u8], progress: &mut Progress) -> Result<bool, SendError> {
        match self.advance(message, progress, Patience::None) {
            Ok(()) => Ok(true),
            Err(SendError::Full) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Who has the other end, or had it last.
    pub fn peer(&self) -> Option<Participant> {
        self.endpoint.peer_owner()
    }

    /// The most bytes that the ring holds.
    pub fn capacity(&self) -> usize {
        self.writer.capacity() as usize
    }

    /// The position behind the last message, for [`is_taken`](Self::is_taken).
    pub fn position(&self) -> u64 {
        self.writer.position()
    }

    /// Whether the receiver is done with every message before `position`.
    pub fn is_taken(&self, position: u64) -> bool {
        self.writer.is_taken(position)
    }

    #[cfg(test)]
    pub(crate) fn memory(&self) -> &Mapped {
        self.endpoint.memory()
    }

    /// The memory of the ring.
    pub(crate) fn region(&self) -> &Region {
        self.endpoint.memory().region()
    }

    pub(crate) fn progression(&self) -> Progression {
        Progression::of(&self.endpoint)
    }

    /// Closes this end: the receiver gets what was sent, and then "closed".
    pub fn close(&mut self) {
        if self.endpoint.is_ours() {
            self.endpoint.close();
            self.ring_bell();
        }
    }

    /// Why nothing can be sent any more, if that is so; looks, and does not wait.
    #[inline]
    pub(crate) fn check(&mut self) -> Result<SeatWord, SendError> {
        if !self.endpoint.is_ours() {
            return Err(SendError::Moved);
        }
        if let Some(end) = self.end {
            return Err(end.into());
        }
        match self.endpoint.peer() {
            Peer::Lives(word) => Ok(word),
            Peer::Ended(end) => Err(self.finish(end)),
        }
    }

    #[inline]
    pub(crate) fn send_patiently(
        &mut self,
        message: &[u8],
        patience: Patience,
    ) -> Result<(), SendError> {
        let fits = record_size(message.len() as u64) <= self.writer.capacity();
        if !fits && matches!(patience, Patience::None) {
            self.check()?;
            return Err(self.too_large(message.len()));
        }
        self.advance(message, &mut Progress::default(), patience)
    }

    /// Sends the rest of `message` behind `progress`.
    #[inline]
    fn advance(
        &mut self,
        message: &[u8],
        progress: &mut Progress,
        patience: Patience,
    ) -> Result<(), SendError> {
        let whole = record_size(message.len() as u64);
        if progress.sent == 0 && whole <= self.writer.capacity() {
            self.make_room(whole, patience)?;
            self.put(Kind::Whole, message);
            return Ok(());
        }
        loop {
            // Sent already, by a call before; more of nothing would not be a message.
            if progress.sent > 0 && progress.sent >= message.len() {
                return Ok(());
            }
            let rest = &message[progress.sent..];
            // Half of the ring at a time lets the receiver read one half while we write the other.
            let wanted = record_size(rest.len() as u64).min(self.writer.capacity() / 2);
            let room = self.make_room(wanted, patience)?;
            let part = rest.len().min((room - RECORD_HEAD) as usize);
            let kind = match (progress.sent, part == rest.len()) {
                (_, true) => Kind::Last,
                (0, false) => Kind::First,
                (_, false) => Kind::Middle,
            };
            self.put(kind, &rest[..part]);
            progress.sent += part;
            if kind == Kind::Last {
                return Ok(());
            }
        }
    }

    /// Waits for `wanted` free bytes; returns how many there are.
    #[inline]
    pub(super) fn make_room(&mut self, wanted: u64, patience: Patience) -> Result<u64, SendError> {
        loop {
            let peer = self.check()?;
            let room = self.writer.room(wanted);
            let room = room.map_err(|corrupt| self.finish(corrupt.into()))?;
            if room >= wanted {
                return Ok(room);
            }
            self.writer.announce(wanted);
            let Some(deadline) = patience.left() else {
                return Err(match patience {
                    Patience::None => SendError::Full,
                    Patience::Until(_) => SendError::TimedOut,
                });
            };
            let Self {
                writer, endpoint, ..
            } = self;
            endpoint.wait(|| writer.has_room(wanted), peer, deadline);
        }
    }

    #[inline]
    fn put(&mut self, kind: Kind, payload: &[u8]) {
        let pending = self.writer.put(kind, payload);
        self.publish(pending);
    }

    #[inline]
    pub(super) fn publish(&mut self, pending: Pending) {
        self.writer.publish(pending);
        self.ring_bell();
    }

    #[inline]
    fn ring_bell(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// Remembers why this end is of no more use.
    pub(super) fn finish(&mut self, end: End) -> SendError {
        self.end = Some(end);
        end.into()
    }

    pub(super) fn too_large(&self, size: usize) -> SendError {
        SendError::TooLarge {
            size,
            capacity: self.capacity(),
        }
    }
}

/// Ready is when there is the room that was refused last.
impl InMemory for Producer {
    fn is_ready(&self) -> bool {
        let is_over = !self.endpoint.is_ours() || self.end.is_some();
        is_over || self.endpoint.view().has_news()
    }

    fn lie_down(&self, _: Deadline) -> Option<Bed> {
        let view = self.endpoint.view();
        view.lie_down_at(Bunk::Own, || view.has_news())
    }

    fn get_up(&self) {
        self.endpoint.get_up();
    }

    fn remote(&self) -> Box<dyn InMemory + Send> {
        Box::new(self.endpoint.view().clone())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Serialize for Producer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        endpoint::serialize(&self.endpoint, self.bell.as_ref(), &(), serializer)
    }
}

impl<'de> Deserialize<'de> for Producer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (region, ticket, bell, ()) = Deserialize::deserialize(deserializer)?;
        let endpoint = Endpoint::arrive(region, ticket, Side::Producer)?;
        let writer = Writer::attach(endpoint.memory().clone());
        let writer = writer.map_err(|_| D::Error::custom("the ring is corrupt"))?;
        let mut producer = Self::new(writer, endpoint);
        producer.bell = bell;
        Ok(producer)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Producer")
            .field("capacity", &self.capacity())
            .field("position", &self.position())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}
