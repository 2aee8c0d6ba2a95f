//! A handshake on a socket, which never waits: whoever drives it waits for the socket.

use std::io;

use manyhands_os::{Deadline, names};

use super::connection::SocketConnection;
use super::descriptors::Source;
use super::error::{AuthError, RecvError};
use super::frames::{Frame, Frames, Head, python_head};
use super::handshake::{Handshake, MOST_BYTES, Progress, Side, farewell};
use super::incoming::Incoming;
use super::key::AuthKey;
use super::sealed::Session;
use super::stream::Stream;
use super::terms::Terms;

/// How far a handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Waits,
}

/// What a handshake is held on: a socket, or what stands for one where anything may come.
pub(super) trait Wire: Source {
    /// Sends all of this now, or fails.
    fn write_now(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Wire for Stream {
    /// A message of a handshake fits into an empty socket; where it does not, nobody listens.
    fn write_now(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.write_until(bytes, Deadline::now())? == bytes.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// A handshake on a socket.
#[derive(Debug)]
pub(super) struct Greeting<W = Stream> {
    stream: W,
    frames: Frames,
    handshake: Handshake,
    most_bytes: u64,
    deadline: Deadline,
}

impl<W: Wire> Greeting<W> {
    pub(super) fn begin(
        stream: W,
        key: &AuthKey,
        side: Side,
        terms: &Terms,
        deadline: Deadline,
    ) -> io::Result<Self> {
        let (handshake, first) = Handshake::begin(key, side, terms)?;
        let mut greeting = Self {
            stream,
            frames: Frames::new(Head::Python, MOST_BYTES),
            handshake,
            most_bytes: terms.most_bytes,
            deadline,
        };
        if let Some(first) = first {
            // If it fails, the next step finds the end.
            let _ = greeting.say(&first);
        }
        Ok(greeting)
    }

    pub(super) fn stream(&self) -> &W {
        &self.stream
    }

    pub(super) fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The bytes of memory that it has for what has come.
    #[cfg(feature = "fuzz")]
    pub(super) fn held(&self) -> usize {
        self.frames.held()
    }

    /// Takes what has come.
    pub(super) fn advance(&mut self) -> Result<Outcome, AuthError> {
        loop {
            let message = match self.frames.next(&mut self.stream) {
                Ok(Some(Frame::Bytes(message))) => message,
                Ok(Some(Frame::Passed(..))) => {
                    return Err(self.refuse(AuthError::Foreign("descriptors have come")));
                }
                Ok(None) => return Ok(Outcome::Waits),
                Err(RecvError::TooLong { .. }) => return Err(self.refuse(AuthError::TooLong)),
                Err(RecvError::Corrupt) => {
                    return Err(self.refuse(AuthError::Foreign("a length is negative")));
                }
                Err(_) => return Err(AuthError::HungUp),
            };
            let said = match self.handshake.receive(&message) {
                Ok(Progress::Send(answer)) => self.say(&answer).map(|()| None),
                Ok(Progress::Done(Some(last))) => self.say(&last).map(|()| Some(Outcome::Done)),
                Ok(Progress::Done(None)) => Ok(Some(Outcome::Done)),
                Err(error) => return Err(self.refuse(error)),
            };
            match said {
                Ok(None) => {}
                Ok(Some(outcome)) => return Ok(outcome),
                Err(_) => return Err(AuthError::HungUp),
            }
        }
    }

    /// Once it is done: the wire, what comes of it from now on, and what seals it.
    pub(super) fn into_parts(self) -> Option<(W, Incoming, Option<Session>)> {
        let is_sealed = matches!(self.handshake, Handshake::Noise(_));
        let session = self.handshake.into_session();
        (session.is_some() == is_sealed).then(|| {
            let incoming = Incoming::new(self.frames, is_sealed, self.most_bytes);
            (self.stream, incoming, session)
        })
    }

    /// Tells the other end that it is refused, and no more.
    fn refuse(&mut self, error: AuthError) -> AuthError {
        if let Some(message) = farewell(&error) {
            let _ = self.say(message);
        }
        error
    }

    fn say(&mut self, message: &[u8]) -> io::Result<()> {
        let bytes = [&python_head(message.len()), message].concat();
        self.stream.write_now(&bytes)
    }
}

impl Greeting {
    /// Refuses processes of other users, where the system tells of them; the superuser is none.
    pub(super) fn check_user(&mut self) -> Result<(), AuthError> {
        match self.stream.user() {
            Some(user) if user != names::user() && user != 0 => {
                Err(self.refuse(AuthError::OtherUser { user }))
            }
            _ => Ok(()),
        }
    }

    /// Once it is done.
    pub(super) fn into_connection(self) -> Option<SocketConnection> {
        let (stream, incoming, session) = self.into_parts()?;
        Some(SocketConnection::new(stream, incoming, session))
    }
}
