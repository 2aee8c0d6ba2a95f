//! Bytes that somebody may write while they are read, and whom nobody trusts: copied first, and
//! looked at afterwards.
//!
//! A check of shared bytes is worth nothing if they are read again afterwards: they may have changed
//! in between. So [`Bytes`] gives out copies only, each byte of which was read once, and never a
//! reference. For the other direction there is memory which its maker writes and everybody else can
//! only read: [`Board`] and [`BoardView`].
//!
//! Inside of a family this is not needed: members trust each other as threads do.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytemuck::{AnyBitPattern, NoUninit};
use manyhands_os::error::OsError;
use manyhands_os::memory::{Map, Memfd, ReadMap, ReserveError};

use crate::region::Region;

/// Bytes that may change at any time.
///
/// # Examples
///
/// A message with a length that the sender may change while we look:
///
/// ```
/// use manyhands_shm::Region;
/// use manyhands_shm::untrusted::{Bytes, ReadError};
///
/// let region = Region::new(4096)?;
/// let bytes = Bytes::of(&region);
/// let message = bytes.validated(0, |len: u32| {
///     // This is our own copy: what was checked is what is used.
///     if len <= 1000 { Ok(len as usize) } else { Err("the message is too long") }
/// });
/// let len = message?;
/// assert_eq!(bytes.to_vec(4..4 + len)?, []);
/// assert!(matches!(bytes.read::<u64>(4090), Err(ReadError { offset: 4090, len: 8, .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Bytes<'a> {
    start: *const u8,
    len: usize,
    memory: PhantomData<&'a u8>,
}

// SAFETY: an address whose bytes can be read for `'a`, by whatever thread.
unsafe impl Send for Bytes<'_> {}
// SAFETY: as above.
unsafe impl Sync for Bytes<'_> {}

impl<'a> Bytes<'a> {
    /// Sees `len` bytes from `start` on.
    ///
    /// # Safety
    ///
    /// They stay readable during `'a`. Other processes may write them in any way; threads of this
    /// one write them by volatile or atomic stores only.
    pub unsafe fn new(start: *const u8, len: usize) -> Bytes<'a> {
        Bytes {
            start,
            len,
            memory: PhantomData,
        }
    }

    /// The bytes of a region.
    pub fn of(region: &'a Region) -> Bytes<'a> {
        // SAFETY: `new` needs readable bytes: the region is held during `'a`, and who writes
        // through its raw pointer has read that others look at the same time.
        unsafe { Bytes::new(region.as_ptr(), region.len()) }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// A part of them.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the range is not inside, or ends before it begins.
    pub fn slice(self, range: Range<usize>) -> Result<Bytes<'a>, ReadError> {
        let error = ReadError {
            offset: range.start,
            len: range.end.saturating_sub(range.start),
            available: self.len,
        };
        if range.start > range.end || range.end > self.len {
            return Err(error);
        }
        // SAFETY: `new` needs readable bytes: these are some of ours.
        Ok(unsafe { Bytes::new(self.start.wrapping_add(range.start), range.len()) })
    }

    /// A copy of a value, which need not be aligned.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when it is not inside.
    pub fn read<T: AnyBitPattern>(self, offset: usize) -> Result<T, ReadError> {
        let source = self.at(offset, size_of::<T>())?;
        let mut value = T::zeroed();
        // SAFETY: `copy` needs a place of as many bytes that is ours alone.
        // - where: `value` is a local, and its size is the length of the source.
        // - what: any bytes are a `T`.
        unsafe { source.copy((&raw mut value).cast()) };
        Ok(value)
    }

    /// A copy of as many bytes as there is room for.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when they are not inside; nothing is copied then.
    pub fn read_into(self, offset: usize, place: &mut [u8]) -> Result<(), ReadError> {
        let source = self.at(offset, place.len())?;
        // SAFETY: `copy` needs a place of as many bytes that is ours alone: it is borrowed so.
        unsafe { source.copy(place.as_mut_ptr()) };
        Ok(())
    }

    /// A copy of a range. Limit its length first, if it comes from the bytes themselves: it is
    /// allocated.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the range is not inside.
    pub fn to_vec(self, range: Range<usize>) -> Result<Vec<u8>, ReadError> {
        let source = self.slice(range)?;
        let mut copy = vec![0; source.len];
        source.read_into(0, &mut copy)?;
        Ok(copy)
    }

    /// What a check makes of a copy of a value.
    ///
    /// # Errors
    ///
    /// [`Invalid::Outside`] when the value is not inside, and [`Invalid::Refused`] with what the
    /// check said.
    pub fn validated<T: AnyBitPattern, V, E>(
        self,
        offset: usize,
        check: impl FnOnce(T) -> Result<V, E>,
    ) -> Result<V, Invalid<E>> {
        let copy = self.read(offset).map_err(Invalid::Outside)?;
        check(copy).map_err(Invalid::Refused)
    }

    fn at(self, offset: usize, len: usize) -> Result<Bytes<'a>, ReadError> {
        // A range that ends beyond all numbers is not inside either.
        let end = offset.saturating_add(len);
        let part = self.slice(offset..end);
        part.map_err(|error| ReadError { len, ..error })
    }

    /// Copies all, each byte once.
    ///
    /// # Safety
    ///
    /// There is room for `len` bytes at `place`, which is nobody else's.
    unsafe fn copy(self, place: *mut u8) {
        // By words where the source is aligned: eight times as fast.
        let head = self.start.align_offset(WORD).min(self.len);
        let words = (self.len - head) / WORD;
        let tail = head + words * WORD;
        for index in (0..head).chain(tail..self.len) {
            let source = self.start.wrapping_add(index);
            // SAFETY: `read_volatile` needs a readable, aligned place: a byte of ours. That others
            // write it meanwhile is what it is volatile for; any bits are a byte.
            let byte = unsafe { source.read_volatile() };
            // SAFETY: the caller promises the room.
            unsafe { place.wrapping_add(index).write(byte) };
        }
        for index in (head..tail).step_by(WORD) {
            let source = self.start.wrapping_add(index).cast::<u64>();
            // SAFETY: as above: eight bytes of ours, aligned since `head` is where words begin.
            let word = unsafe { source.read_volatile() };
            let target = place.wrapping_add(index).cast::<u64>();
            // SAFETY: the caller promises the room; it may not be aligned.
            unsafe { target.write_unaligned(word) };
        }
    }
}

const WORD: usize = size_of::<u64>();

impl fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// What was asked for is not inside of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes from {offset} on are not inside of {available} bytes")]
#[non_exhaustive]
pub struct ReadError {
    /// Where it should begin.
    pub offset: usize,
    /// How long it should be.
    pub len: usize,
    /// How many bytes there are.
    pub available: usize,
}

/// Why there is no validated value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid<E> {
    /// It is not inside of the bytes.
    #[error(transparent)]
    Outside(ReadError),
    /// The check refused it.
    #[error("the value is refused: {0}")]
    Refused(E),
}

/// Memory that this process writes and all others can only read, whatever they try.
///
/// It has a descriptor of its own, by which it goes to the others, who make a [`BoardView`] of it.
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
/// use manyhands_shm::untrusted::{Board, BoardView};
///
/// let mut board = Board::create(4096)?;
/// let view = BoardView::open(board.as_fd().try_clone_to_owned()?)?; // in the other process
/// board.write(16, &[1_u32, 2, 3])?;
/// assert_eq!(view.bytes().read::<u32>(20)?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Board {
    file: Memfd,
    map: Map,
}

impl Board {
    /// Makes one of `len` zeroed bytes, all backed by memory.
    ///
    /// # Errors
    ///
    /// [`BoardError`] when the system refuses it or has no memory for it.
    pub fn create(len: usize) -> Result<Board, BoardError> {
        let (file, map) = Memfd::create_read_only("manyhands-board", len as u64)?;
        file.reserve(0, len as u64).map_err(BoardError::Memory)?;
        Ok(Board { file, map })
    }

    /// Writes items; readers may see any part of them before the others.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when they do not fit; nothing is written then.
    pub fn write<T: NoUninit>(&mut self, offset: usize, items: &[T]) -> Result<(), ReadError> {
        let bytes: &[u8] = bytemuck::cast_slice(items);
        self.bytes().at(offset, bytes.len())?;
        let place = self.as_ptr().wrapping_add(offset);
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: `write_volatile` needs a writable place: it is inside of the map, which only
            // this process can write, and nobody has a reference to it.
            unsafe { place.wrapping_add(index).write_volatile(*byte) };
        }
        Ok(())
    }

    /// The bytes, to read.
    pub fn bytes(&self) -> Bytes<'_> {
        // SAFETY: `new` needs readable bytes: the map lives as long as `self`.
        unsafe { Bytes::new(self.map.as_ptr(), self.map.len()) }
    }

    /// The first byte, for protocols of your own; page aligned, and valid as long as the board.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_ptr()
    }
}

impl AsFd for Board {
    /// The descriptor to send. Nobody can write through it, not even this process.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A [`Board`] of another process.
#[derive(Debug)]
pub struct BoardView {
    map: ReadMap,
}

impl BoardView {
    /// Maps what is behind a descriptor, for reading.
    ///
    /// # Errors
    ///
    /// [`BoardError`] when it is no memory file whose length can no longer change: reading one that
    /// is cut short would be the end of this process.
    pub fn open(fd: OwnedFd) -> Result<BoardView, BoardError> {
        let file = Memfd::from_fd(fd)?;
        let map = ReadMap::shared(&file)?;
        Ok(BoardView { map })
    }

    /// The bytes, which their owner may change at any time.
    pub fn bytes(&self) -> Bytes<'_> {
        // SAFETY: `new` needs readable bytes: the map lives as long as `self`, its length is sealed,
        // and nobody writes through it.
        unsafe { Bytes::new(self.map.as_ptr(), self.map.len()) }
    }
}

/// Why a board cannot be made or seen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// The operating system refused a call.
    #[error("cannot make or map the board: {0}")]
    Os(#[from] OsError),
    /// There is no memory to back it.
    #[error("cannot make the board: {0}")]
    Memory(#[source] ReserveError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(bytes: &[u8]) -> Bytes<'_> {
        // SAFETY: `new` needs readable bytes: they are borrowed, and nobody writes.
        unsafe { Bytes::new(bytes.as_ptr(), bytes.len()) }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn copies_are_what_a_slice_has(bytes: Vec<u8>, offset in 0..40_usize, len in 0..40_usize) {
            let view = seen(&bytes);
            let expected = bytes.get(offset..offset + len);
            let copy = view.to_vec(offset..offset + len);
            prop_assert_eq!(copy.as_deref().ok(), expected);
            let mut place = vec![0; len];
            prop_assert_eq!(view.read_into(offset, &mut place).is_ok(), expected.is_some());
            if let Some(expected) = expected {
                prop_assert_eq!(&*place, expected);
            }
            let number = bytes.get(offset..).and_then(|rest| rest.first_chunk());
            let number = number.map(|bytes| u128::from_ne_bytes(*bytes));
            prop_assert_eq!(view.read::<u128>(offset).ok(), number);
        }
    }

    #[test]
    fn what_is_not_inside_is_refused() {
        let view = seen(&[1, 2, 3]);
        for range in [2..4, usize::MAX..usize::MAX] {
            assert!(view.slice(range).is_err());
        }
        let (start, end) = (2, 1);
        assert!(view.slice(start..end).is_err());
        assert!(view.read::<u8>(usize::MAX).is_err());
        let error = view.read::<u16>(2).expect_err("one byte too many");
        assert_eq!(
            error.to_string(),
            "2 bytes from 2 on are not inside of 3 bytes"
        );
        assert!(view.slice(3..3).expect("the end").is_empty());
        assert_eq!(view.len(), 3);
    }

    #[test]
    fn check_decides_over_a_copy() {
        let view = seen(&[7, 0]);
        let check = |number: u8| {
            if number == 7 {
                Ok("seven")
            } else {
                Err(number)
            }
        };
        assert_eq!(view.validated(0, check), Ok("seven"));
        assert_eq!(view.validated(1, check), Err(Invalid::Refused(0)));
        assert!(matches!(view.validated(2, check), Err(Invalid::Outside(_))));
    }

    #[test]
    fn what_does_not_fit_on_a_board_is_not_written() {
        let mut board = Board::create(10).expect("a page");
        assert!(board.write(4, &[u64::MAX]).is_err());
        assert_eq!(board.bytes().to_vec(0..10), Ok(vec![0; 10]));
        board.write(2, &[u64::MAX]).expect("it fits exactly");
        assert_eq!(board.bytes().read::<u64>(2), Ok(u64::MAX));
    }
}
