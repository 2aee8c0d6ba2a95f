//! Blocks that belong to a shared block, and to no process: messages that lie in a queue.
//!
//! A deposited block lives until somebody withdraws it, and then belongs to that process; or as long as
//! the shared block that it is deposited in, which its entry names. So a message outlives whoever sent
//! it, and is freed with the queue that nobody has any more.
//!
//! A shared block counts its deposits: one is added before a deposit, and taken off after a
//! withdrawal. So a death leaves the count too high at most, and who frees a shared block whose count is
//! zero need not look for deposits.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use manyhands_os::error::OsError;

use super::Arena;
use super::block::{Block, Handle};
use super::layout::Entry;
use super::sharing::{Hold, shared_word};
use super::word::{BlockState, BlockWord, Who};

impl Hold {
    /// Makes a block of this process one of the shared block.
    pub(crate) fn deposit(&self, block: Block) -> Handle {
        let (handle, entry) = (block.handle(), block.entry());
        std::mem::forget(block);
        // Relaxed, both: the store of the word publishes them.
        self.entry().deposit.fetch_add(1, Relaxed);
        let bits = self.handle().to_bits();
        entry.deposit.store(bits, Relaxed);
        let owned = BlockWord::from_bits(entry.word.load(Relaxed));
        let deposited = owned.with(BlockState::Deposited, Who::NOBODY);
        // Release: pairs with the Acquire in `withdraw`; publishes the bytes of the block. A death
        // before leaves an owned block.
        entry.word.store(deposited.to_bits(), Release);
        handle
    }

    /// Makes a block that is deposited here one of this process; `None` when it is not, or no longer.
    ///
    /// # Errors
    ///
    /// When this process has no room in its address space for the part of the arena that the block is
    /// in. It stays where it is.
    pub(crate) fn withdraw(&self, handle: Handle) -> Result<Option<Block>, OsError> {
        let arena = self.arena();
        arena.reach(handle)?;
        let found = self.deposited(handle);
        Ok(found.and_then(|(entry, word)| {
            let block = arena.take_deposit(handle, entry, word)?;
            // Relaxed: only a hint for who frees the shared block, which orders all before.
            self.entry().deposit.fetch_sub(1, Relaxed);
            Some(block)
        }))
    }

    /// Where the bytes of a block that is deposited here lie, and how many they are; behind the list
    /// of what it holds.
    ///
    /// # Errors
    ///
    /// As [`withdraw`](Self::withdraw).
    pub(crate) fn look_at(&self, handle: Handle) -> Result<Option<(*const u8, usize)>, OsError> {
        let arena = self.arena();
        arena.reach(handle)?;
        Ok(self.deposited(handle).map(|(entry, word)| {
            let place = arena.memory.data(handle.class(), handle.index());
            let len = arena.length_of(handle, entry);
            let start = arena.start_in(handle, word, len);
            (place.wrapping_add(start).cast_const(), len - start)
        }))
    }

    /// Whether blocks may be deposited here; false when there are none.
    pub(crate) fn has_deposits(&self) -> bool {
        // Relaxed: who asks knows that a deposit it looks for came before.
        self.entry().deposits() != 0
    }

    fn deposited(&self, handle: Handle) -> Option<(&'static Entry, BlockWord)> {
        let entry = self.arena().locate(handle)?;
        // Acquire: pairs with the Release in `deposit`.
        let word = BlockWord::from_bits(entry.word.load(Acquire));
        let is_here = word.state() == BlockState::Deposited
            && handle.fits(word)
            // Relaxed: written before the word.
            && entry.deposit.load(Relaxed) == self.handle().to_bits();
        is_here.then_some((entry, word))
    }
}

impl Arena {
    /// Makes a deposited block one of this process, unless somebody else is faster.
    fn take_deposit(
        &'static self,
        handle: Handle,
        entry: &Entry,
        word: BlockWord,
    ) -> Option<Block> {
        let owned = word.with(BlockState::Owned, self.me().who());
        // AcqRel: several may try; the one that succeeds has the block.
        entry
            .word
            .compare_exchange(word.to_bits(), owned.to_bits(), AcqRel, Relaxed)
            .ok()?;
        let len = self.length_of(handle, entry);
        Some(Block::new(self, handle, len, len))
    }

    /// Frees all that is deposited in a shared block which nobody holds any more, and which this
    /// process is about to free. A death meanwhile leaves it to the sweep.
    pub(super) fn free_deposits(&'static self, holder: &Block) {
        let holder = holder.handle();
        for window in 0..self.memory.opened() {
            if self.memory.map_window(window).is_err() {
                // As long as nobody can look there, nobody misses the memory; a sweep frees it.
                continue;
            }
            for class in self.memory.classes() {
                for index in self.memory.ready(window, class) {
                    drop(self.deposit_at(class, index, holder));
                }
            }
        }
    }

    fn deposit_at(&'static self, class: usize, index: u32, holder: Handle) -> Option<Block> {
        let entry = self.memory.entry(class, index);
        // Acquire: as in `deposited`.
        let word = BlockWord::from_bits(entry.word.load(Acquire));
        if word.state() != BlockState::Deposited {
            return None;
        }
        let named = Handle::from_bits(entry.deposit.load(Relaxed))?;
        // Whatever the generation: it was renewed if somebody made sure that nobody else has it.
        let is_its = (named.class(), named.index()) == (holder.class(), holder.index());
        let handle = Handle::new(class, index, word.generation());
        is_its
            .then(|| self.take_deposit(handle, entry, word))
            .flatten()
    }

    /// Whether the shared block that a deposited one lies in is gone; for the sweep.
    pub(super) fn is_orphan(&self, entry: &Entry) -> bool {
        // Relaxed: written before the word that the caller has read.
        let Some(holder) = Handle::from_bits(entry.deposit.load(Relaxed)) else {
            return true;
        };
        match self.locate(holder) {
            Some(found) => shared_word(holder, found).is_none(),
            // The sweep has mapped every window, so it names nothing.
            None => true,
        }
    }
}
