//! A lock without data, for user-visible sections of any length.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::Deadline;
use manyhands_os::process::{Identity, identity_word};

use crate::primitive::futex::Scope;
use crate::primitive::robust::{self, Place};
use crate::primitive::{AtomicU32, AtomicU64, thread_id};
use crate::raw::{Taken, Word};

/// A lock in private or shared memory; 40 bytes, free and private when zeroed.
///
/// In private memory it is a plain futex lock. [`placed`](Self::placed) makes it robust: the lock
/// is then linked on its owner's robust list for as long as it is held.
///
/// The layout is the C library's for robust mutexes, since one thread's list has one distance
/// between words and nodes (`manyhands_os::robust`).
#[repr(C)]
pub struct RawLock {
    word: Word,
    /// The packed [`Identity`] of the process in whose section the data is, zero outside.
    holder: AtomicU64,
    mode: AtomicU32,
    _padding: u32,
    previous: AtomicU64,
    next: AtomicU64,
}

const _: () = assert!(size_of::<RawLock>() == Place::SIZE);
const _: () = assert!(std::mem::offset_of!(RawLock, word) == 0);
const _: () = assert!(std::mem::offset_of!(RawLock, previous) == Place::PREVIOUS);
const _: () = assert!(std::mem::offset_of!(RawLock, next) == Place::NEXT);

/// Threads of one process.
const PRIVATE: u32 = 0;
/// Processes that map the memory.
const SHARED: u32 = 1;

/// One thread may hold this many shared locks: the kernel marks 2,048 at its death and silently
/// leaves the others, so the count stops short of that.
const MOST_HELD: u32 = 2000;

thread_local! {
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// The lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// `Some` when a former holder died inside its section: the holder, as far as known.
    pub owner_died: Option<Option<Identity>>,
}

/// Why the lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedLock {
    /// The deadline passed; the thread that held the lock then.
    TimedOut {
        /// The kernel's number of the holding thread.
        holder: Option<u32>,
    },
    /// The calling thread holds as many shared locks as the kernel can mark at its death.
    TooManyHeld,
}

impl RawLock {
    /// A free lock in private memory.
    pub const fn new() -> Self {
        Self {
            word: Word::new(),
            holder: AtomicU64::new(0),
            mode: AtomicU32::new(PRIVATE),
            _padding: 0,
            previous: AtomicU64::new(0),
            next: AtomicU64::new(0),
        }
    }

    /// Tells the lock that it lies at its last place, in memory that processes share.
    ///
    /// Must come before the first lock and before anybody else can reach the memory.
    pub fn placed(&self) {
        // Relaxed: whoever reaches the memory later got its address by a synchronized way.
        self.mode.store(SHARED, Relaxed);
    }

    /// Takes the lock unless the deadline passes first.
    ///
    /// # Errors
    ///
    /// [`RefusedLock`]; nothing was changed then.
    #[inline]
    pub fn lock(&self, deadline: Deadline) -> Result<Acquired, RefusedLock> {
        if self.is_shared() {
            return self.lock_shared(deadline);
        }
        match self.word.take(thread_id(), Scope::Private, deadline) {
            Some(_) => Ok(Acquired { owner_died: None }),
            None => Err(self.timed_out()),
        }
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// [`RefusedLock`]; `TimedOut` stands for "somebody has it".
    #[inline]
    pub fn try_lock(&self) -> Result<Acquired, RefusedLock> {
        if self.is_shared() {
            return self.enter(|word, me| word.try_take(me), Self::sign);
        }
        match self.word.try_take(thread_id()) {
            Some(_) => Ok(Acquired { owner_died: None }),
            None => Err(self.timed_out()),
        }
    }

    /// Takes the lock only to pass through it: a death in between damages nothing, and is not told.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    pub(crate) fn pass(&self, deadline: Deadline) -> Result<Acquired, RefusedLock> {
        if self.is_shared() {
            return self.enter(
                |word, me| word.take(me, Scope::Shared, deadline),
                Self::look,
            );
        }
        self.lock(deadline)
    }

    /// Signs a lock that the calling thread has [passed](Self::pass) into: its section begins.
    pub(crate) fn sign_now(&self) {
        if self.is_shared() {
            // Relaxed: see `sign`.
            self.holder.store(identity_word(), Relaxed);
        }
    }

    /// As [`pass`](Self::pass), if the lock is free.
    pub(crate) fn try_pass(&self) -> Result<Acquired, RefusedLock> {
        if self.is_shared() {
            return self.enter(|word, me| word.try_take(me), Self::look);
        }
        self.try_lock()
    }

    fn lock_shared(&self, deadline: Deadline) -> Result<Acquired, RefusedLock> {
        self.enter(
            |word, me| word.take(me, Scope::Shared, deadline),
            Self::sign,
        )
    }

    /// Takes the word by `take`, links it, and goes on with `then`, which is told of a death.
    #[inline]
    fn enter(
        &self,
        take: impl FnOnce(&Word, u32) -> Option<Taken>,
        then: impl FnOnce(&Self, bool) -> Option<Option<Identity>>,
    ) -> Result<Acquired, RefusedLock> {
        if HELD.get() >= MOST_HELD {
            return Err(RefusedLock::TooManyHeld);
        }
        let head = robust::head();
        let at = (&raw const *self).cast::<u8>();
        let former = head.announce(head.entry_of(at));
        let Some(taken) = take(&self.word, thread_id()) else {
            head.retract(former);
            return Err(self.timed_out());
        };
        // SAFETY: `link` needs `Place::SIZE` bytes that this thread owns.
        // - where: they are this `RawLock`, whose layout is asserted above; a guard borrows it.
        // - who: the word was taken just now, and nobody else touches the node of a taken word.
        // - what: the two pointers of the node are written before they are read.
        unsafe { head.link(at) };
        head.retract(former);
        HELD.set(HELD.get() + 1);
        Ok(Acquired {
            owner_died: then(self, taken.owner_died),
        })
    }

    /// Writes this process into the lock; tells whether a former holder died in its section.
    fn sign(&self, owner_died: bool) -> Option<Option<Identity>> {
        // Relaxed, all of them: the word orders them; the kernel's barrier does after a death.
        let before = self.holder.swap(identity_word(), Relaxed);
        self.told(owner_died, before)
    }

    /// As [`sign`](Self::sign), but leaves what is written.
    fn look(&self, owner_died: bool) -> Option<Option<Identity>> {
        self.told(owner_died, self.holder.load(Relaxed))
    }

    fn told(&self, owner_died: bool, before: u64) -> Option<Option<Identity>> {
        if !owner_died {
            return None;
        }
        if before == 0 {
            // It died between taking the word and signing, or between unsigning and leaving: no
            // user code ran, so the data is what the holder before it left.
            self.word.mark_consistent();
            return None;
        }
        Some(Identity::unpack(before))
    }

    /// Leaves the lock.
    ///
    /// `unrepaired` is the dead holder that `lock` reported, unless the data was called
    /// consistent since: every later locker is told of it again.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock.
    #[inline]
    pub unsafe fn unlock(&self, unrepaired: Option<Option<Identity>>) {
        if !self.is_shared() {
            return self.word.leave(thread_id(), Scope::Private);
        }
        let head = robust::head();
        let at = (&raw const *self).cast::<u8>();
        // Relaxed: see `sign`. An unknown dead holder is told as this process, which knows it.
        match unrepaired {
            None => self.holder.store(0, Relaxed),
            Some(Some(dead)) => self.holder.store(dead.pack(), Relaxed),
            Some(None) => {}
        }
        let former = head.announce(head.entry_of(at));
        // SAFETY: the caller holds the lock, so `enter` of this thread linked it.
        unsafe { head.unlink(at) };
        self.word.leave(thread_id(), Scope::Shared);
        head.retract(former);
        HELD.set(HELD.get() - 1);
    }

    /// Declares the data consistent again; the calling thread holds the lock.
    pub fn mark_consistent(&self) {
        self.word.mark_consistent();
    }

    /// The thread that holds the lock now, for information.
    pub fn holder(&self) -> Option<u32> {
        self.word.holder()
    }

    /// The process that holds the lock now, for information; shared placement only.
    pub fn holding_process(&self) -> Option<Identity> {
        self.holder()?;
        Identity::unpack(self.holder.load(Relaxed))
    }

    /// Whether a thread of this process holds the lock; shared placement only.
    ///
    /// Right only when no thread of this process is inside a call of this lock.
    pub fn is_held_here(&self) -> bool {
        // Relaxed: the threads of this process were synchronized by whoever asks; others sign with
        // other identities.
        self.is_shared() && self.holder().is_some() && self.holder.load(Relaxed) == identity_word()
    }

    /// Whether somebody may sleep for the lock, for information.
    pub fn has_waiters(&self) -> bool {
        self.word.has_waiters()
    }

    /// Whether the lock lies in shared memory.
    #[inline]
    pub fn is_shared(&self) -> bool {
        // Relaxed: set once, before anybody else could reach the lock.
        self.mode.load(Relaxed) == SHARED
    }

    #[cold]
    fn timed_out(&self) -> RefusedLock {
        RefusedLock::TimedOut {
            holder: self.holder(),
        }
    }
}

impl Default for RawLock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RawLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawLock")
            .field("shared", &self.is_shared())
            .field("holder", &self.holder())
            .field("waiters", &self.has_waiters())
            .finish()
    }
}
