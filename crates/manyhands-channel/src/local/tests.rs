//! The queues of one process: one suite for both, then what is different.

use std::cmp::{Ordering, Reverse};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::thread;

use super::*;

/// A time-out that is to be seen passing.
const SOON: Duration = Duration::from_millis(5);

trait Numbers: Store<Value = u64> + Send + 'static {}
impl<S: Store<Value = u64> + Send + 'static> Numbers for S {}

fn small<S: Numbers>(items: usize) -> LocalQueue<S> {
    LocalQueue::bounded(items).expect("not zero")
}

/// Waits until something is so, which another thread is about to make so.
fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(Instant::now() < end, "it never came");
        thread::yield_now();
    }
}

fn bounds_hold<S: Numbers>() {
    let queue = small::<S>(5);
    assert!(queue.is_empty());
    for value in 0..5 {
        queue.put(value).expect("room");
    }
    assert_eq!(queue.len(), 5);
    let full = queue.try_put(5).expect_err("it is full");
    assert!(matches!(full, PutError::Full(_)) && full.into_value() == 5);
    let deadline = Instant::now() + SOON;
    for late in [queue.put_timeout(5, SOON), queue.put_deadline(5, deadline)] {
        assert!(matches!(late, Err(PutError::TimedOut(5))));
    }
    assert!(Instant::now() >= deadline);
    for timeout in [None, Some(Duration::MAX)] {
        thread::scope(|threads| {
            let putting = threads.spawn(|| match timeout {
                None => queue.put(9),
                Some(timeout) => queue.put_timeout(9, timeout),
            });
            until(|| queue.stats().producers_wait == 1);
            queue.get().expect("five are there");
            putting.join().expect("no panic").expect("room now");
        });
        assert_eq!(queue.len(), 5);
    }
    while queue.try_get().is_ok() {}
    assert_eq!(queue.get_timeout(SOON), Err(GetError::TimedOut));
    assert_eq!(queue.get_deadline(deadline), Err(GetError::TimedOut));
    assert_eq!(queue.try_get(), Err(GetError::Empty));
    thread::scope(|threads| {
        let getting = threads.spawn(|| queue.get_timeout(Duration::MAX));
        until(|| queue.stats().consumers_wait == 1);
        queue.put(7).expect("room");
        assert_eq!(getting.join().expect("no panic"), Ok(7));
    });
}

#[test]
fn lifo_prio_03_queue_02_bound_refuses_or_waits_and_goes_on_when_one_is_taken() {
    bounds_hold::<Stack<u64>>();
    bounds_hold::<Heap<u64>>();
    assert!(matches!(
        LifoQueue::<u64>::bounded(0),
        Err(QueueError::Size { items: 0, .. })
    ));
}

fn tasks_are_counted<S: Numbers>() {
    let queue = small::<S>(5);
    queue.join().expect("nothing was put");
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
    queue.put(1).expect("room");
    queue.put(2).expect("room");
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
    queue.get().expect("a value");
    let stats = queue.stats();
    assert_eq!((stats.unfinished, stats.in_hand), (2, 1));
    assert!(matches!(
        queue.try_join(),
        Err(JoinError::Unfinished { values: 2 })
    ));
    let deadline = Instant::now() + SOON;
    for late in [queue.join_timeout(SOON), queue.join_deadline(deadline)] {
        assert!(matches!(late, Err(JoinError::TimedOut { values: 2 })));
    }
    let began = AtomicBool::new(false);
    thread::scope(|threads| {
        let joining = threads.spawn(|| {
            began.store(true, SeqCst);
            queue.join()
        });
        until(|| began.load(SeqCst));
        queue.task_done().expect("one was taken");
        assert!(queue.try_join().is_err());
        queue.get().expect("a value");
        queue.task_done().expect("one was taken");
        joining.join().expect("no panic").expect("all is done");
    });
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
}

#[test]
fn lifo_prio_03_queue_07_tasks_are_counted_and_joined() {
    tasks_are_counted::<Stack<u64>>();
    tasks_are_counted::<Heap<u64>>();
}

fn close_drains<S: Numbers>() {
    let queue = small::<S>(5);
    queue.put(1).expect("room");
    queue.close();
    queue.close();
    assert!(queue.is_closed());
    assert!(matches!(queue.put(2), Err(PutError::Closed(2))));
    assert!(matches!(queue.try_put(2), Err(PutError::Closed(2))));
    assert_eq!(queue.get(), Ok(1));
    assert_eq!(queue.get(), Err(GetError::Closed));
    assert_eq!(queue.try_get(), Err(GetError::Closed));
    assert_eq!(queue.get_timeout(SOON), Err(GetError::Closed));
    assert!(queue.try_join().is_err());
    queue.task_done().expect("one was taken");
    queue.join().expect("all is done");
    assert_eq!(queue.shutdown(), 0);
}

fn shutdown_drops<S: Numbers>() {
    let queue = small::<S>(5);
    for value in 0..4 {
        queue.put(value).expect("room");
    }
    queue.get().expect("a value");
    assert_eq!(queue.shutdown(), 3);
    assert_eq!(queue.get(), Err(GetError::Closed));
    assert_eq!(queue.stats().unfinished, 1);
    queue.task_done().expect("one was taken");
    queue.join().expect("all is done");
    assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
}

fn close_wakes_all<S: Numbers>(now: bool) {
    let (empty, full) = (small::<S>(1), small::<S>(1));
    full.put(0).expect("room");
    thread::scope(|threads| {
        let getting = [(); 3].map(|()| threads.spawn(|| empty.get()));
        let putting = [(); 3].map(|()| threads.spawn(|| full.put(1)));
        let joining = threads.spawn(|| full.join());
        until(|| empty.stats().consumers_wait == 3 && full.stats().producers_wait == 3);
        empty.close();
        match now {
            true => assert_eq!(full.shutdown(), 1),
            false => full.close(),
        }
        for thread in getting {
            assert_eq!(thread.join().expect("no panic"), Err(GetError::Closed));
        }
        for thread in putting {
            assert!(matches!(thread.join(), Ok(Err(PutError::Closed(1)))));
        }
        if !now {
            assert_eq!(full.get(), Ok(0));
            full.task_done().expect("one was taken");
        }
        joining.join().expect("no panic").expect("nothing is left");
    });
}

#[test]
fn lifo_prio_03_queue_10_to_24_closed_one_gives_what_it_has_and_wakes_all() {
    close_drains::<Stack<u64>>();
    close_drains::<Heap<u64>>();
    shutdown_drops::<Stack<u64>>();
    shutdown_drops::<Heap<u64>>();
    for now in [false, true] {
        close_wakes_all::<Stack<u64>>(now);
        close_wakes_all::<Heap<u64>>(now);
    }
}

fn many_threads<S: Numbers>(items: usize) {
    const EACH: u64 = 2_000;
    let queue = small::<S>(items);
    let (count, sum) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|threads| {
        let consumers = [0, 1, 2].map(|way| {
            let (queue, count, sum) = (&queue, &count, &sum);
            threads.spawn(move || {
                loop {
                    let got = match way {
                        0 => queue.get(),
                        1 => queue.try_get(),
                        _ => queue.get_timeout(Duration::from_micros(10)),
                    };
                    match got {
                        Ok(value) => {
                            count.fetch_add(1, SeqCst);
                            sum.fetch_add(value, SeqCst);
                            queue.task_done().expect("one was taken");
                        }
                        Err(GetError::Closed) => return,
                        Err(GetError::Empty | GetError::TimedOut) => thread::yield_now(),
                    }
                }
            })
        });
        let producers = [0, 1, 2, 3].map(|producer| {
            let queue = queue.clone();
            threads.spawn(move || {
                for number in 0..EACH {
                    queue.put(producer * EACH + number).expect("it is open");
                }
            })
        });
        for producer in producers {
            producer.join().expect("no panic");
        }
        queue.join().expect("they work");
        assert_eq!(count.load(SeqCst), 4 * EACH);
        queue.close();
        for consumer in consumers {
            consumer.join().expect("no panic");
        }
    });
    assert_eq!(sum.load(SeqCst), 4 * EACH * (4 * EACH - 1) / 2);
}

#[test]
fn lifo_prio_03_many_threads_lose_and_double_nothing() {
    for items in [1, 3, 1000] {
        many_threads::<Stack<u64>>(items);
        many_threads::<Heap<u64>>(items);
    }
}

#[test]
fn queue_01_orders_are_last_first_and_smallest_first() {
    let (last, smallest) = (LifoQueue::new(), PriorityQueue::new());
    let greatest = PriorityQueue::new();
    for value in [111, 333, 222] {
        last.put(value).expect("no bound");
        smallest.put(value).expect("no bound");
        greatest.put(Reverse(value)).expect("no bound");
    }
    for (first, second, third) in [(222, 111, 333), (333, 222, 222), (111, 333, 111)] {
        assert_eq!(last.get(), Ok(first));
        assert_eq!(smallest.get(), Ok(second));
        assert_eq!(greatest.get(), Ok(Reverse(third)));
    }
}

/// Comparing it panics while [`FAILS`] is set.
#[derive(Debug, PartialEq, Eq)]
struct Failing(u64);

static FAILS: AtomicBool = AtomicBool::new(false);

impl Ord for Failing {
    fn cmp(&self, other: &Self) -> Ordering {
        assert!(!FAILS.swap(false, SeqCst), "on purpose");
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Failing {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Panics in one of a `put` or a `get` that slept, and the other one that slept beside it goes on.
#[test]
fn queue_09_comparison_that_panics_puts_and_takes_nothing_and_takes_no_wake_up_along() {
    let panics = |call: &dyn Fn()| {
        FAILS.store(true, SeqCst);
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    };
    let queue = PriorityQueue::bounded(3).expect("not zero");
    queue.put(Failing(2)).expect("room");
    panics(&|| drop(queue.put(Failing(1))));
    assert_eq!((queue.len(), queue.stats().unfinished), (1, 1));
    queue.put(Failing(1)).expect("room");
    queue.put(Failing(3)).expect("room");
    panics(&|| drop(queue.get()));
    assert_eq!((queue.len(), queue.stats().unfinished), (3, 3));
    let done = AtomicU32::new(0);
    thread::scope(|threads| {
        let putting = [(); 2].map(|()| {
            threads.spawn(|| {
                let long = Duration::from_secs(60);
                let put = || queue.put_timeout(Failing(0), long);
                let put = catch_unwind(AssertUnwindSafe(put));
                done.fetch_add(1, SeqCst);
                matches!(put, Ok(Ok(())))
            })
        });
        until(|| queue.stats().producers_wait == 2);
        let taken = queue.state().store.pop();
        assert_eq!(taken, Some(Failing(1)));
        FAILS.store(true, SeqCst);
        queue.shared.room.notify_one();
        until(|| done.load(SeqCst) == 2);
        let well = putting.map(|thread| thread.join().expect("caught"));
        assert_eq!(well.iter().filter(|well| **well).count(), 1);
    });
    assert_eq!(queue.len(), 3);
    assert_eq!(queue.get(), Ok(Failing(0)));
}

/// Puts into its queue when it is dropped.
struct Leaving(Option<LifoQueue<Leaving>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            drop(queue.try_put(Leaving(None)));
        }
    }
}

#[test]
fn simpleq_08_destructor_of_what_is_dropped_may_put() {
    let queue = LifoQueue::bounded(1).expect("not zero");
    let leaving = || Leaving(Some(queue.clone()));
    queue.put(leaving()).map_err(drop).expect("room");
    drop(queue.try_put(leaving()));
    assert!(queue.get().map(drop).is_ok());
    assert_eq!(queue.len(), 1);
    drop(queue.get());
    queue.put(leaving()).map_err(drop).expect("room");
    assert_eq!(queue.shutdown(), 1);
    assert!(queue.is_empty());
}
