//! A lock without data, for user-visible sections of any length.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::Deadline;
use manyhands_os::process::{Identity, identity_word, known_identity_word};

use crate::primitive::futex::Scope;
use crate::primitive::robust::{self, Head, PendingEntry, Place};
use crate::primitive::thread::{Own, own};
use crate::primitive::{AtomicU64, thread_id};
use crate::raw::word::WaitedFor;
use crate::raw::{Taken, Word};
use crate::shareable::LastPlace;

/// A lock in private or shared memory; 48 bytes, free and private when zeroed.
///
/// In private memory it is a plain futex lock. [`placed`](Self::placed) makes it robust: the lock
/// is then linked on its owner's robust list for as long as it is held.
///
/// The layout is the C library's for robust mutexes, since one thread's list has one distance
/// between words and nodes (`manyhands_os::robust`).
///
/// # Deaths
///
/// The holder signs `holder` when its section begins, and unsigns it before it leaves. So a word
/// that the kernel marked tells of a death inside of the section if it is signed; else nothing was
/// damaged, and the mark is taken back. As long as the mark stands, `dead` has the name of who died,
/// and whoever leaves writes that name instead of none: the next locker is told again.
#[repr(C)]
pub struct RawLock {
    word: Word,
    /// The packed [`Identity`] of the process in whose section the data is, zero outside.
    holder: AtomicU64,
    /// Bit 0: whether the lock lies in shared memory. Above: the word as it was in its last calm
    /// moment, where bit 0 is zero. A guess that saves a look at the word before each exchange,
    /// which would wait for the exchange before it.
    calm: AtomicU64,
    previous: AtomicU64,
    next: AtomicU64,
    /// The packed [`Identity`] of who died last, while the word is marked; the holder's own.
    dead: AtomicU64,
}

const PLACED: u64 = 1;

const _: () = assert!(size_of::<RawLock>() >= Place::SIZE);
const _: () = assert!(std::mem::offset_of!(RawLock, word) == 0);
const _: () = assert!(std::mem::offset_of!(RawLock, previous) == Place::PREVIOUS);
const _: () = assert!(std::mem::offset_of!(RawLock, next) == Place::NEXT);

/// One thread may hold this many shared locks: the kernel marks 2,048 at its death and silently
/// leaves the others, so the count stops short of that.
const MOST_HELD: u32 = 2000;

/// The lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// A packed [`Identity`], or zero.
    dead: u64,
}

impl Acquired {
    /// Nobody died.
    pub(crate) const SOUND: Self = Self { dead: 0 };

    /// The former holder that died inside its section, if one did and nobody has repaired since.
    #[inline]
    pub fn owner_died(self) -> Option<Identity> {
        Identity::unpack(self.dead)
    }
}

/// Why the lock was not taken.
// As wide as `Acquired`: then either of them comes back in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum RefusedLock {
    /// The deadline passed, or somebody has the lock and it was only tried.
    TimedOut,
    /// The calling thread holds as many shared locks as the kernel can mark at its death.
    TooManyHeld,
}

impl RawLock {
    /// A free lock in private memory.
    pub const fn new() -> Self {
        Self {
            word: Word::new(),
            holder: AtomicU64::new(0),
            calm: AtomicU64::new(0),
            previous: AtomicU64::new(0),
            next: AtomicU64::new(0),
            dead: AtomicU64::new(0),
        }
    }

    /// Tells the lock that it lies at its last place, in memory that processes share.
    ///
    /// Must come before the first lock and before anybody else can reach the memory.
    pub fn placed(&self, _: LastPlace) {
        // Relaxed: whoever reaches the memory later got its address by a synchronized way.
        self.calm.fetch_or(PLACED, Relaxed);
    }

    /// Takes the lock unless the deadline passes first.
    ///
    /// # Errors
    ///
    /// [`RefusedLock`]; nothing was changed then.
    #[inline]
    pub fn lock(&self, deadline: Deadline) -> Result<Acquired, RefusedLock> {
        // Relaxed: a guess; and bit 0 was there before anybody else could reach the lock.
        let calm = self.calm.load(Relaxed);
        if calm & PLACED != 0 {
            return self.lock_shared(deadline);
        }
        let me = thread_id();
        if self.word.take_calm(calm, me) {
            return Ok(Acquired::SOUND);
        }
        self.lock_contended(me, deadline)
    }

    #[cold]
    fn lock_contended(&self, me: u32, deadline: Deadline) -> Result<Acquired, RefusedLock> {
        match self.word.take(me, Scope::Private, deadline) {
            Some(_) => {
                self.guess_anew();
                Ok(Acquired::SOUND)
            }
            None => Err(RefusedLock::TimedOut),
        }
    }

    /// Notes what the word will say when it is left, if that can be known; for the holder.
    fn guess_anew(&self) {
        if let Some(calm) = self.word.calm() {
            // Relaxed: a guess. Nobody changes bit 0 any more.
            let placed = self.calm.load(Relaxed) & PLACED;
            self.calm.store(calm | placed, Relaxed);
        }
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// [`RefusedLock`]; nothing was changed then.
    #[inline]
    pub fn try_lock(&self) -> Result<Acquired, RefusedLock> {
        if self.is_shared() {
            return self.enter(|word, me| word.try_take(me), Self::sign);
        }
        match self.word.try_take(thread_id()) {
            Some(_) => Ok(Acquired::SOUND),
            None => Err(RefusedLock::TimedOut),
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

    #[inline]
    fn lock_shared(&self, deadline: Deadline) -> Result<Acquired, RefusedLock> {
        if self.enter_at_once() {
            Ok(Acquired::SOUND)
        } else {
            self.lock_shared_contended(deadline)
        }
    }

    /// Takes and signs the lock if nothing has to be asked or waited for.
    ///
    /// It does what [`enter`](Self::enter) and [`sign`](Self::sign) do, and calls nothing: a call in
    /// the middle, even one that never runs, costs saved registers, a tenth of the whole.
    #[inline(never)]
    fn enter_at_once(&self) -> bool {
        own(|own| {
            let names = own.id().zip(known_identity_word());
            let (Some(head), Some((me, identity))) = (own.head(), names) else {
                return false;
            };
            if own.held().get() >= MOST_HELD {
                return false;
            }
            let at = (&raw const *self).cast::<u8>();
            let former = head.announce(head.entry_of(at));
            // Relaxed: a guess.
            let calm = self.calm.load(Relaxed) & !PLACED;
            let is_taken = self.word.take_calm(calm, me);
            if is_taken {
                // SAFETY: as in `enter`.
                unsafe { head.link(at) };
                head.retract_later(former);
            } else {
                head.retract(former);
            }
            if is_taken {
                own.held().update(|held| held + 1);
                // Relaxed: see `sign`.
                self.holder.store(identity, Relaxed);
            }
            is_taken
        })
    }

    #[cold]
    fn lock_shared_contended(&self, deadline: Deadline) -> Result<Acquired, RefusedLock> {
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
        then: impl FnOnce(&Self, bool) -> Acquired,
    ) -> Result<Acquired, RefusedLock> {
        if own(|own| own.held().get()) >= MOST_HELD {
            return Err(RefusedLock::TooManyHeld);
        }
        let head = robust::head();
        let at = (&raw const *self).cast::<u8>();
        let former = head.announce(head.entry_of(at));
        let Some(taken) = take(&self.word, thread_id()) else {
            head.retract(former);
            return Err(RefusedLock::TimedOut);
        };
        // SAFETY: `link` needs `Place::SIZE` bytes that this thread owns.
        // - where: they are this `RawLock`, whose layout is asserted above; a guard borrows it.
        // - who: the word was taken just now, and nobody else touches the node of a taken word.
        // - what: the two pointers of the node are written before they are read.
        unsafe { head.link(at) };
        head.retract(former);
        own(|own| own.held().update(|held| held + 1));
        self.guess_anew();
        Ok(then(self, taken.owner_died))
    }

    /// Writes this process into the lock; tells of a former holder that died in its section.
    fn sign(&self, owner_died: bool) -> Acquired {
        let acquired = self.look(owner_died);
        // Relaxed, all of them: the word orders them; the kernel's barrier does after a death.
        self.holder.store(identity_word(), Relaxed);
        acquired
    }

    /// As [`sign`](Self::sign), but leaves what is written.
    fn look(&self, owner_died: bool) -> Acquired {
        if owner_died {
            self.look_at_death()
        } else {
            Acquired::SOUND
        }
    }

    #[cold]
    fn look_at_death(&self) -> Acquired {
        let dead = self.holder.load(Relaxed);
        if dead == 0 {
            // It died between taking the word and signing, or between unsigning and leaving: no
            // user code ran, so the data is what the holder before it left.
            self.word.mark_consistent();
        } else {
            self.dead.store(dead, Relaxed);
        }
        Acquired { dead }
    }

    /// Leaves the lock. A death that was told of, and after which nobody has called the data
    /// consistent, is told to the next locker again.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the lock.
    #[inline]
    pub unsafe fn unlock(&self) {
        if !self.is_shared() {
            return self.word.leave(thread_id(), Scope::Private);
        }
        // SAFETY: the caller holds the lock.
        unsafe { self.unlock_shared() }
    }

    /// # Safety
    ///
    /// As for [`unlock`](Self::unlock), for a lock in shared memory.
    // Not inlined, so that the way of private locks is.
    #[inline(never)]
    unsafe fn unlock_shared(&self) {
        let Some(head) = own(Own::head) else {
            unreachable!("whoever locks has asked for it");
        };
        let at = (&raw const *self).cast::<u8>();
        let (me, is_marked) = self.word.seen_by_owner();
        let left = if is_marked {
            self.dead.load(Relaxed)
        } else {
            0
        };
        // Relaxed: see `sign`.
        self.holder.store(left, Relaxed);
        let former = head.announce_again(head.entry_of(at));
        // SAFETY: the caller holds the lock, so `enter` of this thread linked it.
        unsafe { head.unlink(at) };
        match self.word.leave_asleep(me) {
            None => {
                head.retract(former);
                own(|own| own.held().update(|held| held.wrapping_sub(1)));
            }
            Some(waited_for) => self.wake_announced(waited_for, head, former),
        }
    }

    /// The end of [`unlock`](Self::unlock) when somebody waits.
    #[cold]
    fn wake_announced(&self, waited_for: WaitedFor, head: Head, former: PendingEntry) {
        self.word.wake_one(waited_for, Scope::Shared);
        head.retract(former);
        own(|own| own.held().update(|held| held.wrapping_sub(1)));
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
        self.calm.load(Relaxed) & PLACED != 0
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
