//! Control: glibc's robust, process-shared mutex. Sound but for the steal race.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use super::data::Data;
use super::mutual::{Mutual, Taking};
use crate::place::Placed;
use crate::step::{Scene, Subject};

/// A `pthread_mutex_t` in shared memory.
#[repr(C)]
#[derive(Debug)]
pub struct RobustMutex(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: the functions of pthread synchronize; a process-shared mutex is made for several
// processes. Zero is an (unshared) mutex, `initialize` makes it ours; not destroying it is allowed.
unsafe impl Sync for RobustMutex {}
// SAFETY: see `Sync`.
unsafe impl Placed for RobustMutex {}

impl RobustMutex {
    /// Makes zeroed memory a robust, process-shared mutex.
    pub fn initialize(&self) {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: initializes the local.
        unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) };
        // SAFETY: the attributes are initialized.
        unsafe {
            libc::pthread_mutexattr_setpshared(
                attributes.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            )
        };
        // SAFETY: the attributes are initialized.
        unsafe {
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST)
        };
        // SAFETY: initializes a mutex that nobody uses yet, with initialized attributes.
        unsafe { libc::pthread_mutex_init(self.0.get(), attributes.as_ptr()) };
    }

    /// Locks; true: the owner before us died, and the mutex is consistent again.
    pub fn lock(&self) -> bool {
        // SAFETY: the mutex is initialized and stays mapped.
        let status = unsafe { libc::pthread_mutex_lock(self.0.get()) };
        if status != libc::EOWNERDEAD {
            return false;
        }
        // SAFETY: we own the mutex, and EOWNERDEAD was the answer.
        unsafe { libc::pthread_mutex_consistent(self.0.get()) };
        true
    }

    /// Unlocks what this thread locked.
    pub fn unlock(&self) {
        // SAFETY: the mutex is initialized and owned by this thread.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) };
    }

    /// Wakes all who sleep for the mutex, as an unlock should have done; how many there were.
    pub fn wake_all(&self) -> u64 {
        // SAFETY: FUTEX_WAKE uses the address as a key; the mutex's word is its first four bytes.
        let woken =
            unsafe { libc::syscall(libc::SYS_futex, self.0.get(), libc::FUTEX_WAKE, i32::MAX) };
        u64::try_from(woken).unwrap_or(0)
    }

    /// The mutex, for a condition that is to unlock it.
    pub fn as_ptr(&self) -> *mut libc::pthread_mutex_t {
        self.0.get()
    }
}

#[repr(C)]
struct Guarded {
    mutex: RobustMutex,
    data: Data,
}

// SAFETY: both fields are `Placed`.
unsafe impl Placed for Guarded {}

impl Mutual for Guarded {
    const NAME: &'static str = "control: glibc robust";
    const TAKING_SCENES: &'static [Scene] = &[Scene::Woken, Scene::Robbed];
    const TAKING_MUST_HANG: &'static [Scene] = &[Scene::Robbed];

    fn prepare(&self) {
        self.mutex.initialize();
    }

    fn take(&self) -> bool {
        self.mutex.lock()
    }

    fn leave(&self) {
        self.mutex.unlock();
    }

    fn data(&self) -> &Data {
        &self.data
    }
}

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![Taking::<Guarded>::NEW]
}
