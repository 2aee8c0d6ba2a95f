//! Conditions, for both placements.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Instant;

use manyhands_sync::{Condition, Lock};

use crate::{LONG, SOON, each_placement, until};

fn pair() -> (Lock<u32>, Condition) {
    (Lock::new(0), Condition::new())
}

#[test]
fn cond_02_whoever_waits_has_left_the_very_lock_and_has_it_again_afterwards() {
    each_placement(
        || (Lock::new(0), Condition::new(), Condition::new()),
        |three| {
            let (lock, filled, emptied) = &*three;
            thread::scope(|threads| {
                threads.spawn(|| {
                    let mut guard = lock.lock().expect("nobody dies");
                    filled.wait_for(&mut guard, |n| *n == 1).expect("nobody");
                    // It has the lock again: nobody else can.
                    assert!(thread::scope(|inner| {
                        let other = inner.spawn(|| lock.try_lock().is_err());
                        other.join().expect("no panic")
                    }));
                    *guard = 0;
                    // Another condition of the same lock.
                    emptied.notify_one();
                });
                until(|| filled.waiting() == 1);
                // It has its place in the order, and leaves the lock now.
                let mut guard = lock.lock_timeout(LONG).expect("who waits has left it");
                *guard = 1;
                filled.notify_one();
                emptied.wait_for(&mut guard, |n| *n == 0).expect("nobody");
            });
        },
    );
}

#[test]
fn cond_04_notification_without_the_lock_is_allowed_and_not_kept() {
    each_placement(pair, |pair| {
        let (lock, condition) = &*pair;
        condition.notify_one();
        condition.notify(0);
        condition.notify_all();
        let mut guard = lock.lock().expect("nobody dies");
        assert_eq!(condition.wait_timeout(&mut guard, SOON), Ok(false));
        assert_eq!(
            condition.wait_deadline(&mut guard, Instant::now()),
            Ok(false)
        );
        let was = condition.wait_for_deadline(&mut guard, Instant::now(), |n| *n == 0);
        assert_eq!(was, Ok(true), "it is asked before any wait");
    });
}

#[test]
fn cond_11_14_each_notification_wakes_exactly_as_many_as_it_says() {
    each_placement(pair, |pair| {
        let (lock, condition) = &*pair;
        let woken = AtomicU32::new(0);
        thread::scope(|threads| {
            for _ in 0..9 {
                threads.spawn(|| {
                    let mut guard = lock.lock().expect("nobody dies");
                    assert!(
                        condition
                            .wait_timeout(&mut guard, LONG)
                            .expect("nobody dies")
                    );
                    woken.fetch_add(1, SeqCst);
                });
            }
            until(|| condition.waiting() == 9);
            assert_eq!(condition.inspect().waiting, 9);
            assert!(format!("{condition:?}").contains("waiting: 9"));
            condition.notify_one();
            until(|| woken.load(SeqCst) == 1);
            condition.notify(2);
            until(|| woken.load(SeqCst) == 3);
            assert_eq!(condition.waiting(), 6);
            condition.notify(4);
            until(|| woken.load(SeqCst) == 7);
            condition.notify_all();
        });
        assert_eq!((woken.into_inner(), condition.waiting()), (9, 0));
        // With nobody there it is gone.
        condition.notify(3);
        let mut guard = lock.lock().expect("nobody dies");
        assert!(
            !condition
                .wait_timeout(&mut guard, SOON)
                .expect("nobody dies")
        );
    });
}

#[test]
fn condition_wakes_in_the_order_of_coming() {
    each_placement(pair, |pair| {
        let (lock, condition) = &*pair;
        thread::scope(|threads| {
            for number in 0..5 {
                threads.spawn(move || {
                    let mut guard = lock.lock().expect("nobody dies");
                    condition.wait(&mut guard).expect("nobody dies");
                    assert_eq!(*guard, number);
                    *guard += 1;
                });
                until(|| condition.waiting() == number + 1);
            }
            for number in 0..5 {
                condition.notify_one();
                until(|| *lock.lock().expect("nobody dies") == number + 1);
            }
        });
    });
}

#[test]
fn cond_08_wait_for_asks_under_the_lock_and_ends_when_it_is_so() {
    each_placement(pair, |pair| {
        let (lock, condition) = &*pair;
        thread::scope(|threads| {
            let waiter = threads.spawn(|| {
                let mut guard = lock.lock().expect("nobody dies");
                condition
                    .wait_for(&mut guard, |value| *value == 3)
                    .expect("nobody dies");
                *guard
            });
            for _ in 0..3 {
                until(|| condition.waiting() == 1);
                *lock.lock().expect("nobody dies") += 1;
                condition.notify_one();
            }
            assert_eq!(waiter.join().expect("no panic"), 3);
        });
    });
}

#[test]
fn cond_09_17_wait_for_gives_up_after_its_whole_time_whatever_is_notified() {
    each_placement(pair, |pair| {
        let (lock, condition) = &*pair;
        let over = AtomicU32::new(0);
        thread::scope(|threads| {
            threads.spawn(|| {
                while over.load(SeqCst) == 0 {
                    condition.notify_all();
                    thread::yield_now();
                }
            });
            let start = Instant::now();
            let mut guard = lock.lock().expect("nobody dies");
            let was = condition.wait_for_timeout(&mut guard, 10 * SOON, |value| *value == 1);
            over.store(1, SeqCst);
            assert_eq!(was, Ok(false));
            assert!(start.elapsed() >= 10 * SOON);
        });
    });
}

#[test]
fn cond_12_13_those_who_timed_out_leave_no_trace() {
    each_placement(pair, |pair| {
        let (lock, condition) = &*pair;
        thread::scope(|threads| {
            for _ in 0..6 {
                threads.spawn(|| {
                    let mut guard = lock.lock().expect("nobody dies");
                    assert_eq!(condition.wait_timeout(&mut guard, SOON), Ok(false));
                });
            }
        });
        assert_eq!(condition.waiting(), 0);
        thread::scope(|threads| {
            let waiters = [(); 6].map(|()| {
                threads.spawn(|| {
                    let mut guard = lock.lock().expect("nobody dies");
                    condition.wait_timeout(&mut guard, LONG)
                })
            });
            until(|| condition.waiting() == 6);
            condition.notify_all();
            assert!(
                waiters
                    .into_iter()
                    .all(|waiter| waiter.join().expect("no panic") == Ok(true))
            );
        });
    });
}

#[test]
fn condition_passes_every_item_of_a_queue_on() {
    const ITEMS: u32 = 5_000;
    each_placement(pair, |pair| {
        let (lock, condition) = &*pair;
        let taken = AtomicU32::new(0);
        thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    while taken.fetch_add(1, SeqCst) < ITEMS {
                        let mut guard = lock.lock().expect("nobody dies");
                        condition
                            .wait_for(&mut guard, |items| *items > 0)
                            .expect("nobody dies");
                        *guard -= 1;
                    }
                });
            }
            for _ in 0..ITEMS {
                *lock.lock().expect("nobody dies") += 1;
                condition.notify_one();
            }
        });
        assert_eq!(*lock.lock().expect("nobody dies"), 0);
    });
}

#[test]
fn more_than_can_wait_in_turn_are_woken_too() {
    each_placement(pair, |pair| {
        let (lock, condition) = &*pair;
        let there = AtomicU32::new(0);
        thread::scope(|threads| {
            for _ in 0..300 {
                let small = thread::Builder::new().stack_size(64 << 10);
                small
                    .spawn_scoped(threads, || {
                        let mut guard = lock.lock().expect("nobody dies");
                        there.fetch_add(1, SeqCst);
                        condition
                            .wait_for(&mut guard, |go| *go == 1)
                            .expect("nobody dies");
                    })
                    .expect("a thread");
            }
            until(|| there.load(SeqCst) == 300 && condition.waiting() == 256);
            *lock.lock().expect("nobody dies") = 1;
            condition.notify_all();
        });
        assert_eq!(condition.waiting(), 0);
    });
}
