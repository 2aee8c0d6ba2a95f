//! Text of a bounded length, in place.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use bytemuck::Zeroable;
use manyhands_sync::Shareable;

use crate::vec::Full;

/// Text of up to `N` bytes, which lies where the string lies: so it can be in shared memory, usually
/// behind a `Lock`.
///
/// Whoever takes the lock over from a holder that was killed inside finds text: bytes are added
/// behind the end, then one store moves the end. [`set`](Self::set) makes the string empty first.
///
/// # Examples
///
/// ```
/// use manyhands_shm::{Shared, ShmString};
/// use manyhands_sync::Lock;
///
/// let state = Shared::new(Lock::new(ShmString::<64>::new()))?;
/// let mut guard = state.lock().expect("nobody died");
/// guard.set("reading page 3").expect("it is short");
/// assert_eq!(guard.as_str(), "reading page 3");
/// # Ok::<(), manyhands_shm::NoSpace>(())
/// ```
#[derive(Zeroable)]
#[repr(C)]
pub struct ShmString<const N: usize> {
    /// An atomic so that its stores stay in order with those of the bytes.
    len: AtomicU32,
    /// The first `len` are text, at any instruction.
    bytes: [u8; N],
}

// SAFETY: plain data; a killed writer leaves text, as the protocol above says.
unsafe impl<const N: usize> Shareable for ShmString<N> {}

impl<const N: usize> ShmString<N> {
    /// No text.
    pub const fn new() -> Self {
        const { assert!(N <= u32::MAX as usize, "a string this long has no length") };
        Self {
            len: AtomicU32::new(0),
            bytes: [0; N],
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Acquire: pairs with the Release in `set_len`.
        let len = self.len.load(Acquire) as usize;
        // The limit keeps a wrong length from leading outside.
        let bytes = &self.bytes[..len.min(N)];
        // A peer that writes through wild pointers is not believed: the check costs less than the
        // doubt.
        std::str::from_utf8(bytes).unwrap_or_else(|error| {
            let whole = error.valid_up_to();
            std::str::from_utf8(&bytes[..whole]).unwrap_or_default()
        })
    }

    /// The bytes that fit.
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Adds text at the end: all, or none.
    ///
    /// # Errors
    ///
    /// [`Full`]: there is no room for it.
    pub fn push_str(&mut self, text: &str) -> Result<(), Full<()>> {
        let len = self.len();
        let places = self.bytes.get_mut(len..).unwrap_or_default();
        let places = places.get_mut(..text.len()).ok_or(Full(()))?;
        places.copy_from_slice(text.as_bytes());
        self.set_len(len + text.len());
        Ok(())
    }

    /// Replaces the text.
    ///
    /// # Errors
    ///
    /// [`Full`]: it is too long; the old text stays.
    pub fn set(&mut self, text: &str) -> Result<(), Full<()>> {
        if text.len() > N {
            return Err(Full(()));
        }
        self.clear();
        self.push_str(text)
    }

    /// Replaces the text by as much of another one as there is room for.
    pub fn set_truncated(&mut self, text: &str) {
        let fits = text.floor_char_boundary(N);
        // What fits is not refused.
        let _ = self.set(&text[..fits]);
    }

    /// Removes the text.
    pub fn clear(&mut self) {
        self.set_len(0);
        // No byte is written before the old text is hidden: a death in between would show a mixture.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    fn set_len(&mut self, len: usize) {
        // Release: the bytes come before the length that shows them.
        self.len.store(len as u32, Release);
    }
}

impl<const N: usize> Deref for ShmString<N> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> Default for ShmString<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Clone for ShmString<N> {
    fn clone(&self) -> Self {
        Self {
            len: AtomicU32::new(self.len.load(Relaxed)),
            bytes: self.bytes,
        }
    }
}

impl<const N: usize> PartialEq for ShmString<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const N: usize> Eq for ShmString<N> {}

impl<const N: usize> PartialEq<str> for ShmString<N> {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl<const N: usize> fmt::Debug for ShmString<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> fmt::Display for ShmString<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const N: usize> fmt::Write for ShmString<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text).map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_too_long_changes_nothing() {
        let mut text = ShmString::<5>::new();
        text.set("ab").expect("short");
        assert_eq!(text.push_str("cdef"), Err(Full(())));
        assert_eq!(text.set("abcdef"), Err(Full(())));
        assert_eq!(text.as_str(), "ab");
        text.push_str("cde").expect("it fits exactly");
        assert_eq!(&text, "abcde");
    }

    #[test]
    fn truncation_keeps_characters_whole() {
        let mut text = ShmString::<4>::new();
        text.set_truncated("a\u{20ac}\u{20ac}");
        assert_eq!(text.as_str(), "a\u{20ac}");
    }

    #[test]
    fn wrong_bytes_are_cut_off() {
        let mut text = ShmString::<4>::new();
        text.set("abc").expect("short");
        text.bytes[1] = 0xff;
        assert_eq!(text.as_str(), "a");
        text.len.store(u32::MAX, Relaxed);
        assert_eq!(text.as_str(), "a");
    }
}
