//! The list of locks that the kernel marks when a thread dies.
//!
//! Each thread has one list, which the C library registers. When the thread ends, by any cause,
//! the kernel walks it and does for each word that still names the thread as owner: replace the
//! owner by [`OWNER_DIED`], keep [`WAITERS`], wake one sleeper. One more word may be *pending*:
//! it is treated the same, and when it names no owner any more, one sleeper is woken too; this
//! covers the instructions between taking or leaving a word and changing the list.
//!
//! We use the list that is there, never a new one in its place, so that robust mutexes of the C
//! library work beside ours in one thread. Its layout is the C library's: the kernel adds one
//! offset to each entry to find the word, so all words of a thread lie at the same distance from
//! their entries. [`Place`] has the numbers.
//!
//! Order matters at each instruction, since the thread may die between any two: all writes here
//! are volatile or atomic and fenced against the compiler. The kernel walks the list on the
//! dying thread's own behalf, so program order is enough.
//!
//! Source: `Documentation/locking/robust-futex-ABI.rst` of Linux; `nptl/descr.h` of glibc.

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicPtr, compiler_fence};

use crate::process::become_another;
use crate::thread::{Own, own};

/// Somebody sleeps on the word: `FUTEX_WAITERS`.
pub const WAITERS: u32 = 0x8000_0000;
/// The owner died: `FUTEX_OWNER_DIED`.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// The owner's thread id: `FUTEX_TID_MASK`.
pub const OWNER: u32 = 0x3fff_ffff;

/// How many held words the kernel marks at a thread's death (`ROBUST_LIST_LIMIT`).
pub const LIST_LIMIT: u32 = 2048;

/// Where a linked word keeps its list node, in bytes after the word: glibc's distances.
#[derive(Debug)]
pub struct Place;

impl Place {
    /// The pointer to the entry before; glibc writes it when a neighbor is unlinked.
    pub const PREVIOUS: usize = 24;
    /// The pointer to the entry after, which the kernel follows; its address *is* the entry.
    pub const NEXT: usize = 32;
    /// The bytes from the word to the end of the node.
    pub const SIZE: usize = 40;
}

/// The head as the kernel and the C library lay it out.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RawHead {
    list: AtomicPtr<Entry>,
    futex_offset: isize,
    list_op_pending: AtomicPtr<Entry>,
}

/// The `next` field of a node; the node's `previous` field lies right before it.
#[derive(Debug)]
#[repr(C)]
struct Entry {
    next: AtomicPtr<Entry>,
}

/// Our own head, for C libraries that register none at a thread's start (musl).
#[repr(C)]
struct OwnHead {
    previous: AtomicPtr<Entry>,
    head: RawHead,
}

/// The distance from an entry to its word.
const OFFSET: isize = -(Place::NEXT as isize);

/// The calling thread's list; valid in this thread only.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    raw: &'static RawHead,
    /// Not `Send`: the list is the thread's own.
    thread: PhantomData<*mut ()>,
}

/// The calling thread's list, found once.
///
/// # Panics
///
/// When the C library keeps its robust mutexes at another distance than glibc does: words of ours
/// cannot share such a list, and replacing it would break that library's mutexes.
#[inline]
pub fn head() -> Head {
    own(Own::head).unwrap_or_else(find_head)
}

#[cold]
fn find_head() -> Head {
    let mut raw: *const RawHead = ptr::null();
    let mut size = 0_usize;
    let (raw_at, size_at) = (&raw mut raw, &raw mut size);
    // SAFETY: `get_robust_list(0, ..)` writes a pointer and a size to the two places, which are
    // locals of the right types.
    unsafe { libc::syscall(libc::SYS_get_robust_list, 0, raw_at, size_at) };
    // SAFETY: the kernel names the head that was registered for the calling thread, or null. It
    // is valid while the thread lives, and `Head` cannot leave the thread. All fields that change
    // are atomics.
    let raw = unsafe { raw.as_ref() }.unwrap_or_else(register_own_head);
    assert!(
        raw.futex_offset == OFFSET,
        "this C library lays robust mutexes out in an unknown way"
    );
    own(|own| own.head.set(Some(raw)));
    Head::of(raw)
}

/// Leaks one head for the thread: the kernel reads it when the thread has no stack any more.
fn register_own_head() -> &'static RawHead {
    let own = Box::leak(Box::new(OwnHead {
        previous: AtomicPtr::new(ptr::null_mut()),
        head: RawHead {
            list: AtomicPtr::new(ptr::null_mut()),
            futex_offset: OFFSET,
            list_op_pending: AtomicPtr::new(ptr::null_mut()),
        },
    }));
    let _ = &own.previous;
    empty_and_register(&own.head);
    &own.head
}

fn empty_and_register(raw: &'static RawHead) {
    raw.list.store(raw.as_entry(), Relaxed);
    raw.list_op_pending.store(ptr::null_mut(), Relaxed);
    let at = ptr::from_ref(raw);
    // SAFETY: `set_robust_list` keeps the pointer, which stays valid as long as the thread.
    unsafe { libc::syscall(libc::SYS_set_robust_list, at, size_of::<RawHead>()) };
}

/// Makes a thread that a raw clone has made whole: it holds no lock, its list is registered
/// (the kernel drops it at a clone), and its thread id is asked for anew.
///
/// The thread that clones must have called [`head`] before: afterwards nobody can tell where the
/// C library keeps the list.
pub fn adopt_after_clone() {
    become_another();
    own(|own| {
        let raw = own.head.get().unwrap_or_else(register_own_head);
        empty_and_register(raw);
        own.head.set(Some(raw));
    });
}

impl RawHead {
    /// The head in the role of an entry: the end of the list.
    fn as_entry(&self) -> *mut Entry {
        ptr::from_ref(self).cast::<Entry>().cast_mut()
    }
}

impl Head {
    /// The list that was registered for the calling thread.
    #[inline]
    pub(crate) fn of(raw: &'static RawHead) -> Self {
        Self {
            raw,
            thread: PhantomData,
        }
    }

    /// The entry that stands for a word; the node need not be linked, or be there at all.
    #[inline]
    pub fn entry_of(self, word: *const u8) -> PendingEntry {
        PendingEntry {
            entry: word.wrapping_byte_offset(-OFFSET).cast_mut().cast(),
        }
    }

    /// Announces that the thread is about to take or leave a word; returns what was announced.
    ///
    /// The former announcement must be put back afterwards: this may run in a signal handler, or
    /// between the lines of the C library's own mutex functions.
    #[inline]
    pub fn announce(self, entry: PendingEntry) -> PendingEntry {
        let former = self.raw.list_op_pending.load(Relaxed);
        self.raw.list_op_pending.store(entry.entry, Relaxed);
        compiler_fence(SeqCst);
        PendingEntry { entry: former }
    }

    /// Puts back what [`announce`](Self::announce) returned.
    #[inline]
    pub fn retract(self, former: PendingEntry) {
        compiler_fence(SeqCst);
        self.raw.list_op_pending.store(former.entry, Relaxed);
        compiler_fence(SeqCst);
    }

    /// As [`retract`](Self::retract), for a word that stays linked: if nothing was announced
    /// before, the announcement may as well stay until somebody makes another one, or until
    /// [`announce_again`](Self::announce_again) needs it. The kernel treats a word that is linked
    /// and announced once.
    #[inline]
    pub fn retract_later(self, former: PendingEntry) {
        if !former.entry.is_null() {
            self.retract(former);
        }
    }

    /// As [`announce`](Self::announce), for a word that is linked: it may be announced still.
    #[inline]
    pub fn announce_again(self, entry: PendingEntry) -> PendingEntry {
        if self.raw.list_op_pending.load(Relaxed) == entry.entry {
            // Then nothing was announced before it, see `retract_later`.
            return PendingEntry {
                entry: ptr::null_mut(),
            };
        }
        self.announce(entry)
    }

    /// Links a word that the thread has just taken; it must be announced.
    ///
    /// # Safety
    ///
    /// The [`Place::SIZE`] bytes from `word` on must be valid for writing, aligned to 8, owned by
    /// this thread through the word, and stay mapped until it is unlinked or the thread is dead.
    #[inline]
    pub unsafe fn link(self, word: *const u8) {
        let entry = self.entry_of(word).entry;
        let first = self.raw.list.load(Relaxed);
        // SAFETY: `entry` lies in the node, which the caller vouches for.
        unsafe { next_of(entry) }.store(first, Relaxed);
        // SAFETY: as above; `previous` lies in the same node.
        unsafe { previous_of(entry) }.store(self.raw.as_entry(), Relaxed);
        // SAFETY: the first entry is a linked node of this thread, hence valid, or the head; both
        // have a `previous` right before (glibc's thread descriptor and `OwnHead` do).
        unsafe { previous_of(unmarked(first)) }.store(entry, Relaxed);
        compiler_fence(SeqCst);
        // This one store makes the node reachable for the kernel.
        self.raw.list.store(entry, Relaxed);
        compiler_fence(SeqCst);
    }

    /// Unlinks a word that the thread is about to leave; it must be announced.
    ///
    /// # Safety
    ///
    /// The word must have been linked by this thread and not unlinked since.
    #[inline]
    pub unsafe fn unlink(self, word: *const u8) {
        let entry = self.entry_of(word).entry;
        // SAFETY: the node is linked, hence valid.
        let next = unsafe { next_of(entry) }.load(Relaxed);
        // SAFETY: the node is linked, hence valid.
        let previous = unsafe { previous_of(entry) }.load(Relaxed);
        // SAFETY: the neighbor is a linked node of this thread or the head.
        unsafe { previous_of(unmarked(next)) }.store(previous, Relaxed);
        compiler_fence(SeqCst);
        // SAFETY: as above. This one store takes the node out of the kernel's walk.
        unsafe { next_of(unmarked(previous)) }.store(next, Relaxed);
        compiler_fence(SeqCst);
    }

    /// How many words are linked now, up to a limit: for tests and inspection.
    pub fn linked(self, limit: usize) -> usize {
        let mut count = 0;
        let mut entry = self.raw.list.load(Relaxed);
        while entry != self.raw.as_entry() && count < limit {
            count += 1;
            // SAFETY: linked nodes of this thread are valid.
            entry = unsafe { next_of(unmarked(entry)) }.load(Relaxed);
        }
        count
    }
}

/// An entry that may be announced; may point to nothing.
#[derive(Clone, Copy, Debug)]
pub struct PendingEntry {
    entry: *mut Entry,
}

/// The lowest bit of an entry marks a priority-inheriting mutex of the C library.
fn unmarked(entry: *mut Entry) -> *mut Entry {
    entry.map_addr(|address| address & !1)
}

/// The pointer to the node after.
///
/// # Safety
///
/// `entry` must point to a valid node or head, for as long as the reference is used.
#[inline]
unsafe fn next_of<'a>(entry: *mut Entry) -> &'a AtomicPtr<Entry> {
    // SAFETY: the caller vouches for the pointer; the field is the entry's only one and atomic.
    let entry = unsafe { &*entry };
    &entry.next
}

/// The pointer to the node before.
///
/// # Safety
///
/// As for [`next_of`]; a valid node has this field right before its entry.
#[inline]
unsafe fn previous_of<'a>(entry: *mut Entry) -> &'a AtomicPtr<Entry> {
    let field = entry.cast::<*mut Entry>().wrapping_sub(1);
    // SAFETY: the caller vouches for the node, aligned to 8; all access to it is atomic.
    unsafe { AtomicPtr::from_ptr(field) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C, align(8))]
    struct Node([u64; Place::SIZE / 8]);

    #[test]
    fn linked_words_are_counted_and_leave_in_any_order() {
        let head = head();
        let before = head.linked(100);
        let mut cells: Vec<Box<Node>> = (0..3).map(|_| Box::new(Node([0; 5]))).collect();
        let words: Vec<*const u8> = cells
            .iter_mut()
            .map(|cell| (&raw mut **cell).cast::<u8>().cast_const())
            .collect();
        for word in &words {
            // SAFETY: each node is a box of this test, alive until after `unlink`.
            unsafe { head.link(*word) };
        }
        assert_eq!(head.linked(100), before + 3);
        for index in [1, 2, 0] {
            // SAFETY: it was linked above, once.
            unsafe { head.unlink(words[index]) };
        }
        assert_eq!(head.linked(100), before);
        drop(cells);
    }

    #[test]
    fn announcement_puts_back_what_was_there() {
        let head = head();
        let word = 0_u64;
        let entry = head.entry_of((&raw const word).cast());
        let former = head.announce(entry);
        let inner = head.announce(former);
        assert_eq!(inner.entry, entry.entry);
        head.retract(former);
    }
}
