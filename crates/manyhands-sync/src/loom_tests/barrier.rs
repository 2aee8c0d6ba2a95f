//! The barrier, in private and in shared memory.
//!
//! Planted bug `barrier`: who opens or breaks it wakes the others, but does not move the sequence
//! on. Who has seen the phase, and is about to lie down, sleeps for ever.

use std::sync::Arc;

use super::{Guarding, LATER, beside, end, last_place};
use crate::primitive::{explore, time_passes};
use crate::{Barrier, Broken, Shareable};

fn barrier(shared: bool, parties: u32) -> Arc<Guarding<Barrier>> {
    let barrier = Guarding::new(Barrier::new(parties).expect("there are parties"));
    if shared {
        barrier.object.placed(last_place());
    }
    barrier
}

/// Twice, so that nobody mistakes the second meeting for the first.
fn all_meet_twice(shared: bool, others: u32, preemptions: usize) {
    explore(preemptions, move || {
        let barrier = barrier(shared, 1 + others);
        let others: Vec<_> = (0..others)
            .map(|_| {
                beside(&barrier, |barrier| {
                    let first = barrier.object.wait();
                    let seen = barrier.value();
                    (first, seen, barrier.object.wait())
                })
            })
            .collect();
        barrier.add_one();
        let mut firsts = vec![barrier.object.wait()];
        let mut seconds = vec![barrier.object.wait()];
        // All have read the value: they came to the second meeting afterwards.
        barrier.add_one();
        for other in others {
            let (first, seen, second) = end(other);
            assert_eq!(seen, 1);
            firsts.push(first);
            seconds.push(second);
        }
        for mut indices in [firsts, seconds] {
            indices.sort_by_key(|index| index.ok());
            assert!((0..).zip(indices).all(|(place, index)| index == Ok(place)));
        }
    });
}

/// One of two parties may give up while the other comes: both are told the same.
fn who_gives_up_breaks_it_for_all(shared: bool) {
    explore(3, move || {
        let barrier = barrier(shared, 2);
        let hurried = beside(&barrier, |barrier| barrier.object.wait_timeout(LATER));
        let patient = beside(&barrier, |barrier| barrier.object.wait());
        time_passes();
        match (end(hurried), end(patient)) {
            (Ok(one), Ok(other)) => assert_eq!(one + other, 1),
            ends => assert_eq!(ends, (Err(Broken::TimedOut), Err(Broken::TimedOut))),
        }
    });
}

/// Who is told that it was broken has not met anybody; who waits is always told something.
fn abort_reaches_all(shared: bool, preemptions: usize) {
    explore(preemptions, move || {
        let barrier = barrier(shared, 3);
        let others = [
            beside(&barrier, |barrier| barrier.object.wait()),
            beside(&barrier, |barrier| barrier.object.wait()),
        ];
        barrier.object.abort();
        assert!(
            others
                .into_iter()
                .all(|other| end(other) == Err(Broken::Aborted))
        );
    });
}

#[test]
fn loom_barrier_opens_when_all_have_come_again_and_again() {
    all_meet_twice(false, 1, 3);
    all_meet_twice(true, 1, 3);
    all_meet_twice(false, 2, 2);
}

/// Four come for two meetings of two. While an action runs its meeting is full: who comes then
/// waits for the next one.
fn actions_run_one_after_the_other(shared: bool, preemptions: usize) {
    fn meet(barrier: &Guarding<Barrier>) -> Result<u32, Broken> {
        barrier.object.wait_and(LATER, || barrier.add_one())
    }
    explore(preemptions, move || {
        let barrier = barrier(shared, 2);
        let others = [(); 3].map(|()| beside(&barrier, meet));
        let mut indices = vec![meet(&barrier)];
        indices.extend(others.into_iter().map(end));
        indices.sort_by_key(|index| index.ok());
        assert_eq!(indices, [Ok(0), Ok(0), Ok(1), Ok(1)]);
        assert_eq!(barrier.value(), 2);
    });
}

#[test]
fn loom_barrier_runs_the_actions_of_two_meetings_one_after_the_other() {
    actions_run_one_after_the_other(false, 2);
    actions_run_one_after_the_other(true, 1);
}

#[test]
fn loom_barrier_tells_both_the_same_when_one_gives_up() {
    who_gives_up_breaks_it_for_all(false);
    who_gives_up_breaks_it_for_all(true);
}

#[test]
fn loom_barrier_wakes_all_when_it_is_aborted() {
    abort_reaches_all(false, 3);
    abort_reaches_all(true, 2);
}
