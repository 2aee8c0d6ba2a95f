//! The end that waits for others.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use manyhands_os::{Deadline, descriptor};

use super::address::Address;
use super::connection::SocketConnection;
use super::error::{AcceptError, BindError};
use super::greeting::{Greeting, Outcome};
use super::handshake::Side;
use super::key::AuthKey;
use super::stream::Stream;
use super::terms::Terms;
use crate::select::Accept;

/// So many handshakes are under way at most; who comes then waits in the system's list.
const MOST_GREETINGS: usize = 64;

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Waits for others to connect, and lets those in who have the key.
///
/// Handshakes go on while it waits, all at once: one who says nothing keeps nobody else out, and is
/// put out when the time is up. Who is put out learns nothing, and whoever accepts is not disturbed;
/// [`stats`](Self::stats) counts them. Between two calls nothing goes on.
///
/// Dropping it closes it, and removes its file, if it has one.
///
/// Python: `multiprocessing.connection.Listener`.
pub struct Listener {
    socket: Socket,
    address: Address,
    /// The file that this listener has made, by device and number.
    file: Option<(PathBuf, (u64, u64))>,
    key: AuthKey,
    terms: Terms,
    greetings: Vec<Greeting>,
    stats: ListenerStats,
}

/// What came of those who have connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// Those who were let in.
    pub accepted: u64,
    /// Those who had another key, or spoke another protocol.
    pub refused: u64,
    /// Those who hung up, or did not say who they are in time.
    pub lost: u64,
    /// Those who are saying who they are.
    pub greeting: usize,
}

impl Listener {
    /// Listens at an address on its [terms](Terms::for_address).
    ///
    /// # Errors
    ///
    /// [`BindError`] when somebody listens there, or the system has no such address.
    pub fn bind(address: &Address, key: &AuthKey) -> Result<Self, BindError> {
        Self::bind_on(address, key, Terms::for_address(address))
    }

    /// Listens at an address on terms of one's own.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn bind_on(address: &Address, key: &AuthKey, terms: Terms) -> Result<Self, BindError> {
        let refused = |source| BindError {
            address: address.to_string(),
            source,
        };
        let (socket, bound) = Socket::bind(address).map_err(refused)?;
        let file = match address {
            Address::Unix(path) => {
                let file = file_of(path).map_err(refused)?;
                Some((path.clone(), file))
            }
            _ => None,
        };
        Ok(Self {
            socket,
            address: bound,
            file,
            key: key.clone(),
            terms,
            greetings: Vec::new(),
            stats: ListenerStats::default(),
        })
    }

    /// Where it listens, with the port that it got.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What came of those who have connected.
    pub fn stats(&self) -> ListenerStats {
        ListenerStats {
            greeting: self.greetings.len(),
            ..self.stats
        }
    }

    /// Waits for somebody who has the key.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Os`], for example when there are no descriptors left.
    pub fn accept(&mut self) -> Result<SocketConnection, AcceptError> {
        self.accept_until(Deadline::NEVER)
    }

    /// Lets somebody in who is there, with the handshake done. Handshakes go on by a step.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), and [`AcceptError::WouldBlock`].
    pub fn try_accept(&mut self) -> Result<SocketConnection, AcceptError> {
        self.accept_until(Deadline::now())
            .map_err(|error| match error {
                AcceptError::TimedOut => AcceptError::WouldBlock,
                error => error,
            })
    }

    /// Waits for somebody who has the key, for `.await` on any runtime. Dropped before it is ready, it
    /// has let nobody in; handshakes go on at the next call.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub fn accept_async(&mut self) -> Accept<'_> {
        Accept::new(self)
    }

    /// Waits no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), and [`AcceptError::TimedOut`].
    pub fn accept_timeout(&mut self, timeout: Duration) -> Result<SocketConnection, AcceptError> {
        self.accept_until(Deadline::after(timeout))
    }

    /// Waits no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), and [`AcceptError::TimedOut`].
    pub fn accept_deadline(&mut self, deadline: Instant) -> Result<SocketConnection, AcceptError> {
        self.accept_until(Deadline::at(deadline))
    }

    fn accept_until(&mut self, deadline: Deadline) -> Result<SocketConnection, AcceptError> {
        loop {
            self.welcome()?;
            if let Some(connection) = self.advance() {
                self.stats.accepted += 1;
                return Ok(connection);
            }
            if deadline.has_passed() {
                return Err(AcceptError::TimedOut);
            }
            self.wait(deadline)?;
        }
    }

    /// Begins the handshakes of those who have come.
    fn welcome(&mut self) -> io::Result<()> {
        while self.greetings.len() < MOST_GREETINGS {
            let Some(stream) = self.socket.accept()? else {
                return Ok(());
            };
            let deadline = Deadline::after(self.terms.handshake);
            let greeting =
                Greeting::begin(stream, &self.key, Side::Listener, &self.terms, deadline);
            let mut greeting = greeting?;
            match greeting.check_user() {
                Ok(()) => self.greetings.push(greeting),
                Err(_) => self.stats.refused += 1,
            }
        }
        Ok(())
    }

    /// Goes on with all handshakes; somebody who is done.
    fn advance(&mut self) -> Option<SocketConnection> {
        let mut place = 0;
        while place < self.greetings.len() {
            use super::error::AuthError::HungUp;
            match self.greetings[place].advance() {
                Ok(Outcome::Done) => {
                    if let Some(connection) = self.greetings.remove(place).into_connection() {
                        return Some(connection);
                    }
                }
                Ok(Outcome::Waits) if !self.greetings[place].deadline().has_passed() => place += 1,
                Ok(Outcome::Waits) | Err(HungUp) => {
                    self.greetings.remove(place);
                    self.stats.lost += 1;
                }
                Err(_) => {
                    self.greetings.remove(place);
                    self.stats.refused += 1;
                }
            }
        }
        None
    }

    /// Waits until somebody comes or says something, or is out of time.
    fn wait(&self, deadline: Deadline) -> io::Result<()> {
        let (descriptors, limit) = self.waits_for();
        let ready = descriptor::poll_readable(&descriptors, deadline.earlier(limit));
        ready.map(drop).map_err(|refused| refused.source)
    }

    /// Those who come or say something, and when the first of them is out of time.
    pub(crate) fn waits_for(&self) -> (Vec<BorrowedFd<'_>>, Deadline) {
        let is_full = self.greetings.len() >= MOST_GREETINGS;
        let newcomers = (!is_full).then(|| self.socket.as_fd());
        let others = self
            .greetings
            .iter()
            .map(|greeting| greeting.stream().as_fd());
        let all = newcomers.into_iter().chain(others).collect();
        let times = self.greetings.iter().map(Greeting::deadline);
        (all, times.fold(Deadline::NEVER, Deadline::earlier))
    }
}

impl Socket {
    /// The socket, and where it is.
    fn bind(address: &Address) -> io::Result<(Self, Address)> {
        Ok(match address {
            Address::Tcp(address) => {
                let socket = TcpListener::bind(address)?;
                socket.set_nonblocking(true)?;
                let bound = socket.local_addr()?;
                (Self::Tcp(socket), bound.into())
            }
            Address::Unix(path) => {
                let socket = UnixListener::bind(path)?;
                socket.set_nonblocking(true)?;
                (Self::Unix(socket), path.clone().into())
            }
            Address::Abstract(name) => {
                let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
                socket.set_nonblocking(true)?;
                (Self::Unix(socket), Address::Abstract(name.clone()))
            }
        })
    }

    /// Somebody who has connected.
    fn accept(&self) -> io::Result<Option<Stream>> {
        loop {
            let stream = match self {
                Self::Tcp(socket) => socket.accept().map(|(stream, _)| Stream::of_tcp(stream)),
                Self::Unix(socket) => socket.accept().map(|(stream, _)| Stream::of_unix(stream)),
            };
            return match stream {
                Ok(stream) => stream.map(Some),
                Err(refused) => match refused.kind() {
                    ErrorKind::WouldBlock => Ok(None),
                    // It was gone again.
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => continue,
                    _ => Err(refused),
                },
            };
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// Which file it is, whatever its name.
fn file_of(path: &Path) -> io::Result<(u64, u64)> {
    let facts = std::fs::symlink_metadata(path)?;
    Ok((facts.dev(), facts.ino()))
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((path, made)) = &self.file
            && file_of(path).is_ok_and(|file| file == *made)
        {
            // Somebody else may be quicker.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
