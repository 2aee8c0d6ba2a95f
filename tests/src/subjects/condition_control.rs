//! Control: glibc's process-shared condition variable. A notifier that dies inside leaves its inner
//! lock held, and a waiter that was on its way out asleep.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::pthread_mutex::RobustMutex;
use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};

#[repr(C)]
struct Gate {
    mutex: RobustMutex,
    condition: UnsafeCell<libc::pthread_cond_t>,
    is_open: AtomicU32,
}

// SAFETY: the functions of pthread synchronize; the condition is initialized as process-shared.
unsafe impl Sync for Gate {}
// SAFETY: see `Sync`; neither the mutex nor the condition must be destroyed.
unsafe impl Placed for Gate {}

impl Gate {
    fn initialize(&self) {
        self.mutex.initialize();
        let mut attributes = MaybeUninit::<libc::pthread_condattr_t>::uninit();
        // SAFETY: initializes the local.
        unsafe { libc::pthread_condattr_init(attributes.as_mut_ptr()) };
        // SAFETY: the attributes are initialized.
        unsafe {
            libc::pthread_condattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED)
        };
        // SAFETY: initializes a condition that nobody uses yet, with initialized attributes.
        unsafe { libc::pthread_cond_init(self.condition.get(), attributes.as_ptr()) };
    }

    fn open(&self) {
        self.mutex.lock();
        self.is_open.store(1, Release);
        self.mutex.unlock();
        // SAFETY: the condition is initialized and stays mapped.
        unsafe { libc::pthread_cond_broadcast(self.condition.get()) };
    }

    fn pass(&self) {
        self.mutex.lock();
        while self.is_open.load(Relaxed) == 0 {
            // SAFETY: both are initialized and stay mapped; this thread owns the mutex.
            unsafe { libc::pthread_cond_wait(self.condition.get(), self.mutex.as_ptr()) };
        }
        self.mutex.unlock();
    }
}

struct Broadcast;

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![&Broadcast]
}

impl Subject for Broadcast {
    fn object(&self) -> &'static str {
        "control: glibc condition"
    }

    fn operation(&self) -> &'static str {
        "open, broadcast"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::Watched]
    }

    fn must_hang(&self) -> &'static [Scene] {
        self.scenes()
    }

    fn reset(&self, place: Place) {
        place.at::<Gate>().initialize();
    }

    fn warm(&self, spare: Place) {
        let gate: &Gate = spare.at();
        gate.open();
        gate.pass();
    }

    fn act(&self, place: Place) {
        place.at::<Gate>().open();
    }

    fn peer(&self, place: Place) -> Outcome {
        place.at::<Gate>().pass();
        Outcome::Fine
    }

    fn is_waiting_right(&self, place: Place) -> bool {
        place.at::<Gate>().is_open.load(Acquire) == 0
    }

    fn settle(&self, place: Place) -> Outcome {
        place.at::<Gate>().open();
        Outcome::Fine
    }
}
