//! Locks: one thread that takes and releases; and two, or two processes, that want the same one.

#![allow(unsafe_code, reason = "the peer is a lock of the C library")]

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use manyhands_process::Process;
use manyhands_shm::{LastPlace, Shareable, Shared};
use manyhands_sync::{Barrier, Lock};

use super::timed;
use crate::{Contender, Role, Scenario};

const UNCONTENDED: u64 = 2_000_000;
const CONTENDED: u64 = 400_000;

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "lock+unlock, private, free, x 2M, 1 thread",
            count: UNCONTENDED,
            rounds: 21,
            contenders: vec![ours_private(1), std_mutex(1)],
            limit: Some(1.15),
        },
        Scenario {
            name: "lock+unlock, shared, free, x 2M, 1 thread",
            count: UNCONTENDED,
            rounds: 21,
            contenders: vec![ours_shared(1), robust_pthread(1), std_mutex(1)],
            limit: Some(1.0),
        },
        Scenario {
            name: "lock+unlock, private, x 400k, 2 threads at once",
            count: CONTENDED,
            rounds: 21,
            contenders: vec![ours_private(2), std_mutex(2)],
            limit: None,
        },
        Scenario {
            name: "lock+unlock, shared, x 400k, 2 threads at once",
            count: CONTENDED,
            rounds: 21,
            contenders: vec![ours_shared(2), robust_pthread(2), std_mutex(2)],
            limit: None,
        },
        Scenario {
            name: "lock+unlock, shared, x 1M, 2 processes at once",
            count: 1_000_000,
            rounds: 21,
            contenders: vec![
                by_processes("Shared<Lock>", Role::Ours, || Lock::new(0_u64)),
                by_processes("robust pthread mutex", Role::Peer, Robust::new),
            ],
            limit: Some(1.0),
        },
    ]
}

/// Shares `count` increments among `threads`, and asks afterwards whether none was lost.
fn increments<L>(name: &'static str, role: Role, threads: u64, lock: L) -> Contender
where
    L: Counter + 'static,
{
    Contender::new(name, role, move |count| {
        let each = count / threads;
        lock.reset();
        let work = || {
            thread::scope(|scope| {
                for _ in 1..threads {
                    scope.spawn(|| (0..each).for_each(|_| lock.increment()));
                }
                (0..each).for_each(|_| lock.increment());
            });
        };
        timed(
            work,
            || lock.value() == each * threads,
            "count every increment",
        )
    })
}

/// A number under a lock.
trait Counter: Sync {
    fn increment(&self);
    fn value(&self) -> u64;
    fn reset(&self);
}

impl Counter for Lock<u64> {
    #[inline]
    fn increment(&self) {
        *self.lock().expect("nobody dies here") += black_box(1);
    }

    fn value(&self) -> u64 {
        *self.lock().expect("nobody dies here")
    }

    fn reset(&self) {
        *self.lock().expect("nobody dies here") = 0;
    }
}

impl<C: Counter + Shareable> Counter for Shared<C> {
    #[inline]
    fn increment(&self) {
        C::increment(self);
    }

    fn value(&self) -> u64 {
        C::value(self)
    }

    fn reset(&self) {
        C::reset(self);
    }
}

impl Counter for Mutex<u64> {
    #[inline]
    fn increment(&self) {
        *self.lock().unwrap_or_else(PoisonError::into_inner) += black_box(1);
    }

    fn value(&self) -> u64 {
        *self.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self) {
        *self.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    }
}

/// A mutex of the C library that processes may share and that outlives its holder.
struct Robust {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    value: UnsafeCell<u64>,
}

// SAFETY: `value` is touched only while the mutex is held, and the mutex is made for threads.
unsafe impl Sync for Robust {}

// SAFETY: a mutex for processes and a number; nobody dies here.
unsafe impl Shareable for Robust {
    fn placed(&self, _: LastPlace) {
        let mut attributes = MaybeUninit::uninit();
        let pointer = attributes.as_mut_ptr();
        let shared = libc::PTHREAD_PROCESS_SHARED;
        let robust = libc::PTHREAD_MUTEX_ROBUST;
        // SAFETY: the place is valid; the call writes it.
        let mut failed = unsafe { libc::pthread_mutexattr_init(pointer) };
        // SAFETY: written by the call above.
        failed |= unsafe { libc::pthread_mutexattr_setpshared(pointer, shared) };
        // SAFETY: as above.
        failed |= unsafe { libc::pthread_mutexattr_setrobust(pointer, robust) };
        // SAFETY: this is the mutex's last place, and nobody else knows of it yet.
        failed |= unsafe { libc::pthread_mutex_init(self.mutex.get(), pointer) };
        assert_eq!(failed, 0, "the C library makes a robust mutex");
    }
}

impl Robust {
    /// Not to be used before it was placed.
    fn new() -> Self {
        Self {
            mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
            value: UnsafeCell::new(0),
        }
    }

    #[inline]
    fn with<R>(&self, work: impl FnOnce(&mut u64) -> R) -> R {
        // SAFETY: initialized when it was placed, not moved since.
        let failed = unsafe { libc::pthread_mutex_lock(self.mutex.get()) };
        assert_eq!(failed, 0, "nobody dies here");
        // SAFETY: the mutex is held.
        let result = work(unsafe { &mut *self.value.get() });
        // SAFETY: held by this thread, since above.
        unsafe { libc::pthread_mutex_unlock(self.mutex.get()) };
        result
    }
}

impl Counter for Robust {
    #[inline]
    fn increment(&self) {
        self.with(|value| *value += black_box(1));
    }

    fn value(&self) -> u64 {
        self.with(|value| *value)
    }

    fn reset(&self) {
        self.with(|value| *value = 0);
    }
}

impl<C: Counter + Send> Counter for Arc<C> {
    #[inline]
    fn increment(&self) {
        C::increment(self);
    }

    fn value(&self) -> u64 {
        C::value(self)
    }

    fn reset(&self) {
        C::reset(self);
    }
}

fn ours_private(threads: u64) -> Contender {
    increments("Lock", Role::Ours, threads, Arc::new(Lock::new(0)))
}

fn ours_shared(threads: u64) -> Contender {
    let lock = Shared::new(Lock::new(0)).expect("the arena has room for a lock");
    increments("Shared<Lock>", Role::Ours, threads, lock)
}

fn std_mutex(threads: u64) -> Contender {
    increments("std Mutex", Role::Peer, threads, Arc::new(Mutex::new(0)))
}

fn robust_pthread(threads: u64) -> Contender {
    let lock = Shared::new(Robust::new()).expect("the arena has room for a lock");
    increments("robust pthread mutex", Role::Peer, threads, lock)
}

/// A number under a lock, and where both processes meet before they begin.
#[derive(Shareable)]
struct Counting<L> {
    start: Barrier,
    lock: L,
}

/// As [`increments`] with two threads, which are of two processes.
fn by_processes<L>(name: &'static str, role: Role, make: fn() -> L) -> Contender
where
    L: Counter + Shareable,
{
    Contender::new(name, role, move |count| {
        let each = count / 2;
        let start = Barrier::new(2).map_err(|error| error.to_string())?;
        let lock = make();
        let counting = Shared::new(Counting { start, lock }).map_err(|error| error.to_string())?;
        let mut process = Process::spawn(count_up::<L>, (counting.clone(), each))
            .map_err(|error| error.to_string())?;
        let work = || {
            count_up(counting.clone(), each);
        };
        let took = timed(
            work,
            || counting.lock.value() == each * 2,
            "count every increment",
        );
        process.join().map_err(|error| error.to_string())?;
        took
    })
}

fn count_up<L: Counter + Shareable>(counting: Shared<Counting<L>>, each: u64) {
    counting.start.wait().expect("the other one lives");
    (0..each).for_each(|_| counting.lock.increment());
    counting.start.wait().expect("the other one lives");
}
