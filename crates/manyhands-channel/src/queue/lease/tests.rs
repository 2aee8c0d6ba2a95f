//! Leases between threads; what needs processes is in the tests of the workspace.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

use manyhands_shm::{Shared, handoff};
use proptest::prelude::*;

use super::*;
use crate::queue::tests::{SOON, small, until};
use crate::queue::{JoinError, PutError, TaskDoneError};

#[test]
fn lease_that_is_committed_is_gone_and_reported() {
    let queue = small(5);
    assert!(matches!(queue.try_lease(), Err(GetError::Empty)));
    assert!(matches!(queue.lease_timeout(SOON), Err(GetError::TimedOut)));
    let deadline = Instant::now() + SOON;
    let late = queue.lease_deadline(deadline);
    assert!(matches!(late, Err(GetError::TimedOut)) && Instant::now() >= deadline);
    queue.put_many(&[1, 2]).expect("room");
    let one = queue.lease().expect("a value");
    let stats = queue.stats();
    assert_eq!((stats.items, stats.leased, queue.len()), (1, 1, 1));
    assert_eq!((stats.unfinished, stats.in_hand), (2, 1));
    assert_eq!((*one, *one.value(), one.redeliveries()), (1, 1, 0));
    assert_eq!(one.commit().expect("it is ours"), 1);
    let stats = queue.stats();
    assert_eq!((stats.items, stats.leased, stats.unfinished), (1, 0, 1));
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
    let two = queue.lease_timeout(SOON).expect("a value");
    assert_eq!(two.commit().expect("it is ours"), 2);
    queue.try_join().expect("all is done");
    assert_eq!(queue.stats().bytes, 0);
}

#[test]
fn lease_that_is_dropped_comes_again_in_front_and_counts() {
    let queue = small(9);
    queue.put_many(&[1, 2, 3, 4]).expect("room");
    let [one, two, three] = [(); 3].map(|()| queue.lease().expect("a value"));
    drop(three);
    one.give_back();
    drop(two);
    assert_eq!((queue.len(), queue.stats().leased), (4, 0));
    assert_eq!(queue.stats().in_hand, 0);
    let again = queue.lease().expect("a value");
    assert_eq!((*again, again.redeliveries()), (1, 1));
    drop(again);
    let again = queue.try_lease().expect("a value");
    assert_eq!((*again, again.redeliveries()), (1, 2));
    // What is got is got, also when it was leased before.
    assert_eq!(queue.get().expect("a value"), 2);
    assert_eq!(queue.get_many(9).expect("it comes alone"), [3]);
    assert_eq!(queue.get_many(9).expect("a value"), [4]);
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    again.commit().expect("it is ours");
    assert_eq!(queue.stats().unfinished, 3);
    assert_eq!(queue.stats().bytes, 0);
}

#[test]
fn lease_of_a_panicking_thread_wakes_who_waits() {
    let queue = small(5);
    queue.put(&7).expect("room");
    let lease = queue.lease().expect("a value");
    thread::scope(|threads| {
        let waiting = threads.spawn(|| queue.lease().expect("a value"));
        until(|| queue.stats().consumers_wait);
        let panics = AssertUnwindSafe(|| {
            let _lease = lease;
            std::panic::resume_unwind(Box::new("an accident"));
        });
        assert!(catch_unwind(panics).is_err());
        let again = waiting.join().expect("no panic");
        assert_eq!((*again, again.redeliveries()), (7, 1));
    });
    assert_eq!(queue.len(), 1);
}

#[test]
fn closed_queue_does_not_end_while_a_lease_is_out() {
    for commits in [true, false] {
        let queue = small(5);
        queue.put(&7).expect("room");
        let lease = queue.lease().expect("a value");
        thread::scope(|threads| {
            let waiting = [(); 3].map(|()| threads.spawn(|| queue.get()));
            until(|| queue.stats().consumers_wait);
            queue.close();
            assert!(matches!(queue.try_get(), Err(GetError::Empty)));
            assert!(matches!(queue.get_timeout(SOON), Err(GetError::TimedOut)));
            match commits {
                true => drop(lease.commit().expect("it is ours")),
                false => drop(lease),
            }
            let got = waiting.map(|thread| thread.join().expect("no panic"));
            let values = got.iter().filter(|got| got.is_ok()).count();
            let ends = got
                .iter()
                .filter(|got| matches!(got, Err(GetError::Closed)));
            assert_eq!(values, usize::from(!commits));
            assert_eq!(ends.count(), 3 - values);
        });
    }
}

#[test]
fn shutdown_tells_the_end_at_once_and_drops_what_is_given_back_later() {
    let queue = small(9);
    queue.put_many(&[1, 2, 3]).expect("room");
    let [one, two, three] = [(); 3].map(|()| queue.lease().expect("a value"));
    drop(three);
    let three = queue.lease().expect("a value");
    thread::scope(|threads| {
        let waiting = threads.spawn(|| queue.get());
        until(|| queue.stats().consumers_wait);
        assert_eq!(queue.shutdown(), 0);
        assert!(matches!(
            waiting.join().expect("no panic"),
            Err(GetError::Closed)
        ));
        let joining = threads.spawn(|| queue.join());
        drop(three);
        assert!(matches!(
            queue.try_join(),
            Err(JoinError::Unfinished { values: 2 })
        ));
        one.commit().expect("it is ours");
        assert!(matches!(queue.try_lease(), Err(GetError::Closed)));
        drop(two);
        joining.join().expect("no panic").expect("nothing is left");
    });
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
    let stats = queue.stats();
    assert_eq!((stats.items, stats.leased, stats.bytes), (0, 0, 0));
    let queue = small(9);
    queue.put_many(&[1, 2, 3]).expect("room");
    drop(queue.lease().expect("a value"));
    assert_eq!(queue.shutdown(), 3);
    queue.try_join().expect("nothing is left");
}

#[test]
fn leased_value_takes_room_until_it_is_committed() {
    let queue = small(2);
    queue.put_many(&[1, 2]).expect("room");
    let one = queue.lease().expect("a value");
    assert_eq!(queue.get().expect("a value"), 2);
    queue.put(&3).expect("that of the other one");
    assert!(matches!(queue.try_put(&4), Err(PutError::Full)));
    thread::scope(|threads| {
        let putting = threads.spawn(|| queue.put(&4));
        until(|| queue.stats().producers_wait);
        one.commit().expect("it is ours");
        putting.join().expect("no panic").expect("room now");
    });
    assert_eq!(queue.get_many(9).expect("both"), [3, 4]);
}

/// What the README says of bytes.
#[test]
fn bytes_behind_a_leased_value_are_free_when_it_is_committed() {
    let queue = Queue::<Vec<u8>>::builder().bytes(4096).build();
    let queue = queue.expect("room");
    let value = vec![7; 480];
    for _ in 0..8 {
        queue.put(&value).expect("room");
    }
    let first = queue.lease().expect("a value");
    assert_eq!(queue.get_many(9).expect("the others").len(), 7);
    assert!(matches!(queue.try_put(&value), Err(PutError::Full)));
    assert_eq!(first.commit().expect("it is ours"), value);
    queue.try_put(&value).expect("all of it");
}

#[test]
fn too_many_leases_are_refused_and_nothing_is_lost() {
    let queue = Queue::<u64>::new().expect("room");
    let all: Vec<u64> = (0..200).collect();
    queue.put_many(&all).expect("room");
    let mut leases = Vec::new();
    let most = loop {
        match queue.lease() {
            Ok(lease) => leases.push(lease),
            Err(GetError::TooManyLeases { most }) => break most,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((leases.len(), queue.len()), (most, 200 - most));
    drop(leases.pop());
    drop(leases.remove(0));
    assert_eq!(*queue.lease().expect("one is free"), 0);
    assert_eq!(queue.get().expect("a value"), 0);
    drop(leases);
    for expected in 1..200 {
        assert_eq!(queue.get().expect("a value"), expected);
    }
}

#[test]
fn handles_and_large_values_come_again_whole() {
    let queue = Queue::<(Option<Shared<u64>>, Vec<u8>)>::builder().bytes(4096);
    let queue = queue.build().expect("room");
    let shared = Shared::new(41).expect("room");
    queue.put(&(Some(shared), vec![1; 9])).expect("room");
    queue.put(&(None, vec![2; 10_000])).expect("room");
    for round in 0..3 {
        let first = queue.lease().expect("a value");
        let second = queue.lease().expect("a value");
        assert_eq!(first.0.as_ref().map(|shared| **shared), Some(41));
        assert_eq!(second.1, [2; 10_000]);
        assert_eq!(
            (first.redeliveries(), second.redeliveries()),
            (round, round)
        );
    }
    let (shared, _) = queue.get().expect("a value");
    assert_eq!(shared.map(|shared| *shared), Some(41));
    let second = queue.lease().expect("a value").commit();
    assert_eq!(second.expect("it is ours").1.len(), 10_000);
}

#[test]
fn value_that_cannot_be_decoded_is_gone() {
    let queue = small(5);
    let parcel = handoff::pack(&queue).expect("in a parcel");
    let other: Queue<bool> = handoff::unpack(&parcel.bytes).expect("any type is believed");
    queue.put_many(&[7, 1]).expect("room");
    assert!(matches!(other.lease(), Err(GetError::Undecodable(_))));
    assert!(*other.lease().expect("the next one"));
    assert_eq!(queue.len(), 1);
}

#[test]
fn every_value_is_committed_once_among_threads_that_give_back() {
    let queue = small(8);
    let done = Mutex::new(BTreeMap::new());
    thread::scope(|threads| {
        for seed in 0..3_u64 {
            let (queue, done) = (&queue, &done);
            threads.spawn(move || {
                let mut state = seed + 1;
                loop {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let lease = match queue.lease() {
                        Ok(lease) => lease,
                        Err(GetError::Closed) => return,
                        Err(error) => panic!("{error}"),
                    };
                    if state >> 62 == 0 {
                        continue;
                    }
                    let value = lease.commit().expect("it is ours");
                    let mut done = done.lock().expect("no panic");
                    *done.entry(value).or_insert(0) += 1;
                }
            });
        }
        for value in 0..5_000 {
            queue.put(&value).expect("it is open");
        }
        queue.close();
        queue.join().expect("they work");
    });
    let done = done.into_inner().expect("no panic");
    assert!(done.len() == 5_000 && done.values().all(|times| *times == 1));
}

/// What a queue does to one thread.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put,
    Get,
    Lease,
    Commit(usize),
    GiveBack(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Put),
        1 => Just(Step::Get),
        2 => Just(Step::Lease),
        1 => (0..8_usize).prop_map(Step::Commit),
        1 => (0..8_usize).prop_map(Step::GiveBack),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn queue_with_leases_does_what_two_lists_do(steps in steps()) {
        const MOST: usize = 6;
        let queue = small(MOST);
        let (mut next, mut fresh, mut back) = (0_u64, Vec::new(), BTreeMap::new());
        let mut leases: Vec<(Lease<u64>, u32)> = Vec::new();
        let mut finished = 0;
        for step in steps {
            match step {
                Step::Put => {
                    let room = fresh.len() + back.len() + leases.len() < MOST;
                    prop_assert_eq!(queue.try_put(&next).is_ok(), room);
                    if room {
                        fresh.push(next);
                        next += 1;
                    }
                }
                Step::Get | Step::Lease => {
                    let expected = back.pop_first().or_else(|| {
                        (!fresh.is_empty()).then(|| (fresh.remove(0), 0))
                    });
                    if matches!(step, Step::Get) {
                        let got = queue.try_get().ok();
                        prop_assert_eq!(got, expected.map(|(value, _)| value));
                        if got.is_some() {
                            queue.task_done().expect("it was taken");
                            finished += 1;
                        }
                    } else {
                        let lease = queue.try_lease().ok();
                        let got = lease.as_ref().map(|lease| (**lease, lease.redeliveries()));
                        prop_assert_eq!(got, expected);
                        leases.extend(lease.zip(expected.map(|(_, times)| times)));
                    }
                }
                Step::Commit(at) | Step::GiveBack(at) if at < leases.len() => {
                    let (lease, times) = leases.remove(at);
                    if matches!(step, Step::Commit(_)) {
                        lease.commit().expect("it is ours");
                        finished += 1;
                    } else {
                        back.insert(*lease, times + 1);
                    }
                }
                Step::Commit(_) | Step::GiveBack(_) => {}
            }
            let stats = queue.stats();
            prop_assert_eq!(stats.items, fresh.len() + back.len());
            prop_assert_eq!(stats.leased, leases.len());
            prop_assert_eq!(stats.in_hand, leases.len());
            prop_assert_eq!(stats.unfinished, next as usize - finished);
            let is_empty = stats.items + stats.leased == 0;
            prop_assert_eq!(stats.bytes == 0, is_empty);
        }
    }
}
