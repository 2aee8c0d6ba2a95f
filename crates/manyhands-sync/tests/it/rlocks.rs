//! Locks that their holder may take again, for both placements.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::sync_channel;
use std::thread;

use manyhands_os::process::thread_id;
use manyhands_sync::{LockError, LockTimeoutError, RLock, Shareable, TryLockError};

use crate::{SOON, each_placement, last_place, until};

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
fn rlock_08_13_lock_is_seen_as_held_by_all_until_its_last_guard_goes() {
    each_placement(rlock, |lock| {
        let seen = || {
            let mine = lock.inspect().thread.is_some();
            let theirs = thread::scope(|threads| {
                let other = threads.spawn(|| lock.inspect().thread.is_some());
                other.join().expect("no panic")
            });
            assert_eq!(mine, theirs);
            mine
        };
        assert!(!seen());
        let outer = lock.lock().expect("it is free");
        let inner = lock.lock().expect("the owner may");
        assert!(seen());
        drop(outer);
        assert!(seen());
        drop(inner);
        assert!(!seen());
    });
}

#[test]
fn rlock_12_14_three_guards_are_taken_and_left_and_each_shows_the_data() {
    each_placement(rlock, |lock| {
        let guards = [(); 3].map(|()| lock.lock().expect("the owner may"));
        assert!(guards.iter().all(|guard| **guard == 5));
        assert_eq!(lock.inspect().depth, 3);
        drop(guards);
        assert_eq!((lock.inspect().depth, lock.inspect().thread), (0, None));
    });
}

#[test]
fn rlock_15_debug_text_tells_owner_and_depth() {
    each_placement(rlock, |lock| {
        let text = format!("{lock:?}");
        assert!(text.contains("depth: 0") && text.contains("thread: None"));
        let mine = thread_id();
        let guards = [(); 3].map(|()| lock.lock().expect("the owner may"));
        let text = format!("{lock:?}");
        assert!(text.contains("depth: 3") && text.contains(&format!("thread: Some({mine})")));
        drop(guards);
        let (go, going) = sync_channel::<()>(0);
        thread::scope(|threads| {
            threads.spawn(|| {
                let _guards = [(); 2].map(|()| lock.lock().expect("the owner may"));
                let _ = going.into_iter().next();
            });
            until(|| lock.inspect().depth == 2);
            let text = format!("{lock:?}");
            assert!(text.contains("locked: true") && text.contains("depth: 2"));
            assert!(!text.contains(&format!("thread: Some({mine})")));
            drop(go);
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
    lock.placed(last_place());
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
