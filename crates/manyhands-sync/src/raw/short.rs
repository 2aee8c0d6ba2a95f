//! The lock for the library's own short sections.

use std::fmt;
use std::marker::PhantomData;

use manyhands_os::Deadline;

use crate::primitive::futex::Scope;
use crate::primitive::robust::{self, Head, PendingEntry};
use crate::primitive::thread_id;
use crate::raw::Word;

/// A lock in shared memory for sections of a few instructions; 8 bytes, free when zeroed.
///
/// It is robust without a list node: for the whole section the thread's robust list has the word
/// *announced*, and nothing else. Therefore no other `ShortLock` and no user code may run inside,
/// and nothing in the section may panic. After a death inside, the next owner is told by
/// [`ShortGuard::owner_died`] and rebuilds what it guards.
///
/// # Examples
///
/// ```
/// use manyhands_sync::raw::ShortLock;
///
/// static LOCK: ShortLock = ShortLock::new();
/// let guard = LOCK.lock();
/// assert!(!guard.owner_died());
/// ```
#[derive(Default)]
#[repr(transparent)]
pub struct ShortLock {
    word: Word,
}

const _: () = assert!(size_of::<ShortLock>() == 8 && align_of::<ShortLock>() == 8);

impl ShortLock {
    /// A free lock.
    pub const fn new() -> Self {
        Self { word: Word::new() }
    }

    /// Takes the lock.
    #[inline]
    pub fn lock(&self) -> ShortGuard<'_> {
        match self.lock_deadline(Deadline::NEVER) {
            Some(guard) => guard,
            None => unreachable!("the deadline never passes"),
        }
    }

    /// Takes the lock unless the deadline passes first: the holder may be stopped.
    #[inline]
    pub fn lock_deadline(&self, deadline: Deadline) -> Option<ShortGuard<'_>> {
        let head = robust::head();
        let me = thread_id();
        let former = head.announce(head.entry_of((&raw const self.word).cast()));
        match self.word.take(me, Scope::Shared, deadline) {
            Some(taken) => Some(ShortGuard {
                lock: self,
                me,
                head,
                former,
                owner_died: taken.owner_died,
                thread: PhantomData,
            }),
            None => {
                head.retract(former);
                None
            }
        }
    }

    /// As [`lock_deadline`](Self::lock_deadline), for sections that leave what they guard whole at
    /// each instruction: a death inside needs no repair.
    pub(crate) fn lock_whole(&self, deadline: Deadline) -> Option<ShortGuard<'_>> {
        let mut guard = self.lock_deadline(deadline)?;
        if guard.owner_died() {
            guard.mark_consistent();
        }
        Some(guard)
    }
}

impl fmt::Debug for ShortLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShortLock")
            .field("holder", &self.word.holder())
            .finish()
    }
}

/// The section; ends when dropped.
#[derive(Debug)]
#[must_use = "the lock is left at once if the guard is not kept"]
pub struct ShortGuard<'a> {
    lock: &'a ShortLock,
    me: u32,
    head: Head,
    former: PendingEntry,
    owner_died: bool,
    /// Not `Send`: the announcement is on this thread's list.
    thread: PhantomData<*mut ()>,
}

impl ShortGuard<'_> {
    /// Whether somebody died inside the section, and nobody has repaired since.
    #[inline]
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Declares that what the lock guards is whole again.
    pub fn mark_consistent(&mut self) {
        self.lock.word.mark_consistent();
        self.owner_died = false;
    }
}

impl Drop for ShortGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock.word.leave(self.me, Scope::Shared);
        self.head.retract(self.former);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::UnsafeCell;
    use std::time::Duration;

    use super::*;

    #[test]
    fn section_is_exclusive_between_threads() {
        struct Guarded(ShortLock, UnsafeCell<u64>);
        // SAFETY: the cell is used inside the section only.
        unsafe impl Sync for Guarded {}
        let guarded = Guarded(ShortLock::new(), UnsafeCell::new(0));
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    let guarded = &guarded;
                    for _ in 0..10_000 {
                        let _guard = guarded.0.lock();
                        // SAFETY: the section makes this thread the only user.
                        unsafe { *guarded.1.get() += 1 };
                    }
                });
            }
        });
        assert_eq!(guarded.1.into_inner(), 40_000);
    }

    #[test]
    fn waiter_gives_up_at_its_deadline_and_the_lock_stays_usable() {
        let lock = ShortLock::new();
        let guard = lock.lock();
        std::thread::scope(|threads| {
            let waiter = threads.spawn(|| {
                lock.lock_deadline(Deadline::after(Duration::from_millis(5)))
                    .is_none()
            });
            assert!(waiter.join().expect("no panic"));
        });
        drop(guard);
        assert!(lock.lock_deadline(Deadline::now()).is_some());
    }

    #[test]
    fn thread_that_ends_inside_is_reported_until_somebody_repairs() {
        let lock = ShortLock::new();
        std::thread::scope(|threads| {
            threads.spawn(|| std::mem::forget(lock.lock()));
        });
        assert!(lock.lock().owner_died());
        let mut guard = lock.lock();
        assert!(guard.owner_died());
        guard.mark_consistent();
        drop(guard);
        assert!(!lock.lock().owner_died());
    }
}
