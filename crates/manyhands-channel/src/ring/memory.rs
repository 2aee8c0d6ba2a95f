//! A ring in a region of shared memory: the one place of this crate that touches raw bytes.
//!
//! Who may touch what is decided by the cursors in `cursor.rs`; where it lies is decided here.

#![allow(
    unsafe_code,
    reason = "bytes that another process writes are reached through raw pointers; the rest of the crate builds on these few functions"
)]

use std::fmt;
use std::ptr::NonNull;

use manyhands_os::futex::{self, Scope};
use manyhands_shm::Region;

use crate::primitive::{AtomicU32, AtomicU64};
use crate::ring::cursor::{Corrupt, Memory};
use crate::ring::layout::{DATA_OFFSET, Header, LEAST_CAPACITY};

/// A mapped ring. While it lives, its region does.
#[derive(Clone)]
pub(crate) struct Mapped {
    /// Where the region begins; kept here because asking for it costs a detour on each access.
    base: NonNull<u8>,
    /// How many bytes of records there are.
    size: u64,
    region: Region,
}

// SAFETY: a `Mapped` is a handle to memory that is shared between processes anyway.
// - where: `base` belongs to `region`, which is mapped for every thread of the process.
// - who: the words are atomics; the bytes belong to whichever side the cursors name, and there is
//   one cursor a side, which moves between threads only as a whole.
// - what: no thread-local state is behind the pointer.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Takes the region as a ring, if it is large enough to be one.
    pub(crate) fn new(region: Region) -> Result<Self, Corrupt> {
        let base = NonNull::new(region.as_ptr()).ok_or(Corrupt)?;
        let size = region.len().checked_sub(DATA_OFFSET).ok_or(Corrupt)? as u64;
        if size < LEAST_CAPACITY || !base.cast::<Header>().is_aligned() {
            return Err(Corrupt);
        }
        Ok(Self { base, size, region })
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// The address of `length` bytes at `offset` of the records.
    fn data(&self, offset: u64, length: u64) -> NonNull<u8> {
        let end = offset.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.size), "inside the ring");
        // SAFETY: `add` needs the result inside the same allocation.
        // - where: `DATA_OFFSET + size` is the region's length, and `offset <= size` was checked.
        // - who: only an address is computed.
        // - what: nothing is read.
        unsafe { self.base.add(DATA_OFFSET + offset as usize) }
    }

    /// The bytes of a claimed slot. Only the producer's cursor calls this.
    pub(crate) fn slot(&self, offset: u64, length: u64) -> &[u8] {
        let start = self.data(offset, length).as_ptr();
        // SAFETY: `from_raw_parts` needs valid, initialized bytes that nobody writes.
        // - where: `data` checked the bounds; `self.region` outlives the borrow.
        // - who: as in `slot_mut`; to write the slot needs the producer by `&mut`.
        // - what: any byte is a valid `u8`; regions are zeroed when they are made.
        unsafe { std::slice::from_raw_parts(start, length as usize) }
    }

    /// The bytes of a claimed slot, to be written. Only the producer's cursor calls this.
    pub(crate) fn slot_mut(&mut self, offset: u64, length: u64) -> &mut [u8] {
        let start = self.data(offset, length).as_ptr();
        // SAFETY: `from_raw_parts_mut` needs valid, initialized, exclusive bytes.
        // - where: `data` checked the bounds; `self.region` outlives the borrow.
        // - who: the producer's cursor alone reaches this, by `&mut`, for bytes that it claimed:
        //   they lie behind `tail`, where the consumer does not look.
        // - what: any byte is a valid `u8`; regions are zeroed when they are made.
        unsafe { std::slice::from_raw_parts_mut(start, length as usize) }
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        let place = self.data(offset, 8).cast::<AtomicU64>();
        assert!(place.is_aligned(), "heads of records are aligned to 8");
        // SAFETY: `as_ref` needs an aligned, initialized, live place.
        // - where: checked just above; `self.region` outlives the borrow.
        // - who: heads of records are only accessed as atomics by the cursors; payload bytes that
        //   lay here before belong to the side whose cursor asks.
        // - what: any bytes are a valid integer.
        unsafe { place.as_ref() }
    }
}

impl Memory for Mapped {
    fn header(&self) -> &Header {
        // SAFETY: `as_ref` needs an aligned, initialized, live place.
        // - where: `new` checked length and alignment; `self.region` outlives the borrow.
        // - who: the header has atomics only.
        // - what: any bytes are valid integers; zeroed ones are an empty header.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn store_head(&self, offset: u64, bits: u64) {
        // Relaxed: published by the Release store of `tail`.
        self.word(offset)
            .store(bits, std::sync::atomic::Ordering::Relaxed);
    }

    fn load_head(&self, offset: u64) -> u64 {
        // Relaxed: it was published before the Acquire load of `tail` that led here.
        self.word(offset).load(std::sync::atomic::Ordering::Relaxed)
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let place = self.data(offset, bytes.len() as u64).as_ptr();
        // SAFETY: `copy_nonoverlapping` needs two valid ranges that do not overlap.
        // - where: `data` checked the bounds; no slice of the caller lies in the ring but a slot,
        //   which borrows the producer, so that it cannot be written meanwhile.
        // - who: the bytes lie behind `tail`, where only the producer is, and there is one.
        // - what: nothing is read from the ring; any bytes are valid there.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) }
    }

    fn append(&self, offset: u64, length: u64, into: &mut Vec<u8>) {
        let place = self.data(offset, length).as_ptr();
        let length = length as usize;
        into.reserve(length);
        let end = into.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: `copy_nonoverlapping` needs two valid ranges that do not overlap.
        // - where: `data` checked the one, `reserve` made the other, in memory of this process.
        // - who: the bytes lie between `head` and `tail`, where only the consumer is.
        // - what: any byte is a valid `u8`; a peer that breaks the protocol gives wrong bytes.
        unsafe { std::ptr::copy_nonoverlapping(place, end, length) };
        let longer = into.len() + length;
        // SAFETY: `set_len` needs capacity and initialized bytes.
        // - where: reserved above.
        // - who: `into` is ours.
        // - what: the copy initialized exactly these bytes.
        unsafe { into.set_len(longer) };
    }

    fn wake(&self, word: &AtomicU32) {
        futex::wake_all(word, Scope::Shared);
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mapped")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
