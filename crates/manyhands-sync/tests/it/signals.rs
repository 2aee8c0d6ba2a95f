//! Signals neither end nor lengthen a wait, in both placements.
//!
//! Whoever waits here gets a signal whenever it has handled the one before, for as long as it
//! waits. If a signal ended the wait, it would be over too early; if it began the time-out again,
//! the wait would never end.

use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, Once as StdOnce, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use manyhands_sync::{Barrier, Condition, Event, Lock, Once, RLock, RwLock, Semaphore};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::{LONG, each_placement, until};

/// As many as in CPython's test.
const SIGNALS: u32 = 40;

/// How many signals were handled; one test at a time sends any.
static HANDLED: AtomicU32 = AtomicU32::new(0);
static TURN: Mutex<()> = Mutex::new(());

extern "C" fn count(_: i32) {
    HANDLED.fetch_add(1, SeqCst);
}

fn handle_signals() {
    static HANDLER: StdOnce = StdOnce::new();
    HANDLER.call_once(|| {
        // Without SA_RESTART: each signal interrupts the system call.
        let action = SigAction::new(
            SigHandler::Handler(count),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: `sigaction` needs a handler that may run at any instruction: ours adds to an
        // atomic and does nothing else.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("a legal action");
    });
}

/// Runs `wait` in a thread that gets signals until it has ended, or until `enough` of them when
/// there is something to `release` it with; returns how many it got.
fn under_signals(wait: impl FnOnce() + Send, release: Option<&dyn Fn()>) -> u32 {
    let ended = AtomicBool::new(false);
    let (tell, who) = sync_channel(0);
    let (stop, stopped) = sync_channel::<()>(0);
    thread::scope(|threads| {
        let ended = &ended;
        let waiter = threads.spawn(move || {
            tell.send(pthread_self()).expect("the test listens");
            wait();
            ended.store(true, SeqCst);
            // The thread must be there until no signal is sent any more.
            let _ = stopped.recv();
        });
        let waiter_id = who.recv().expect("it says who it is");
        let mut got = 0;
        let end = Instant::now() + LONG;
        while !ended.load(SeqCst) {
            assert!(Instant::now() < end, "the signals lengthen the wait");
            let before = HANDLED.load(SeqCst);
            pthread_kill(waiter_id, Signal::SIGUSR1).expect("the thread is there");
            until(|| HANDLED.load(SeqCst) != before);
            got += 1;
            if let Some(release) = release.filter(|_| got == SIGNALS) {
                assert!(!ended.load(SeqCst), "a signal ended the wait");
                release();
            }
        }
        drop(stop);
        waiter.join().expect("no panic");
        got
    })
}

/// Whether a wait of any length that is given up lasts its whole time, and not longer.
fn is_given_up_in_time(wait: impl Fn(Duration) + Sync) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    handle_signals();
    let mut time = Duration::from_millis(20);
    loop {
        let waiting = || {
            let start = Instant::now();
            wait(time);
            assert!(start.elapsed() >= time, "a signal ended the wait");
        };
        // A slow machine may need a longer wait for as many signals.
        if under_signals(waiting, None) >= SIGNALS {
            return;
        }
        time *= 2;
        assert!(time < LONG, "no signals come");
    }
}

/// Whether a wait goes on through signals until it is released.
fn ends_by_release(wait: impl FnOnce() + Send, release: &dyn Fn()) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    handle_signals();
    assert!(under_signals(wait, Some(release)) >= SIGNALS);
}

#[test]
fn lock_16_signals_neither_end_nor_lengthen_the_wait_for_a_lock() {
    each_placement(
        || Lock::new(0),
        |lock| {
            let guard = lock.lock().expect("it is free");
            is_given_up_in_time(|time| assert!(lock.lock_timeout(time).is_err()));
            let guard = Cell::new(Some(guard));
            ends_by_release(|| drop(lock.lock().expect("nobody dies")), &|| {
                drop(guard.take());
            });
        },
    );
}

#[test]
fn signals_neither_end_nor_lengthen_the_wait_for_a_lock_of_many_levels() {
    each_placement(
        || RLock::new(0),
        |lock| {
            let guard = lock.lock().expect("it is free");
            is_given_up_in_time(|time| assert!(lock.lock_timeout(time).is_err()));
            drop(guard);
        },
    );
}

#[test]
fn signals_neither_end_nor_lengthen_the_waits_of_readers_and_writers() {
    each_placement(
        || RwLock::new(0),
        |lock| {
            let reader = lock.read().expect("nobody dies");
            is_given_up_in_time(|time| assert!(lock.write_timeout(time).is_err()));
            drop(reader);
            let writer = lock.write().expect("nobody dies");
            is_given_up_in_time(|time| assert!(lock.read_timeout(time).is_err()));
            drop(writer);
        },
    );
}

#[test]
fn signals_neither_end_nor_lengthen_the_wait_for_a_permit() {
    each_placement(
        || Semaphore::new(0),
        |semaphore| {
            is_given_up_in_time(|time| assert!(semaphore.acquire_timeout(time).is_err()));
            let wait = || semaphore.acquire().expect("few locks").forget();
            ends_by_release(wait, &|| semaphore.release(1).expect("it fits"));
        },
    );
}

#[test]
fn signals_neither_end_nor_lengthen_the_wait_for_an_event() {
    each_placement(Event::new, |event| {
        is_given_up_in_time(|time| assert!(!event.wait_timeout(time)));
        ends_by_release(|| event.wait(), &|| event.set());
    });
}

#[test]
fn signals_neither_end_nor_lengthen_the_wait_for_a_notification() {
    each_placement(
        || (Lock::new(0), Condition::new()),
        |pair| {
            let (lock, condition) = &*pair;
            is_given_up_in_time(|time| {
                let mut guard = lock.lock().expect("nobody dies");
                assert_eq!(condition.wait_timeout(&mut guard, time), Ok(false));
            });
            let wait = || {
                let mut guard = lock.lock().expect("nobody dies");
                condition.wait(&mut guard).expect("nobody dies");
            };
            ends_by_release(wait, &|| {
                until(|| condition.waiting() == 1);
                condition.notify_one();
            });
        },
    );
}

#[test]
fn signals_neither_end_nor_lengthen_the_wait_of_a_party() {
    each_placement(
        || Barrier::new(2).expect("two"),
        |barrier| {
            is_given_up_in_time(|time| {
                barrier.reset();
                assert!(barrier.wait_timeout(time).is_err());
            });
            barrier.reset();
            ends_by_release(|| assert!(barrier.wait().is_ok()), &|| {
                barrier.wait().expect("nobody breaks it");
            });
        },
    );
}

#[test]
fn signals_neither_end_nor_lengthen_the_wait_until_it_is_done() {
    each_placement(Once::new, |once| {
        once.call(|_| {
            is_given_up_in_time(|time| assert!(once.call_timeout(time, |_| ()).is_err()));
        })
        .expect("few locks");
    });
}
