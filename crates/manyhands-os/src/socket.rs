//! What the standard library lacks of unix sockets: connecting by a deadline, and who is there.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::clock::Deadline;
use crate::error::OsError;

/// Where a unix socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnixAddress<'a> {
    /// In the file system.
    Path(&'a Path),
    /// In no file system; without the zero byte in front.
    Abstract(&'a [u8]),
}

/// Connects to a unix socket; `None` at the deadline, when its listener has taken nobody out of a full
/// list by then.
///
/// # Errors
///
/// `ENOENT` and `ECONNREFUSED` when nobody listens, `EINVAL` or `ENAMETOOLONG` for a name that cannot be.
///
/// # Examples
///
/// ```
/// use manyhands_os::Deadline;
/// use manyhands_os::socket::{UnixAddress, connect_unix};
///
/// let nowhere = UnixAddress::Abstract(b"manyhands, nobody listens here");
/// let refused = connect_unix(nowhere, Deadline::now()).expect_err("nobody listens");
/// assert_eq!(refused.source.kind(), std::io::ErrorKind::ConnectionRefused);
/// ```
pub fn connect_unix(
    address: UnixAddress<'_>,
    deadline: Deadline,
) -> Result<Option<OwnedFd>, OsError> {
    let name = match address {
        UnixAddress::Path(path) => SocketAddrUnix::new(path),
        UnixAddress::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
    };
    let name = name.map_err(|errno| OsError::new("connect", errno))?;
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| OsError::new("socket", errno))?;
    loop {
        // A time-out of zero would be none.
        let moment = std::time::Duration::from_millis(1);
        let left = deadline.remaining().map(|left| left.max(moment));
        set_socket_timeout(&socket, Timeout::Send, left)
            .map_err(|errno| OsError::new("setsockopt(SO_SNDTIMEO)", errno))?;
        match connect(&socket, &name) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if deadline.has_passed() => return Ok(None),
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(OsError::new("connect", errno)),
        }
    }
    set_socket_timeout(&socket, Timeout::Send, None)
        .map_err(|errno| OsError::new("setsockopt(SO_SNDTIMEO)", errno))?;
    Ok(Some(socket))
}

/// The user that the other end of a unix socket belonged to when it connected.
///
/// # Errors
///
/// When it is no connected unix socket.
///
/// # Examples
///
/// ```
/// let (one, _other) = std::os::unix::net::UnixStream::pair()?;
/// assert_eq!(manyhands_os::socket::peer_user(&one)?, manyhands_os::names::user());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn peer_user(socket: impl AsFd) -> Result<u32, OsError> {
    let peer = socket_peercred(socket).map_err(|e| OsError::new("getsockopt(SO_PEERCRED)", e))?;
    Ok(peer.uid.as_raw())
}
