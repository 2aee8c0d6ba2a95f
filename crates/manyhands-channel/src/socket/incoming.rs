//! What comes on a connection, as messages.

use std::io::Read;

use super::error::RecvError;
use super::frames::{Frames, Head};
use super::sealed::{MOST_RECORD, Session};

/// The messages that come, sealed or not.
#[derive(Debug)]
pub(super) struct Incoming {
    frames: Frames,
    most: u64,
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
            is_broken: false,
        }
    }

    /// Whether the beginning of something has been read.
    pub(super) fn is_begun(&self) -> bool {
        self.frames.is_begun()
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

    /// The next message, if all of it has come.
    pub(super) fn next(
        &mut self,
        source: &mut impl Read,
        session: Option<&mut Session>,
    ) -> Result<Option<Vec<u8>>, RecvError> {
        if self.is_broken {
            return Err(RecvError::Corrupt);
        }
        let next = match session {
            None => self.frames.next(source),
            Some(session) => self.open_next(source, session),
        };
        self.is_broken = matches!(next, Err(RecvError::Corrupt | RecvError::TooLong { .. }));
        next
    }

    fn open_next(
        &mut self,
        source: &mut impl Read,
        session: &mut Session,
    ) -> Result<Option<Vec<u8>>, RecvError> {
        loop {
            if session.has_ended() {
                return Err(RecvError::Closed);
            }
            let record = match self.frames.next(source) {
                // Whoever can cut the line can do so between two messages.
                Err(RecvError::Closed) => return Err(RecvError::Cut),
                Ok(None) => return Ok(None),
                frame => frame?.unwrap_or_default(),
            };
            if let Some(message) = session.open(&record, self.most)? {
                return Ok(Some(message));
            }
        }
    }
}
