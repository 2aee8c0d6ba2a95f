//! Bytes that other processes write at any time.

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use super::error::PlaceError;

/// A view of shared bytes, by copies and atomics.
///
/// No slice of them is given out: another process may write at any time, and a slice promises that
/// nobody does. A copy that is made while somebody writes may be torn, in pieces of no less than a
/// byte; what must be whole needs an atomic, or a protocol of the users.
///
/// Every place is checked, since lengths and offsets tend to come from the memory itself.
pub struct Bytes {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the bytes are reached by atomic accesses only, from any thread.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// # Safety
    ///
    /// `len` bytes from `start`, which is aligned to 8, must be mapped for reading and writing as
    /// long as the view is.
    pub(super) unsafe fn new(start: NonNull<u8>, len: usize) -> Bytes {
        Bytes { start, len }
    }

    /// The first byte, for those who bring a protocol of their own; valid for [`len`](Self::len)
    /// bytes as long as this view is borrowed.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes from `offset` on into all of `buffer`.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Outside`] when there are not so many; nothing is copied.
    pub fn read_at(&self, offset: usize, buffer: &mut [u8]) -> Result<(), PlaceError> {
        let place = self.place(offset, buffer.len(), 1)?;
        let (before, words) = self.split(place, buffer.len());
        let (first, rest) = buffer.split_at_mut(before);
        self.read_bytes(place, first);
        let (middle, last) = rest.split_at_mut(words * 8);
        for (index, piece) in middle.chunks_exact_mut(8).enumerate() {
            let value = self.word(place + before + index * 8).load(Relaxed);
            piece.copy_from_slice(&value.to_ne_bytes());
        }
        self.read_bytes(place + before + words * 8, last);
        Ok(())
    }

    /// Copies all of `bytes` to the place from `offset` on.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Outside`] when there is no room for all of them; nothing is copied.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<(), PlaceError> {
        let place = self.place(offset, bytes.len(), 1)?;
        let (before, words) = self.split(place, bytes.len());
        let (first, rest) = bytes.split_at(before);
        self.write_bytes(place, first);
        let (middle, last) = rest.split_at(words * 8);
        for (index, piece) in middle.chunks_exact(8).enumerate() {
            let mut word = [0; 8];
            word.copy_from_slice(piece);
            self.word(place + before + index * 8)
                .store(u64::from_ne_bytes(word), Relaxed);
        }
        self.write_bytes(place + before + words * 8, last);
        Ok(())
    }

    /// A copy of all bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = vec![0; self.len];
        let whole = self.read_at(0, &mut copy);
        debug_assert!(whole.is_ok(), "all bytes are inside");
        copy
    }

    /// The byte at `offset`, as an atomic.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Outside`].
    pub fn atomic_u8(&self, offset: usize) -> Result<&AtomicU8, PlaceError> {
        Ok(self.byte(self.place(offset, 1, 1)?))
    }

    /// The four bytes at `offset`, as an atomic.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Outside`], or [`PlaceError::Misaligned`] when `offset` is no multiple of 4.
    pub fn atomic_u32(&self, offset: usize) -> Result<&AtomicU32, PlaceError> {
        let place = self.place(offset, 4, 4)?;
        // SAFETY: a reference needs a valid, aligned place for its life: `place` checked both, and
        // the view is borrowed; everybody uses the bytes as atomics, and any bits are a value.
        Ok(unsafe { &*self.start.as_ptr().wrapping_add(place).cast() })
    }

    /// The eight bytes at `offset`, as an atomic.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Outside`], or [`PlaceError::Misaligned`] when `offset` is no multiple of 8.
    pub fn atomic_u64(&self, offset: usize) -> Result<&AtomicU64, PlaceError> {
        Ok(self.word(self.place(offset, 8, 8)?))
    }

    /// The offset, if `len` bytes there are inside.
    fn place(&self, offset: usize, len: usize, align: usize) -> Result<usize, PlaceError> {
        let size = self.len;
        match offset.checked_add(len) {
            Some(end) if end <= size && offset.is_multiple_of(align) => Ok(offset),
            Some(end) if end <= size => Err(PlaceError::Misaligned { offset, align }),
            _ => Err(PlaceError::Outside { offset, len, size }),
        }
    }

    /// How many of `len` bytes lie before the first whole word, and how many words follow.
    fn split(&self, place: usize, len: usize) -> (usize, usize) {
        let before = (place.next_multiple_of(8) - place).min(len);
        (before, (len - before) / 8)
    }

    fn read_bytes(&self, place: usize, buffer: &mut [u8]) {
        for (index, byte) in buffer.iter_mut().enumerate() {
            *byte = self.byte(place + index).load(Relaxed);
        }
    }

    fn write_bytes(&self, place: usize, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            self.byte(place + index).store(*byte, Relaxed);
        }
    }

    /// The byte at a place that was checked. Relaxed is enough for copies: they promise no order.
    fn byte(&self, place: usize) -> &AtomicU8 {
        debug_assert!(place < self.len);
        // SAFETY: as in `atomic_u32`; the callers have checked the place.
        unsafe { &*self.start.as_ptr().wrapping_add(place).cast() }
    }

    /// The word at a place that was checked, and is a multiple of 8.
    fn word(&self, place: usize) -> &AtomicU64 {
        debug_assert!(place.is_multiple_of(8) && place + 8 <= self.len);
        // SAFETY: as in `atomic_u32`; the callers have checked the place.
        unsafe { &*self.start.as_ptr().wrapping_add(place).cast() }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes").field("len", &self.len).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(memory: &[AtomicU64]) -> Bytes {
        let start = NonNull::from(memory).cast();
        // SAFETY: `new` needs mapped memory: the tests keep it longer than the view.
        unsafe { Bytes::new(start, memory.len() * 8) }
    }

    #[test]
    fn copies_of_any_place_and_length_come_back_and_touch_nothing_else() {
        let memory: [AtomicU64; 5] = [const { AtomicU64::new(u64::MAX) }; 5];
        let bytes = view(&memory);
        let data: Vec<u8> = (0..40).collect();
        for offset in 0..40 {
            for len in 0..=40 - offset {
                bytes.write_at(0, &[0xff; 40]).expect("inside");
                bytes.write_at(offset, &data[..len]).expect("inside");
                let mut copy = vec![0; len];
                bytes.read_at(offset, &mut copy).expect("inside");
                assert_eq!(copy, &data[..len]);
                let mut all = vec![0xff; 40];
                all[offset..offset + len].copy_from_slice(&data[..len]);
                assert_eq!(bytes.to_vec(), all);
            }
        }
    }

    #[test]
    fn places_outside_or_not_aligned_are_errors() {
        let memory: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
        let bytes = view(&memory);
        let outside = PlaceError::Outside {
            offset: 10,
            len: 7,
            size: 16,
        };
        assert_eq!(bytes.read_at(10, &mut [0; 7]), Err(outside));
        assert_eq!(bytes.write_at(10, &[0; 7]), Err(outside));
        assert!(bytes.write_at(usize::MAX, &[0]).is_err());
        assert!(bytes.read_at(16, &mut []).is_ok());
        assert!(bytes.atomic_u64(9).is_err() && bytes.atomic_u64(16).is_err());
        let misaligned = PlaceError::Misaligned {
            offset: 6,
            align: 4,
        };
        assert_eq!(bytes.atomic_u32(6).expect_err("aligned?"), misaligned);
        bytes.atomic_u32(4).expect("inside").store(7, Relaxed);
        assert_eq!(
            bytes
                .atomic_u8(4 + if cfg!(target_endian = "big") { 3 } else { 0 })
                .expect("inside")
                .load(Relaxed),
            7
        );
    }
}
