//! A ring or a queue in a region of shared memory: the one place of this crate that touches raw
//! bytes.
//!
//! Who may touch what is decided by the cursors in `cursor.rs`, and by the sections in
//! `queue/raw.rs`; where it lies is decided here.

#![allow(
    unsafe_code,
    reason = "bytes that another process writes are reached through raw pointers; the rest of the crate builds on these few functions"
)]

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use manyhands_os::futex::{self, Scope};
use manyhands_shm::arena::{self, Block, Handle};
use manyhands_shm::{NoSpace, Region};
use manyhands_sync::LastPlace;

use crate::primitive::{AtomicU32, AtomicU64};
use crate::queue;
use crate::ring::cursor::{Corrupt, Memory};
use crate::ring::layout::{Header, LEAST_CAPACITY};

/// What lies in front of the records.
///
/// # Safety
///
/// It has atomics only, any bytes are a valid value of it, and its alignment is at most 64.
pub(crate) unsafe trait Head: Send + Sync + 'static {}

// SAFETY: lines of atomics, aligned to 64.
unsafe impl Head for Header {}
// SAFETY: lines of atomics, and of locks that are made of atomics; aligned to 64.
unsafe impl Head for queue::layout::Header {}

/// A mapped ring, or what else has records. While it lives, its region does.
pub(crate) struct Mapped<H = Header> {
    /// Where the region begins; kept here because asking for it costs a detour on each access.
    base: NonNull<u8>,
    /// How many bytes of records there are.
    size: u64,
    region: Region,
    head: PhantomData<fn() -> H>,
}

impl<H> Clone for Mapped<H> {
    fn clone(&self) -> Self {
        Self {
            region: self.region.clone(),
            ..*self
        }
    }
}

// SAFETY: a `Mapped` is a handle to memory that is shared between processes anyway.
// - where: `base` belongs to `region`, which is mapped for every thread of the process.
// - who: the words are atomics; the bytes belong to whichever side the cursors name, and there is
//   one cursor a side, which moves between threads only as a whole.
// - what: no thread-local state is behind the pointer.
unsafe impl<H: Head> Send for Mapped<H> {}

// SAFETY: as above; the records of a queue belong to whoever is in the section of their side.
unsafe impl Sync for Mapped<queue::layout::Header> {}

impl<H: Head> Mapped<H> {
    /// Takes the region as such a thing, if it is large enough to be one.
    pub(crate) fn new(region: Region) -> Result<Self, Corrupt> {
        let base = NonNull::new(region.as_ptr()).ok_or(Corrupt)?;
        let size = region.len().checked_sub(size_of::<H>()).ok_or(Corrupt)? as u64;
        if size < LEAST_CAPACITY || !base.cast::<H>().is_aligned() {
            return Err(Corrupt);
        }
        Ok(Self {
            base,
            size,
            region,
            head: PhantomData,
        })
    }

    #[inline]
    pub(crate) fn head(&self) -> &H {
        // SAFETY: `as_ref` needs an aligned, initialized, live place.
        // - where: `new` checked length and alignment; `self.region` outlives the borrow.
        // - who: a head has atomics only.
        // - what: any bytes are valid ones; see `Head`.
        unsafe { self.base.cast::<H>().as_ref() }
    }

    /// Whether nobody else has the region, in any process; then it stays so.
    pub(crate) fn is_only(&mut self) -> bool {
        self.region.make_only()
    }

    /// How many bytes of records there are.
    pub(crate) fn len(&self) -> u64 {
        self.size
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// Appends the bytes of a block that lies in the region to `into`; `false` when it does not.
    pub(crate) fn copy_deposited(&self, block: Handle, into: &mut Vec<u8>) -> bool {
        let Ok(Some((place, length))) = self.region.look_at(block) else {
            return false;
        };
        into.reserve(length);
        copy_out(place, length, into);
        true
    }

    /// The address of `length` bytes at `offset` of the records.
    #[inline]
    fn data(&self, offset: u64, length: u64) -> NonNull<u8> {
        let end = offset.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.size), "inside the ring");
        // SAFETY: `add` needs the result inside the same allocation.
        // - where: head and `size` are the region's length, and `offset <= size` was checked.
        // - who: only an address is computed.
        // - what: nothing is read.
        unsafe { self.base.add(size_of::<H>() + offset as usize) }
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

    /// The bytes of a record that lies in one piece and was not released. Only the consumer's cursor
    /// calls this.
    pub(crate) fn payload(&self, offset: u64, length: u64) -> &[u8] {
        let start = self.data(offset, length).as_ptr();
        // SAFETY: `from_raw_parts` needs valid, initialized bytes that nobody writes.
        // - where: `data` checked the bounds; `self.region` outlives the borrow.
        // - who: the bytes lie between `head` and `tail`, where no producer writes; to release them
        //   needs the consumer by `&mut`, and there is one.
        // - what: any byte is a valid `u8`; regions are zeroed when they are made.
        unsafe { std::slice::from_raw_parts(start, length as usize) }
    }

    #[inline]
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

    /// Stores a record's head at `offset`, a multiple of 8.
    #[inline]
    pub(crate) fn store_head(&self, offset: u64, bits: u64) {
        // Relaxed: published by the Release store of `tail`.
        self.word(offset)
            .store(bits, std::sync::atomic::Ordering::Relaxed);
    }

    /// Loads a record's head from `offset`, a multiple of 8.
    #[inline]
    pub(crate) fn load_head(&self, offset: u64) -> u64 {
        // Relaxed: it was published before the Acquire load of `tail` that led here.
        self.word(offset).load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Copies `bytes` to `offset`.
    #[inline]
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        let place = self.data(offset, bytes.len() as u64).as_ptr();
        // SAFETY: `copy_nonoverlapping` needs two valid ranges that do not overlap.
        // - where: `data` checked the bounds; no slice of the caller lies in the ring but a slot,
        //   which borrows the producer, so that it cannot be written meanwhile.
        // - who: the bytes lie behind `tail`, where only the producer is, and there is one.
        // - what: nothing is read from the ring; any bytes are valid there.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) }
    }

    /// Copies `length` bytes from `offset` to the end of `into`, which has room for them.
    #[inline]
    pub(crate) fn append(&self, offset: u64, length: u64, into: &mut Vec<u8>) {
        let place = self.data(offset, length).as_ptr();
        copy_out(place, length as usize, into);
    }
}

impl Memory for Mapped {
    fn header(&self) -> &Header {
        self.head()
    }

    fn size(&self) -> u64 {
        self.size
    }

    #[inline]
    fn store_head(&self, offset: u64, bits: u64) {
        Mapped::store_head(self, offset, bits);
    }

    #[inline]
    fn load_head(&self, offset: u64) -> u64 {
        Mapped::load_head(self, offset)
    }

    #[inline]
    fn write(&self, offset: u64, bytes: &[u8]) {
        Mapped::write(self, offset, bytes);
    }

    #[inline]
    fn append(&self, offset: u64, length: u64, into: &mut Vec<u8>) {
        into.reserve(length as usize);
        Mapped::append(self, offset, length, into);
    }

    fn wake(&self, word: &AtomicU32) {
        futex::wake_all(word, Scope::Shared);
    }
}

/// Appends `length` bytes at `place`, which are mapped and which nobody writes, to `into`.
#[inline]
fn copy_out(place: *const u8, length: usize, into: &mut Vec<u8>) {
    assert!(
        into.capacity() - into.len() >= length,
        "there is room for them"
    );
    let end = into.spare_capacity_mut().as_mut_ptr().cast::<u8>();
    // SAFETY: `copy_nonoverlapping` needs two valid ranges that do not overlap.
    // - where: the callers checked the one, the assertion the other, in memory of this process.
    // - who: between `head` and `tail` only the consumer is; a block in a region has no writer, as long
    //   as who copies it has a lease of it.
    // - what: any byte is a valid `u8`; a peer that breaks the protocol gives wrong bytes.
    unsafe { std::ptr::copy_nonoverlapping(place, end, length) };
    let longer = into.len() + length;
    // SAFETY: `set_len` needs capacity and initialized bytes.
    // - where: asserted above.
    // - who: `into` is ours.
    // - what: the copy initialized exactly these bytes.
    unsafe { into.set_len(longer) };
}

/// A block with a copy of `bytes`.
pub(crate) fn block_of(bytes: &[u8]) -> Result<Block, NoSpace> {
    let mut block = arena::allocate(bytes.len())?;
    bytes_in_mut(&mut block).copy_from_slice(bytes);
    Ok(block)
}

/// The bytes of a block of this process, behind the list of what it holds.
pub(crate) fn bytes_in(block: &Block) -> &[u8] {
    // SAFETY: `from_raw_parts` needs valid, initialized bytes that nobody writes.
    // - where: so many bytes of the block are backed by memory, which stays mapped; its list, if it has
    //   one, lies before them.
    // - who: the block is this process's alone, and to write it needs `&mut`.
    // - what: any byte is a valid `u8`; the arena's memory is zeroed when it is made.
    unsafe { std::slice::from_raw_parts(start_of(block), block.len() - block.start()) }
}

/// The bytes of a block of this process, to be written.
pub(crate) fn bytes_in_mut(block: &mut Block) -> &mut [u8] {
    // SAFETY: as in `bytes_in`; the block is borrowed by `&mut`.
    unsafe { std::slice::from_raw_parts_mut(start_of(block), block.len() - block.start()) }
}

fn start_of(block: &Block) -> *mut u8 {
    block.as_ptr().wrapping_add(block.start())
}

/// Tells the locks in the head of a queue where they lie.
pub(crate) fn place_locks(memory: &Mapped<queue::layout::Header>) {
    // SAFETY: the locks must not move, and their memory must stay while a thread holds one.
    // - where: a region does not move; each guard borrows the queue and so its region.
    // - who: guards are kept inside of calls and never leaked; what a killed process holds stays
    //   until all its threads are gone, see the arena.
    // - what: it is told before anybody else knows the region.
    let here = unsafe { LastPlace::new() };
    memory.head().place(here);
}

impl<H> fmt::Debug for Mapped<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mapped")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
