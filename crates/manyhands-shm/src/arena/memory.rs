//! The mapped arena: turns offsets into references, and nothing else.
//!
//! All unsafe access to the arena's own records is here. What makes the references sound: every
//! record consists of atomics and of words that are valid in any state, the map lives as long as
//! the process, and its length is sealed. Peers run this library, may die at any instruction and
//! do not lie (`docs/architecture.md`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manyhands_os::error::OsError;
use manyhands_os::memory::{Map, Memfd};
use manyhands_sync::deadlock::{self, Graph, Table};

use super::layout::{
    CLASSES, Entry, Header, HolderSet, LAYOUT_VERSION, Layout, MAGIC, PREFIX, READY, SEATS,
    SEATS_OFFSET, SeatRecord, TABLE_END, TABLE_OFFSET, class_size,
};
use crate::error::ArenaError;

/// A mapped arena.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) file: Memfd,
    pub(crate) layout: Layout,
    map: &'static Map,
}

impl Memory {
    /// Makes an arena of `len` bytes.
    pub(crate) fn create(len: u64) -> Result<Memory, ArenaError> {
        let layout = Layout::of(len).ok_or(ArenaError::Length { len })?;
        let file = Memfd::create("manyhands-arena", len)?;
        let backed = if deadlock::ENABLED { TABLE_END } else { PREFIX };
        file.reserve(0, backed).map_err(ArenaError::Memory)?;
        let map = Map::shared(&file)?.leak();
        let memory = Memory { file, layout, map };
        let header = memory.header();
        // Relaxed: the store of the state below publishes them.
        header.magic.store(MAGIC, Relaxed);
        header.version.store(LAYOUT_VERSION, Relaxed);
        header.len.store(len, Relaxed);
        // Release: pairs with the Acquire load in `attach`; last of all.
        header.state.store(READY, Release);
        Ok(memory)
    }

    /// Maps the arena behind a descriptor.
    pub(crate) fn attach(fd: OwnedFd) -> Result<Memory, ArenaError> {
        let file = Memfd::from_fd(fd)?;
        let len = file.len();
        let layout = Layout::of(len).ok_or(ArenaError::Length { len })?;
        let map = Map::shared(&file)?.leak();
        let memory = Memory { file, layout, map };
        let header = memory.header();
        // Acquire: pairs with the Release store in `create`.
        let ready = header.state.load(Acquire) == READY;
        // Relaxed: the Acquire above shows what the creator wrote before.
        let found = header.version.load(Relaxed);
        let fits = header.magic.load(Relaxed) == MAGIC && header.len.load(Relaxed) == len;
        if !ready || !fits || found != LAYOUT_VERSION {
            return Err(ArenaError::Incompatible {
                found,
                expected: LAYOUT_VERSION,
            });
        }
        Ok(memory)
    }

    pub(crate) fn header(&self) -> &'static Header {
        // SAFETY: dereferencing needs a valid, aligned place without plain writers.
        // - where: the first page of a map that lives as long as the process.
        // - who: every field is an atomic or a lock; nobody writes in another way.
        // - what: zeroed or written by this library; every field is valid for any bits.
        unsafe { &*self.map.as_ptr().cast::<Header>() }
    }

    pub(crate) fn seat(&self, slot: u16) -> &'static SeatRecord {
        debug_assert!(slot < SEATS);
        let offset = SEATS_OFFSET + u64::from(slot % SEATS) * size_of::<SeatRecord>() as u64;
        // SAFETY: as in `header`; `offset` is within the prefix, which is 128-byte aligned, and a
        // seat has atomics and a life word only, both valid when zeroed.
        unsafe { &*self.at(offset).cast::<SeatRecord>() }
    }

    /// Where deadlocks are looked for; `None` when they are not, and the table has no pages.
    pub(crate) fn graph(&self) -> Option<Graph> {
        if !deadlock::ENABLED {
            return None;
        }
        // SAFETY: as in `header`; the table follows the seats, and zeroed nobody waits.
        let table = unsafe { &*self.at(TABLE_OFFSET).cast::<Table>() };
        // SAFETY: `new` asks that the memory is aligned and stays readable: it is all of a map that
        // begins at a page, lives as long as the process, and whose length is sealed.
        Some(unsafe { Graph::new(table, self.map.as_ptr(), self.map.len()) })
    }

    /// How many entries of a class can be looked at.
    pub(crate) fn ready(&self, class: usize) -> u32 {
        // Acquire: pairs with the Release in `raise_ready`. The limit keeps a wrong number from
        // leading outside of the map.
        self.header().ready[class]
            .load(Acquire)
            .min(self.layout.classes[class].capacity)
    }

    /// Announces that the entries below `ready` are backed by pages.
    pub(crate) fn raise_ready(&self, class: usize, ready: u32) {
        self.header().ready[class].fetch_max(ready, Release);
    }

    /// The entry of a block; `index` is below [`ready`](Self::ready).
    #[inline]
    pub(crate) fn entry(&self, class: usize, index: u32) -> &'static Entry {
        let place = &self.layout.classes[class];
        assert!(index < place.capacity, "an entry outside of its class");
        // SAFETY: as in `header`; the index is in bounds, entries begin at a page, and zeroed
        // entries are free ones.
        unsafe {
            &*self
                .at(place.entries + u64::from(index) * size_of::<Entry>() as u64)
                .cast()
        }
    }

    /// The holder set of a block; `index` is below [`ready`](Self::ready).
    pub(crate) fn holders(&self, class: usize, index: u32) -> &'static HolderSet {
        let place = &self.layout.classes[class];
        assert!(index < place.capacity, "a holder set outside of its class");
        let offset = place.holders + u64::from(index) * size_of::<HolderSet>() as u64;
        // SAFETY: as in `header`; the index is in bounds, and sets begin at a page.
        unsafe { &*self.at(offset).cast() }
    }

    /// Where the bytes of a block begin.
    #[inline]
    pub(crate) fn data(&self, class: usize, index: u32) -> *mut u8 {
        assert!(
            index < self.layout.classes[class].capacity,
            "a block outside of its class"
        );
        self.at(self.layout.data_offset(class, index))
    }

    /// Gives the pages of a block back; it reads as zeros afterwards.
    pub(crate) fn punch(&self, class: usize, index: u32) -> Result<(), OsError> {
        self.file
            .punch(self.layout.data_offset(class, index), class_size(class))
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

    fn at(&self, offset: u64) -> *mut u8 {
        debug_assert!(offset < self.layout.len);
        // The offset fits `usize`: it is inside of a map. `wrapping_add` stays in the map.
        self.map.as_ptr().wrapping_add(offset as usize)
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
