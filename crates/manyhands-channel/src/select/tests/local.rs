//! Queues of one process among other things that are waited for.

use std::task::{Context, Poll};

use manyhands_os::descriptor;

use super::awaiting::block_on;
use super::*;
use crate::local::GetError;
use crate::{LifoQueue, PriorityQueue};

#[test]
fn queue_of_one_process_is_ready_while_a_get_would_not_wait() {
    let (last, smallest) = (LifoQueue::new(), PriorityQueue::new());
    // Before anybody has asked.
    last.put(1).expect("it is open");
    let things: [&dyn Waitable; 2] = [&last, &smallest];
    let ready = || try_wait(&things).expect("words");
    assert_eq!(ready(), [0]);
    smallest.put(2).expect("it is open");
    smallest.put(1).expect("it is open");
    assert_eq!(ready(), [0, 1]);
    assert_eq!((last.try_get(), smallest.try_get()), (Ok(1), Ok(1)));
    assert_eq!(ready(), [1]);
    assert_eq!(smallest.try_get(), Ok(2));
    assert_eq!(ready(), [0; 0]);
    last.close();
    assert_eq!(ready(), [0]);
    smallest.put(3).expect("it is open");
    assert_eq!(smallest.shutdown(), 1);
    assert_eq!(ready(), [0, 1]);
    // The end stays.
    assert_eq!(last.try_get(), Err(GetError::Closed));
    assert_eq!(smallest.try_get(), Err(GetError::Closed));
    assert_eq!(ready(), [0, 1]);
}

#[test]
fn queue_of_one_process_wakes_a_sleeper_with_and_without_descriptors() {
    for has_descriptor in [false, true] {
        let (last, smallest) = (LifoQueue::new(), PriorityQueue::new());
        let (closed, shut) = (LifoQueue::<u8>::new(), PriorityQueue::<u8>::new());
        let (_there, here) = UnixStream::pair().expect("a pair");
        let here = OwnedFd::from(here);
        let never = Instant::now() + 2 * LONG;
        let mut things: Vec<&(dyn Waitable + Sync)> = vec![&last, &smallest, &closed, &shut];
        if has_descriptor {
            things.push(&here);
        }
        wakes(&things, 0, || last.put(1).expect("it is open"));
        assert_eq!(last.get(), Ok(1));
        wakes(&things, 1, || smallest.put(1).expect("it is open"));
        assert_eq!(smallest.get(), Ok(1));
        wakes(&things, 2, || closed.close());
        things[2] = &never;
        wakes(&things, 3, || assert_eq!(shut.shutdown(), 0));
    }
}

/// The first question makes what the answer is kept in: a value that comes just then must be in it.
#[test]
fn value_that_comes_beside_the_first_question_is_not_missed() {
    for _ in 0..500 {
        let queue = LifoQueue::new();
        thread::scope(|threads| {
            let waiter = threads.spawn(|| wait_timeout(&[&queue], LONG));
            queue.put(()).expect("it is open");
            assert_eq!(waiter.join().expect("no panic").expect("words"), [0]);
        });
        queue.get().expect("it is there");
        assert!(try_wait(&[&queue]).expect("words").is_empty());
    }
}

#[test]
fn tasks_threads_and_selects_get_each_value_of_a_queue_of_one_process_once() {
    fn is_send(_: &impl Send) {}
    let (queue, never) = (PriorityQueue::<u64>::bounded(3), Instant::now() + 2 * LONG);
    let queue = queue.expect("some room");
    is_send(&queue.get_async());
    let sum = std::sync::atomic::AtomicU64::new(0);
    let select = || {
        let mut select = Select::new();
        loop {
            let ready = select.ready_timeout(&[&never, &queue], LONG);
            assert_eq!(ready.expect("words"), Some(1));
            match queue.try_get() {
                Err(GetError::Empty) => {}
                outcome => return outcome,
            }
        }
    };
    let ways: [&(dyn Fn() -> Result<u64, GetError> + Sync); 4] = [
        &|| block_on(queue.get_async()),
        &|| queue.get_timeout(LONG),
        &select,
        &|| block_on(queue.get_async()),
    ];
    thread::scope(|threads| {
        for get in ways {
            let sum = &sum;
            threads.spawn(move || {
                while let Ok(value) = get() {
                    sum.fetch_add(value, Relaxed);
                }
            });
        }
        for value in 1..=2_000 {
            queue.put_timeout(value, LONG).expect("there is room");
        }
        queue.close();
    });
    assert_eq!(sum.into_inner(), 2_000 * 2_001 / 2);
}

#[test]
fn awaited_value_of_a_queue_of_one_process_stays_when_the_future_is_dropped() {
    let queue = LifoQueue::new();
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut value = std::pin::pin!(queue.get_async());
        assert!(value.as_mut().poll(&mut context).is_pending());
        queue.put("here").expect("it is open");
    }
    assert_eq!(block_on(queue.get_async()), Ok("here"));
    queue.close();
    let mut value = std::pin::pin!(queue.get_async());
    let end = value.as_mut().poll(&mut context);
    assert_eq!(end, Poll::Ready(Err(GetError::Closed)));
}

#[test]
fn pollable_tells_of_a_queue_of_one_process() {
    let queue = PriorityQueue::new();
    let pollable = Pollable::new(&queue).expect("a descriptor");
    let is_readable = || descriptor::is_readable(&pollable).expect("a poll");
    assert!(!is_readable());
    for _ in 0..3 {
        queue.put(1).expect("it is open");
        let told = poll_readable(&[pollable.as_fd()], Deadline::after(LONG));
        assert!(told.expect("a poll")[0]);
        pollable.arm().expect("a thread");
        assert!(is_readable(), "it is still there");
        assert_eq!(queue.get(), Ok(1));
        pollable.arm().expect("a thread");
        assert!(!is_readable());
    }
    queue.close();
    let told = poll_readable(&[pollable.as_fd()], Deadline::after(LONG));
    assert!(told.expect("a poll")[0]);
}
