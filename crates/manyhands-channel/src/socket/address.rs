//! Where listeners are.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// Where a listener is.
///
/// # Examples
///
/// ```
/// use manyhands_channel::socket::Address;
///
/// let tcp: Address = "127.0.0.1:5000".parse()?;
/// assert_eq!(tcp.to_string(), "127.0.0.1:5000");
/// let unix: Address = "/run/app/socket".parse()?;
/// assert_eq!(unix, Address::Unix("/run/app/socket".into()));
/// let hidden: Address = "@app".parse()?;
/// assert_eq!(hidden, Address::Abstract(b"app".to_vec()));
/// assert!("no port".parse::<Address>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: a pair of host and port, a path, or text that begins with a zero byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A port of this machine or another one. Port 0 when listening: any free one.
    Tcp(SocketAddr),
    /// A socket in the file system; the permissions of its folder say who can reach it.
    Unix(PathBuf),
    /// A socket with a name that is in no file system, and goes with the listener: without the zero
    /// byte that it begins with. Linux only. Every user can reach it.
    Abstract(Vec<u8>),
}

/// The text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: neither IP:PORT, nor a path with a slash in it, nor @NAME")]
pub struct NoAddress(String);

impl Address {
    /// The first address of a host, by the system's resolver, which may take its time.
    ///
    /// # Errors
    ///
    /// When the resolver fails, or knows none.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::socket::Address;
    ///
    /// let here = Address::resolve("localhost", 5000)?;
    /// assert!(matches!(here, Address::Tcp(address) if address.ip().is_loopback()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn resolve(host: &str, port: u16) -> io::Result<Self> {
        let mut found = (host, port).to_socket_addrs()?;
        let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        found.next().map(Self::Tcp).ok_or_else(none)
    }
}

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if let Some(name) = text.strip_prefix('@') {
            return Ok(Self::Abstract(name.as_bytes().to_vec()));
        }
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| NoAddress(text.to_owned()))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
        }
    }
}
