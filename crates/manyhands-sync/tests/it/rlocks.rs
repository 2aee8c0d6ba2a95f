//! Locks that their holder may take again, for both placements.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use manyhands_sync::{LockError, LockTimeoutError, RLock, Shareable, TryLockError};

use crate::{SOON, each_placement};

fn rlock() -> RLock<u64> {
    RLock::new(5)
}

#[test]
fn rlock_05_06_depth_counts_for_the_owner_and_nobody_else_owns_it() {
    each_placement(rlock, |lock| {
        assert!(!lock.is_mine() && lock.inspect().depth == 0);
        let first = lock.lock().expect("it is free");
        let second = lock.try_lock().expect("the owner may");
        let third = lock.lock_timeout(SOON).expect("the owner may");
        assert!(lock.is_mine() && lock.inspect().depth == 3);
        thread::scope(|threads| {
            threads.spawn(|| {
                assert!(!lock.is_mine());
                assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
                let error = lock.lock_timeout(SOON).expect_err("another thread has it");
                assert!(matches!(error, LockTimeoutError::TimedOut { .. }));
            });
        });
        // In any order: the last guard of the thread leaves the lock.
        drop(first);
        drop(third);
        assert!(lock.is_mine() && lock.inspect().depth == 1);
        drop(second);
        assert!(!lock.is_mine() && lock.inspect().thread.is_none());
        thread::scope(|threads| {
            threads.spawn(|| assert_eq!(*lock.lock().expect("it is free"), 5));
        });
    });
}

#[test]
fn rlock_08_lock_of_a_thread_that_ended_is_seen_as_held_in_private_memory() {
    let lock = rlock();
    thread::scope(|threads| {
        threads.spawn(|| std::mem::forget(lock.lock().expect("it is free")));
    });
    assert!(lock.inspect().thread.is_some() && !lock.is_mine());
    assert!(lock.try_lock().is_err());
}

#[test]
fn rlock_of_a_thread_that_ended_while_holding_is_told_until_repaired_whatever_guard_goes_last() {
    let lock = rlock();
    lock.placed();
    thread::scope(|threads| {
        threads.spawn(|| {
            std::mem::forget(lock.lock().expect("it is free"));
            std::mem::forget(lock.lock().expect("the owner may"));
        });
    });
    let Err(LockError::OwnerDied { guard: outer, .. }) = lock.lock() else {
        panic!("the death must be told");
    };
    let inner = lock.lock().expect("told once a section");
    assert_eq!(lock.inspect().depth, 2);
    drop(outer);
    drop(inner);
    let Err(LockError::OwnerDied {
        guard: mut outer,
        who,
    }) = lock.lock()
    else {
        panic!("nobody has repaired");
    };
    assert_eq!(who.map(|who| who.pid), Some(std::process::id()));
    outer.mark_consistent();
    drop(outer);
    assert!(lock.lock().is_ok());
}

#[test]
fn rlock_is_exclusive_between_threads() {
    each_placement(
        || RLock::new(AtomicU32::new(0)),
        |lock| {
            thread::scope(|threads| {
                for _ in 0..4 {
                    threads.spawn(|| {
                        for _ in 0..5_000 {
                            let outer = lock.lock().expect("nobody dies");
                            let inner = lock.lock().expect("nobody dies");
                            let before = outer.load(Relaxed);
                            inner.store(before + 1, Relaxed);
                        }
                    });
                }
            });
            assert_eq!(lock.lock().expect("nobody dies").load(Relaxed), 20_000);
        },
    );
}
