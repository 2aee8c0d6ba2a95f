//! Every interleaving of short histories of who waits and who wakes, by the model checker.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release -p manyhands-channel --lib loom_`. The
//! protocol is the one that ships; the sections, the turns, the futex and the bytes are the models of
//! `ground/model.rs`. Nobody dies here: deaths are swept in `tests/`. With
//! `MANYHANDS_PLANTED_BUG=queue` in the environment a consumer does not look again before it lies
//! down, with `lease` whoever gives back does not wake it; and the run must fail: loom reports a deadlock.

use std::sync::atomic::Ordering::Relaxed;

use loom::thread;

use super::ground::Memory;
use super::message::{Batch, Call, Taking, Ticket, begin_record, end_record};
use super::raw::{Message, RawQueue, Stop};
use crate::patience::Patience;
use crate::primitive::Deadline;

const FOREVER: Patience = Patience::Until(Deadline::NEVER);

/// A queue of the smallest size, for so many messages.
fn queue(items: u32) -> RawQueue {
    let bytes = 64;
    RawQueue {
        memory: Memory::new(bytes),
        bytes,
        items,
        // All threads are one process.
        me: 1,
    }
}

fn put(queue: &RawQueue, values: &[u64]) -> Result<(), Stop> {
    let mut records = Vec::new();
    for value in values {
        let start = records.len();
        begin_record(&mut records);
        records.extend(value.to_ne_bytes());
        end_record(&mut records, start);
    }
    let mut batch = Batch::many(values.len() as u32, &records);
    queue.put(&mut batch, &mut None, FOREVER).map(drop)
}

fn get(queue: &RawQueue) -> Result<u64, Stop> {
    let mut bytes = Vec::with_capacity(8);
    let mut into = Taking::one(&mut bytes);
    match queue.get(&mut into, Call::Take, FOREVER)? {
        Message::Taken => {}
        Message::Leased(_) => unreachable!("it was to be taken"),
        Message::Seen(_) => unreachable!("there are no handles"),
    }
    Ok(u64::from_ne_bytes(bytes.try_into().expect("8 bytes")))
}

fn lease(queue: &RawQueue) -> Ticket {
    let mut bytes = Vec::with_capacity(8);
    let mut into = Taking::one(&mut bytes);
    match queue.get(&mut into, Call::Lease, FOREVER) {
        Ok(Message::Leased(ticket)) => ticket,
        _ => unreachable!("there is a message"),
    }
}

/// Runs a model with at most so many preemptions.
fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn loom_consumer_that_sleeps_is_woken_and_finds_whole_messages() {
    explore(5, || {
        let queue = queue(4);
        let producer = thread::spawn({
            let queue = queue.clone();
            move || {
                put(&queue, &[1]).expect("it is open");
                put(&queue, &[2, 3]).expect("it is open");
            }
        });
        for expected in 1..=3 {
            assert_eq!(get(&queue), Ok(expected));
        }
        producer.join().expect("no panic");
    });
}

#[test]
fn loom_producer_that_sleeps_for_room_is_woken() {
    explore(5, || {
        let queue = queue(1);
        let producer = thread::spawn({
            let queue = queue.clone();
            move || put(&queue, &[1, 2]).expect("it is open")
        });
        for expected in 1..=2 {
            assert_eq!(get(&queue), Ok(expected));
        }
        producer.join().expect("no panic");
    });
}

/// One of them sleeps, and the other one waits for its turn to.
#[test]
fn loom_two_consumers_are_both_woken_by_what_is_put_at_once() {
    explore(4, || {
        let queue = queue(4);
        let consumers = [(); 2].map(|()| {
            let queue = queue.clone();
            thread::spawn(move || get(&queue).expect("it is open"))
        });
        put(&queue, &[1, 2]).expect("it is open");
        let values = consumers.map(|consumer| consumer.join().expect("no panic"));
        assert_eq!(values.iter().sum::<u64>(), 3);
    });
}

#[test]
fn loom_two_producers_get_room_from_one_consumer() {
    explore(3, || {
        let queue = queue(1);
        let producers = [1, 2].map(|value| {
            let queue = queue.clone();
            thread::spawn(move || put(&queue, &[value]).expect("it is open"))
        });
        let sum = get(&queue).expect("a value") + get(&queue).expect("a value");
        assert_eq!(sum, 3);
        for producer in producers {
            producer.join().expect("no panic");
        }
    });
}

#[test]
fn loom_close_wakes_both_sides_once_and_for_all() {
    explore(5, || {
        let empty = queue(1);
        let consumer = thread::spawn({
            let queue = empty.clone();
            move || assert_eq!(get(&queue), Err(Stop::Closed))
        });
        empty.close();
        consumer.join().expect("no panic");
    });
    explore(5, || {
        let full = queue(1);
        put(&full, &[1]).expect("room");
        let producer = thread::spawn({
            let queue = full.clone();
            move || assert_eq!(put(&queue, &[2]), Err(Stop::Closed))
        });
        full.close();
        producer.join().expect("no panic");
        assert_eq!((get(&full), get(&full)), (Ok(1), Err(Stop::Closed)));
    });
}

#[test]
fn loom_lease_that_is_given_back_wakes_a_consumer() {
    explore(5, || {
        let queue = queue(4);
        put(&queue, &[1]).expect("room");
        let ticket = lease(&queue);
        let consumer = thread::spawn({
            let queue = queue.clone();
            move || assert_eq!(get(&queue), Ok(1))
        });
        queue.give_back(ticket);
        consumer.join().expect("no panic");
    });
}

/// Of two that are put and leased, one comes back and one is done.
#[test]
fn loom_consumer_finds_what_is_put_and_what_comes_back() {
    explore(3, || {
        let queue = queue(4);
        put(&queue, &[1]).expect("room");
        let ticket = lease(&queue);
        let producer = thread::spawn({
            let queue = queue.clone();
            move || put(&queue, &[2]).expect("it is open")
        });
        let consumer = thread::spawn({
            let queue = queue.clone();
            move || get(&queue).expect("a value") + get(&queue).expect("a value")
        });
        queue.give_back(ticket);
        producer.join().expect("no panic");
        assert_eq!(consumer.join().expect("no panic"), 3);
    });
}

#[test]
fn loom_commit_of_the_last_lease_ends_a_closed_queue() {
    explore(4, || {
        let queue = queue(4);
        put(&queue, &[1]).expect("room");
        let ticket = lease(&queue);
        let consumer = thread::spawn({
            let queue = queue.clone();
            move || assert_eq!(get(&queue), Err(Stop::Closed))
        });
        let closing = thread::spawn({
            let queue = queue.clone();
            move || queue.close()
        });
        assert!(queue.commit_lease(ticket));
        closing.join().expect("no panic");
        consumer.join().expect("no panic");
        assert_eq!(queue.tasks(), (0, 0));
    });
}

#[test]
fn loom_commit_makes_room_for_a_producer_that_sleeps() {
    explore(5, || {
        let queue = queue(1);
        put(&queue, &[1]).expect("room");
        let ticket = lease(&queue);
        let producer = thread::spawn({
            let queue = queue.clone();
            move || put(&queue, &[2]).expect("it is open")
        });
        assert!(queue.commit_lease(ticket));
        producer.join().expect("no panic");
        assert_eq!(get(&queue), Ok(2));
    });
}

/// The lease comes back before the shutdown or after it: it is got, or dropped.
#[test]
fn loom_shutdown_ends_consumers_and_joins_beside_a_lease() {
    explore(3, || {
        let queue = queue(4);
        put(&queue, &[1]).expect("room");
        let ticket = lease(&queue);
        let consumer = thread::spawn({
            let queue = queue.clone();
            move || match get(&queue) {
                Ok(_) => assert!(queue.report()),
                Err(stop) => assert_eq!(stop, Stop::Closed),
            }
        });
        let joining = thread::spawn({
            let queue = queue.clone();
            move || queue.join(FOREVER).expect("it waits for ever")
        });
        queue.shut_down();
        queue.give_back(ticket);
        consumer.join().expect("no panic");
        joining.join().expect("no panic");
        assert_eq!((queue.tasks(), queue.available()), ((0, 0), 0));
    });
}

#[test]
fn loom_all_who_join_are_woken_by_the_last_report() {
    explore(4, || {
        let queue = queue(4);
        put(&queue, &[1]).expect("room");
        let joining = [(); 2].map(|()| {
            let queue = queue.clone();
            thread::spawn(move || queue.join(FOREVER).expect("it waits for ever"))
        });
        get(&queue).expect("a value");
        assert!(queue.report() && !queue.report());
        for thread in joining {
            thread.join().expect("no panic");
        }
    });
}

/// Whichever comes first: the one value is taken and reported, or dropped.
#[test]
fn loom_join_ends_between_a_consumer_and_a_shutdown() {
    explore(4, || {
        let queue = queue(4);
        put(&queue, &[1]).expect("room");
        let consumer = thread::spawn({
            let queue = queue.clone();
            move || match get(&queue) {
                Ok(_) => assert!(queue.report()),
                Err(stop) => assert_eq!(stop, Stop::Closed),
            }
        });
        let joining = thread::spawn({
            let queue = queue.clone();
            move || queue.join(FOREVER).expect("it waits for ever")
        });
        queue.shut_down();
        consumer.join().expect("no panic");
        joining.join().expect("no panic");
        assert_eq!(queue.tasks(), (0, 0));
        // Relaxed: nobody else is there.
        assert!(queue.head().get.0.done.load(Relaxed) <= 1);
    });
}
