//! A connected socket of any family, none of whose calls waits; waiting is done here, by deadlines.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use manyhands_os::socket::{self, UnixAddress};
use manyhands_os::{Deadline, descriptor};

use super::address::Address;
use super::descriptors::{Passed, Source};

/// A connected socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Takes over a socket.
    pub(super) fn of_tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // A message is one write; it is not to wait for the answer to the one before.
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Takes over a socket.
    pub(super) fn of_unix(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::Unix(stream))
    }

    /// Connects; `None` at the deadline.
    pub(super) fn connect(address: &Address, deadline: Deadline) -> io::Result<Option<Self>> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = match deadline.remaining() {
                    None => TcpStream::connect(address),
                    // No time at all is an error for the standard library.
                    Some(left) if left.is_zero() => return Ok(None),
                    Some(left) => TcpStream::connect_timeout(address, left),
                };
                match stream {
                    Err(late) if late.kind() == ErrorKind::TimedOut => return Ok(None),
                    stream => Self::of_tcp(stream?)?,
                }
            }
            Address::Unix(path) => return Self::connect_unix(UnixAddress::Path(path), deadline),
            Address::Abstract(name) => {
                return Self::connect_unix(UnixAddress::Abstract(name), deadline);
            }
        };
        Ok(Some(stream))
    }

    fn connect_unix(address: UnixAddress<'_>, deadline: Deadline) -> io::Result<Option<Self>> {
        let socket = socket::connect_unix(address, deadline).map_err(|refused| refused.source)?;
        socket
            .map(|socket| Self::of_unix(socket.into()))
            .transpose()
    }

    /// The user that the other end belongs to, where the system tells.
    pub(super) fn user(&self) -> Option<u32> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(stream) => socket::peer_user(stream).ok(),
        }
    }

    /// Waits until there is something to read, or the end; false at the deadline.
    pub(super) fn wait_readable(&self, deadline: Deadline) -> io::Result<bool> {
        let ready = descriptor::poll_readable(&[self.as_fd()], deadline);
        ready
            .map(|ready| ready[0])
            .map_err(|refused| refused.source)
    }

    /// Writes as much as fits until the deadline; how much that was.
    pub(super) fn write_until(&self, bytes: &[u8], deadline: Deadline) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.write(&bytes[written..]) {
                Ok(more) => written += more,
                Err(refused) if refused.kind() == ErrorKind::Interrupted => {}
                Err(refused) if refused.kind() == ErrorKind::WouldBlock => {
                    let is_ready = descriptor::poll_writable(self.as_fd(), deadline);
                    if !is_ready.map_err(|refused| refused.source)? {
                        break;
                    }
                }
                Err(refused) => return Err(refused),
            }
        }
        Ok(written)
    }

    /// Sends descriptors and the byte that marks them, until the deadline; whether it did.
    pub(super) fn pass_until(&self, all: &[OwnedFd], deadline: Deadline) -> io::Result<bool> {
        let borrowed: Vec<BorrowedFd<'_>> = all.iter().map(AsFd::as_fd).collect();
        let mark = [(all.len() % 256) as u8];
        loop {
            let sent = descriptor::send(self.as_fd(), &mark, &borrowed);
            match sent.map_err(|refused| refused.source) {
                Ok(()) => return Ok(true),
                Err(refused) if refused.kind() == ErrorKind::WouldBlock => {
                    let is_ready = descriptor::poll_writable(self.as_fd(), deadline);
                    if !is_ready.map_err(|refused| refused.source)? {
                        return Ok(false);
                    }
                }
                Err(refused) => return Err(refused),
            }
        }
    }

    /// Whether descriptors can pass.
    pub(super) fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(bytes),
            Self::Unix(stream) => (&*stream).write(bytes),
        }
    }

    /// Says to the other end that nothing more comes.
    pub(super) fn end(&self) {
        // It fails where the other end is gone, who need not be told.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

/// A read that is no [`read_passed`](Source::read_passed) has no room for descriptors: what comes of
/// them is closed by the system, and never has a number here.
impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).read(buffer),
            Stream::Unix(stream) => (&*stream).read(buffer),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Source for &Stream {
    fn read_passed(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Option<Passed>)> {
        let Stream::Unix(stream) = self else {
            return Ok((self.read(buffer)?, None));
        };
        let received = descriptor::receive_some(stream.as_fd(), buffer);
        let received = received.map_err(|refused| refused.source)?;
        let passed = match received.is_cut {
            true => Some(Passed::Cut),
            false => {
                let some = !received.descriptors.is_empty();
                some.then_some(Passed::Whole(received.descriptors))
            }
        };
        Ok((received.len, passed))
    }
}

impl Source for Stream {
    fn read_passed(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Option<Passed>)> {
        (&*self).read_passed(buffer)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
