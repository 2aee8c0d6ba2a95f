//! What both handshakes have in common: they are fed with messages, and say what to send.

use std::io;

use super::error::AuthError;
use super::key::AuthKey;
use super::python::{FAILURE, Python};
use super::sealed::{Noise, Session};
use super::terms::{Protocol, Terms};

/// A message of a handshake is no longer.
pub(super) const MOST_BYTES: u64 = 256;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Listener,
    Client,
}

/// What a message led to.
#[derive(Debug)]
pub(super) enum Progress {
    /// Something is to be sent, and more to be received.
    Send(Vec<u8>),
    /// Both ends are who they should be, once this was sent.
    Done(Option<Vec<u8>>),
}

/// One end of a handshake.
#[derive(Debug)]
pub(super) enum Handshake {
    Python(Python),
    Noise(Box<Noise>),
}

impl Handshake {
    /// Begins; the message to send first, if this end does.
    pub(super) fn begin(
        key: &AuthKey,
        side: Side,
        terms: &Terms,
    ) -> io::Result<(Self, Option<Vec<u8>>)> {
        Ok(match terms.protocol {
            Protocol::Python => {
                let (python, first) = Python::begin(key.clone(), side, terms.legacy_md5)?;
                (Self::Python(python), first)
            }
            Protocol::Sealed => {
                let (noise, first) = Noise::begin(key, side)?;
                (Self::Noise(Box::new(noise)), first)
            }
        })
    }

    /// Takes a message of the other end.
    pub(super) fn receive(&mut self, message: &[u8]) -> Result<Progress, AuthError> {
        match self {
            Self::Python(python) => python.receive(message),
            Self::Noise(noise) => noise.receive(message),
        }
    }

    /// What the messages behind a handshake that is done are sealed with.
    pub(super) fn into_session(self) -> Option<Session> {
        match self {
            Self::Python(_) => None,
            Self::Noise(noise) => noise.into_session(),
        }
    }
}

/// All that a stranger is told when it is refused; nothing when it does not listen any more.
pub(super) fn farewell(error: &AuthError) -> Option<&'static [u8]> {
    match error {
        AuthError::HungUp | AuthError::Rejected => None,
        _ => Some(FAILURE),
    }
}
