//! What comes on a connection, as messages.

use std::os::fd::OwnedFd;

use super::descriptors::{Passed, Source};
use super::error::RecvError;
use super::frames::{Frame, Frames, Head};
use super::sealed::{MOST_RECORD, Opened, Session};

/// What one end gives to the other.
#[derive(Debug)]
enum Item {
    Message(Vec<u8>),
    /// Descriptors, and the byte that they came with.
    Passed(Passed, u8),
}

/// The messages that come, sealed or not.
#[derive(Debug)]
pub(super) struct Incoming {
    frames: Frames,
    most: u64,
    /// A message that somebody got who wanted descriptors.
    kept: Option<Vec<u8>>,
    /// How many descriptors come next, as a sealed session says.
    announced: Option<u8>,
    /// Whether what comes cannot be understood any more.
    is_broken: bool,
}

impl Incoming {
    /// Goes on after a handshake, with what was read too early.
    pub(super) fn new(mut frames: Frames, is_sealed: bool, most: u64) -> Self {
        match is_sealed {
            true => frames.change(Head::Record, MOST_RECORD as u64),
            false => frames.change(Head::Python, most),
        }
        Self {
            frames,
            most,
            kept: None,
            announced: None,
            is_broken: false,
        }
    }

    /// Whether the beginning of something has been read.
    pub(super) fn is_begun(&self) -> bool {
        self.kept.is_some() || self.announced.is_some() || self.frames.is_begun()
    }

    /// Whether [`next`](Self::next) may have more to tell, though nothing comes any more.
    pub(super) fn has_unseen(&self) -> bool {
        self.is_broken || self.kept.is_some() || self.frames.has_unseen()
    }

    /// The bytes of memory that it has for what has come.
    #[cfg(feature = "fuzz")]
    pub(super) fn held(&self) -> usize {
        self.frames.held()
    }

    /// Whether nothing will be understood any more.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// The next message, if all of it has come. Descriptors in its place are closed.
    pub(super) fn next(
        &mut self,
        source: &mut impl Source,
        session: Option<&mut Session>,
    ) -> Result<Option<Vec<u8>>, RecvError> {
        match self.next_item(source, session)? {
            Some(Item::Message(message)) => Ok(Some(message)),
            Some(Item::Passed(..)) => Err(RecvError::Descriptors),
            None => Ok(None),
        }
    }

    /// The next descriptors, if they have come. A message in their place stays.
    pub(super) fn next_descriptors(
        &mut self,
        source: &mut impl Source,
        session: Option<&mut Session>,
    ) -> Result<Option<Vec<OwnedFd>>, RecvError> {
        match self.next_item(source, session)? {
            Some(Item::Message(message)) => {
                self.kept = Some(message);
                Err(RecvError::Message)
            }
            Some(Item::Passed(passed, mark)) => {
                let all = passed.expected(mark);
                self.is_broken = matches!(all, Err(RecvError::Corrupt));
                all.map(Some)
            }
            None => Ok(None),
        }
    }

    fn next_item(
        &mut self,
        source: &mut impl Source,
        session: Option<&mut Session>,
    ) -> Result<Option<Item>, RecvError> {
        if self.is_broken {
            return Err(RecvError::Corrupt);
        }
        if let Some(message) = self.kept.take() {
            return Ok(Some(Item::Message(message)));
        }
        let next = match session {
            None => self.frames.next(source).map(|frame| {
                frame.map(|frame| match frame {
                    Frame::Bytes(message) => Item::Message(message),
                    Frame::Passed(passed, mark) => Item::Passed(passed, mark),
                })
            }),
            Some(session) => self.open_next(source, session),
        };
        self.is_broken = matches!(next, Err(RecvError::Corrupt | RecvError::TooLong { .. }));
        next
    }

    fn open_next(
        &mut self,
        source: &mut impl Source,
        session: &mut Session,
    ) -> Result<Option<Item>, RecvError> {
        loop {
            if session.has_ended() {
                return Err(RecvError::Closed);
            }
            let frame = match self.frames.next(source) {
                // Whoever can cut the line can do so between two messages.
                Err(RecvError::Closed) => return Err(RecvError::Cut),
                Ok(None) => return Ok(None),
                Err(error) => return Err(error),
                Ok(Some(frame)) => frame,
            };
            match (self.announced.take(), frame) {
                (Some(count), Frame::Passed(passed, mark)) if count == mark => {
                    return Ok(Some(Item::Passed(passed, mark)));
                }
                (None, Frame::Bytes(record)) => match session.open(&record, self.most)? {
                    Opened::Message(message) => return Ok(Some(Item::Message(message))),
                    Opened::Descriptors(count) => self.announced = Some(count),
                    Opened::Part => {}
                },
                // Somebody on the way has taken or added some.
                _ => return Err(RecvError::Corrupt),
            }
        }
    }
}
