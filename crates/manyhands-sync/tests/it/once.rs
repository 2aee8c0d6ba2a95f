//! What is done once, for both placements.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use manyhands_sync::{Once, OnceTimeoutError, TryOnceError};

use crate::{SOON, each_placement, until};

#[test]
fn once_runs_once_among_threads_and_again_after_a_panic() {
    each_placement(Once::new, |once| {
        let failed = thread::scope(|threads| {
            threads
                .spawn(|| once.call(|_| std::panic::resume_unwind(Box::new("on purpose"))))
                .join()
                .is_err()
        });
        assert!(failed && !once.is_done());
        let (runs, interrupted) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    once.call(|state| {
                        runs.fetch_add(1, SeqCst);
                        interrupted.fetch_add(u32::from(state.interrupted), SeqCst);
                    })
                    .expect("few locks");
                    assert_eq!(runs.load(SeqCst), 1);
                });
            }
        });
        assert_eq!(interrupted.into_inner(), 1);
    });
}

#[test]
fn once_that_somebody_is_at_is_waited_for_as_long_as_asked() {
    each_placement(Once::new, |once| {
        let (go, going) = sync_channel::<()>(0);
        thread::scope(|threads| {
            let at_it = threads.spawn(|| {
                once.call(move |_| {
                    let _ = going.recv();
                })
            });
            until(|| once.inspect().thread.is_some());
            assert_eq!(once.try_call(|_| ()), Err(TryOnceError::WouldBlock));
            let start = Instant::now();
            assert!(matches!(
                once.call_timeout(SOON, |_| ()),
                Err(OnceTimeoutError::TimedOut {
                    holder: Some(_),
                    ..
                })
            ));
            assert!(start.elapsed() >= SOON);
            assert!(once.call_deadline(start, |_| ()).is_err());
            drop(go);
            assert_eq!(at_it.join().expect("no panic"), Ok(()));
        });
        // It is done: no form waits, or runs anything.
        let never = |_| unreachable!("it is done");
        assert_eq!(once.call(never), Ok(()));
        assert_eq!(once.try_call(never), Ok(()));
        assert_eq!(once.call_timeout(Duration::MAX, never), Ok(()));
        assert_eq!(once.call_deadline(Instant::now(), never), Ok(()));
    });
}

#[test]
fn once_shows_whether_it_is_done_and_who_is_at_it() {
    each_placement(Once::new, |once| {
        let free = once.inspect();
        assert_eq!((free.done, free.interrupted), (false, false));
        assert_eq!((free.thread, free.process), (None, None));
        once.call(|_| {
            let seen = once.inspect();
            assert!(!seen.done && !seen.interrupted && seen.thread.is_some());
            assert_eq!(seen.process.is_some(), seen.shared);
        })
        .expect("few locks");
        let done = once.inspect();
        assert!(done.done && !done.interrupted && done.thread.is_none());
        assert!(format!("{once:?}").contains("done: true, interrupted: false"));
    });
}

#[test]
fn once_that_was_begun_and_left_shows_it() {
    each_placement(Once::new, |once| {
        let failed = thread::scope(|threads| {
            threads
                .spawn(|| once.try_call(|_| std::panic::resume_unwind(Box::new("on purpose"))))
                .join()
                .is_err()
        });
        assert!(failed && once.inspect().interrupted);
        once.try_call(|state| assert!(state.interrupted))
            .expect("nobody is at it");
        assert!(once.inspect().done);
    });
}
