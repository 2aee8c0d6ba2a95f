//! The mapped arena: turns offsets into references, and nothing else.
//!
//! All unsafe access to the arena's own records is here. What makes the references sound: every
//! record consists of atomics and of words that are valid in any state, the map lives as long as
//! the process, and its length is sealed. Peers run this library, may die at any instruction and
//! do not lie (`docs/architecture.md`).

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Mutex, OnceLock};

use manyhands_os::error::OsError;
use manyhands_os::memory::{Map, Memfd};
use manyhands_sync::deadlock::{self, Graph, Table};

use super::layout::{
    CLASSES, Entry, Header, HolderSet, INDEX_BITS, INDEX_MASK, LAYOUT_VERSION, Layout, MAGIC,
    MOST_WINDOWS, PAGE, PREFIX, READY, SEATS, SEATS_OFFSET, SeatRecord, TABLE_END, TABLE_OFFSET,
    class_size,
};
use super::lock;
use crate::error::ArenaError;

/// A mapped arena.
///
/// The file is divided into windows of equal length, which begin alike and are used one after the
/// other. A process maps a window when it first looks at a block in it.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) file: Memfd,
    /// The layout of each window.
    pub(crate) layout: Layout,
    first: &'static Map,
    /// The other windows that the file has room for, as far as this process has mapped them.
    further: Box<[OnceLock<&'static Map>]>,
    /// Held while a window is mapped, so that several threads map it once.
    mapping: Mutex<()>,
}

impl Memory {
    /// Makes an arena of up to `windows` windows of `len` bytes each.
    pub(crate) fn create(len: u64, windows: u32) -> Result<Memory, ArenaError> {
        let layout = Layout::of(len).ok_or(ArenaError::Length { len })?;
        let windows = windows.clamp(1, MOST_WINDOWS);
        let all = len.saturating_mul(windows.into());
        let file = Memfd::create("manyhands-arena", all)?;
        let backed = if deadlock::ENABLED { TABLE_END } else { PREFIX };
        file.reserve(0, backed).map_err(ArenaError::Memory)?;
        let memory = Memory::map(file, layout)?;
        let header = memory.header();
        // Relaxed: the store of the state below publishes them.
        header.magic.store(MAGIC, Relaxed);
        header.version.store(LAYOUT_VERSION, Relaxed);
        header.len.store(len, Relaxed);
        header.windows.store(1, Relaxed);
        // Release: pairs with the Acquire load in `attach`; last of all.
        header.state.store(READY, Release);
        Ok(memory)
    }

    /// Maps the arena behind a descriptor.
    pub(crate) fn attach(fd: OwnedFd) -> Result<Memory, ArenaError> {
        let file = Memfd::from_fd(fd)?;
        let incompatible = |found| ArenaError::Incompatible {
            found,
            expected: LAYOUT_VERSION,
        };
        if file.len() < PREFIX {
            return Err(incompatible(0));
        }
        let page = Map::part(&file, 0, PAGE)?;
        // SAFETY: as in `header`; the page is mapped until the end of this function, and the
        // reference is not used behind it.
        let header = unsafe { &*page.as_ptr().cast::<Header>() };
        // Acquire: pairs with the Release store in `create`.
        let ready = header.state.load(Acquire) == READY;
        // Relaxed: the Acquire above shows what the creator wrote before.
        let found = header.version.load(Relaxed);
        let fits = header.magic.load(Relaxed) == MAGIC && found == LAYOUT_VERSION;
        if !ready || !fits {
            return Err(incompatible(found));
        }
        let len = header.len.load(Relaxed);
        let layout = Layout::of(len).filter(|layout| layout.len <= file.len());
        Memory::map(file, layout.ok_or(ArenaError::Length { len })?)
    }

    /// Maps the first window.
    fn map(file: Memfd, layout: Layout) -> Result<Memory, ArenaError> {
        let first = Map::part(&file, 0, layout.len)?.leak();
        let windows = (file.len() / layout.len).min(MOST_WINDOWS.into());
        let further = (1..windows).map(|_| OnceLock::new()).collect();
        Ok(Memory {
            file,
            layout,
            first,
            further,
            mapping: Mutex::default(),
        })
    }

    /// How many windows were opened by anybody.
    pub(crate) fn opened(&self) -> u32 {
        // Acquire: pairs with the Release in `open`. The limit keeps a wrong number from leading
        // outside of the file.
        let opened = self.header().windows.load(Acquire);
        opened.clamp(1, self.further.len() as u32 + 1)
    }

    /// How many of the windows that were opened can be used here, from the first one on: all, unless
    /// the address space or its limit has no room for one.
    pub(crate) fn windows(&self) -> u32 {
        let opened = self.opened();
        let refused = (1..opened).find(|window| self.map_window(*window).is_err());
        refused.unwrap_or(opened)
    }

    /// Maps a window that was opened, or is about to be.
    pub(crate) fn map_window(&self, window: u32) -> Result<(), OsError> {
        let Some(further) = window.checked_sub(1) else {
            return Ok(());
        };
        let place = &self.further[further as usize];
        if place.get().is_some() {
            return Ok(());
        }
        let _mapping = lock(&self.mapping);
        if place.get().is_none() {
            let map = Map::part(&self.file, self.window_offset(window), self.layout.len)?;
            place.get_or_init(|| map.leak());
        }
        Ok(())
    }

    /// Opens one window more than `known`, unless somebody has; `false` when the file has no more.
    ///
    /// Whoever dies in between has reserved a page that the next one reserves again.
    pub(crate) fn open_window(&self, known: u32) -> Result<bool, io::Error> {
        if known as usize > self.further.len() {
            return Ok(false);
        }
        self.file
            .reserve(self.window_offset(known), PAGE)
            .map_err(|refused| refused.source)?;
        self.map_window(known).map_err(io::Error::other)?;
        // Release: pairs with the Acquire in `opened`: the page with `ready` is there.
        self.header().windows.fetch_max(known + 1, Release);
        Ok(true)
    }

    /// Where a window begins in the file.
    pub(crate) fn window_offset(&self, window: u32) -> u64 {
        u64::from(window) * self.layout.len
    }

    pub(crate) fn header(&self) -> &'static Header {
        // SAFETY: dereferencing needs a valid, aligned place without plain writers.
        // - where: the first page of a map that lives as long as the process.
        // - who: every field is an atomic or a lock; nobody writes in another way.
        // - what: zeroed or written by this library; every field is valid for any bits.
        unsafe { &*self.first.as_ptr().cast::<Header>() }
    }

    /// The first page of a window; `header` is that of the first one.
    fn window_header(&self, window: u32) -> &'static Header {
        // SAFETY: as in `header`; every window begins with such a page, zeroed if not written.
        unsafe { &*self.at(window, 0).cast::<Header>() }
    }

    pub(crate) fn seat(&self, slot: u16) -> &'static SeatRecord {
        debug_assert!(slot < SEATS);
        let offset = SEATS_OFFSET + u64::from(slot % SEATS) * size_of::<SeatRecord>() as u64;
        // SAFETY: as in `header`; `offset` is within the prefix, which is 128-byte aligned, and a
        // seat has atomics and a life word only, both valid when zeroed.
        unsafe { &*self.at(0, offset).cast::<SeatRecord>() }
    }

    /// Where deadlocks are looked for, in the first window; `None` when they are not, and the table
    /// has no pages.
    pub(crate) fn graph(&self) -> Option<Graph> {
        if !deadlock::ENABLED {
            return None;
        }
        // SAFETY: as in `header`; the table follows the seats, and zeroed nobody waits.
        let table = unsafe { &*self.at(0, TABLE_OFFSET).cast::<Table>() };
        // SAFETY: `new` asks that the memory is aligned and stays readable: it is all of a map that
        // begins at a page, lives as long as the process, and whose length is sealed.
        Some(unsafe { Graph::new(table, self.first.as_ptr(), self.first.len()) })
    }

    /// How many blocks a class has in each window.
    pub(crate) fn capacity(&self, class: usize) -> u32 {
        self.layout.classes[class].capacity
    }

    /// The blocks of a class that can be looked at in a window, which is mapped.
    pub(crate) fn ready(&self, window: u32, class: usize) -> Range<u32> {
        // Acquire: pairs with the Release in `raise_ready`. The limit keeps a wrong number from
        // leading outside of the map.
        let ready = self.window_header(window).ready[class].load(Acquire);
        let first = window << INDEX_BITS;
        first..first + ready.min(self.capacity(class))
    }

    /// Announces that the first `count` blocks of a window's class are backed by pages.
    pub(crate) fn raise_ready(&self, window: u32, class: usize, count: u32) {
        self.window_header(window).ready[class].fetch_max(count, Release);
    }

    /// The entry of a block, one of those that are [`ready`](Self::ready).
    #[inline]
    pub(crate) fn entry(&self, class: usize, index: u32) -> &'static Entry {
        let place = &self.layout.classes[class];
        let (window, number) = self.split(class, index);
        // SAFETY: as in `header`; the number is in bounds, entries begin at a page, and zeroed
        // entries are free ones.
        unsafe {
            &*self
                .at(
                    window,
                    place.entries + u64::from(number) * size_of::<Entry>() as u64,
                )
                .cast()
        }
    }

    /// The holder set of a block, one of those that are [`ready`](Self::ready).
    pub(crate) fn holders(&self, class: usize, index: u32) -> &'static HolderSet {
        let place = &self.layout.classes[class];
        let (window, number) = self.split(class, index);
        let offset = place.holders + u64::from(number) * size_of::<HolderSet>() as u64;
        // SAFETY: as in `header`; the number is in bounds, and sets begin at a page.
        unsafe { &*self.at(window, offset).cast() }
    }

    /// Where the bytes of a block begin.
    #[inline]
    pub(crate) fn data(&self, class: usize, index: u32) -> *mut u8 {
        let (window, number) = self.split(class, index);
        self.at(window, self.layout.data_offset(class, number))
    }

    /// Where the bytes of a block begin in the file.
    pub(crate) fn data_offset(&self, class: usize, index: u32) -> u64 {
        let (window, number) = self.split(class, index);
        self.window_offset(window) + self.layout.data_offset(class, number)
    }

    /// Gives the pages of a block back; it reads as zeros afterwards.
    pub(crate) fn punch(&self, class: usize, index: u32) -> Result<(), OsError> {
        self.file
            .punch(self.data_offset(class, index), class_size(class))
    }

    /// The classes that have blocks at all.
    pub(crate) fn classes(&self) -> std::ops::Range<usize> {
        let end = self
            .layout
            .classes
            .iter()
            .rposition(|place| place.capacity > 0);
        0..end.map_or(0, |last| last + 1).min(CLASSES)
    }

    /// The window of a block, and its number there.
    #[inline]
    fn split(&self, class: usize, index: u32) -> (u32, u32) {
        let number = index & INDEX_MASK;
        assert!(
            number < self.capacity(class),
            "a block outside of its class"
        );
        (index >> INDEX_BITS, number)
    }

    /// A place in a window that is mapped: whoever has the index of a block has seen it in there.
    #[inline]
    fn at(&self, window: u32, offset: u64) -> *mut u8 {
        debug_assert!(offset < self.layout.len);
        let map = match window.checked_sub(1) {
            None => self.first,
            Some(further) => self.further[further as usize]
                .get()
                .expect("the window is mapped"),
        };
        // The offset fits `usize`: it is inside of a map. `wrapping_add` stays in the map.
        map.as_ptr().wrapping_add(offset as usize)
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl HolderSet {
    /// Whether no seat holds. Relaxed, as everything here: the arena's lock orders all access.
    pub(crate) fn is_empty(&self) -> bool {
        self.bits.iter().all(|word| word.load(Relaxed) == 0)
    }

    /// Whether this seat holds, and no other.
    pub(crate) fn is_only(&self, slot: u16) -> bool {
        let count = |word: &std::sync::atomic::AtomicU64| word.load(Relaxed).count_ones();
        self.contains(slot) && self.bits.iter().map(count).sum::<u32>() == 1
    }

    pub(crate) fn contains(&self, slot: u16) -> bool {
        self.word(slot).load(Relaxed) & bit(slot) != 0
    }

    pub(crate) fn insert(&self, slot: u16) {
        let word = self.word(slot);
        word.store(word.load(Relaxed) | bit(slot), Relaxed);
    }

    pub(crate) fn remove(&self, slot: u16) {
        let word = self.word(slot);
        word.store(word.load(Relaxed) & !bit(slot), Relaxed);
    }

    pub(crate) fn clear(&self) {
        for word in &self.bits {
            word.store(0, Relaxed);
        }
    }

    fn word(&self, slot: u16) -> &std::sync::atomic::AtomicU64 {
        &self.bits[usize::from(slot % SEATS) / 64]
    }
}

fn bit(slot: u16) -> u64 {
    1 << (slot % 64)
}
