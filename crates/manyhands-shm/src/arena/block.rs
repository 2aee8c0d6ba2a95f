//! Blocks: memory that exactly one process is responsible for at any time.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use manyhands_os::error::OsError;

use super::layout::{CLASSES, Entry, INDEX_BITS, INDEX_MASK, MOST_WINDOWS, class_size};
use super::word::{BlockState, BlockWord};
use super::{Arena, Participant, joined};

/// Eight bytes that name one incarnation of a block; they mean the same in every process.
///
/// ```text
///  63        35 34      13 12     8 7       0
/// +------------+----------+--------+------------+
/// | generation |  number  | class  | window + 1 |
/// +------------+----------+--------+------------+
/// ```
///
/// A handle gives no access. What it names is checked whenever it is used, against the arena's
/// bounds and against the block's present generation, so a stale one is noticed.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Handle(u64);

const CLASS_SHIFT: u32 = 8;
const INDEX_SHIFT: u32 = 13;
const GENERATION_SHIFT: u32 = 35;

const _: () = assert!(CLASSES <= 1 << (INDEX_SHIFT - CLASS_SHIFT));
const _: () = assert!(INDEX_BITS == GENERATION_SHIFT - INDEX_SHIFT);
const _: () = assert!(MOST_WINDOWS < 1 << CLASS_SHIFT);

impl Handle {
    pub(crate) fn new(class: usize, index: u32, generation: u32) -> Handle {
        // The generation's upper three bits are shifted out: a handle that is 2^29 incarnations
        // old would be mistaken for a new one.
        Handle(
            u64::from(generation) << GENERATION_SHIFT
                | u64::from(index & INDEX_MASK) << INDEX_SHIFT
                | (class as u64) << CLASS_SHIFT
                | (u64::from(index >> INDEX_BITS) + 1),
        )
    }

    /// The handle as a word, which is never zero.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The handle behind a word, `None` when no handle looks like it.
    pub fn from_bits(bits: u64) -> Option<Handle> {
        (bits & 0xff != 0).then_some(Handle(bits))
    }

    /// Which window of the arena the block lies in.
    pub(crate) fn window(self) -> u32 {
        // A handle is never zero there.
        (self.0 as u8 - 1).into()
    }

    pub(crate) fn class(self) -> usize {
        (self.0 >> CLASS_SHIFT & 0x1f) as usize
    }

    /// The index of the block in its class, with the window in its upper bits.
    pub(crate) fn index(self) -> u32 {
        self.window() << INDEX_BITS | (self.0 >> INDEX_SHIFT) as u32 & INDEX_MASK
    }

    /// Whether a word is of the incarnation that this handle names.
    pub(crate) fn fits(self, word: BlockWord) -> bool {
        Handle::new(self.class(), self.index(), word.generation()) == self
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = self.0 >> GENERATION_SHIFT;
        let size = class_size(self.class().min(CLASSES - 1));
        write!(
            f,
            "Handle({size} B #{}.{} generation {generation})",
            self.window(),
            self.index() & INDEX_MASK,
        )
    }
}

/// A block that this process alone may use, until it drops it or gives it away.
///
/// The bytes are whatever the last user left. When the process dies, the block is free again.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use manyhands_shm::arena::{self, Block};
///
/// let arena = arena::family()?;
/// let mailbox = AtomicU64::new(0); // in real use: in shared memory
/// arena.allocate(100)?.give(arena.me(), &mailbox)?;
///
/// let block = Block::accept(mailbox.into_inner()).expect("it was given to us");
/// assert_eq!(block.len(), 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Block {
    arena: &'static Arena,
    handle: Handle,
    address: *mut u8,
    len: usize,
    /// How many of the bytes may be other than zero.
    pub(super) dirty: usize,
}

// SAFETY: a block is an address and plain words. The memory stays mapped for ever, and whoever
// reads or writes through the raw pointer needs `unsafe` and its own reasons.
unsafe impl Send for Block {}
// SAFETY: as above; `&Block` gives out nothing but the raw pointer.
unsafe impl Sync for Block {}

impl Block {
    #[inline]
    pub(crate) fn new(arena: &'static Arena, handle: Handle, len: usize, dirty: usize) -> Block {
        let address = arena.memory.data(handle.class(), handle.index());
        Block {
            arena,
            handle,
            address,
            len,
            dirty,
        }
    }

    /// Takes over a block that was given to this process; `value` comes out of the mailbox.
    ///
    /// `None` when `value` names no block that was given to this process and not yet accepted: the
    /// giver has not finished, has died before it did, or the block was accepted already. Also when
    /// this process has no room in its address space for the part of the arena that the block is in.
    pub fn accept(value: u64) -> Option<Block> {
        joined()?.accept(Handle::from_bits(value)?)
    }

    /// The eight bytes that name this block.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// The bytes that were asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes were asked for.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first byte; aligned to the block's size rounded up to a power of two, at least 64 and
    /// at most 4096. [`len`](Self::len) bytes are backed by memory.
    pub fn as_ptr(&self) -> *mut u8 {
        self.address
    }

    /// Where the bytes begin that are the user's: behind the list of what the block
    /// [holds](crate::handoff::to_block), if there is one.
    pub fn start(&self) -> usize {
        // Relaxed: nobody else changes the word of a block that we own.
        let word = BlockWord::from_bits(self.entry().word.load(Relaxed));
        self.arena.start_in(self.handle, word, self.len)
    }

    /// Gives the block to another process: its handle goes into `mailbox`, then one compare and
    /// exchange makes the receiver responsible.
    ///
    /// A receiver that finds the handle in the mailbox too early, or after the giver died in
    /// between, is refused by [`accept`](Self::accept); the reaper then frees the block.
    ///
    /// # Errors
    ///
    /// [`GiveError`] with the block when the receiver has ended; the mailbox then holds a handle
    /// that nobody can accept.
    pub fn give(self, to: Participant, mailbox: &AtomicU64) -> Result<(), GiveError> {
        // Release: who reads the handle also sees what was written into the block.
        mailbox.store(self.handle.0, Release);
        self.hand_over(to)
    }

    /// The second half of [`give`](Self::give).
    pub(crate) fn hand_over(self, to: Participant) -> Result<(), GiveError> {
        let (arena, entry) = (self.arena, self.entry());
        let owned = BlockWord::from_bits(entry.word.load(Relaxed));
        let given = owned.with(BlockState::Inbox, to.who());
        if !arena.is_alive(to) {
            return Err(GiveError { block: self });
        }
        // Release: pairs with the Acquire in `accept`; publishes the bytes of the block.
        entry.word.store(given.to_bits(), Release);
        if arena.is_alive(to) {
            std::mem::forget(self);
            return Ok(());
        }
        // The receiver died in between, and may have been cleaned up before the block was its.
        // Whoever changes the word first, we or a reaper, has the block.
        let back = given.with(BlockState::Owned, arena.me.who());
        let taken_back =
            entry
                .word
                .compare_exchange(given.to_bits(), back.to_bits(), Acquire, Relaxed);
        if taken_back.is_ok() {
            return Err(GiveError { block: self });
        }
        std::mem::forget(self);
        Ok(())
    }

    #[inline]
    pub(crate) fn entry(&self) -> &'static Entry {
        self.arena
            .memory
            .entry(self.handle.class(), self.handle.index())
    }

    pub(crate) fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// Fills the block with zeros, as far as it is not known to be zero already.
    pub(crate) fn zero(&mut self) {
        // SAFETY: `write_bytes` needs a valid, aligned, exclusive place.
        // - where: `dirty <= len`, and `len` bytes from the address are inside of the block.
        // - who: the block is owned by this process, and `&mut self` by this thread.
        // - what: bytes.
        unsafe { self.address.write_bytes(0, self.dirty) };
        self.dirty = 0;
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        self.arena.free(self.handle);
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("handle", &self.handle)
            .field("len", &self.len)
            .finish()
    }
}

/// The receiver of a block has ended; here is the block.
#[derive(Debug, thiserror::Error)]
#[error("the receiver of the block has ended")]
pub struct GiveError {
    /// What could not be given.
    pub block: Block,
}

impl Arena {
    /// See [`Block::accept`].
    pub(crate) fn accept(&'static self, handle: Handle) -> Option<Block> {
        let entry = self.locate(handle)?;
        // Acquire: pairs with the Release in `hand_over`.
        let given = BlockWord::from_bits(entry.word.load(Acquire));
        let for_me = given.state() == BlockState::Inbox && given.who() == self.me.who();
        if !for_me || !handle.fits(given) {
            return None;
        }
        // AcqRel: two threads may try; the one that succeeds has the block.
        let owned = given.with(BlockState::Owned, self.me.who()).to_bits();
        entry
            .word
            .compare_exchange(given.to_bits(), owned, AcqRel, Relaxed)
            .ok()?;
        let len = self.length_of(handle, entry);
        Some(Block::new(self, handle, len, len))
    }

    /// Sees to it that what a handle from outside names can be looked at.
    ///
    /// # Errors
    ///
    /// When the address space of this process, or its limit, has no room for the block's window.
    pub(crate) fn reach(&self, handle: Handle) -> Result<(), OsError> {
        match handle.window() < self.memory.opened() {
            true => self.memory.map_window(handle.window()),
            // It names nothing.
            false => Ok(()),
        }
    }

    /// The entry that a handle from outside names, `None` when it points out of the arena or cannot
    /// be [reached](Self::reach).
    pub(crate) fn locate(&self, handle: Handle) -> Option<&'static Entry> {
        let class = Some(handle.class()).filter(|class| *class < CLASSES)?;
        let window = Some(handle.window()).filter(|window| *window < self.memory.opened())?;
        self.reach(handle).ok()?;
        let ready = self.memory.ready(window, class);
        let index = Some(handle.index()).filter(|index| ready.contains(index))?;
        Some(self.memory.entry(class, index))
    }

    /// The length of a block, never more than the block has.
    pub(crate) fn length_of(&self, handle: Handle, entry: &Entry) -> usize {
        // Relaxed: written by the owner before it published the block. The limit keeps a wrong
        // number from leading out of the block.
        let length = u64::from(entry.length.load(Relaxed)).min(class_size(handle.class()));
        length as usize
    }
}
