//! Blocks that several processes hold at once.
//!
//! A shared block lives while its holder set has a bit. A process changes only its own bit, or that
//! of a seat it reserved, and only under the arena's lock; above the bit, each process counts its
//! own [`Hold`]s in private memory. So there is no shared counter which a death could leave wrong.
//!
//! Most shared blocks never have a second holder. While there is one only, the block's word names
//! it, and nobody needs the set or the lock; the second holder writes the set.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use super::block::{Block, Handle};
use super::layout::Entry;
use super::word::{BlockState, BlockWord, SeatState, Who};
use super::{Arena, Participant, lock};
use crate::error::ParticipantGone;

/// How many [`Hold`]s of each shared block a process has.
pub(super) type Holds = HashMap<Handle, u32, BuildHasherDefault<Spread>>;

/// Hashes handles: numbers that nobody outside chooses, so one multiplication is enough.
#[derive(Debug, Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // The table uses the uppermost bits and the lowest ones.
        let spread = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ spread >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One hold of this process on a shared block.
pub(crate) struct Hold {
    arena: &'static Arena,
    handle: Handle,
    address: *mut u8,
    len: usize,
    /// Run on the bytes, with their number, by the last holder of all, before they are freed.
    finish: Option<unsafe fn(*mut u8, usize)>,
    /// Whether something in the bytes still needs them, asked by the last hold of this process.
    kept: Option<unsafe fn(*mut u8, usize) -> bool>,
}

// SAFETY: a hold is an address and plain words; whoever uses the address needs its own reasons.
// `finish` may run on any thread: it is set for types that are `Send` only.
unsafe impl Send for Hold {}
// SAFETY: as above; `&Hold` gives out the address only.
unsafe impl Sync for Hold {}

impl Hold {
    /// Turns a block of this process into a shared one with this process as its only holder.
    #[inline]
    pub(crate) fn share(block: Block, kind: u64) -> Hold {
        let (arena, handle) = (block.arena(), block.handle());
        let (entry, address, len) = (block.entry(), block.as_ptr(), block.len());
        std::mem::forget(block);
        // Relaxed: the store of the word publishes it.
        entry.kind.store(kind, Relaxed);
        entry.deposit.store(0, Relaxed);
        let owned = BlockWord::from_bits(entry.word.load(Relaxed));
        let single = owned.with(BlockState::Single, arena.me().who());
        // Held over the store: who guesses the handle finds the block and the count, or neither.
        let mut holds = lock(&arena.holds);
        holds.insert(handle, 1);
        // Release: pairs with the Acquire in `shared_word` and in the reaper. A death before leaves
        // an owned block.
        entry.word.store(single.to_bits(), Release);
        drop(holds);
        Hold {
            arena,
            handle,
            address,
            len,
            finish: None,
            kept: None,
        }
    }

    /// Adds a hold of this process to a shared block; `None` when the handle names no block of this
    /// kind that is alive.
    pub(crate) fn attach(arena: &'static Arena, handle: Handle, kind: u64) -> Option<Hold> {
        let entry = arena.locate(handle)?;
        let mut holds = lock(&arena.holds);
        let count = holds.get(&handle).copied().unwrap_or(0);
        if count == 0 && !arena.is_holder(handle, entry) {
            let _guard = arena.lock();
            if shared_word(handle, entry).is_none()
                || entry.kind.load(Relaxed) != kind
                || !arena.add_holder(handle, entry, arena.me().slot())
            {
                return None;
            }
        } else if entry.kind.load(Relaxed) != kind {
            // Relaxed, here and above: written before the block was shared, and it is alive.
            return None;
        }
        holds.insert(handle, count + 1);
        drop(holds);
        let address = arena.memory.data(handle.class(), handle.index());
        let len = arena.length_of(handle, entry);
        Some(Hold {
            arena,
            handle,
            address,
            len,
            finish: None,
            kept: None,
        })
    }

    /// Says what the last holder does with the bytes.
    ///
    /// # Safety
    ///
    /// `finish` is sound for the value that lies in the block, once, on any thread.
    pub(crate) unsafe fn set_finish(&mut self, finish: unsafe fn(*mut u8, usize)) {
        self.finish = Some(finish);
    }

    /// Says what keeps the bytes when this process's last hold is dropped: then this process stays a
    /// holder until it ends.
    ///
    /// # Safety
    ///
    /// `kept` is sound for the value that lies in the block, on any thread, while it is held.
    pub(crate) unsafe fn set_kept(&mut self, kept: unsafe fn(*mut u8, usize) -> bool) {
        self.kept = Some(kept);
    }

    /// Makes another participant a holder, before it has asked.
    pub(crate) fn hold_for(&self, participant: Participant) -> Result<(), ParticipantGone> {
        let _guard = self.arena.lock();
        // Under the lock, under which seats end: no bit is set for a seat after its sweep.
        let state = self.arena.seat_of(participant).map(|word| word.state());
        if !matches!(state, Some(SeatState::Reserved | SeatState::Taken)) {
            return Err(ParticipantGone);
        }
        let entry = self.entry();
        let added = self
            .arena
            .add_holder(self.handle, entry, participant.slot());
        debug_assert!(added, "the block is held by this process");
        Ok(())
    }

    pub(super) fn entry(&self) -> &'static Entry {
        self.arena
            .memory
            .entry(self.handle.class(), self.handle.index())
    }

    pub(super) fn arena(&self) -> &'static Arena {
        self.arena
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    pub(crate) fn address(&self) -> *mut u8 {
        self.address
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether this is the only hold of all, in any process; then it stays so until it is cloned or
    /// sent.
    ///
    /// For that the block gets a new handle. The old one may be on its way in a parcel that nobody
    /// keeps alive, since its sender was killed or has dropped the holds: it must not lead here.
    pub(crate) fn make_only(&mut self) -> bool {
        let (class, index) = (self.handle.class(), self.handle.index());
        let mut holds = lock(&self.arena.holds);
        if holds.get(&self.handle) != Some(&1) {
            return false;
        }
        let word = &self.arena.memory.entry(class, index).word;
        // Relaxed: the exchange, or the lock, decides.
        let held = BlockWord::from_bits(word.load(Relaxed));
        let renewed = held
            .renewed()
            .with(BlockState::Single, self.arena.me().who());
        // As in `leave`: without the lock while there is no second holder.
        let is_renewed = held.state() == BlockState::Single
            && word
                .compare_exchange(held.to_bits(), renewed.to_bits(), AcqRel, Relaxed)
                .is_ok();
        if !is_renewed {
            let _guard = self.arena.lock();
            let holders = self.arena.memory.holders(class, index);
            if !holders.is_only(self.arena.me().slot()) || self.entry().parcels() != 0 {
                return false;
            }
            // Release: pairs with the Acquire in `shared_word`, as that of `share` does.
            word.store(renewed.to_bits(), Release);
        }
        holds.remove(&self.handle);
        self.handle = Handle::new(class, index, renewed.generation());
        holds.insert(self.handle, 1);
        true
    }

    fn is_kept(&self) -> bool {
        // SAFETY: `set_kept` was promised a sound function for this value.
        // - where: the value lies at the block's start, and this process holds the block still.
        // - who, what: shared access to a value of the type that the kind stands for.
        self.kept
            .is_some_and(|kept| unsafe { kept(self.address, self.len) })
    }

    /// Takes this process's bit away; the block, if no other process holds it.
    fn leave(&self) -> Option<Block> {
        let arena = self.arena;
        let mut holds = lock(&arena.holds);
        match holds.entry(self.handle) {
            Occupied(mut count) if *count.get() > 1 => {
                *count.get_mut() -= 1;
                return None;
            }
            // The count stays, as of a hold that was leaked.
            _ if self.is_kept() => return None,
            Occupied(count) => drop(count.remove()),
            Vacant(_) => {}
        }
        let entry = self.entry();
        // Relaxed: the exchange, or the lock, decides.
        let held = BlockWord::from_bits(entry.word.load(Relaxed));
        let owned = held.with(BlockState::Owned, arena.me().who()).to_bits();
        // A single holder needs no lock: who attaches at this moment has to change the same word,
        // and one of the two comes too late.
        let is_left = held.state() == BlockState::Single
            && entry
                .word
                .compare_exchange(held.to_bits(), owned, AcqRel, Relaxed)
                .is_ok();
        if !is_left {
            let holders = arena
                .memory
                .holders(self.handle.class(), self.handle.index());
            let _guard = arena.lock();
            holders.remove(arena.me().slot());
            if !holders.is_empty() || entry.parcels() != 0 {
                return None;
            }
            // A death before this store leaves a shared block without holders: the sweep frees it.
            // Release: the next user of the block sees all that the holders wrote.
            entry.word.store(owned, Release);
        }
        Some(Block::new(arena, self.handle, self.len, self.len))
    }
}

impl Arena {
    /// Whether this process is a holder of a shared block, as [`Hold::hold_for`] makes it one. Then it stays one until
    /// it leaves: nobody else takes a bit away whose process lives. So a child that attaches what it was given
    /// needs no lock, and holds up nobody where it is stopped.
    fn is_holder(&self, handle: Handle, entry: &Entry) -> bool {
        let holders = self.memory.holders(handle.class(), handle.index());
        // The set means something only if the word says so, before and after.
        let is_shared = || {
            let word = shared_word(handle, entry);
            word.is_some_and(|word| word.state() == BlockState::Shared)
        };
        if !is_shared() || !holders.contains(self.me().slot()) {
            return false;
        }
        // Acquire: the set was read of the incarnation that the handle names.
        fence(Acquire);
        is_shared()
    }

    /// Makes a seat a holder of a shared block, under the arena's lock; `false` when the block is
    /// not shared any more.
    pub(super) fn add_holder(&self, handle: Handle, entry: &Entry, slot: u16) -> bool {
        let holders = self.memory.holders(handle.class(), handle.index());
        let Some(word) = shared_word(handle, entry) else {
            return false;
        };
        if word.state() == BlockState::Shared {
            holders.insert(slot);
            return true;
        }
        // The set means nothing before the word says so; whatever a death or the failure below
        // leaves in it is cleared here.
        holders.clear();
        if !self.has_left(word.who()) {
            holders.insert(word.who().slot());
        }
        holders.insert(slot);
        // AcqRel: pairs with `leave`, against which it competes.
        let shared = word.with(BlockState::Shared, Who::NOBODY).to_bits();
        entry
            .word
            .compare_exchange(word.to_bits(), shared, AcqRel, Relaxed)
            .is_ok()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(block) = self.leave() else {
            return;
        };
        if let Some(finish) = self.finish {
            // SAFETY: `set_finish` was promised a sound function for this value.
            // - where: the value lies at the block's start, as when it was shared.
            // - who: nobody holds the block any more, so it is ours alone, and only the last of
            //   all holders comes here.
            // - what: holders of the block had the same kind, so the value is of that type.
            unsafe { finish(block.as_ptr(), block.len()) };
        }
        // Relaxed: what the holders before did to it came before they left.
        if block.entry().deposits() != 0 {
            self.arena.free_deposits(&block);
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("handle", &self.handle)
            .field("len", &self.len)
            .finish()
    }
}

/// The word of a block while it is shared, and the incarnation that the handle names.
pub(super) fn shared_word(handle: Handle, entry: &Entry) -> Option<BlockWord> {
    // Acquire: pairs with the Release in `share`; the value in the block shows.
    let word = BlockWord::from_bits(entry.word.load(Acquire));
    let is_shared = matches!(word.state(), BlockState::Shared | BlockState::Single);
    (is_shared && handle.fits(word)).then_some(word)
}
