//! Semaphores, for both placements.

use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;
use std::time::{Duration, Instant};

use manyhands_sync::{AcquireTimeoutError, BoundedSemaphore, Semaphore};

use crate::{SOON, each_placement, until};

#[test]
fn sem_03_semaphore_goes_with_its_permits_taken() {
    each_placement(
        || Semaphore::new(2),
        |semaphore| {
            semaphore.acquire().expect("few locks").forget();
            std::mem::forget(semaphore.acquire().expect("few locks"));
            assert_eq!(semaphore.inspect().free, 0);
        },
    );
}

#[test]
fn sem_06_try_acquire_succeeds_as_often_as_there_are_permits() {
    each_placement(
        || Semaphore::new(2),
        |semaphore| {
            let first = semaphore.try_acquire().expect("one of two");
            let second = semaphore.try_acquire().expect("two of two");
            assert!(semaphore.try_acquire().is_err());
            drop(first);
            assert!(semaphore.try_acquire().is_ok());
            drop(second);
            assert_eq!(
                (semaphore.inspect().free, semaphore.inspect().supply),
                (2, 2)
            );
        },
    );
}

#[test]
fn sem_07_five_threads_take_three_permits_and_fail_seven_times() {
    each_placement(
        || Semaphore::new(3),
        |semaphore| {
            let took = AtomicU32::new(0);
            thread::scope(|threads| {
                for _ in 0..5 {
                    threads.spawn(|| {
                        for _ in 0..2 {
                            if let Ok(permit) = semaphore.try_acquire() {
                                permit.forget();
                                took.fetch_add(1, SeqCst);
                            }
                        }
                    });
                }
            });
            assert_eq!(took.into_inner(), 3);
        },
    );
}

#[test]
fn sem_08_timed_acquire_gives_up_after_its_time() {
    each_placement(
        || Semaphore::new(1),
        |semaphore| {
            let permit = semaphore.acquire_timeout(SOON).expect("it is free");
            let start = Instant::now();
            assert_eq!(
                semaphore.acquire_timeout(SOON).expect_err("it is taken"),
                AcquireTimeoutError::TimedOut
            );
            assert!(start.elapsed() >= SOON);
            assert!(semaphore.acquire_deadline(start).is_err());
            drop(permit);
            assert!(semaphore.acquire_timeout(Duration::MAX).is_ok());
        },
    );
}

#[test]
fn sem_04_05_released_permits_let_exactly_so_many_waiters_pass() {
    each_placement(
        || Semaphore::new(7),
        |semaphore| {
            semaphore.acquire().expect("one of seven").forget();
            let passed = AtomicU32::new(0);
            thread::scope(|threads| {
                for _ in 0..10 {
                    threads.spawn(|| {
                        for _ in 0..2 {
                            semaphore.acquire().expect("few locks").forget();
                            passed.fetch_add(1, SeqCst);
                        }
                    });
                }
                for (released, sum) in [(0, 6), (7, 13), (6, 19), (1, 20)] {
                    semaphore.release(released).expect("it fits");
                    until(|| passed.load(SeqCst) == sum);
                    assert!(semaphore.try_acquire().is_err());
                    assert_eq!(passed.load(SeqCst), sum);
                }
            });
        },
    );
}

#[test]
fn sem_10_release_without_acquire_raises_the_value_and_bounded_refuses() {
    each_placement(
        || Semaphore::new(1),
        |semaphore| {
            semaphore.release(2).expect("it fits");
            assert_eq!(semaphore.inspect().free, 3);
            assert!(semaphore.release(u32::MAX).is_err());
            assert_eq!(semaphore.inspect().free, 3);
        },
    );
    each_placement(
        || BoundedSemaphore::new(2),
        |semaphore| {
            assert_eq!(semaphore.release(1).expect_err("it is full").most, 2);
            let permit = semaphore.acquire().expect("few locks");
            assert!(
                semaphore.release(1).is_err(),
                "the permit will come back itself"
            );
            permit.forget();
            assert!(semaphore.release(1).is_ok());
            assert!(semaphore.release(1).is_err());
            assert_eq!(semaphore.inspect().free, 2);
        },
    );
}

#[test]
fn sem_14_debug_text_tells_the_value() {
    each_placement(
        || BoundedSemaphore::new(3),
        |semaphore| {
            let _permit = semaphore.acquire().expect("few locks");
            assert!(format!("{semaphore:?}").contains("2/3"), "{semaphore:?}");
        },
    );
    assert!(format!("{:?}", Semaphore::new(4)).contains("free: 4"));
}

#[test]
fn semaphore_never_admits_more_than_its_permits() {
    each_placement(
        || Semaphore::new(2),
        |semaphore| {
            let inside = AtomicU32::new(0);
            thread::scope(|threads| {
                for _ in 0..5 {
                    threads.spawn(|| {
                        for _ in 0..2_000 {
                            let _permit = semaphore.acquire().expect("few locks");
                            assert!(inside.fetch_add(1, SeqCst) < 2);
                            inside.fetch_sub(1, SeqCst);
                        }
                    });
                }
            });
            assert_eq!(semaphore.inspect().free, 2);
        },
    );
}

#[test]
fn semaphore_serves_eight_clients_in_turn() {
    const CLIENTS: u32 = 8;
    const TURNS: u32 = 2_000;
    each_placement(
        || Semaphore::new(1),
        |semaphore| {
            let order = Mutex::new(Vec::new());
            let over = AtomicBool::new(false);
            // Takes a turn whenever all others wait; how long it waited for all of them.
            let client = |number| {
                let mut waited = Duration::ZERO;
                while !over.load(SeqCst) {
                    let start = Instant::now();
                    let _permit = semaphore.acquire().expect("few locks");
                    waited += start.elapsed();
                    let mut order = order.lock().expect("no panic");
                    order.push(number);
                    if order.len() as u32 == CLIENTS * TURNS {
                        over.store(true, SeqCst);
                    }
                    drop(order);
                    until(|| over.load(SeqCst) || semaphore.inspect().waiting == CLIENTS - 1);
                }
                waited
            };
            let mut waited = thread::scope(|threads| {
                let clients: Vec<_> = (0..CLIENTS)
                    .map(|number| threads.spawn(move || client(number)))
                    .collect();
                let waited = clients.into_iter();
                let waited = waited.map(|one| one.join().expect("no panic"));
                waited.collect::<Vec<_>>()
            });
            waited.sort();
            let ratio = waited[7].as_secs_f64() / waited[0].as_secs_f64();
            println!("waiting times {waited:?}: ratio {ratio:.2}");
            // While all wait who do not hold the permit, nobody is overtaken: the order is a circle.
            let order = order.into_inner().expect("no panic");
            let circle = &order[..(CLIENTS * TURNS) as usize];
            for round in circle.windows(CLIENTS as usize + 1) {
                assert_eq!(round[0], round[CLIENTS as usize], "{round:?}");
            }
        },
    );
}

#[test]
fn semaphore_shows_how_many_wait() {
    each_placement(
        || Semaphore::new(0),
        |semaphore| {
            thread::scope(|threads| {
                for waiting in 1..=3 {
                    threads.spawn(|| semaphore.acquire().expect("few locks").forget());
                    until(|| semaphore.inspect().waiting == waiting);
                }
                assert!(format!("{semaphore:?}").contains("waiting: 3"));
                assert!(semaphore.acquire_timeout(SOON).is_err());
                assert_eq!(semaphore.inspect().waiting, 3, "who gave up is gone");
                semaphore.release(3).expect("it fits");
            });
            assert_eq!(semaphore.inspect().waiting, 0);
        },
    );
}

#[test]
fn more_than_can_wait_in_turn_get_their_permits_too() {
    each_placement(
        || Semaphore::new(0),
        |semaphore| {
            let passed = AtomicU32::new(0);
            thread::scope(|threads| {
                for _ in 0..200 {
                    let small = thread::Builder::new().stack_size(64 << 10);
                    small
                        .spawn_scoped(threads, || {
                            semaphore.acquire().expect("few locks").forget();
                            passed.fetch_add(1, SeqCst);
                        })
                        .expect("a thread");
                }
                until(|| semaphore.inspect().waiting == 128);
                semaphore.release(50).expect("it fits");
                until(|| passed.load(SeqCst) == 50);
                semaphore.release(150).expect("it fits");
            });
            assert_eq!((passed.into_inner(), semaphore.inspect().free), (200, 0));
        },
    );
}
