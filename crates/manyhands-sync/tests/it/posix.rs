//! Locks that raw_sync, or C through the C library, made or uses beside us.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libc::{c_int, pthread_mutex_t, pthread_mutexattr_t};
use manyhands_os::process::thread_id;
use manyhands_os::robust::WAITERS;
use manyhands_sync::posix::{AdoptError, PosixLock, RenewError};
use manyhands_sync::{LockError, LockTimeoutError, TryLockError};
use raw_sync::Timeout;
use raw_sync::locks::{LockImpl, LockInit, Mutex};

use crate::{LONG, SOON, until};

/// What lies in shared memory: room for a mutex that need not be aligned, and the data.
struct Place {
    memory: UnsafeCell<[u64; 8]>,
    data: UnsafeCell<u64>,
}

// SAFETY: the memory is used as a mutex, the data under it.
unsafe impl Sync for Place {}

impl Place {
    fn new() -> Self {
        Self {
            memory: UnsafeCell::new([0; 8]),
            data: UnsafeCell::new(0),
        }
    }

    fn memory(&self) -> *mut u8 {
        self.memory.get().cast()
    }

    fn mutex(&self) -> *mut pthread_mutex_t {
        self.memory.get().cast()
    }

    fn place(&self) -> PosixLock<'_, u64> {
        // SAFETY: fresh memory of this value, which the lock borrows; holders alone touch the data.
        unsafe { PosixLock::place(self.memory(), &self.data) }.expect("glibc")
    }

    fn adopt(&self) -> Result<PosixLock<'_, u64>, AdoptError> {
        // SAFETY: as above; each test makes a mutex, or looks at zeros, before it adopts.
        unsafe { PosixLock::adopt(self.memory(), &self.data) }
    }

    /// The lock as raw_sync sees it.
    fn theirs(&self) -> Box<dyn LockImpl> {
        // SAFETY: a mutex was made there, and the test ends before the memory does.
        let (lock, _) = unsafe { Mutex::from_existing(self.memory(), self.data.get().cast()) }
            .expect("it takes anything");
        lock
    }

    /// A lock as raw_sync makes it.
    fn make_theirs(&self) -> Box<dyn LockImpl> {
        // SAFETY: as in `place`.
        let (lock, size) =
            unsafe { Mutex::new(self.memory(), self.data.get().cast()) }.expect("there is memory");
        assert_eq!(size, PosixLock::<u64>::size_of(self.memory()));
        lock
    }

    /// Makes a mutex as C does.
    fn make_c(&self, set: impl Fn(*mut pthread_mutexattr_t) -> c_int) {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: a local of the right type.
        assert_eq!(unsafe { libc::pthread_mutexattr_init(attributes) }, 0);
        assert_eq!(set(attributes), 0);
        // SAFETY: the attributes are initialized, the place is large enough and aligned.
        let code = unsafe { libc::pthread_mutex_init(self.mutex(), attributes) };
        assert_eq!(code, 0);
    }

    fn c_lock(&self) -> c_int {
        // SAFETY: a mutex was made there.
        unsafe { libc::pthread_mutex_lock(self.mutex()) }
    }

    fn c_unlock(&self) -> c_int {
        // SAFETY: a mutex was made there.
        unsafe { libc::pthread_mutex_unlock(self.mutex()) }
    }

    fn c_consistent(&self) -> c_int {
        // SAFETY: a mutex was made there.
        unsafe { libc::pthread_mutex_consistent(self.mutex()) }
    }

    /// A thread takes the lock and ends.
    fn die_inside(&self) {
        until_ended(|| assert_eq!(self.c_lock(), 0));
    }
}

/// Runs this in a thread, and waits until the kernel has seen the thread end: the end of a scope
/// waits for less.
fn until_ended(work: impl FnOnce() + Send) {
    thread::scope(|threads| threads.spawn(work).join().expect("no panic"));
}

fn shared(attributes: *mut pthread_mutexattr_t) -> c_int {
    // SAFETY: `make_c` has initialized them.
    unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) }
}

fn robust(attributes: *mut pthread_mutexattr_t) -> c_int {
    // SAFETY: `make_c` has initialized them; 1 is PTHREAD_MUTEX_ROBUST.
    unsafe { libc::pthread_mutexattr_setrobust(attributes, 1) }
}

fn of_type(attributes: *mut pthread_mutexattr_t, kind: c_int) -> c_int {
    // SAFETY: `make_c` has initialized them.
    unsafe { libc::pthread_mutexattr_settype(attributes, kind) }
}

#[test]
fn adoption_tells_what_kind_of_mutex_lies_there() {
    let place = Place::new();
    assert_eq!(place.adopt().err(), Some(AdoptError::NotShared));
    place.make_c(|_| 0);
    assert_eq!(place.adopt().err(), Some(AdoptError::NotShared));
    place.make_c(shared);
    assert!(!place.adopt().expect("shared").is_robust());
    place.make_c(|attributes| shared(attributes) | robust(attributes));
    assert!(place.adopt().expect("shared").is_robust());
    place.make_c(|attributes| {
        shared(attributes) | of_type(attributes, libc::PTHREAD_MUTEX_RECURSIVE)
    });
    let error = place.adopt().expect_err("it gives two guards");
    assert!(matches!(error, AdoptError::WrongKind { .. }), "{error}");
}

#[test]
fn error_checking_mutex_panics_for_its_holder_and_makes_others_wait() {
    let place = Place::new();
    place.make_c(|attributes| {
        let kind = libc::PTHREAD_MUTEX_ERRORCHECK;
        shared(attributes) | robust(attributes) | of_type(attributes, kind)
    });
    let lock = place.adopt().expect("it is exclusive");
    let guard = lock.lock().expect("it is free");
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    let again = std::panic::AssertUnwindSafe(|| lock.lock().map(drop).is_ok());
    assert!(std::panic::catch_unwind(again).is_err());
    drop(guard);
    assert!(lock.lock().is_ok());
}

#[test]
fn lock_that_raw_sync_made_is_adopted_and_made_robust() {
    let place = Place::new();
    let theirs = place.make_theirs();
    let mut lock = place.adopt().expect("shared");
    assert!(!lock.is_robust());
    let guard = theirs.lock().expect("it is free");
    assert_eq!(theirs.as_raw(), lock.as_raw());
    // SAFETY: this test alone uses the lock.
    let error = unsafe { lock.make_robust() }.expect_err("it is held");
    assert!(matches!(error, RenewError::InUse));
    assert!(
        matches!(lock.lock_timeout(SOON), Err(LockTimeoutError::TimedOut { holder, .. })
        if holder == Some(thread_id()))
    );
    drop(guard);
    // SAFETY: as above.
    unsafe { lock.make_robust() }.expect("it is free");
    assert!(lock.is_robust());
    place.die_inside();
    assert!(matches!(
        lock.lock(),
        Err(LockError::OwnerDied { who: None, .. })
    ));
}

#[test]
fn unaligned_memory_holds_the_lock_where_raw_sync_looks_for_it() {
    let place = Place::new();
    for offset in 0..8 {
        let memory = place.memory().wrapping_add(offset);
        // SAFETY: 64 bytes hold the padding and the mutex; nobody uses the lock of the last round.
        let lock = unsafe { PosixLock::place(memory, &place.data) }.expect("glibc");
        // SAFETY: the lock was placed just now.
        let (theirs, size) =
            unsafe { Mutex::from_existing(memory, ptr::null_mut()) }.expect("it takes anything");
        assert_eq!(lock.as_raw(), theirs.as_raw());
        assert_eq!(size, PosixLock::<u64>::size_of(memory));
    }
}

#[test]
fn unrepaired_lock_is_told_to_c_and_to_raw_sync_too() {
    let place = Place::new();
    let lock = place.place();
    place.die_inside();
    // Unrepaired.
    assert!(matches!(lock.lock(), Err(LockError::OwnerDied { .. })));
    let theirs = place.theirs();
    until_ended(|| {
        let lock = place.theirs();
        let error = lock.lock().map(drop).expect_err("it has no word for it");
        assert!(error.to_string().contains("130"), "{error}");
        // The lock is this thread's now, until it ends.
    });
    assert!(matches!(
        lock.try_lock(),
        Err(TryLockError::OwnerDied { .. })
    ));
    assert_eq!(place.c_lock(), libc::EOWNERDEAD);
    assert_eq!(place.c_consistent(), 0);
    assert_eq!(place.c_unlock(), 0);
    assert!(lock.lock().is_ok());
    assert!(theirs.lock().is_ok());
}

#[test]
fn lock_that_c_leaves_unrepaired_is_lost_for_all() {
    let place = Place::new();
    let lock = place.place();
    place.die_inside();
    assert_eq!(place.c_lock(), libc::EOWNERDEAD);
    assert_eq!(place.c_unlock(), 0);
    assert!(matches!(lock.lock(), Err(LockError::NotRecoverable)));
    assert!(matches!(lock.try_lock(), Err(TryLockError::NotRecoverable)));
    let error = lock.lock_timeout(SOON).expect_err("for ever");
    assert!(matches!(error, LockTimeoutError::NotRecoverable), "{error}");
}

#[test]
fn unrepaired_lock_wakes_who_sleeps_in_the_c_library() {
    // Not on the stack: a thread that is never woken stays with it.
    let place: &'static Place = Box::leak(Box::new(Place::new()));
    let lock = place.place();
    place.die_inside();
    let Err(LockError::OwnerDied { guard, .. }) = lock.lock() else {
        panic!("the death must be told");
    };
    let (sender, answers) = mpsc::channel();
    for _ in 0..3 {
        let sender = sender.clone();
        let (begun, begins) = mpsc::channel();
        thread::spawn(move || {
            begun.send(thread_id()).expect("the test waits");
            let told = place.c_lock();
            assert!(told == 0 || place.c_consistent() == 0);
            assert_eq!(place.c_unlock(), 0);
            sender.send(told).expect("the test waits");
        });
        let thread = begins.recv().expect("it begins");
        until(|| lock.inspect().waiters && is_asleep(thread));
    }
    drop(guard);
    let mut told: [c_int; 3] = std::array::from_fn(|_| answers.recv_timeout(LONG).expect("a wake"));
    // They tell after they have left, in any order.
    told.sort_unstable();
    assert_eq!(told, [0, 0, libc::EOWNERDEAD]);
    assert!(lock.lock().is_ok());
}

/// Whether the kernel has put a thread of ours to sleep.
fn is_asleep(thread: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
    stat.is_ok_and(|stat| stat.contains(") S "))
}

#[test]
fn sleeper_that_the_c_library_has_forgotten_comes_to_hold_the_lock() {
    let place: &'static Place = Box::leak(Box::new(Place::new()));
    let lock = place.place();
    let guard = lock.lock().expect("it is free");
    let (sender, answers) = mpsc::channel();
    thread::spawn(move || {
        let lock = place.adopt().expect("it was placed");
        sender.send(thread_id()).expect("the test waits");
        drop(lock.lock().expect("nobody died"));
        sender.send(0).expect("the test waits");
    });
    let thread = answers.recv().expect("it begins");
    until(|| lock.inspect().waiters && is_asleep(thread));
    // As after an unlock whose woken one was killed, and a newcomer that has the lock now.
    // SAFETY: the mutex begins with the kernel's word, which is changed by atomics only.
    let word = unsafe { AtomicU32::from_ptr(place.memory().cast()) };
    word.fetch_and(!WAITERS, SeqCst);
    drop(guard);
    answers.recv_timeout(LONG).expect("it looks again");
}

#[test]
fn thread_that_holds_too_many_posix_locks_is_told_so() {
    let places: Vec<Place> = (0..41).map(|_| Place::new()).collect();
    let locks: Vec<_> = places.iter().map(Place::place).collect();
    let held: Vec<_> = locks[..40]
        .iter()
        .map(|lock| lock.lock().expect("few"))
        .collect();
    assert!(matches!(
        locks[40].try_lock(),
        Err(TryLockError::TooManyHeld)
    ));
    drop(held);
    assert!(locks[40].lock().is_ok());
}

#[test]
fn debug_text_and_inspection_tell_the_state() {
    let place = Place::new();
    let lock = place.place();
    assert!(format!("{lock:?}").contains("locked: false, robust: true"));
    let guard = lock.lock().expect("it is free");
    assert_eq!(lock.inspect().thread, Some(thread_id()));
    thread::scope(|threads| {
        threads.spawn(|| {
            // The table in the module's docs says so of raw_sync; here the lock is ours.
            assert!(
                place
                    .theirs()
                    .try_lock(Timeout::Val(Duration::ZERO))
                    .is_err()
            );
            assert!(lock.lock_deadline(std::time::Instant::now()).is_err());
        });
    });
    drop(guard);
    assert_eq!(lock.inspect().thread, None);
}
