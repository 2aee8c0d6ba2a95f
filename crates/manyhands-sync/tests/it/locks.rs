//! Locks and events, for both placements.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use manyhands_sync::{Event, Lock, LockError, LockTimeoutError, RLock, Shareable, TryLockError};

use crate::{LONG, SOON, each_placement};

fn lock() -> Lock<u64> {
    Lock::new(0)
}

#[test]
fn lock_is_exclusive_between_threads() {
    each_placement(lock, |lock| {
        thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..20_000 {
                        let mut guard = lock.lock().expect("nobody dies");
                        let before = *guard;
                        *guard = before + 1;
                    }
                });
            }
        });
        assert_eq!(*lock.lock().expect("nobody dies"), 80_000);
    });
}

#[test]
fn lock_03_try_lock_of_a_held_lock_fails_at_once() {
    each_placement(lock, |lock| {
        let guard = lock.try_lock().expect("it is free");
        thread::scope(|threads| {
            threads.spawn(|| assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock))));
        });
        drop(guard);
        assert!(lock.try_lock().is_ok());
    });
}

#[test]
fn lock_05_panic_of_the_holder_frees_the_lock_and_poisons_nothing() {
    each_placement(lock, |lock| {
        let there = Arc::clone(&lock);
        let panicked = thread::spawn(move || {
            let mut guard = there.lock().expect("it is free");
            *guard = 7;
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(panicked.join().is_err());
        assert_eq!(*lock.lock().expect("a panic is no death"), 7);
    });
}

#[test]
fn lock_06_timed_lock_of_a_held_lock_gives_up_and_names_the_holder() {
    each_placement(lock, |lock| {
        let guard = lock.lock().expect("it is free");
        thread::scope(|threads| {
            threads.spawn(|| {
                let start = Instant::now();
                let error = lock.lock_timeout(SOON).expect_err("it is held");
                assert!(matches!(
                    error,
                    LockTimeoutError::TimedOut {
                        holder: Some(_),
                        ..
                    }
                ));
                assert!(start.elapsed() >= SOON);
                assert!(lock.lock_deadline(start).is_err());
            });
        });
        drop(guard);
        assert!(lock.lock_timeout(SOON).is_ok());
    });
}

#[test]
fn lock_07_longest_time_out_does_not_overflow() {
    each_placement(lock, |lock| {
        assert!(lock.lock_timeout(Duration::MAX).is_ok())
    });
}

#[test]
fn lock_10_lock_is_sound_after_a_time_out() {
    each_placement(lock, |lock| {
        let guard = lock.lock().expect("it is free");
        thread::scope(|threads| {
            threads.spawn(|| assert!(lock.lock_timeout(SOON).is_err()));
        });
        drop(guard);
        assert_eq!(lock.inspect().thread, None);
        assert!(lock.try_lock().is_ok());
    });
}

#[test]
fn lock_12_debug_text_tells_the_state() {
    each_placement(lock, |lock| {
        assert!(format!("{lock:?}").contains("locked: false"));
        let _guard = lock.lock().expect("it is free");
        assert!(format!("{lock:?}").contains("locked: true"));
    });
}

#[test]
fn lock_of_a_thread_that_ended_while_holding_is_told_to_every_locker_until_repaired() {
    let lock = lock();
    lock.placed();
    thread::scope(|threads| {
        threads.spawn(|| std::mem::forget(lock.lock().expect("it is free")));
    });
    for _ in 0..2 {
        match lock.lock() {
            Err(LockError::OwnerDied { who, .. }) => {
                assert_eq!(who.map(|who| who.pid), Some(std::process::id()));
            }
            other => panic!("the death must be told: {other:?}"),
        }
    }
    match lock.lock() {
        Err(LockError::OwnerDied { mut guard, .. }) => guard.mark_consistent(),
        other => panic!("the death must be told: {other:?}"),
    }
    assert!(lock.lock().is_ok());
}

#[test]
fn thread_that_holds_too_many_shared_locks_is_told_so() {
    let locks: Vec<Lock<u8>> = (0..2001).map(|_| Lock::new(0)).collect();
    locks.iter().for_each(Lock::placed);
    let held: Vec<_> = locks[..2000]
        .iter()
        .map(|lock| lock.lock().expect("few"))
        .collect();
    assert!(matches!(locks[2000].lock(), Err(LockError::TooManyHeld)));
    drop(held);
    assert!(locks[2000].lock().is_ok());
}

#[test]
fn waiters_of_a_contended_lock_all_come_to_hold_it() {
    each_placement(lock, |lock| {
        let guard = lock.lock().expect("it is free");
        thread::scope(|threads| {
            for _ in 0..6 {
                threads.spawn(|| *lock.lock().expect("nobody dies") += 1);
            }
            while !lock.inspect().waiters {
                thread::yield_now();
            }
            drop(guard);
        });
        assert_eq!(*lock.lock().expect("nobody dies"), 6);
    });
}

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

#[test]
fn event_07_wait_ends_when_it_is_set_and_not_before() {
    each_placement(Event::new, |event| {
        assert!(!event.wait_timeout(Duration::ZERO) && !event.wait_timeout(SOON));
        assert!(!event.wait_deadline(Instant::now()));
        thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| event.wait());
            }
            event.set();
        });
        assert!(event.is_set() && event.wait_timeout(Duration::ZERO));
        event.clear();
        assert!(!event.is_set() && !event.wait_timeout(SOON));
    });
}

#[test]
fn event_04_set_followed_by_clear_wakes_all_earlier_waiters() {
    each_placement(Event::new, |event| {
        for _ in 0..50 {
            let ready = Barrier::new(4);
            let woken = AtomicU32::new(0);
            thread::scope(|threads| {
                let (event, ready, woken) = (&event, &ready, &woken);
                for _ in 0..3 {
                    threads.spawn(move || {
                        ready.wait();
                        // Who came too late for one `set` waits for another.
                        assert!(event.wait_timeout(LONG));
                        woken.fetch_add(1, SeqCst);
                    });
                }
                ready.wait();
                while woken.load(SeqCst) != 3 {
                    event.set();
                    event.clear();
                }
            });
            assert!(!event.is_set());
        }
    });
}

#[test]
fn event_05_debug_text_tells_the_state() {
    each_placement(Event::new, |event| {
        assert!(format!("{event:?}").contains("unset"));
        event.set();
        assert!(format!("{event:?}").contains("\"set\""));
        event.set();
        assert_eq!((event.inspect().set, event.inspect().times), (true, 1));
        event.clear();
        event.set();
        assert_eq!((event.inspect().set, event.inspect().times), (true, 2));
    });
}
