//! What a listener or a client insists on.

use std::time::Duration;

use super::address::Address;

/// How the two ends talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// That of CPython's `multiprocessing.connection`: the other end may be a Python program.
    ///
    /// The ends show each other that they have the key; what follows is neither hidden nor protected
    /// against changes. For sockets that nobody can listen to: unix sockets, or the same machine.
    Python,
    /// A sealed session between programs of this crate: hidden, protected, with new keys for each
    /// connection. Noise `NNpsk0` over Curve25519, ChaCha20-Poly1305 and BLAKE2s, the key being the
    /// common one.
    Sealed,
}

/// What a listener or a client insists on. Both ends need the same [`protocol`](Self::protocol).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use manyhands_channel::socket::{Address, Protocol, Terms};
///
/// let address: Address = "127.0.0.1:0".parse()?;
/// let mut terms = Terms::for_address(&address);
/// assert_eq!(terms.protocol, Protocol::Sealed);
/// terms.protocol = Protocol::Python; // the clients are Python programs
/// terms.handshake = Duration::from_secs(2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How the two ends talk.
    pub protocol: Protocol,
    /// Whether an end may be CPython before 3.12, which knows nothing but HMAC-MD5. For
    /// [`Protocol::Python`] only.
    pub legacy_md5: bool,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// The longest message that is received, in bytes; memory is taken as its bytes come.
    pub most_bytes: u64,
}

impl Terms {
    /// What is used without a word: over TCP a sealed session, elsewhere Python's protocol, with
    /// HMAC-MD5; 10 seconds for a handshake, and 1 GiB for a message.
    pub fn for_address(address: &Address) -> Self {
        let is_tcp = matches!(address, Address::Tcp(_));
        Self {
            protocol: match is_tcp {
                true => Protocol::Sealed,
                false => Protocol::Python,
            },
            legacy_md5: match address {
                Address::Tcp(address) => address.ip().is_loopback(),
                _ => true,
            },
            handshake: Duration::from_secs(10),
            most_bytes: 1 << 30,
        }
    }
}
