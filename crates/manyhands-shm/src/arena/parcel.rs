//! Blocks that hold shared blocks: messages with handles in them, on their way.
//!
//! A parcel begins with a list:
//!
//! ```text
//!  0        8        16
//! +--------+--------+-----------------+----------------
//! | count  | held   | `count` handles | the message
//! +--------+--------+-----------------+----------------
//! ```
//!
//! It holds the first `held` of them: each of these counts the parcels that hold it, and lives while
//! there is one. The two numbers change together, by a step that is written down in the journal of the
//! arena first; who dies meanwhile leaves it to whoever takes the arena's lock next. So the count is
//! exact, whoever dies, and it does not matter whose the parcel is: a process', nobody's (in a queue), or
//! a dead one's, for which the sweep lets go.
//!
//! Parcels that hold, by way of queues in which they lie, each other are never freed as long as the
//! family lives; a queue refuses only what would hold the queue itself.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::Arena;
use super::block::{Block, Handle};
use super::layout::Entry;
use super::sharing::shared_word;
use super::word::{BlockState, BlockWord, Who};

/// The bytes in front of the handles.
const HEAD: usize = 16;
const HANDLE: usize = size_of::<u64>();
/// Where the number of parcels is, above that of deposits.
const PARCELS_SHIFT: u32 = 32;

impl Entry {
    /// At least how many blocks are deposited in this shared one.
    pub(super) fn deposits(&self) -> u32 {
        // Relaxed: a hint; see `deposit.rs`.
        self.deposit.load(Relaxed) as u32
    }

    /// How many parcels hold this shared block; under the arena's lock.
    pub(super) fn parcels(&self) -> u32 {
        // Relaxed: the arena's lock orders it.
        (self.deposit.load(Relaxed) >> PARCELS_SHIFT) as u32
    }

    fn set_parcels(&self, parcels: u32) {
        let parcels = u64::from(parcels) << PARCELS_SHIFT;
        // In a loop: deposits are counted without the lock. Relaxed: as above.
        let _ = self.deposit.fetch_update(Relaxed, Relaxed, |both| {
            Some(both & u64::from(u32::MAX) | parcels)
        });
    }
}

/// The bytes that a list of so many handles takes, `None` when they cannot be counted.
pub(crate) fn list_len(handles: usize) -> Option<usize> {
    handles.checked_mul(HANDLE)?.checked_add(HEAD)
}

/// The list of a parcel.
struct List<'a> {
    count: &'a AtomicU64,
    held: &'a AtomicU64,
    handles: &'a [AtomicU64],
}

impl Arena {
    /// Makes a block of this process hold shared blocks that this process holds; it begins with room
    /// for their list. `false`, and it holds none, when the journal cannot be completed: this process
    /// has no addresses for a part of the arena.
    pub(crate) fn hold_all(&'static self, parcel: &Block, handles: &[Handle]) -> bool {
        let list = self.list(parcel.handle(), handles.len());
        list.count.store(handles.len() as u64, Relaxed);
        list.held.store(0, Relaxed);
        for (place, handle) in list.handles.iter().zip(handles) {
            place.store(handle.to_bits(), Relaxed);
        }
        let word = &parcel.entry().word;
        let owned = BlockWord::from_bits(word.load(Relaxed));
        // Release: whoever sees that it holds sees the list.
        word.store(owned.holding().to_bits(), Release);
        let guard = self.lock();
        let all = (0..handles.len()).all(|index| self.step(parcel.handle(), index, true).is_some());
        drop(guard);
        all
    }

    /// Lets go what a block of this process holds, before it is freed; `false` when this process has no
    /// addresses for a part of the arena, and has left the block to the sweep of another one.
    #[cold]
    pub(super) fn empty(&'static self, parcel: Handle) -> bool {
        let guard = self.lock();
        let Some(last) = self.let_go(parcel) else {
            drop(guard);
            self.abandon(parcel);
            return false;
        };
        let last: Vec<Block> = last.into_iter().map(|handle| self.own(handle)).collect();
        drop(guard);
        for block in last {
            if block.entry().deposits() != 0 {
                self.free_deposits(&block);
            }
        }
        true
    }

    /// Lets go what a parcel holds, under the arena's lock; those that nobody holds then.
    pub(super) fn let_go(&self, parcel: Handle) -> Option<Vec<Handle>> {
        let list = self.list(parcel, usize::MAX);
        let mut last = Vec::new();
        // Relaxed: the arena's lock orders it. The limit keeps a wrong number in the list.
        while let held @ 1.. = list.held.load(Relaxed).min(list.handles.len() as u64) {
            let (handle, parcels) = self.step(parcel, held as usize - 1, false)?;
            let holders = self.memory.holders(handle.class(), handle.index());
            if parcels == 0 && holders.is_empty() {
                last.push(handle);
            }
        }
        Some(last)
    }

    /// Makes a shared block that nobody holds one of this process, under the arena's lock.
    fn own(&'static self, handle: Handle) -> Block {
        let entry = self.memory.entry(handle.class(), handle.index());
        let word = BlockWord::from_bits(entry.word.load(Relaxed));
        let owned = word.with(BlockState::Owned, self.me().who());
        // A death before leaves a shared block without holders: the sweep frees it.
        // Release: as in `leave`.
        entry.word.store(owned.to_bits(), Release);
        let len = self.length_of(handle, entry);
        Block::new(self, handle, len, len)
    }

    /// Leaves a block of this process to the next sweep: one that is deposited nowhere.
    pub(super) fn abandon(&self, parcel: Handle) {
        let entry = self.memory.entry(parcel.class(), parcel.index());
        entry.deposit.store(0, Relaxed);
        let word = BlockWord::from_bits(entry.word.load(Relaxed));
        let deposited = word.with(BlockState::Deposited, Who::NOBODY);
        // Release: as in `deposit`.
        entry.word.store(deposited.to_bits(), Release);
    }

    /// Has a parcel hold the block at a place of its list, or let it go, under the arena's lock; which
    /// it is, and how many parcels hold it then. Nothing is done when there is `None`.
    fn step(&self, parcel: Handle, index: usize, holds: bool) -> Option<(Handle, u32)> {
        if !self.complete() {
            return None;
        }
        let list = self.list(parcel, usize::MAX);
        // Relaxed: written before the word of the parcel said that it holds.
        let handle = Handle::from_bits(list.handles.get(index)?.load(Relaxed))?;
        let entry = self.locate(handle)?;
        shared_word(handle, entry)?;
        let parcels = if holds {
            // One that has a set of holders is freed under the lock only.
            let is_held = self.add_holder(handle, entry, self.me().slot());
            debug_assert!(is_held, "this process holds it");
            entry.parcels().checked_add(1)?
        } else {
            entry.parcels().checked_sub(1)?
        };
        let journal = &self.memory.header().journal;
        journal.block.store(handle.to_bits(), Relaxed);
        journal.parcels.store(parcels, Relaxed);
        journal.held.store(index as u32 + u32::from(holds), Relaxed);
        // Release: who dies after this has written down all of it.
        journal.parcel.store(parcel.to_bits(), Release);
        self.complete();
        Some((handle, parcels))
    }

    /// Does what the journal says, under the arena's lock; `false` when this process has no addresses
    /// for it, and leaves it to others.
    pub(super) fn complete(&self) -> bool {
        let journal = &self.memory.header().journal;
        // Acquire: pairs with the Release in `step`.
        let Some(parcel) = Handle::from_bits(journal.parcel.load(Acquire)) else {
            return true;
        };
        let block = Handle::from_bits(journal.block.load(Relaxed));
        let located = block.and_then(|block| Some((self.locate(block)?, self.locate(parcel)?)));
        let Some((entry, _)) = located else {
            return false;
        };
        entry.set_parcels(journal.parcels.load(Relaxed));
        let held = journal.held.load(Relaxed);
        self.list(parcel, usize::MAX)
            .held
            .store(held.into(), Release);
        // Release: who dies before this leaves it to be done again, which changes nothing.
        journal.parcel.store(0, Release);
        true
    }

    /// Where the bytes of a block begin, behind its list if it has one.
    pub(super) fn start_in(&self, handle: Handle, word: BlockWord, len: usize) -> usize {
        match word.is_holding() {
            true => HEAD + HANDLE * self.list(handle, usize::MAX).handles.len(),
            false => 0,
        }
        .min(len)
    }

    /// The list at the beginning of a block whose window is mapped: of so many handles, or of as many
    /// as it says.
    fn list(&self, parcel: Handle, most: usize) -> List<'static> {
        let entry = self.memory.entry(parcel.class(), parcel.index());
        let len = self.length_of(parcel, entry);
        assert!(len >= HEAD, "a parcel has room for its list");
        let place = self.memory.data(parcel.class(), parcel.index());
        let word = |index: usize| place.wrapping_add(index * HANDLE).cast::<u64>();
        // SAFETY: `from_ptr` needs a valid, aligned place that is only used as an atomic.
        // - where: the head of a block, which has as many bytes, and begins at a multiple of 64.
        // - who: the list of a parcel is used here only.
        // - what: any bytes are a valid number.
        let count = unsafe { AtomicU64::from_ptr(word(0)) };
        // SAFETY: as above, of the next word.
        let held = unsafe { AtomicU64::from_ptr(word(1)) };
        let fits = (len - HEAD) / HANDLE;
        let there = match most {
            usize::MAX => usize::try_from(count.load(Relaxed)).unwrap_or(usize::MAX),
            most => most,
        };
        // SAFETY: `from_raw_parts` needs valid, aligned, initialized places.
        // - where: no more handles than there is room for behind the head.
        // - who: atomics, as above.
        // - what: any bytes are a valid number.
        let handles = unsafe { std::slice::from_raw_parts(word(2).cast(), there.min(fits)) };
        List {
            count,
            held,
            handles,
        }
    }
}
