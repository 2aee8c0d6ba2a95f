//! Tasks that send, and waiting for room.

use std::task::{Context, Poll};

use manyhands_os::descriptor;

use super::awaiting::block_on;
use super::*;
use crate::local;
use crate::{LifoQueue, PriorityQueue, PutError, Receiver, RecvError, SendError, Sender};

/// Polls once, for nobody.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn narrow<T>() -> (Sender<T>, Receiver<T>) {
    Pipe::simplex_with_capacity(64).expect("room")
}

#[test]
fn values_are_sent_by_a_task_in_whole_and_in_parts() {
    let (mut sender, mut receiver) = Pipe::simplex_with_capacity::<Vec<u8>>(256).expect("room");
    let lengths = [0, 10, 3_000, 1, 900];
    let all = || lengths.into_iter().cycle().take(200);
    thread::scope(|threads| {
        threads.spawn(move || {
            for length in all() {
                let bytes = receiver.recv().expect("a value");
                assert_eq!(bytes, vec![7; length]);
                thread::yield_now();
            }
        });
        block_on(async {
            for length in all() {
                let sent = sender.send_async(&vec![7; length]).await;
                sent.expect("it is taken");
            }
        });
        // Now the receiver is dropped, sooner or later.
        let end = block_on(async {
            loop {
                if let Err(end) = sender.send_async(&vec![1; 1000]).await {
                    return end;
                }
            }
        });
        assert!(matches!(end, SendError::Closed));
    });
}

#[test]
fn future_that_is_dropped_has_sent_nothing() {
    let (mut sender, mut receiver) = narrow::<Vec<u8>>();
    sender.send(&vec![1; 40]).expect("room");
    // Of the second a part goes into the ring, as soon as there is room.
    for length in [40, 500] {
        let value = vec![2; length];
        let mut sending = sender.send_async(&value);
        assert!(poll_once(&mut sending).is_pending());
        assert_eq!(receiver.try_recv().expect("it is there"), vec![1; 40]);
        assert_eq!(poll_once(&mut sending).is_pending(), length == 500);
        drop(sending);
        if length == 40 {
            assert_eq!(receiver.try_recv().expect("it was sent"), value);
            sender.send(&vec![1; 40]).expect("room");
        }
    }
    assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
    // And it hides nobody who sleeps for himself.
    thread::scope(|threads| {
        let sent = threads.spawn(|| (0..100).try_for_each(|_| sender.send(&vec![3; 30])));
        for _ in 0..100 {
            let value = receiver.recv_timeout(LONG).expect("it comes");
            assert_eq!(value, vec![3; 30]);
        }
        sent.join().expect("no panic").expect("it is taken");
    });
}

#[test]
fn future_of_an_end_that_is_dropped_closes_the_end() {
    let (mut sender, mut receiver) = narrow::<(Vec<u8>, Option<Sender<u8>>)>();
    let queue = Queue::<Option<Sender<u8>>>::bounded(1).expect("room");
    sender.send(&(vec![1; 40], None)).expect("room");
    queue.put(&None).expect("room");
    let (first, mut heard_first) = Pipe::simplex().expect("room");
    let (second, mut heard_second) = Pipe::simplex().expect("room");
    let (first, second) = ((Vec::new(), Some(first)), Some(second));
    // Not polled, nothing is encoded.
    drop((sender.send_async(&first), queue.put_async(&second)));
    assert!(matches!(heard_first.try_recv(), Err(RecvError::Empty)));
    assert!(matches!(heard_second.try_recv(), Err(RecvError::Empty)));
    assert!(poll_once(&mut sender.send_async(&first)).is_pending());
    assert!(poll_once(&mut queue.put_async(&second)).is_pending());
    assert!(matches!(heard_first.try_recv(), Err(RecvError::Closed)));
    assert!(matches!(heard_second.try_recv(), Err(RecvError::Closed)));
    assert_eq!(receiver.recv().expect("it is there").0, vec![1; 40]);
    assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn handle_in_a_value_lives_until_the_future_is_over_and_the_value_taken() {
    let queue = Queue::<Shared<AtomicU32>>::bounded(1).expect("room");
    let value = Shared::new(AtomicU32::new(7)).expect("room");
    queue.put(&value).expect("room");
    let mut waiting = queue.put_async(&value);
    assert!(poll_once(&mut waiting).is_pending());
    drop(waiting);
    {
        let mut waiting = queue.put_async(&value);
        assert!(poll_once(&mut waiting).is_pending());
        drop(queue.get().expect("the first"));
        assert!(matches!(poll_once(&mut waiting), Poll::Ready(Ok(()))));
    }
    drop(value);
    let mut last = queue.get().expect("the second");
    assert_eq!(last.load(Relaxed), 7);
    // Who puts looks for what was taken.
    let other = Shared::new(AtomicU32::new(8)).expect("room");
    queue.put(&other).expect("room");
    assert!(Shared::get_mut(&mut last).is_some(), "nobody else has it");
}

#[test]
fn tasks_and_threads_that_put_into_one_queue_put_each_value_once() {
    fn is_send(_: &impl Send) {}
    const EACH: u64 = 700;
    // Large ones are blocks, and need less room in the queue than small ones.
    type Value = (u64, Vec<u8>);
    let queue = Queue::<Value>::builder().bytes(4096).items(3).build();
    let queue = queue.expect("room");
    is_send(&queue.put_async(&(0, Vec::new())));
    thread::scope(|threads| {
        for (place, is_task) in [true, false, true, false].into_iter().enumerate() {
            let queue = &queue;
            threads.spawn(move || {
                for number in 0..EACH {
                    let length = [5, 3000, 400][number as usize % 3];
                    let value = (place as u64 * EACH + number, vec![1; length]);
                    match is_task {
                        true => block_on(queue.put_async(&value)),
                        false => queue.put(&value),
                    }
                    .expect("it is open");
                }
            });
        }
        let mut all: Vec<u64> = (0..4 * EACH)
            .map(|_| queue.get_timeout(LONG).expect("a value").0)
            .collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..4 * EACH));
    });
}

/// Who needs little is not hidden by who came later and needs much.
#[test]
fn room_for_a_small_value_wakes_who_waits_for_it_beside_one_who_waits_for_more() {
    let queue = Queue::<Vec<u8>>::builder().bytes(4096).build();
    let queue = queue.expect("room");
    while queue.try_put(&vec![0; 100]).is_ok() {}
    let is_awake = std::sync::atomic::AtomicBool::new(false);
    let (small, large) = (vec![1; 60], vec![2; 500]);
    let mut many = queue.put_async(&large);
    thread::scope(|threads| {
        let one = threads.spawn(|| {
            block_on(queue.put_async(&small)).expect("it is open");
            is_awake.store(true, Relaxed);
        });
        while !queue.stats().producers_wait {
            thread::yield_now();
        }
        assert!(poll_once(&mut many).is_pending());
        assert_eq!(queue.get().expect("one is there"), vec![0; 100]);
        one.join().expect("no panic");
    });
    assert!(is_awake.into_inner() && poll_once(&mut many).is_pending());
}

#[test]
fn task_that_waits_for_room_is_told_that_the_queue_was_closed() {
    let shared = Queue::<u64>::bounded(1).expect("room");
    let (last, smallest) = (LifoQueue::bounded(1), PriorityQueue::bounded(1));
    let (last, smallest) = (last.expect("one"), smallest.expect("one"));
    shared.put(&1).expect("room");
    last.put("one").expect("room");
    smallest.put("one").expect("room");
    let (opened, waits) = (std::sync::Barrier::new(4), std::sync::Barrier::new(4));
    thread::scope(|threads| {
        let tasks = (
            threads.spawn(|| waited(&waits, &opened, &mut shared.put_async(&2))),
            threads.spawn(|| waited(&waits, &opened, &mut last.put_async("two"))),
            threads.spawn(|| waited(&waits, &opened, &mut smallest.put_async("two"))),
        );
        waits.wait();
        shared.close();
        last.close();
        assert_eq!(smallest.shutdown(), 1);
        opened.wait();
        let refused = tasks.0.join().expect("no panic");
        assert!(matches!(refused, Err(PutError::Closed)));
        for task in [tasks.1, tasks.2] {
            let refused = task.join().expect("no panic").expect_err("it is closed");
            assert!(matches!(refused, local::PutError::Closed("two")));
        }
    });
    assert_eq!((shared.get().ok(), last.get().ok()), (Some(1), Some("one")));
}

/// Has a task wait, and then runs it to its end.
fn waited<F: Future + Unpin>(
    waits: &std::sync::Barrier,
    opened: &std::sync::Barrier,
    future: &mut F,
) -> F::Output {
    assert!(poll_once(future).is_pending());
    waits.wait();
    let output = block_on(future);
    opened.wait();
    output
}

#[test]
fn tasks_put_into_queues_of_one_process() {
    let queue = PriorityQueue::bounded(2).expect("two");
    thread::scope(|threads| {
        for start in [0, 500] {
            let queue = &queue;
            threads.spawn(move || {
                block_on(async {
                    for number in start..start + 500 {
                        queue.put_async(number).await.expect("it is open");
                    }
                });
            });
        }
        let mut all: Vec<u32> = (0..1000).map(|_| queue.get().expect("one comes")).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
    });
    let (number, full) = (queue.put_async(1), LifoQueue::bounded(1).expect("one"));
    drop(number);
    assert!(queue.is_empty(), "it was not polled");
    full.put(1).expect("room");
    let mut dropped = full.put_async(2);
    assert!(poll_once(&mut dropped).is_pending());
    drop(dropped);
    assert_eq!((full.get(), full.len()), (Ok(1), 0));
}

#[test]
fn room_is_waited_for_among_other_things() {
    let (mut sender, mut receiver) = narrow::<Vec<u8>>();
    let full = Queue::<u64>::bounded(1).expect("room");
    let local = LifoQueue::bounded(1).expect("one");
    let rooms = (full.room(), local.room());
    fn ready(sender: &Sender<Vec<u8>>, rooms: &(Room, Room)) -> Vec<usize> {
        try_wait(&[sender, &rooms.0, &rooms.1]).expect("words")
    }
    assert_eq!(ready(&sender, &rooms), [0, 1, 2]);
    full.put(&1).expect("room");
    local.put(1).expect("room");
    sender.send(&vec![1; 40]).expect("room");
    // It has not been refused yet.
    assert_eq!(ready(&sender, &rooms), [0]);
    assert!(matches!(
        sender.try_send(&vec![1; 40]),
        Err(SendError::Full)
    ));
    assert_eq!(ready(&sender, &rooms), []);
    let pollables = [&sender as &dyn Waitable, &rooms.0, &rooms.1]
        .map(|thing| Pollable::new(thing).expect("a descriptor"));
    let readable = |deadline| {
        let all: Vec<_> = pollables.iter().map(AsFd::as_fd).collect();
        descriptor::poll_readable(&all, deadline).expect("descriptors")
    };
    assert_eq!(readable(Deadline::now()), [false; 3]);
    thread::scope(|threads| {
        let taken = threads.spawn(|| receiver.recv().expect("it is there"));
        let ready = wait_timeout(&[&sender, &rooms.0, &rooms.1], LONG);
        assert_eq!(ready.expect("words"), [0]);
        assert_eq!(taken.join().expect("no panic"), vec![1; 40]);
    });
    assert_eq!(readable(Deadline::after(LONG)), [true, false, false]);
    thread::scope(|threads| {
        let sleeper = threads.spawn(|| wait_timeout(&[&rooms.0, &rooms.1], LONG));
        assert_eq!(full.get().expect("it is there"), 1);
        assert_eq!(sleeper.join().expect("no panic").expect("words"), [0]);
        full.put(&2).expect("room");
        let sleeper = threads.spawn(|| wait_timeout(&[&rooms.0, &rooms.1], LONG));
        assert_eq!(local.get().expect("it is there"), 1);
        assert_eq!(sleeper.join().expect("no panic").expect("words"), [1]);
    });
    while readable(Deadline::after(LONG)) != [true; 3] {}
    drop(receiver);
    full.close();
    assert_eq!(ready(&sender, &rooms), [0, 1, 2]);
}
