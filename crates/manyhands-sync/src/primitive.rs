//! The atomics and the futex that the protocols are built on: real ones, or loom's models.
//!
//! Under `--cfg loom` the model checker runs every order of the accesses to these atomics. The
//! futex is modelled by a mutex and a condition variable, and nothing spins.

#[cfg(not(loom))]
pub(crate) use real::{AtomicU64, sleep, spin, wake};

#[cfg(loom)]
pub(crate) use model::{AtomicU64, sleep, spin, wake};

#[cfg(not(loom))]
mod real {
    use std::sync::atomic::AtomicU32;
    pub(crate) use std::sync::atomic::AtomicU64;

    use manyhands_os::Deadline;
    use manyhands_os::futex::{self, Scope, Wake};

    #[cfg(target_endian = "big")]
    compile_error!("the low half of a word must lie at its address; big-endian is not supported");

    /// The half of a word that the kernel looks at.
    pub(crate) fn low_half(word: &AtomicU64) -> &AtomicU32 {
        let half = word.as_ptr().cast::<u32>();
        // SAFETY: `from_ptr` needs a valid, aligned place: the first four bytes of the word.
        // Nobody reads or writes through the reference; its address goes to the kernel, which
        // does its own access of the right size.
        unsafe { AtomicU32::from_ptr(half) }
    }

    pub(crate) fn sleep(word: &AtomicU64, low: u32, scope: Scope, deadline: Deadline) -> Wake {
        futex::wait(low_half(word), low, scope, deadline)
    }

    pub(crate) fn wake(word: &AtomicU64, count: u32, scope: Scope) -> u32 {
        futex::wake(low_half(word), count, scope)
    }

    /// Pauses once; tells whether it is worth to look again before sleeping.
    pub(crate) fn spin(round: u32) -> bool {
        std::hint::spin_loop();
        round < 100
    }
}

#[cfg(not(loom))]
pub(crate) use real::low_half;

#[cfg(loom)]
mod model {
    pub(crate) use loom::sync::atomic::AtomicU64;
    use loom::sync::atomic::Ordering::SeqCst;
    use loom::sync::{Condvar, Mutex};
    use manyhands_os::Deadline;
    use manyhands_os::futex::{Scope, Wake};

    /// One queue of sleepers for the whole model: who came first is woken first.
    struct Sleepers {
        queue: Vec<(usize, u64)>,
        next: u64,
    }

    loom::lazy_static! {
        static ref SLEEPERS: Mutex<Sleepers> = Mutex::new(Sleepers { queue: Vec::new(), next: 0 });
        static ref WOKEN: Condvar = Condvar::new();
    }

    fn address(word: &AtomicU64) -> usize {
        std::ptr::from_ref(word).addr()
    }

    pub(crate) fn sleep(word: &AtomicU64, low: u32, _: Scope, _: Deadline) -> Wake {
        let mut sleepers = SLEEPERS.lock().expect("no panic under the lock");
        if word.load(SeqCst) as u32 != low {
            return Wake::Changed;
        }
        let ticket = sleepers.next;
        sleepers.next += 1;
        sleepers.queue.push((address(word), ticket));
        while sleepers.queue.iter().any(|(_, other)| *other == ticket) {
            sleepers = WOKEN.wait(sleepers).expect("no panic under the lock");
        }
        Wake::Woken
    }

    pub(crate) fn wake(word: &AtomicU64, count: u32, _: Scope) -> u32 {
        let mut sleepers = SLEEPERS.lock().expect("no panic under the lock");
        let mut woken = 0;
        sleepers.queue.retain(|(at, _)| {
            let wakes = *at == address(word) && woken < count;
            woken += u32::from(wakes);
            !wakes
        });
        WOKEN.notify_all();
        woken
    }

    pub(crate) fn spin(_: u32) -> bool {
        false
    }
}
