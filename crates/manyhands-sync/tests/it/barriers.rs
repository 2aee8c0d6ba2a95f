//! Barriers, for both placements.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::Instant;

use manyhands_sync::{Barrier, Broken, NoParties};

use crate::{LONG, SOON, each_placement, until};

#[test]
fn barrier_01_without_parties_is_refused() {
    assert_eq!(Barrier::new(0).err(), Some(NoParties));
}

#[test]
fn barrier_09_time_out_elapses_in_full() {
    each_placement(
        || Barrier::new(2).expect("two"),
        |barrier| {
            let start = Instant::now();
            assert_eq!(barrier.wait_timeout(SOON), Err(Broken::TimedOut));
            assert!(start.elapsed() >= SOON);
            barrier.reset();
            let start = Instant::now();
            assert_eq!(barrier.wait_deadline(start + SOON), Err(Broken::TimedOut));
            assert!(start.elapsed() >= SOON);
        },
    );
}

#[test]
fn barrier_06_reset_lets_those_go_who_wait_and_is_usable_by_all_then() {
    each_placement(
        || Barrier::new(3).expect("three"),
        |barrier| {
            for _ in 0..20 {
                thread::scope(|threads| {
                    let waiters = [(); 2].map(|()| threads.spawn(|| barrier.wait()));
                    until(|| barrier.waiting() == 2);
                    barrier.reset();
                    assert!(
                        waiters
                            .into_iter()
                            .all(|one| one.join().expect("no panic") == Err(Broken::Aborted))
                    );
                    let all = [(); 3].map(|()| threads.spawn(|| barrier.wait()));
                    let mut places = all.map(|one| one.join().expect("no panic"));
                    places.sort_by_key(|place| place.unwrap_or(9));
                    assert_eq!(places, [Ok(0), Ok(1), Ok(2)]);
                });
            }
        },
    );
}

#[test]
fn barrier_07_abort_lasts_until_reset() {
    each_placement(
        || Barrier::new(2).expect("two"),
        |barrier| {
            barrier.abort();
            assert_eq!(barrier.wait(), Err(Broken::Aborted));
            assert_eq!(barrier.wait_timeout(LONG), Err(Broken::Aborted));
            assert!(barrier.is_broken());
            barrier.reset();
            assert!(!barrier.is_broken());
            thread::scope(|threads| {
                let other = threads.spawn(|| barrier.wait());
                assert!(barrier.wait().is_ok());
                assert!(other.join().expect("no panic").is_ok());
            });
        },
    );
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
