//! Where everything in a window of an arena lies: computed from the window's length alone, so that
//! every member of the family, being the same binary, comes to the same answer.
//!
//! Boxes and prose: `docs/layout.md`, section "Arena".

use std::mem::{align_of, offset_of, size_of};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64};

use manyhands_sync::deadlock::Table;
use manyhands_sync::life::LifeWord;
use manyhands_sync::raw::ShortLock;

/// `manyhnd` and a letter that changes with every layout that the numbers below do not show.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"manyhndA");
pub(crate) const LAYOUT_VERSION: u32 = 5;
/// The header's state once everything else in it is written.
pub(crate) const READY: u32 = 1;

pub(crate) const PAGE: u64 = 4096;
/// How many processes can be in a family at a time. One holder set is one cache line of bits.
pub(crate) const SEATS: u16 = 512;
/// The words of a holder set.
pub(crate) const HOLDER_WORDS: usize = SEATS as usize / 64;

/// The size classes: powers of two from 64 bytes to 1 GiB.
pub(crate) const CLASSES: usize = 25;
const SMALLEST_SHIFT: u32 = 6;
/// The last class whose blocks get their pages together with their entries: up to one page.
pub(crate) const LAST_SMALL_CLASS: usize = 6;
/// The bits of a block's number within its class and window.
pub(crate) const INDEX_BITS: u32 = 22;
/// The number within its window, in the index of a block: `window:8 | number:22`.
pub(crate) const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
/// As many blocks as a handle can count within one class of a window.
pub(crate) const MOST_BLOCKS: u64 = 1 << INDEX_BITS;
/// As many windows as a handle can count; it is never zero.
pub(crate) const MOST_WINDOWS: u32 = 255;
/// Entries are made ready in steps of this many blocks: holder sets of one page.
pub(crate) const READY_STEP: u32 = 64;
/// The strictest alignment that a block can promise, as maps begin at any page.
pub(crate) const MOST_ALIGNMENT: usize = PAGE as usize;

/// The first page of a window. All but `ready` is used in the first window only.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU32,
    /// The stored state: [`READY`] last of all.
    pub(crate) state: AtomicU32,
    /// The length of each window.
    pub(crate) len: AtomicU64,
    /// Guards the holder sets and the end of seats.
    pub(crate) lock: ShortLock,
    /// How many entries of each class are backed by pages. It only grows.
    pub(crate) ready: [AtomicU32; CLASSES],
    /// How many windows were opened. It only grows.
    pub(crate) windows: AtomicU32,
    pub(crate) journal: Journal,
}

/// One step of a parcel that comes to hold a shared block, or lets it go; written down before it is
/// done, under the lock, so that whoever takes the lock next does all of it.
#[repr(C)]
pub(crate) struct Journal {
    /// The handle of the parcel; zero when there is nothing to do. Written last.
    pub(crate) parcel: AtomicU64,
    /// The handle of the shared block.
    pub(crate) block: AtomicU64,
    /// How many parcels hold it then.
    pub(crate) parcels: AtomicU32,
    /// How many of those in its list the parcel holds then.
    pub(crate) held: AtomicU32,
}

/// A participant's place.
#[repr(C, align(128))]
pub(crate) struct SeatRecord {
    /// See [`SeatWord`](super::word::SeatWord).
    pub(crate) word: AtomicU64,
    /// Who sits here, as [`Identity::pack`](manyhands_os::process::Identity::pack) has it.
    pub(crate) identity: AtomicU64,
    /// Held by the process that sits here.
    pub(crate) life: LifeWord,
    /// The generation in which the process sees to its end itself when its parent has died; in any other
    /// the parent's zygote does.
    pub(crate) follows: AtomicU32,
}

/// What is known of a block; out of line, so that no user of a block can harm it.
#[repr(C)]
pub(crate) struct Entry {
    /// See [`BlockWord`](super::word::BlockWord).
    pub(crate) word: AtomicU64,
    /// What lies in a shared block: zero for plain bytes, or the mark of a type.
    pub(crate) kind: AtomicU64,
    /// The bytes that were asked for; written by the owner.
    pub(crate) length: AtomicU32,
    /// How many pages from the block's start are backed, in classes above a page; the owner's.
    pub(crate) warm: AtomicU32,
    /// Of a deposited block: the handle of the shared block that it is deposited in. Of a shared
    /// block: at least how many are deposited in it, and above that, how many parcels hold it.
    pub(crate) deposit: AtomicU64,
}

/// Who holds a shared block: one bit a seat.
#[repr(C, align(64))]
pub(crate) struct HolderSet {
    pub(crate) bits: [AtomicU64; HOLDER_WORDS],
}

const _: () = {
    assert!(offset_of!(Header, magic) == 0);
    assert!(offset_of!(Header, version) == 8);
    assert!(offset_of!(Header, state) == 12);
    assert!(offset_of!(Header, len) == 16);
    assert!(offset_of!(Header, lock) == 24);
    assert!(offset_of!(Header, ready) == 32);
    assert!(offset_of!(Header, windows) == 132);
    assert!(offset_of!(Header, journal) == 136);
    assert!(size_of::<Header>() <= PAGE as usize);
    assert!(offset_of!(SeatRecord, word) == 0);
    assert!(offset_of!(SeatRecord, identity) == 8);
    assert!(offset_of!(SeatRecord, life) == 16);
    assert!(offset_of!(SeatRecord, follows) == 56);
    assert!(size_of::<SeatRecord>() == 128);
    assert!(size_of::<Entry>() == 32 && align_of::<Entry>() == 8);
    assert!(size_of::<HolderSet>() == 64);
    assert!(TABLE_OFFSET.is_multiple_of(PAGE) && align_of::<Table>() <= PAGE as usize);
    assert!(SEATS as usize == HOLDER_WORDS * 64);
    assert!(class_size(LAST_SMALL_CLASS) == PAGE && class_size(CLASSES - 1) == 1 << 30);
};

/// The bytes of a block of a class.
pub(crate) const fn class_size(class: usize) -> u64 {
    1 << (SMALLEST_SHIFT as usize + class)
}

/// The smallest class whose blocks have `len` bytes, `None` above the largest.
#[inline]
pub(crate) fn class_of(len: usize) -> Option<usize> {
    let shift = len.max(1).checked_next_power_of_two()?.trailing_zeros();
    let class = shift.saturating_sub(SMALLEST_SHIFT) as usize;
    (class < CLASSES).then_some(class)
}

/// Where the parts of one size class lie, as offsets into each window.
#[derive(Debug, Copy, Clone, Default)]
pub(crate) struct ClassLayout {
    pub(crate) capacity: u32,
    pub(crate) entries: u64,
    pub(crate) holders: u64,
    pub(crate) data: u64,
}

/// Where everything lies in a window.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The length of a window.
    pub(crate) len: u64,
    pub(crate) classes: [ClassLayout; CLASSES],
}

pub(crate) const SEATS_OFFSET: u64 = PAGE;
/// The header and the seats: backed by pages from the start.
pub(crate) const PREFIX: u64 = SEATS_OFFSET + SEATS as u64 * size_of::<SeatRecord>() as u64;
/// The table of waits: backed by pages, and touched, only where deadlocks are looked for.
pub(crate) const TABLE_OFFSET: u64 = PREFIX;
pub(crate) const TABLE_END: u64 = TABLE_OFFSET + size_of::<Table>() as u64;

impl Layout {
    /// The layout of windows of `len` bytes, `None` when that is no sensible length.
    ///
    /// Each class gets a thirty-second of a window, the five largest a sixteenth; the largest
    /// block is a sixty-fourth of it.
    pub(crate) fn of(len: u64) -> Option<Layout> {
        let mut classes = [ClassLayout::default(); CLASSES];
        let mut next = TABLE_END;
        for (class, place) in classes.iter_mut().enumerate() {
            let size = class_size(class);
            if size > len / 64 {
                break;
            }
            let share = if size >= len / 1024 {
                len / 16
            } else {
                len / 32
            };
            let capacity = (share / size).min(MOST_BLOCKS);
            place.capacity = u32::try_from(capacity).ok()?;
            place.entries = align_up(next, PAGE);
            place.holders = align_up(place.entries + capacity * size_of::<Entry>() as u64, PAGE);
            let data = place.holders + capacity * size_of::<HolderSet>() as u64;
            place.data = align_up(data, size.clamp(PAGE, 2 << 20));
            next = place.data + capacity * size;
        }
        (len >= 1 << 20 && len.is_multiple_of(PAGE) && next <= len)
            .then_some(Layout { len, classes })
    }

    /// The pages of a window that hold the entries of its `blocks`; the same for
    /// [`holder_pages`](Self::holder_pages) and [`data_pages`](Self::data_pages).
    pub(crate) fn entry_pages(&self, class: usize, blocks: Range<u32>) -> Range<u64> {
        pages(
            self.classes[class].entries,
            size_of::<Entry>() as u64,
            blocks,
        )
    }

    pub(crate) fn holder_pages(&self, class: usize, blocks: Range<u32>) -> Range<u64> {
        pages(
            self.classes[class].holders,
            size_of::<HolderSet>() as u64,
            blocks,
        )
    }

    pub(crate) fn data_pages(&self, class: usize, blocks: Range<u32>) -> Range<u64> {
        pages(self.classes[class].data, class_size(class), blocks)
    }

    /// Where the bytes of a block begin in its window.
    pub(crate) fn data_offset(&self, class: usize, index: u32) -> u64 {
        self.classes[class].data + u64::from(index) * class_size(class)
    }
}

const fn align_up(offset: u64, alignment: u64) -> u64 {
    offset.next_multiple_of(alignment)
}

fn pages(base: u64, size: u64, blocks: Range<u32>) -> Range<u64> {
    let start = base + u64::from(blocks.start) * size;
    let end = base + u64::from(blocks.end) * size;
    start / PAGE * PAGE..align_up(end, PAGE)
}

#[cfg(test)]
mod tests;
