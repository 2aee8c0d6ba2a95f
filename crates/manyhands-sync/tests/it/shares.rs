//! Semaphores, reader-writer locks and barriers, for both placements.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use manyhands_sync::{
    AcquireTimeoutError, Barrier, BoundedSemaphore, Broken, LockTimeoutError, NoParties, RwLock,
    Semaphore, Shareable, TryLockError,
};

use crate::{LONG, SOON, each_placement, until};

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
        || Semaphore::new(0),
        |semaphore| {
            let passed = AtomicU32::new(0);
            thread::scope(|threads| {
                for _ in 0..10 {
                    threads.spawn(|| {
                        semaphore.acquire().expect("few locks").forget();
                        passed.fetch_add(1, SeqCst);
                    });
                }
                for (released, sum) in [(7, 7), (2, 9), (1, 10)] {
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
fn rwlock_lets_readers_in_together_and_a_writer_alone() {
    each_placement(
        || RwLock::new(0_u64),
        |lock| {
            thread::scope(|threads| {
                for _ in 0..3 {
                    threads.spawn(|| {
                        for _ in 0..2_000 {
                            let before = *lock.read().expect("nobody dies");
                            let mut guard = lock.write().expect("nobody dies");
                            assert!(*guard >= before);
                            *guard += 1;
                        }
                    });
                }
            });
            assert_eq!(*lock.read().expect("nobody dies"), 6_000);
            let one = lock.read().expect("nobody dies");
            let other = lock.try_read().expect("readers do not exclude each other");
            assert_eq!(lock.inspect().readers, 2);
            assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
            assert!(matches!(
                lock.write_timeout(SOON),
                Err(LockTimeoutError::TimedOut { .. })
            ));
            drop((one, other));
            let writer = lock.try_write().expect("nobody reads");
            thread::scope(|threads| {
                threads.spawn(|| {
                    assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
                    assert!(lock.read_timeout(SOON).is_err());
                });
            });
            drop(writer);
            assert!(lock.try_read().is_ok() && lock.try_write().is_ok());
        },
    );
}

#[test]
fn rwlock_writer_that_waits_holds_new_readers_back_and_comes_in() {
    each_placement(
        || RwLock::new(0),
        |lock| {
            let reader = lock.read().expect("nobody dies");
            thread::scope(|threads| {
                threads.spawn(|| *lock.write().expect("nobody dies") += 1);
                until(|| lock.inspect().writer.is_some());
                let late = threads.spawn(|| *lock.read().expect("nobody dies"));
                until(|| lock.inspect().waiters);
                drop(reader);
                assert_eq!(late.join().expect("no panic"), 1);
            });
        },
    );
}

#[test]
fn rwlock_of_a_writer_thread_that_ended_is_told_to_readers_until_a_writer_repairs() {
    let lock = RwLock::new(1);
    lock.placed();
    thread::scope(|threads| {
        threads.spawn(|| std::mem::forget(lock.write().expect("nobody died yet")));
    });
    for _ in 0..2 {
        assert!(matches!(
            lock.read(),
            Err(manyhands_sync::LockError::OwnerDied { .. })
        ));
    }
    match lock.write() {
        Err(manyhands_sync::LockError::OwnerDied { mut guard, who }) => {
            assert_eq!(who.map(|who| who.pid), Some(std::process::id()));
            guard.mark_consistent();
        }
        other => panic!("the death must be told: {other:?}"),
    }
    assert!(lock.read().is_ok() && lock.write().is_ok());
}

#[test]
fn barrier_01_without_parties_is_refused() {
    assert_eq!(Barrier::new(0).err(), Some(NoParties));
}

#[test]
fn barrier_10_of_one_party_never_blocks() {
    each_placement(
        || Barrier::new(1).expect("one"),
        |barrier| {
            for _ in 0..100 {
                assert_eq!(barrier.wait(), Ok(0));
            }
        },
    );
}

#[test]
fn barrier_11_parties_pass_in_step_a_thousand_times() {
    each_placement(
        || Barrier::new(3).expect("three"),
        |barrier| {
            let counts = [const { AtomicU32::new(0) }; 3];
            thread::scope(|threads| {
                for index in 0..3 {
                    let (barrier, counts) = (&barrier, &counts);
                    threads.spawn(move || {
                        for pass in 0..1000 {
                            counts[index].store(pass, Relaxed);
                            barrier.wait().expect("nobody breaks it");
                            assert!(counts.iter().all(|count| count.load(Relaxed) == pass));
                            barrier.wait().expect("nobody breaks it");
                        }
                    });
                }
            });
        },
    );
}

#[test]
fn barrier_08_time_out_breaks_it_for_all_and_06_07_reset_mends_it() {
    each_placement(
        || Barrier::new(3).expect("three"),
        |barrier| {
            thread::scope(|threads| {
                let waiter = threads.spawn(|| barrier.wait());
                until(|| barrier.waiting() == 1);
                assert_eq!(barrier.wait_timeout(SOON), Err(Broken::TimedOut));
                assert_eq!(waiter.join().expect("no panic"), Err(Broken::TimedOut));
            });
            assert!(barrier.is_broken());
            assert_eq!(barrier.wait(), Err(Broken::TimedOut));
            barrier.reset();
            thread::scope(|threads| {
                let waiters = [(); 2].map(|()| threads.spawn(|| barrier.wait()));
                until(|| barrier.waiting() == 2);
                barrier.reset();
                for waiter in waiters {
                    assert_eq!(waiter.join().expect("no panic"), Err(Broken::Aborted));
                }
                let waiters = [(); 2].map(|()| threads.spawn(|| barrier.wait()));
                assert!(barrier.wait().is_ok());
                assert!(
                    waiters
                        .into_iter()
                        .all(|waiter| waiter.join().expect("no panic").is_ok())
                );
                let waiters = [(); 2].map(|()| threads.spawn(|| barrier.wait()));
                until(|| barrier.waiting() == 2);
                barrier.abort();
                for waiter in waiters {
                    assert_eq!(waiter.join().expect("no panic"), Err(Broken::Aborted));
                }
            });
        },
    );
}

#[test]
fn barrier_action_runs_once_before_anybody_goes_on_and_its_panic_breaks() {
    each_placement(
        || Barrier::new(2).expect("two"),
        |barrier| {
            let runs = AtomicU32::new(0);
            let act = || {
                runs.fetch_add(1, SeqCst);
            };
            thread::scope(|threads| {
                for _ in 0..2 {
                    threads.spawn(|| {
                        barrier.wait_and(LONG, act).expect("nobody breaks it");
                        assert_eq!(runs.load(SeqCst), 1);
                    });
                }
            });
            thread::scope(|threads| {
                let waiter = threads.spawn(|| barrier.wait());
                until(|| barrier.waiting() == 1);
                let failing = threads.spawn(|| {
                    barrier.wait_and(LONG, || std::panic::resume_unwind(Box::new("on purpose")))
                });
                assert!(failing.join().is_err());
                assert_eq!(waiter.join().expect("no panic"), Err(Broken::ActionFailed));
            });
        },
    );
}

#[test]
fn barrier_12_debug_text_tells_how_many_wait_and_that_it_is_broken() {
    each_placement(
        || Barrier::new(3).expect("three"),
        |barrier| {
            assert!(format!("{barrier:?}").contains("waiting: 0/3, broken: None"));
            thread::scope(|threads| {
                let waiters = [(); 2].map(|()| threads.spawn(|| barrier.wait()));
                until(|| barrier.waiting() == 2);
                assert!(format!("{barrier:?}").contains("waiting: 2/3, broken: None"));
                barrier.wait().expect("nobody breaks it");
                for waiter in waiters {
                    waiter.join().expect("no panic").expect("nobody breaks it");
                }
                assert!(format!("{barrier:?}").contains("waiting: 0/3, broken: None"));
                let waiter = threads.spawn(|| barrier.wait());
                until(|| barrier.waiting() == 1);
                barrier.abort();
                assert!(waiter.join().expect("no panic").is_err());
            });
            assert!(format!("{barrier:?}").contains("waiting: 0/3, broken: Some(Aborted)"));
            let state = barrier.inspect();
            assert_eq!((state.parties, state.waiting), (3, 0));
            assert_eq!(state.broken, Some(Broken::Aborted));
        },
    );
}
