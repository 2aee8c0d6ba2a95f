//! What every executor promises, run over each of them: one suite, two executors.
//!
//! What only processes can promise is in the other modules.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use manyhands_executor::{
    Executor, ProcessPoolExecutor, Shutdown, SubmitError, Task, TaskError, ThreadPoolExecutor,
    Until, as_completed, wait, wait_timeout,
};
use manyhands_process::task;
use manyhands_shm::Shared;
use manyhands_sync::Event;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::support::{LONG, add, hold, result, spin_until};

const WORKERS: usize = 2;

fn threads() -> ThreadPoolExecutor {
    ThreadPoolExecutor::new(WORKERS).unwrap()
}

fn processes() -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(WORKERS).unwrap()
}

macro_rules! contract {
    ($($name:ident)*) => {
        mod on_threads {
            $(#[test] fn $name() { super::$name(super::threads()); })*
        }
        mod on_processes {
            $(#[test] fn $name() { super::$name(super::processes()); })*
        }
    };
}

contract! {
    task_gives_what_the_function_returns
    task_carries_what_it_lists
    result_is_given_once
    panic_is_the_error_of_its_task_only
    timeout_leaves_the_task_as_it_is
    queued_task_can_be_cancelled_and_running_one_not
    map_gives_outcomes_in_the_order_of_the_items
    map_takes_no_more_items_than_may_be_in_flight
    dropped_map_cancels_what_is_queued
    map_unordered_gives_each_outcome_once_with_its_number
    fast_item_overtakes_a_slow_one_in_map_unordered
    wait_returns_when_enough_are_done
    completed_tasks_are_given_out_as_they_come
    task_is_a_future
    handles_pass_in_both_directions
    large_arguments_and_results_arrive_whole
    arguments_that_cannot_be_encoded_fail_at_the_call
    many_threads_submit_and_wait_at_once
    drained_shutdown_finishes_everything
    cancelling_shutdown_finishes_only_what_runs
    dropping_the_executor_ends_queued_tasks
}

/// Keeps all workers of an executor busy until the gate opens.
struct Blocked {
    gate: Shared<Event>,
    tasks: Vec<Task<u32>>,
}

impl Blocked {
    fn new(executor: &impl Executor) -> Self {
        let gate = Shared::new(Event::new()).unwrap();
        let mut tasks = Vec::new();
        for _ in 0..executor.width() {
            let started = Shared::new(Event::new()).unwrap();
            tasks.push(
                executor
                    .submit(hold, (started.clone(), gate.clone()))
                    .unwrap(),
            );
            assert!(started.wait_timeout(LONG));
        }
        Self { gate, tasks }
    }

    fn open(self) {
        self.gate.set();
        for task in self.tasks {
            assert_eq!(result(&task), Ok(7));
        }
    }
}

fn task_gives_what_the_function_returns(executor: impl Executor) {
    let named = executor.submit(add, (40, 2)).unwrap();
    let closure = executor
        .submit(|text: String| text.len(), (String::from("hands"),))
        .unwrap();
    let nothing = executor.submit(|| (), ()).unwrap();
    assert_eq!(named.result(), Ok(42));
    assert_eq!(closure.result(), Ok(5));
    assert_eq!(nothing.result(), Ok(()));
}

fn task_carries_what_it_lists(executor: impl Executor) {
    let (prefix, counter) = (vec![1_u32; 1000], Shared::new(AtomicU64::new(5)).unwrap());
    let ours = counter.clone();
    let sum = task!([prefix, counter] |n: u64| {
        counter.fetch_add(n, Ordering::SeqCst) + prefix.len() as u64
    });
    let task = executor.submit(sum.clone(), (2,)).unwrap();
    assert_eq!(task.result(), Ok(1005));
    let again = executor.submit(sum, (3,)).unwrap();
    assert_eq!(again.result(), Ok(1007));
    assert_eq!(ours.load(Ordering::SeqCst), 10);
}

fn result_is_given_once(executor: impl Executor) {
    let task = executor.submit(add, (1, 2)).unwrap();
    spin_until(|| task.is_done());
    assert_eq!(task.try_result(), Some(Ok(3)));
    assert!(task.is_done());
    assert_eq!(task.try_result(), Some(Err(TaskError::AlreadyTaken)));
    assert_eq!(task.result(), Err(TaskError::AlreadyTaken));
}

fn panic_is_the_error_of_its_task_only(executor: impl Executor) {
    let tasks: Vec<_> = (0..10_u32)
        .map(|n| {
            let panics = |n: u32| if n == 4 { panic!("four of {n}") } else { n };
            executor.submit(panics, (n,)).unwrap()
        })
        .collect();
    for (n, task) in (0..).zip(&tasks) {
        match result(task) {
            Ok(value) => assert_eq!(value, n),
            Err(TaskError::Panicked(panic)) => {
                assert_eq!((n, panic.message.as_str()), (4, "four of 4"));
                assert!(
                    panic
                        .location
                        .is_some_and(|place| place.contains("contract.rs:"))
                );
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(executor.submit(add, (1, 1)).unwrap().result(), Ok(2));
}

fn timeout_leaves_the_task_as_it_is(executor: impl Executor) {
    let blocked = Blocked::new(&executor);
    let task = &blocked.tasks[0];
    assert_eq!(task.result_timeout(Duration::from_millis(20)), None);
    assert_eq!(task.result_deadline(Instant::now()), None);
    assert_eq!(task.try_result(), None);
    assert!(task.is_running() && !task.is_done());
    blocked.open();
}

fn queued_task_can_be_cancelled_and_running_one_not(executor: impl Executor) {
    let blocked = Blocked::new(&executor);
    let queued = executor.submit(add, (1, 1)).unwrap();
    assert!(!queued.is_running());
    assert!(!blocked.tasks[0].cancel());
    assert!(queued.cancel());
    assert!(!queued.cancel());
    assert_eq!(queued.result(), Err(TaskError::Cancelled));
    blocked.open();
    let done = executor.submit(add, (1, 1)).unwrap();
    assert_eq!(done.result(), Ok(2));
    assert!(!done.cancel() && !done.cancel_running());
}

fn map_gives_outcomes_in_the_order_of_the_items(executor: impl Executor) {
    let squares: Result<Vec<u64>, _> = executor.map(|x: u64| x * x, 0..500).collect();
    assert!(squares.unwrap().into_iter().eq((0..500).map(|x| x * x)));
    assert_eq!(executor.map(|x: u64| x, std::iter::empty()).count(), 0);
}

fn map_takes_no_more_items_than_may_be_in_flight(executor: impl Executor) {
    let taken = AtomicU64::new(0);
    let endless = (0_u64..).inspect(|_| {
        taken.fetch_add(1, Ordering::Relaxed);
    });
    let mut outcomes = executor.map(|x| x + 1, endless).in_flight(3);
    assert_eq!(taken.load(Ordering::Relaxed), 0);
    for given in 1..=200 {
        assert_eq!(outcomes.next(), Some(Ok(given)));
        assert!(taken.load(Ordering::Relaxed) <= given + 3);
    }
}

fn dropped_map_cancels_what_is_queued(executor: impl Executor) {
    let ran = Shared::new(AtomicU64::new(0)).unwrap();
    let gate = Shared::new(Event::new()).unwrap();
    let count = |(first, ran, gate): (bool, Shared<AtomicU64>, Shared<Event>)| {
        if !first {
            assert!(gate.wait_timeout(LONG));
            ran.fetch_add(1, Ordering::Relaxed);
        }
    };
    let items = (0..100).map(|n| (n == 0, ran.clone(), gate.clone()));
    let mut outcomes = executor.map(count, items).in_flight(50);
    assert_eq!(outcomes.next(), Some(Ok(())));
    drop(outcomes);
    gate.set();
    assert_eq!(executor.submit(add, (1, 1)).unwrap().result(), Ok(2));
    executor.shutdown(Shutdown::Drain, LONG);
    assert!(ran.load(Ordering::Relaxed) <= WORKERS as u64);
}

fn map_unordered_gives_each_outcome_once_with_its_number(executor: impl Executor) {
    let mut seen: Vec<_> = executor
        .map_unordered(|x: usize| x * 3, 0..300)
        .in_flight(7)
        .map(|(number, outcome)| {
            assert_eq!(outcome, Ok(number * 3));
            number
        })
        .collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..300));
}

fn fast_item_overtakes_a_slow_one_in_map_unordered(executor: impl Executor) {
    let gate = Shared::new(Event::new()).unwrap();
    let wait = |(waits, gate): (bool, Shared<Event>)| !waits || gate.wait_timeout(LONG);
    let items = [
        (true, gate.clone()),
        (false, gate.clone()),
        (false, gate.clone()),
    ];
    let mut outcomes = executor.map_unordered(wait, items);
    let mut firsts = [outcomes.next().unwrap().0, outcomes.next().unwrap().0];
    firsts.sort_unstable();
    assert_eq!(firsts, [1, 2]);
    gate.set();
    assert_eq!(outcomes.next(), Some((0, Ok(true))));
    assert_eq!(outcomes.next(), None);
}

fn wait_returns_when_enough_are_done(executor: impl Executor) {
    let gate = Shared::new(Event::new()).unwrap();
    let started = Shared::new(Event::new()).unwrap();
    let held = executor.submit(hold, (started, gate.clone())).unwrap();
    let quick = executor.submit(|| 1, ()).unwrap();
    let tasks = [held, quick];
    assert_eq!(wait(&tasks, Until::FirstDone), 1);
    assert_eq!(
        wait_timeout(&tasks, Until::AllDone, Duration::from_millis(10)),
        1
    );
    gate.set();
    assert_eq!(wait(&tasks, Until::AllDone), 2);
    assert_eq!(wait::<u32>(&[], Until::FirstDone), 0);
}

fn completed_tasks_are_given_out_as_they_come(executor: impl Executor) {
    let tasks: Vec<_> = (0..100_u32)
        .map(|n| executor.submit(add, (n, n)).unwrap())
        .collect();
    let mut seen: Vec<_> = as_completed(tasks)
        .map(|(place, task)| {
            assert_eq!(
                task.try_result(),
                Some(Ok(2 * u32::try_from(place).unwrap()))
            );
            place
        })
        .collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..100));
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park_timeout(LONG),
        }
    }
}

fn task_is_a_future(executor: impl Executor) {
    let sum = block_on(async {
        let first = executor.submit(add, (1, 2)).unwrap();
        let second = executor.submit(add, (3, 4)).unwrap();
        first.await.unwrap() + second.await.unwrap()
    });
    assert_eq!(sum, 10);
}

fn handles_pass_in_both_directions(executor: impl Executor) {
    let total = Shared::new(AtomicU64::new(0)).unwrap();
    let add_to = |total: Shared<AtomicU64>, n: u64| {
        total.fetch_add(n, Ordering::Relaxed);
        (Shared::new(AtomicU64::new(n)).unwrap(), total)
    };
    let tasks: Vec<_> = (0..50)
        .map(|n| executor.submit(add_to, (total.clone(), n)).unwrap())
        .collect();
    let mut made = Vec::new();
    for (n, task) in (0..).zip(tasks) {
        let (own, same) = result(&task).unwrap();
        assert_eq!(own.load(Ordering::Relaxed), n);
        assert!(Shared::ptr_eq(&same, &total));
        made.push(own);
    }
    assert_eq!(total.load(Ordering::Relaxed), (0..50).sum());
    drop(executor);
    assert!(made.iter().map(|own| own.load(Ordering::Relaxed)).eq(0..50));
}

fn large_arguments_and_results_arrive_whole(executor: impl Executor) {
    let doubled = |bytes: Vec<u8>| [bytes.clone(), bytes].concat();
    for size in [0, 1, 20_000, 24_560, 65_536, 100_000, 3_000_000] {
        let bytes: Vec<u8> = (0..size).map(|n: usize| (n % 251) as u8).collect();
        let task = executor.submit(doubled, (bytes.clone(),)).unwrap();
        assert!(
            result(&task).unwrap() == [bytes.clone(), bytes].concat(),
            "{size} bytes"
        );
    }
}

#[derive(Debug, Deserialize)]
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("will not go"))
    }
}

/// Threads encode nothing, so for them the call is as good as any other.
fn arguments_that_cannot_be_encoded_fail_at_the_call(executor: impl Executor) {
    match executor.submit(|_: Stubborn| 5, (Stubborn,)) {
        Ok(task) => assert_eq!(task.result(), Ok(5)),
        Err(SubmitError::Unencodable { reason }) => assert!(!reason.is_empty()),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(executor.submit(add, (1, 1)).unwrap().result(), Ok(2));
}

fn many_threads_submit_and_wait_at_once(executor: impl Executor + Sync) {
    thread::scope(|scope| {
        for thread in 0..6_u32 {
            let executor = &executor;
            scope.spawn(move || {
                for n in 0..60 {
                    let task = executor.submit(add, (thread * 1000, n)).unwrap();
                    if n % 7 == 0 {
                        task.result_timeout(Duration::from_micros(50));
                    } else {
                        assert_eq!(result(&task), Ok(thread * 1000 + n));
                    }
                }
            });
        }
    });
}

fn drained_shutdown_finishes_everything(executor: impl Executor) {
    let tasks: Vec<_> = (0..100_u32)
        .map(|n| executor.submit(add, (n, 1)).unwrap())
        .collect();
    let report = executor.shutdown(Shutdown::Drain, LONG);
    assert_eq!(
        (report.cancelled, report.killed, report.abandoned),
        (0, 0, 0)
    );
    for (n, task) in (0..).zip(&tasks) {
        assert_eq!(task.try_result(), Some(Ok(n + 1)));
    }
    assert_eq!(
        executor.submit(add, (1, 1)).err(),
        Some(SubmitError::PoolShutDown)
    );
    assert_eq!(executor.shutdown(Shutdown::Now, LONG).done, 0);
}

fn cancelling_shutdown_finishes_only_what_runs(executor: impl Executor + Sync) {
    let blocked = Blocked::new(&executor);
    let queued: Vec<_> = (0..5)
        .map(|n| executor.submit(add, (n, 1)).unwrap())
        .collect();
    let report = thread::scope(|scope| {
        let shutdown = scope.spawn(|| executor.shutdown(Shutdown::CancelQueued, LONG));
        for task in &queued {
            assert_eq!(result(task), Err(TaskError::Cancelled));
        }
        blocked.open();
        shutdown.join().unwrap()
    });
    assert_eq!(
        (report.done, report.cancelled, report.killed),
        (WORKERS as u64, 5, 0)
    );
}

fn dropping_the_executor_ends_queued_tasks(executor: impl Executor) {
    let blocked = Blocked::new(&executor);
    let queued = executor.submit(add, (1, 1)).unwrap();
    blocked.gate.set();
    drop(executor);
    // It may have been given out between the two lines above.
    assert!(matches!(result(&queued), Ok(2) | Err(TaskError::Cancelled)));
    for task in &blocked.tasks {
        assert_eq!(task.try_result(), Some(Ok(7)));
    }
}
