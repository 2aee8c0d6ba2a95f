//! The end that connects.

use std::time::{Duration, Instant};

use manyhands_os::Deadline;

use super::address::Address;
use super::connection::SocketConnection;
use super::error::{AuthError, ConnectError};
use super::greeting::{Greeting, Outcome};
use super::handshake::Side;
use super::key::AuthKey;
use super::stream::Stream;
use super::terms::Terms;

/// Connects to a [`Listener`](super::Listener), or to one of Python's.
#[derive(Debug)]
pub struct Client;

impl Client {
    /// Connects on the [terms](Terms::for_address) of the address, by the time that they give.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Os`] when nobody listens, [`ConnectError::Auth`] when the keys are not the same,
    /// and [`ConnectError::TimedOut`].
    pub fn connect(address: &Address, key: &AuthKey) -> Result<SocketConnection, ConnectError> {
        Self::connect_on(address, key, &Terms::for_address(address))
    }

    /// Connects on terms of one's own, by the time that they give.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_on(
        address: &Address,
        key: &AuthKey,
        terms: &Terms,
    ) -> Result<SocketConnection, ConnectError> {
        connect(address, key, terms, Deadline::after(terms.handshake))
    }

    /// The same; gives up after `timeout`, whatever the terms say.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_timeout(
        address: &Address,
        key: &AuthKey,
        terms: &Terms,
        timeout: Duration,
    ) -> Result<SocketConnection, ConnectError> {
        connect(address, key, terms, Deadline::after(timeout))
    }

    /// The same; gives up at `deadline`, whatever the terms say.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_deadline(
        address: &Address,
        key: &AuthKey,
        terms: &Terms,
        deadline: Instant,
    ) -> Result<SocketConnection, ConnectError> {
        connect(address, key, terms, Deadline::at(deadline))
    }
}

fn connect(
    address: &Address,
    key: &AuthKey,
    terms: &Terms,
    deadline: Deadline,
) -> Result<SocketConnection, ConnectError> {
    let stream = Stream::connect(address, deadline)?.ok_or(ConnectError::TimedOut)?;
    let mut greeting = Greeting::begin(stream, key, Side::Client, terms, deadline)?;
    loop {
        match greeting.advance() {
            Ok(Outcome::Done) => return greeting.into_connection().ok_or(over()),
            Ok(Outcome::Waits) => {}
            Err(error) => return Err(error.into()),
        }
        if !greeting.stream().wait_readable(deadline)? {
            return Err(ConnectError::TimedOut);
        }
    }
}

fn over() -> ConnectError {
    ConnectError::Auth(AuthError::Foreign("the handshake ended too early"))
}
