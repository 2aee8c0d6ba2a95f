//! Locks that one thread holds, for both placements.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use manyhands_os::process::thread_id;
use manyhands_os::robust;
use manyhands_sync::{Lock, LockError, LockTimeoutError, Shareable, TryLockError};

use crate::{LONG, SOON, each_placement, last_place, until};

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
fn lock_02_lock_is_taken_and_left() {
    each_placement(lock, |lock| {
        for round in 0..3 {
            let mut guard = lock.lock().expect("it is free");
            assert_eq!(*guard, round);
            *guard += 1;
        }
        assert_eq!(lock.inspect().thread, None);
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
fn lock_12_20_debug_text_tells_the_state_and_which_thread_has_it() {
    each_placement(lock, |lock| {
        let text = format!("{lock:?}");
        assert!(text.contains("locked: false") && text.contains("thread: None"));
        assert!(text.contains("process: None"));
        let mine = thread_id();
        let guard = lock.lock().expect("it is free");
        let text = format!("{lock:?}");
        assert!(text.contains("locked: true") && text.contains(&format!("thread: Some({mine})")));
        assert_eq!(
            lock.inspect().process.map(|who| who.pid),
            lock.inspect().shared.then(std::process::id)
        );
        drop(guard);
        let (go, going) = sync_channel::<()>(0);
        thread::scope(|threads| {
            threads.spawn(|| {
                let _guard = lock.lock().expect("it is free");
                let _ = going.into_iter().next();
            });
            until(|| lock.inspect().thread.is_some());
            assert_ne!(lock.inspect().thread, Some(mine));
            drop(go);
        });
    });
}

#[test]
fn lock_13_threads_that_used_a_lock_leave_no_record_of_it() {
    each_placement(lock, |lock| {
        thread::scope(|threads| {
            for _ in 0..15 {
                threads.spawn(|| {
                    *lock.lock().expect("nobody dies") += 1;
                    assert!(lock.lock_timeout(LONG).is_ok());
                    assert_eq!(robust::head().linked(10), 0);
                });
            }
        });
        assert_eq!(lock.inspect().thread, None);
        assert_eq!(*lock.lock().expect("nobody dies"), 15);
    });
}

#[test]
fn guard_that_is_leaked_keeps_the_lock_and_frees_it_with_its_thread_where_processes_share() {
    each_placement(lock, |lock| {
        let shared = lock.inspect().shared;
        thread::scope(|threads| {
            let holder = threads.spawn(|| {
                std::mem::forget(lock.lock().expect("it is free"));
                assert!(lock.try_lock().is_err());
                // Others go on as if nothing was.
                let other = self::lock();
                if shared {
                    other.placed(last_place());
                }
                assert!(other.lock().is_ok());
            });
            // The end of a scope does not wait until the kernel has seen the thread end.
            holder.join().expect("no panic");
        });
        // The thread's end is a moment later than the scope's.
        match lock.lock_timeout(if shared { LONG } else { SOON }) {
            Err(LockTimeoutError::TimedOut { .. }) => assert!(!shared),
            Err(LockTimeoutError::OwnerDied { mut guard, .. }) => {
                assert!(shared);
                guard.mark_consistent();
            }
            other => panic!("it was held: {other:?}"),
        }
        assert_eq!(lock.try_lock().is_ok(), shared);
    });
}

#[test]
fn lock_of_a_thread_that_ended_while_holding_is_told_to_every_locker_until_repaired() {
    let lock = lock();
    lock.placed(last_place());
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
    locks.iter().for_each(|value| value.placed(last_place()));
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
