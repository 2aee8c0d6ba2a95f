//! Who waits for which lock: one entry for each thread, in memory that all members see.
//!
//! Layout: `docs/layout.md`, section "Table of waits". Protocol: `README.md` beside this file.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use crate::member::Member;

/// How many threads can wait at a time and be seen.
pub(super) const ENTRIES: usize = 256;

/// Who waits; all zero when nobody does.
///
/// # Ordering
///
/// Every access is `SeqCst`, so that the protocol can be read as steps of one sequence: this is for
/// finding faults, and runs only when a thread is about to sleep.
#[repr(C)]
pub struct Table {
    entries: [Entry; ENTRIES],
}

/// One thread that waits, or nobody.
#[repr(C, align(128))]
pub(super) struct Entry {
    /// The claiming [`Member`], and [`WAITING`] once it is published; zero when free.
    word: AtomicU64,
    /// How often the entry was claimed.
    sequence: AtomicU64,
    /// Where the lock lies, as an offset into the memory that the members share.
    lock: AtomicU64,
    /// The kernel's number of the thread.
    thread: AtomicU64,
    name: Text<4>,
    site: Text<8>,
}

const _: () = assert!(size_of::<Entry>() == 128);
const _: () = assert!(size_of::<Table>() == 32 << 10);

/// The top bit of an entry's word, far above a member.
const WAITING: u64 = 1 << 63;

/// What an entry says, as far as it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) index: usize,
    sequence: u64,
    pub(super) member: Member,
    pub(super) thread: u32,
    pub(super) lock: u64,
}

impl Table {
    /// A table where nobody waits.
    pub const fn new() -> Self {
        Self {
            entries: [const { Entry::free() }; ENTRIES],
        }
    }

    /// Claims a free entry, or one that a dead member left; `None` when all are in use.
    pub(super) fn claim(&self, me: Member, is_over: impl Fn(Member) -> bool) -> Option<usize> {
        let claim_of = |is_left: &dyn Fn(u64) -> bool| {
            self.entries.iter().position(|entry| {
                let word = entry.word.load(SeqCst);
                let exchange = |new| entry.word.compare_exchange(word, new, SeqCst, SeqCst);
                is_left(word) && exchange(me.bits()).is_ok()
            })
        };
        claim_of(&|word| word == 0)
            .or_else(|| claim_of(&|word| Member::from_bits(word & !WAITING).is_none_or(&is_over)))
    }

    /// Says who waits for what, in an entry that was claimed for `me`.
    pub(super) fn publish(&self, index: usize, me: Member, wait: &super::Wait) {
        let entry = &self.entries[index];
        entry.sequence.fetch_add(1, SeqCst);
        entry.lock.store(wait.lock, SeqCst);
        entry.thread.store(u64::from(wait.thread), SeqCst);
        let name = wait.name.as_deref().unwrap_or_default();
        entry.name.store(&name[..name.floor_char_boundary(32)]);
        // The end of a path tells more than its beginning.
        let cut = wait.site.len().saturating_sub(64);
        entry
            .site
            .store(&wait.site[wait.site.ceil_char_boundary(cut)..]);
        self.change(index, me.bits(), me.bits() | WAITING);
    }

    /// Frees an entry that was published for `me`.
    pub(super) fn withdraw(&self, index: usize, me: Member) {
        self.change(index, me.bits() | WAITING, 0);
    }

    /// Changes an entry's word, unless it is somebody else's by now: the threads of a process that
    /// is called dead may run on for a moment.
    fn change(&self, index: usize, from: u64, to: u64) {
        let _ = self.entries[index]
            .word
            .compare_exchange(from, to, SeqCst, SeqCst);
    }

    /// What an entry says; `None` unless a living member waits there.
    pub(super) fn look(&self, index: usize, is_over: impl Fn(Member) -> bool) -> Option<Seen> {
        let entry = &self.entries[index];
        // The sequence first: as long as it is the same, so is all that was read after it.
        let sequence = entry.sequence.load(SeqCst);
        let word = entry.word.load(SeqCst);
        let member = Member::from_bits(word & !WAITING)?;
        (word & WAITING != 0 && !is_over(member)).then(|| Seen {
            index,
            sequence,
            member,
            thread: entry.thread.load(SeqCst) as u32,
            lock: entry.lock.load(SeqCst),
        })
    }

    /// The entry of a thread that waits.
    pub(super) fn find(&self, thread: u32, is_over: impl Fn(Member) -> bool) -> Option<Seen> {
        let seen = (0..ENTRIES).filter_map(|index| {
            let maybe = self.entries[index].thread.load(SeqCst) == u64::from(thread);
            maybe.then(|| self.look(index, &is_over)).flatten()
        });
        seen.into_iter().find(|seen| seen.thread == thread)
    }

    /// The name of the thread and the place in the source that an entry tells.
    pub(super) fn texts(&self, index: usize) -> (Option<String>, String) {
        let entry = &self.entries[index];
        let name = entry.name.load();
        ((!name.is_empty()).then_some(name), entry.site.load())
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = |entry: &&Entry| entry.word.load(SeqCst) != 0;
        f.debug_struct("Table")
            .field("waiting", &self.entries.iter().filter(used).count())
            .finish_non_exhaustive()
    }
}

impl Entry {
    const fn free() -> Self {
        Self {
            word: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            lock: AtomicU64::new(0),
            thread: AtomicU64::new(0),
            name: Text::new(),
            site: Text::new(),
        }
    }
}

/// A short text, in words that may be read while they are written; filled up with zeros.
#[repr(C)]
struct Text<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Text<WORDS> {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Keeps as much of the beginning as fits.
    fn store(&self, text: &str) {
        let mut chunks = text.as_bytes().chunks(8);
        for word in &self.0 {
            let mut bytes = [0; 8];
            let chunk = chunks.next().unwrap_or_default();
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(bytes), SeqCst);
        }
    }

    fn load(&self) -> String {
        let words = self.0.iter();
        let bytes: Vec<u8> = words
            .flat_map(|word| word.load(SeqCst).to_le_bytes())
            .take_while(|byte| *byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
