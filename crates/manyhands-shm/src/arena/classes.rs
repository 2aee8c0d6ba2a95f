//! Finding and freeing blocks, class by class.
//!
//! The shared words are the only truth; what a process remembers of free blocks ([`Hints`]) only
//! saves it from looking. A block is claimed by one CAS and freed by one store.

use std::ops::Range;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use manyhands_os::memory::ReserveError;

use super::block::{Block, Handle};
use super::layout::{CLASSES, LAST_SMALL_CLASS, PAGE, READY_STEP, class_of, class_size};
use super::word::{BlockState, BlockWord};
use super::{Arena, lock};
use crate::error::{NoSpace, ShortOf};

/// Free blocks of one class that this process has seen; the last seen is the warmest. Somebody may
/// have taken one since.
#[derive(Debug)]
pub(super) struct Hints {
    free: Vec<u32>,
    /// Where the next look through the entries begins, counted through all windows.
    cursor: u32,
}

impl Hints {
    pub(super) const fn new() -> Hints {
        Hints {
            free: Vec::new(),
            cursor: 0,
        }
    }
}

/// More hints than this are not kept; looking finds the blocks again.
const MOST_HINTS: usize = 1024;
/// How many entries are looked at before new ones are made ready.
const WINDOW: u32 = 256;
/// Bytes of one class that are made ready at once, at most.
const MOST_READY_BYTES: u64 = 1 << 20;
/// Blocks of this size and above give their pages back when enough of them are free.
const PUNCHED_SIZE: u64 = 2 << 20;
/// The backed bytes that a process leaves, in each class of such blocks, in those that it has freed.
const KEPT_WARM: u64 = 64 << 20;
/// In `Entry::warm`: pages are being taken or given back, or somebody died while doing it.
const CHANGING: u32 = 1 << 31;

/// What a claim found.
struct Claim {
    index: u32,
    word: BlockWord,
}

impl Arena {
    /// Finds a block of at least `len` bytes that belongs to nobody and makes it this process's.
    ///
    /// Its pages are backed by memory before it is handed out, so that touching it cannot fail.
    /// Its bytes are whatever the last user left.
    ///
    /// # Errors
    ///
    /// [`NoSpace`] when all blocks that are large enough are in use, also after what the dead have
    /// left was taken back, or when the system has no memory to back one.
    #[inline]
    pub fn allocate(&'static self, len: usize) -> Result<Block, NoSpace> {
        match self.allocate_again(len) {
            Some(block) => Ok(block),
            None => self.allocate_anywhere(len),
        }
    }

    /// Claims a small block that this process freed lately: the usual way, in few instructions.
    #[inline]
    fn allocate_again(&'static self, len: usize) -> Option<Block> {
        let class = class_of(len).filter(|class| *class <= LAST_SMALL_CLASS)?;
        let index = lock(&self.hints[class]).free.pop()?;
        let claim = self.claim(class, index)?;
        let dirty = dirty_in_small(&claim, len);
        Some(self.hand_out(class, &claim, len, dirty))
    }

    fn allocate_anywhere(&'static self, len: usize) -> Result<Block, NoSpace> {
        loop {
            let windows = self.memory.windows();
            let mut error = match self.try_allocate(len, windows) {
                Ok(block) => return Ok(block),
                Err(error) => error,
            };
            // What the dead hold is free too, once somebody looks.
            if self.reap_dead() > 0
                && let Ok(block) = self.try_allocate(len, windows)
            {
                return Ok(block);
            }
            let is_full = matches!(error.short_of, ShortOf::Blocks);
            if !is_full || !self.fits_a_block(len) {
                return Err(error);
            }
            match self.memory.open_window(windows) {
                Ok(true) => {}
                Ok(false) => return Err(error),
                Err(refused) => {
                    error.short_of = ShortOf::Memory(refused);
                    return Err(error);
                }
            }
        }
    }

    /// Whether there are blocks so large in a window.
    fn fits_a_block(&self, len: usize) -> bool {
        class_of(len).is_some_and(|class| self.memory.capacity(class) > 0)
    }

    /// Gives the pages behind all free blocks of more than a page back to the system.
    ///
    /// The arena keeps some of what was freed warm, because fresh pages are slow; a program that
    /// had a large peak and goes on for long may call this. Blocks in use are not touched.
    pub fn trim(&self) {
        for class in LAST_SMALL_CLASS + 1..CLASSES {
            for index in self.blocks(class) {
                let entry = self.memory.entry(class, index);
                // Relaxed: a hint; the claim decides.
                if entry.warm.load(Relaxed) != 0 && self.claim(class, index).is_some() {
                    self.punch(class, index);
                    self.set_free(class, index);
                }
            }
        }
    }

    /// All blocks of a class that can be looked at.
    pub(super) fn blocks(&self, class: usize) -> impl Iterator<Item = u32> + '_ {
        (0..self.memory.windows()).flat_map(move |window| self.memory.ready(window, class))
    }

    fn try_allocate(&'static self, len: usize, windows: u32) -> Result<Block, NoSpace> {
        let mut short_of = ShortOf::Blocks;
        for class in class_of(len).unwrap_or(CLASSES)..CLASSES {
            match self.allocate_in(class, len, windows) {
                Ok(Some(block)) => return Ok(block),
                Ok(None) => {}
                Err(refused) => {
                    // A larger class needs as many pages for it.
                    short_of = ShortOf::Memory(refused.source);
                    break;
                }
            }
        }
        let free = self.free_bytes(len);
        Err(NoSpace {
            asked: len,
            free,
            short_of,
        })
    }

    fn allocate_in(
        &'static self,
        class: usize,
        len: usize,
        windows: u32,
    ) -> Result<Option<Block>, ReserveError> {
        let Some(claim) = self.find(class, windows)? else {
            return Ok(None);
        };
        let dirty = if class <= LAST_SMALL_CLASS {
            dirty_in_small(&claim, len)
        } else {
            let pages = (len as u64).div_ceil(PAGE) as u32;
            match self.warm_up(class, claim.index, pages) {
                Ok(warm) => len.min(warm as usize * PAGE as usize),
                Err(refused) => {
                    self.set_free(class, claim.index);
                    return Err(refused);
                }
            }
        };
        Ok(Some(self.hand_out(class, &claim, len, dirty)))
    }

    #[inline]
    fn hand_out(&'static self, class: usize, claim: &Claim, len: usize, dirty: usize) -> Block {
        // Relaxed: published together with the block, if ever. `len` is at most 1 GiB.
        let entry = self.memory.entry(class, claim.index);
        entry.length.store(len as u32, Relaxed);
        let handle = Handle::new(class, claim.index, claim.word.generation());
        Block::new(self, handle, len, dirty)
    }

    /// Backs the first `pages` of an owned block with memory; tells how many were backed before.
    fn warm_up(&self, class: usize, index: u32, pages: u32) -> Result<u32, ReserveError> {
        let entry = self.memory.entry(class, index);
        // Relaxed, here and below: only the owner of a block uses the number, and ownership passes
        // with Release and Acquire.
        let mut warm = entry.warm.load(Relaxed);
        if warm & CHANGING != 0 {
            self.punch(class, index);
            warm = entry.warm.load(Relaxed) & !CHANGING;
        }
        if warm < pages {
            let start = self.memory.data_offset(class, index) + u64::from(warm) * PAGE;
            // Whoever dies here, or is refused after a part of it, leaves the mark: else nobody would
            // know of the pages until somebody needs as many in this block.
            entry.warm.store(warm | CHANGING, Relaxed);
            self.memory
                .file
                .reserve(start, u64::from(pages - warm) * PAGE)?;
            entry.warm.store(pages, Relaxed);
        }
        Ok(warm)
    }

    /// Gives the pages of an owned block back. Whoever dies in between leaves the mark, and the
    /// block's next owner begins anew.
    fn punch(&self, class: usize, index: u32) {
        let warm = &self.memory.entry(class, index).warm;
        warm.store(warm.load(Relaxed) | CHANGING, Relaxed);
        // On refusal the mark goes, and the pages stay with what is in them.
        let left = match self.memory.punch(class, index) {
            Ok(()) => 0,
            Err(_) => warm.load(Relaxed) & !CHANGING,
        };
        warm.store(left, Relaxed);
    }

    /// Claims some free block of a class, making new entries ready when needed.
    fn find(&self, class: usize, windows: u32) -> Result<Option<Claim>, ReserveError> {
        let hints = &mut *lock(&self.hints[class]);
        if is_punched(class) {
            return self.find_warm(class, windows, hints);
        }
        while let Some(index) = hints.free.pop() {
            if let Some(claim) = self.claim(class, index) {
                return Ok(Some(claim));
            }
        }
        if let Some(claim) = self.look(class, windows, hints, WINDOW) {
            return Ok(Some(claim));
        }
        let extended = self.extend_some(class, windows);
        if let Ok(Some(new)) = &extended {
            hints.free.extend(new.clone().rev().take(MOST_HINTS));
            hints.cursor = 0;
            if let Some(claim) = hints.free.pop().and_then(|index| self.claim(class, index)) {
                return Ok(Some(claim));
            }
        }
        // Nearly full: look everywhere before giving up.
        match self.look(class, windows, hints, u32::MAX) {
            Some(claim) => Ok(Some(claim)),
            None => extended.map(|_| None),
        }
    }

    /// As [`find`](Self::find), where pages cost more than a look at all entries: a warm block,
    /// whoever freed it, before a cold one. Few are used then, again and again.
    fn find_warm(
        &self,
        class: usize,
        windows: u32,
        hints: &mut Hints,
    ) -> Result<Option<Claim>, ReserveError> {
        while let Some(index) = hints.free.pop() {
            if self.warm_bytes(class, index) > 0
                && let Some(claim) = self.claim(class, index)
            {
                return Ok(Some(claim));
            }
        }
        loop {
            let all = || (0..windows).flat_map(|window| self.memory.ready(window, class));
            let mut warm = all().filter(|index| self.warm_bytes(class, *index) > 0);
            let any = || all().find_map(|index| self.claim(class, index));
            let found = warm.find_map(|index| self.claim(class, index)).or_else(any);
            // Others may be faster with what is made ready.
            if found.is_some() || self.extend_some(class, windows)?.is_none() {
                return Ok(found);
            }
        }
    }

    /// The bytes of a block that are backed; nothing where its next owner begins anew.
    fn warm_bytes(&self, class: usize, index: u32) -> u64 {
        // Relaxed: a hint, unless the block is ours.
        match self.memory.entry(class, index).warm.load(Relaxed) {
            pages if pages & CHANGING == 0 => u64::from(pages) * PAGE,
            _ => 0,
        }
    }

    /// Looks through up to `most` entries from the cursor on, and claims the first free one.
    fn look(&self, class: usize, windows: u32, hints: &mut Hints, most: u32) -> Option<Claim> {
        let ready: Vec<Range<u32>> = (0..windows)
            .map(|window| self.memory.ready(window, class))
            .collect();
        let count: u32 = ready.iter().map(|blocks| blocks.end - blocks.start).sum();
        let start = if hints.cursor < count {
            hints.cursor
        } else {
            0
        };
        hints.cursor = start;
        let all = || ready.iter().cloned().flatten();
        let from_start = all().skip(start as usize).chain(all().take(start as usize));
        for index in from_start.take(most as usize) {
            hints.cursor += 1;
            if let Some(claim) = self.claim(class, index) {
                return Some(claim);
            }
        }
        None
    }

    /// Makes more entries usable, in the first window that has some, and tells which; `None` when all
    /// are.
    fn extend_some(&self, class: usize, windows: u32) -> Result<Option<Range<u32>>, ReserveError> {
        let capacity = self.memory.capacity(class);
        for window in 0..windows {
            let ready = self.memory.ready(window, class);
            let count = ready.end - ready.start;
            if count < capacity {
                let more = self.extend(window, class, count)?;
                return Ok(Some(ready.start + count..ready.start + more));
            }
        }
        Ok(None)
    }

    /// Makes the entries of a window above `ready` usable: first their pages, then the number that
    /// shows them, which is returned.
    fn extend(&self, window: u32, class: usize, ready: u32) -> Result<u32, ReserveError> {
        let layout = &self.memory.layout;
        let most = u32::try_from(MOST_READY_BYTES / class_size(class)).unwrap_or(u32::MAX);
        let more = READY_STEP.max((ready / 2).min(most).next_multiple_of(READY_STEP));
        let end = ready.saturating_add(more).min(self.memory.capacity(class));
        let blocks = ready..end;
        let mut ranges = vec![
            layout.entry_pages(class, blocks.clone()),
            layout.holder_pages(class, blocks.clone()),
        ];
        if class <= LAST_SMALL_CLASS {
            ranges.push(layout.data_pages(class, blocks));
        }
        let start = self.memory.window_offset(window);
        for pages in ranges {
            self.memory
                .file
                .reserve(start + pages.start, pages.end - pages.start)?;
        }
        // Whoever dies before this line has reserved pages that the next one reserves again.
        self.memory.raise_ready(window, class, end);
        Ok(end)
    }

    #[inline]
    fn claim(&self, class: usize, index: u32) -> Option<Claim> {
        let word = &self.memory.entry(class, index).word;
        // Relaxed: only a hint whether the exchange is worth it.
        let free = BlockWord::from_bits(word.load(Relaxed));
        if free.state() != BlockState::Free {
            return None;
        }
        let owned = free.with(BlockState::Owned, self.me().who());
        // Acquire: pairs with the Release of whoever freed it, so that what it wrote beside the
        // word shows.
        word.compare_exchange(free.to_bits(), owned.to_bits(), AcqRel, Relaxed)
            .ok()?;
        Some(Claim { index, word: owned })
    }

    /// Frees a block that this process owns.
    #[inline]
    pub(super) fn free(&'static self, handle: Handle) {
        let (class, index) = (handle.class(), handle.index());
        // Relaxed: nobody else changes the word of a block that we own.
        let word = self.memory.entry(class, index).word.load(Relaxed);
        if BlockWord::from_bits(word).is_holding() && !self.empty(handle) {
            return;
        }
        let mut hints = lock(&self.hints[class]);
        if is_punched(class) && !self.may_stay_warm(class, index, &mut hints.free) {
            self.punch(class, index);
            self.set_free(class, index);
            return;
        }
        self.set_free(class, index);
        if hints.free.len() < MOST_HINTS {
            hints.free.push(index);
        }
    }

    /// Whether a block that is about to be freed may keep its pages. Counted is what is free and warm
    /// still, of what this process has freed: most may be with others again, as those who take
    /// messages free what those who put them use.
    fn may_stay_warm(&self, class: usize, index: u32, freed: &mut Vec<u32>) -> bool {
        // Each once: it was freed before, and somebody else has taken it since.
        freed.retain(|other| *other != index);
        if (freed.len() as u64 + 1) * class_size(class) <= KEPT_WARM {
            return true;
        }
        let mut kept = self.warm_bytes(class, index);
        freed.retain(|other| {
            let warm = match self.is_free(class, *other) {
                true => self.warm_bytes(class, *other),
                false => 0,
            };
            kept += warm;
            warm > 0
        });
        kept <= KEPT_WARM
    }

    /// Whether a block seems to be nobody's.
    fn is_free(&self, class: usize, index: u32) -> bool {
        // Relaxed: a hint.
        let word = self.memory.entry(class, index).word.load(Relaxed);
        BlockWord::from_bits(word).state() == BlockState::Free
    }

    #[inline]
    fn set_free(&self, class: usize, index: u32) {
        let word = &self.memory.entry(class, index).word;
        // Relaxed: nobody else changes the word of a block that we own.
        let owned = BlockWord::from_bits(word.load(Relaxed));
        debug_assert!(owned.state() == BlockState::Owned && owned.who() == self.me().who());
        // Release: pairs with the Acquire in `claim`.
        word.store(owned.freed().to_bits(), Release);
    }

    /// The bytes of all unused blocks of at least `len` bytes, in the windows that are open.
    fn free_bytes(&self, len: usize) -> usize {
        let windows = u64::from(self.memory.windows());
        let mut free = 0;
        for class in class_of(len).unwrap_or(CLASSES)..CLASSES {
            let used = self.blocks(class).filter(|index| {
                let word = self.memory.entry(class, *index).word.load(Acquire);
                BlockWord::from_bits(word).state() != BlockState::Free
            });
            let all = windows * u64::from(self.memory.capacity(class));
            free += all.saturating_sub(used.count() as u64) * class_size(class);
        }
        free as usize
    }
}

/// Whether free blocks of a class may give their pages back.
const fn is_punched(class: usize) -> bool {
    class_size(class) >= PUNCHED_SIZE
}

/// Small blocks got their pages when their entries were made ready; nobody wrote into one of
/// generation 0.
fn dirty_in_small(claim: &Claim, len: usize) -> usize {
    if claim.word.generation() == 0 { 0 } else { len }
}
