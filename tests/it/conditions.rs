//! Conditions on which processes and threads wait side by side.
//!
//! The numbers in names are those of the behaviors that CPython's own tests check.

use std::time::{Duration, Instant};

use manyhands_process::Process;
use manyhands_shm::Shared;
use manyhands_sync::{Condition, Lock};

use crate::{LONG, SOON, until};

/// How many were woken; and the condition.
type Sleepers = Shared<(Lock<u32>, Condition)>;

fn sleepers() -> Sleepers {
    Shared::new((Lock::new(0), Condition::new())).expect("room")
}

/// Sleeps until notified; whether it was.
fn sleep(sleepers: Sleepers, at_most: Duration) -> bool {
    let (woken, condition) = &*sleepers;
    let mut guard = woken.lock().expect("nobody died");
    let notified = condition
        .wait_timeout(&mut guard, at_most)
        .expect("nobody died");
    *guard += u32::from(notified);
    notified
}

/// Lets so many processes and as many threads sleep, and does something meanwhile; whether each
/// was notified.
fn let_sleep(
    sleepers: &Sleepers,
    pairs: usize,
    at_most: Duration,
    meanwhile: impl FnOnce(),
) -> Vec<bool> {
    std::thread::scope(|threads| {
        let mut processes: Vec<Process<bool>> = (0..pairs)
            .map(|_| Process::spawn(sleep, (sleepers.clone(), at_most)).expect("a child"))
            .collect();
        let all: Vec<_> = (0..pairs)
            .map(|_| threads.spawn(|| sleep(sleepers.clone(), at_most)))
            .collect();
        meanwhile();
        let threads = all.into_iter().map(|one| one.join().expect("no panic"));
        let processes = processes.iter_mut().map(|child| {
            let ended = child.join_timeout(LONG).expect("it ends well");
            ended.expect("it ends")
        });
        threads.chain(processes).collect()
    })
}

fn woken(sleepers: &Sleepers) -> u32 {
    *sleepers.0.lock().expect("nobody died")
}

#[test]
fn cond_11_each_notification_wakes_either_the_process_or_the_thread() {
    let sleepers = sleepers();
    let condition = &sleepers.1;
    let notified = let_sleep(&sleepers, 1, LONG, || {
        until(|| condition.waiting() == 2);
        assert_eq!(woken(&sleepers), 0);
        for count in [1, 2] {
            condition.notify_one();
            until(|| woken(&sleepers) == count);
            assert_eq!(condition.waiting(), 2 - count);
        }
    });
    assert_eq!(notified, [true, true]);
}

#[test]
fn cond_12_13_six_that_timed_out_leave_no_trace_and_six_others_are_woken_at_once() {
    let sleepers = sleepers();
    let condition = &sleepers.1;
    assert_eq!(let_sleep(&sleepers, 3, SOON, || ()), [false; 6]);
    assert_eq!((condition.waiting(), woken(&sleepers)), (0, 0));
    let notified = let_sleep(&sleepers, 3, LONG, || {
        until(|| condition.waiting() == 6);
        assert_eq!(woken(&sleepers), 0);
        condition.notify_all();
    });
    assert_eq!(notified, [true; 6]);
    assert_eq!((condition.waiting(), woken(&sleepers)), (0, 6));
}

#[test]
fn cond_14_two_are_woken_and_then_the_other_four_and_then_nobody() {
    let sleepers = sleepers();
    let condition = &sleepers.1;
    let notified = let_sleep(&sleepers, 3, LONG, || {
        until(|| condition.waiting() == 6);
        condition.notify(2);
        until(|| woken(&sleepers) == 2);
        assert_eq!(condition.waiting(), 4);
        condition.notify(4);
        until(|| woken(&sleepers) == 6);
        condition.notify(3);
    });
    assert_eq!(notified, [true; 6]);
    // It is not kept for who comes later.
    assert!(!sleep(sleepers.clone(), SOON));
}

/// Waits for what never comes; how long that was, and what it said at the end.
fn wait_in_vain(sleepers: Sleepers, time: Duration) -> (Duration, bool) {
    let (value, condition) = &*sleepers;
    let start = Instant::now();
    let mut guard = value.lock().expect("nobody died");
    let was = condition.wait_for_timeout(&mut guard, time, |value| *value == u32::MAX);
    (start.elapsed(), was.expect("nobody died"))
}

#[test]
fn cond_17_wait_of_a_process_for_what_never_comes_lasts_its_whole_time() {
    let sleepers = sleepers();
    let mut child = Process::spawn(wait_in_vain, (sleepers.clone(), 20 * SOON)).expect("a child");
    // What it is notified of in the meantime does not end it.
    while child.is_alive() {
        sleepers.1.notify_all();
        std::thread::yield_now();
    }
    let ended = child.join_timeout(LONG).expect("it ends well");
    let (lasted, was) = ended.expect("it ends");
    assert!(lasted >= 20 * SOON && !was);
}
