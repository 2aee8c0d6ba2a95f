//! What the two ends of a connection have in common.

use std::fmt;

use zeroize::Zeroizing;

/// A secret that both ends know. It is never sent, and erased from memory at the end.
///
/// # Examples
///
/// ```
/// use manyhands_channel::socket::AuthKey;
///
/// let key = AuthKey::random()?; // 32 bytes: for programs that can pass it on
/// assert_eq!(key.as_bytes().len(), 32);
/// let agreed = AuthKey::new(b"a long and random text")?;
/// assert!(AuthKey::new(b"").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `authkey`.
#[derive(Clone)]
pub struct AuthKey(Zeroizing<Vec<u8>>);

/// A key has at least one byte. A key that people can remember can be guessed, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key is empty")]
pub struct EmptyKey;

impl AuthKey {
    /// The key of these bytes.
    ///
    /// # Errors
    ///
    /// [`EmptyKey`]: with it, everybody would be let in.
    pub fn new(bytes: &[u8]) -> Result<Self, EmptyKey> {
        match bytes {
            [] => Err(EmptyKey),
            bytes => Ok(Self(Zeroizing::new(bytes.to_vec()))),
        }
    }

    /// A new key of 32 random bytes.
    ///
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub fn random() -> Result<Self, std::io::Error> {
        let mut bytes = Zeroizing::new(vec![0; 32]);
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(bytes))
    }

    /// The bytes, to be passed on to the other end by a way that is safe.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(..)")
    }
}
