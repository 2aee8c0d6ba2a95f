//! A pthread mutex without data: the C library's functions, and one step that they lack.
//!
//! # What is known of glibc's layout
//!
//! ```text
//! bytes  0..4   the kernel's futex word: owner, WAITERS, OWNER_DIED (of a robust mutex)
//! bytes  8..12  the owner again (of any mutex)
//! bytes 16..20  the kind
//! bytes 24..40  the node of the robust list (`manyhands_os::robust::Place`)
//! ```
//!
//! [`RawMutex::layout_is_known`] compares it with what the library writes at run time, and all
//! constructors ask it.
//!
//! # Leaving unrepaired
//!
//! POSIX makes a mutex unusable for ever when it is unlocked unrepaired. Instead
//! [`RawMutex::abandon`] does to it what the kernel does when the owner dies: out of the list, owner
//! = 0, OWNER_DIED = 1, wake one. Nobody can tell the difference, so the next locker is told again,
//! also one in a C program, and nothing has to be remembered beside the mutex.

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU32};

use libc::{clockid_t, pthread_mutex_t, pthread_mutexattr_t, timespec};
use manyhands_os::futex::{self, Scope};
use manyhands_os::process::thread_id;
use manyhands_os::robust::{self, LIST_LIMIT, OWNER, OWNER_DIED, Place, WAITERS};
use manyhands_os::{Deadline, OsError};

use crate::raw::net;

unsafe extern "C" {
    /// As `pthread_mutex_timedlock`, on any clock; in glibc since 2.30.
    fn pthread_mutex_clocklock(
        mutex: *mut pthread_mutex_t,
        clock: clockid_t,
        end: *const timespec,
    ) -> c_int;
}

const _: () = assert!(size_of::<pthread_mutex_t>() >= Place::SIZE);
const _: () = assert!(align_of::<pthread_mutex_t>() == align_of::<*mut u8>());

const OWNER_AT: usize = 8;
const KIND_AT: usize = 16;

const SHARED: i32 = 0x80;
const ROBUST: i32 = 0x10;
/// The library's notes on lock elision, of which it may make one at any time.
const ELISION: i32 = 0x300;
const NORMAL: i32 = 0;
const ERROR_CHECKING: i32 = 2;
const ADAPTIVE: i32 = 3;

/// One thread may hold this many: `LIST_LIMIT` without the 2,000 that [`Lock`](crate::Lock) uses,
/// and some for locks that are not taken through us.
const MOST_HELD: u32 = LIST_LIMIT - 2000 - 8;

thread_local! {
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// A mutex that lies where it stays, and is one: see [`RawMutex::new`].
#[derive(Clone, Copy, Debug)]
pub(super) struct RawMutex {
    at: NonNull<pthread_mutex_t>,
}

/// The mutex was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acquired {
    /// A former holder died, and nobody has called the data consistent since.
    pub(super) owner_died: bool,
}

/// Why the mutex was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The deadline passed, or somebody has it and it was only tried.
    TimedOut,
    /// As `LockError::TooManyHeld`.
    TooManyHeld,
    /// As `LockError::NotRecoverable`.
    NotRecoverable,
}

impl RawMutex {
    /// The bytes from `memory` to the mutex in it, which raw_sync aligns as a pointer.
    pub(super) fn padding(memory: *mut u8) -> usize {
        memory.align_offset(align_of::<*mut u8>())
    }

    /// The mutex at `memory`, rounded up as raw_sync does.
    ///
    /// # Safety
    ///
    /// The padding and the size of the mutex from `memory` on must be mapped, writable, and hold a
    /// mutex of this C library before any other function here is called: as long as the value is
    /// used, and when a thread never leaves it, until that thread has ended.
    pub(super) unsafe fn new(memory: *mut u8) -> Self {
        // SAFETY: within the bytes that the caller vouches for.
        let at = unsafe { memory.add(Self::padding(memory)) };
        // SAFETY: mapped memory is not at null.
        let at = unsafe { NonNull::new_unchecked(at.cast()) };
        Self { at }
    }

    /// Whether the C library's layout is the one this file knows, which is looked at once.
    pub(super) fn layout_is_known() -> bool {
        static KNOWN: OnceLock<bool> = OnceLock::new();
        *KNOWN.get_or_init(|| {
            // Boxed, since a mutex must not move.
            let place = Box::new(UnsafeCell::new(MaybeUninit::<pthread_mutex_t>::zeroed()));
            // SAFETY: the box is aligned and outlives the value; `init` runs before all others.
            let mutex = unsafe { Self::new(place.get().cast()) };
            let kind = |robust| mutex.init(robust).is_ok().then(|| mutex.kind());
            if kind(false) != Some(SHARED) || kind(true) != Some(SHARED | ROBUST) {
                return false;
            }
            // Relaxed: nobody else knows the mutex.
            let words = || [mutex.word(), mutex.owner()].map(|word| word.load(Relaxed));
            let taken = mutex.lock(Deadline::NEVER).is_ok();
            let held = words();
            mutex.unlock();
            taken && held == [thread_id(); 2] && words() == [0; 2]
        })
    }

    /// Makes a free mutex, for processes to share; whatever lies there is overwritten.
    pub(super) fn init(self, robust: bool) -> Result<(), OsError> {
        let mut attributes = MaybeUninit::<pthread_mutexattr_t>::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: a local of the right type.
        let code = unsafe { libc::pthread_mutexattr_init(attributes) };
        check("pthread_mutexattr_init", code)?;
        // SAFETY: initialized above.
        let code =
            unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
        check("pthread_mutexattr_setpshared", code)?;
        if robust {
            // SAFETY: initialized above.
            let code =
                unsafe { libc::pthread_mutexattr_setrobust(attributes, PTHREAD_MUTEX_ROBUST) };
            check("pthread_mutexattr_setrobust", code)?;
        }
        // SAFETY: the place is writable and aligned (`new`), the attributes are initialized.
        let code = unsafe { libc::pthread_mutex_init(self.at.as_ptr(), attributes) };
        check("pthread_mutex_init", code)
    }

    /// The address, for the library's functions.
    pub(super) fn as_ptr(self) -> *mut pthread_mutex_t {
        self.at.as_ptr()
    }

    /// The kind as the library keeps it.
    pub(super) fn kind(self) -> i32 {
        let at = self.at.as_ptr().cast::<u8>().wrapping_add(KIND_AT).cast();
        // SAFETY: within the mutex, aligned to 4; atomic, since the library may note something.
        let kind = unsafe { AtomicI32::from_ptr(at) };
        // Relaxed: the bits that are looked at never change once the mutex is made.
        kind.load(Relaxed)
    }

    /// Whether the kernel tells of a dead owner.
    pub(super) fn is_robust(self) -> bool {
        self.kind() & ROBUST != 0
    }

    /// Whether it is for processes to share.
    pub(super) fn is_shared(self) -> bool {
        self.kind() & SHARED != 0
    }

    /// Whether the mutex has one holder at a time, and changes nobody's priority.
    pub(super) fn is_exclusive(self) -> bool {
        let rest = self.kind() & !(SHARED | ROBUST | ELISION);
        matches!(rest, NORMAL | ERROR_CHECKING | ADAPTIVE)
    }

    /// Takes the mutex unless the deadline passes first.
    ///
    /// Sleeps in slices: glibc's unlock forgets all sleepers but the one that it wakes, and when that
    /// one is killed at once and a newcomer takes the mutex, nobody wakes the others.
    pub(super) fn lock(self, deadline: Deadline) -> Result<Acquired, Refused> {
        let mut end = self.try_lock();
        while end == Err(Refused::TimedOut) {
            end = self.sleep_for(deadline.earlier(net::slice()));
            if deadline.has_passed() {
                break;
            }
        }
        end
    }

    fn sleep_for(self, deadline: Deadline) -> Result<Acquired, Refused> {
        let Some(reading) = deadline.reading() else {
            // SAFETY: a mutex lies there.
            return self.enter(|mutex| unsafe { libc::pthread_mutex_lock(mutex) });
        };
        self.lock_until(timespec {
            // 584 years of seconds fit.
            tv_sec: reading.as_secs() as libc::time_t,
            tv_nsec: reading.subsec_nanos().into(),
        })
    }

    /// Takes the mutex if it is free.
    ///
    /// Not by `pthread_mutex_trylock`: of a robust mutex that is lost for ever, glibc's keeps the
    /// word, so that the next locker waits for this thread instead of being told.
    pub(super) fn try_lock(self) -> Result<Acquired, Refused> {
        // Without this look, a try that fails would cost the holder a wake for nobody.
        match self.holder() {
            Some(_) => Err(Refused::TimedOut),
            None => self.lock_until(timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        }
    }

    fn lock_until(self, end: timespec) -> Result<Acquired, Refused> {
        self.enter(|mutex| {
            // SAFETY: a mutex lies there, and the time is a valid one.
            unsafe { pthread_mutex_clocklock(mutex, libc::CLOCK_MONOTONIC, &raw const end) }
        })
    }

    fn enter(self, take: impl FnOnce(*mut pthread_mutex_t) -> c_int) -> Result<Acquired, Refused> {
        if HELD.get() >= MOST_HELD {
            return Err(Refused::TooManyHeld);
        }
        let owner_died = match take(self.at.as_ptr()) {
            0 => false,
            libc::EOWNERDEAD => true,
            libc::ETIMEDOUT => return Err(Refused::TimedOut),
            libc::ENOTRECOVERABLE => return Err(Refused::NotRecoverable),
            libc::EDEADLK => panic!("this thread holds the error-checking mutex already"),
            code => panic!(
                "the memory of the mutex was overwritten: {}",
                io::Error::from_raw_os_error(code)
            ),
        };
        HELD.set(HELD.get() + 1);
        Ok(Acquired { owner_died })
    }

    /// Declares the data consistent; the calling thread holds the mutex, and was told of a death.
    pub(super) fn mark_consistent(self) {
        // SAFETY: a mutex lies there.
        let code = unsafe { libc::pthread_mutex_consistent(self.at.as_ptr()) };
        debug_assert_eq!(code, 0, "only called once after a death");
    }

    /// Leaves the mutex, which the calling thread holds and which is consistent.
    pub(super) fn unlock(self) {
        // SAFETY: a mutex lies there.
        let code = unsafe { libc::pthread_mutex_unlock(self.at.as_ptr()) };
        debug_assert_eq!(code, 0, "the thread that took it leaves it");
        HELD.set(HELD.get() - 1);
    }

    /// Leaves the mutex unrepaired, as a death of the thread would.
    ///
    /// # Safety
    ///
    /// The calling thread must hold the mutex, and must have been told of a death by it.
    pub(super) unsafe fn abandon(self) {
        let word = self.word();
        let head = robust::head();
        let at = self.at.as_ptr().cast::<u8>().cast_const();
        let former = head.announce(head.entry_of(at));
        // SAFETY: the C library linked it when it told of the death: only robust mutexes do that.
        unsafe { head.unlink(at) };
        let left = |word| Some((word & WAITERS) | OWNER_DIED);
        // Release: pairs with the Acquire of the C library's next lock. Never fails.
        let before = word.fetch_update(Release, Relaxed, left).unwrap_or(WAITERS);
        if before & WAITERS != 0 {
            // Shared, as always with robust mutexes: the kernel wakes so.
            futex::wake(word, 1, Scope::Shared);
        }
        head.retract(former);
        HELD.set(HELD.get() - 1);
    }

    /// The thread that holds the mutex now, for information.
    pub(super) fn holder(self) -> Option<u32> {
        // Relaxed, here and below: the answer is old by the time it is used.
        let owner = if self.is_robust() {
            self.word().load(Relaxed) & OWNER
        } else {
            self.owner().load(Relaxed)
        };
        Some(owner).filter(|owner| *owner != 0)
    }

    /// Whether somebody may sleep for the mutex, for information.
    pub(super) fn has_waiters(self) -> bool {
        let word = self.word().load(Relaxed);
        if self.is_robust() {
            word & WAITERS != 0
        } else {
            word > 1
        }
    }

    fn word<'a>(self) -> &'a AtomicU32 {
        // SAFETY: the first four bytes of the mutex, aligned to 8; the library's own accesses are
        // atomic. The caller uses it at once, as it does the mutex.
        unsafe { AtomicU32::from_ptr(self.at.as_ptr().cast()) }
    }

    fn owner<'a>(self) -> &'a AtomicU32 {
        let at = self.at.as_ptr().cast::<u8>().wrapping_add(OWNER_AT).cast();
        // SAFETY: within the mutex, aligned to 4; the library writes it with whole stores.
        unsafe { AtomicU32::from_ptr(at) }
    }
}

/// The value of glibc and the kernel's ABI; the `libc` crate has the function without it.
const PTHREAD_MUTEX_ROBUST: c_int = 1;

fn check(call: &'static str, code: c_int) -> Result<(), OsError> {
    match code {
        0 => Ok(()),
        code => Err(OsError::new(call, io::Error::from_raw_os_error(code))),
    }
}
