//! Processes as futures, without a runtime.

use std::fs;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use manyhands_process::{Exit, Process, ProcessBuilder, ProcessError, StartMethod};
use manyhands_shm::Shared;
use manyhands_sync::Event;

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];
const LONG: Duration = Duration::from_secs(60);

/// Runs a test with a builder of each method.
fn each(test: impl Fn(ProcessBuilder)) {
    for method in METHODS {
        test(Process::builder().start_method(method));
    }
}

/// Wakes a thread, and counts.
struct Unpark {
    thread: Thread,
    count: AtomicU32,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, SeqCst);
        self.thread.unpark();
    }
}

/// Runs one future in this thread, and tells how often it was woken.
fn block_on<F: Future>(future: F) -> (F::Output, u32) {
    let unpark = Arc::new(Unpark {
        thread: thread::current(),
        count: AtomicU32::new(0),
    });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut future = pin!(future);
    let end = Instant::now() + LONG;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (output, unpark.count.load(SeqCst));
        }
        thread::park_timeout(LONG);
        assert!(Instant::now() < end, "nobody called the waker");
    }
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// How many threads of this process wake tasks.
fn watchers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is there");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let ours = |name: &String| ["manyhands-ends\n", "manyhands-words\n"].contains(&name.as_str());
    names.filter(ours).count()
}

fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < end, "it never came");
        thread::yield_now();
    }
}

fn wait_for(gate: Shared<Event>, value: u32) -> u32 {
    gate.wait();
    value
}

fn gate() -> Shared<Event> {
    Shared::new(Event::new()).expect("space")
}

/// All tests are one, because they count threads of the whole process.
#[test]
fn processes_are_futures() {
    each(value_of_a_process_is_awaited);
    each(deaths_are_awaited_too);
    each(value_with_handles_comes_before_the_process_ends);
    each(future_that_is_dropped_leaves_the_process_alone);
    each(last_waker_is_the_one_that_is_called);
    each(many_processes_are_awaited_by_three_threads);
    until(|| watchers() == 0);
}

fn value_of_a_process_is_awaited(builder: ProcessBuilder) {
    let gate = gate();
    let process = builder.spawn(wait_for, (gate.clone(), 42));
    let mut process = process.expect("it starts");
    assert!(poll_once(&mut process).is_pending());
    let opener = thread::spawn(move || gate.set());
    let (value, woken) = block_on(&mut process);
    assert_eq!(value.expect("a value"), 42);
    // It may have been there before the first look.
    assert!(woken <= 2, "{woken}");
    opener.join().expect("no panic");
    let (again, _) = block_on(process);
    assert!(matches!(again, Err(ProcessError::Taken { .. })));
}

fn deaths_are_awaited_too(builder: ProcessBuilder) {
    let mut process = builder.spawn(wait_for, (gate(), 0)).expect("it starts");
    assert!(poll_once(&mut process).is_pending());
    process.kill().expect("it is sent");
    let (outcome, _) = block_on(&mut process);
    let error = outcome.expect_err("it was killed");
    let exit = error.exit();
    assert!(
        matches!(
            exit,
            Some(Exit::Signaled {
                signal: 9,
                by_us: true,
                ..
            })
        ),
        "{error}"
    );
    let panics = builder.spawn(|| -> u32 { panic!("no luck") }, ());
    let (outcome, _) = block_on(panics.expect("it starts"));
    let error = outcome.expect_err("it panicked");
    assert_eq!(error.panic().expect("it did").message, "no luck");
    let exits = builder.spawn(|| -> u32 { std::process::exit(3) }, ());
    let (outcome, _) = block_on(exits.expect("it starts"));
    assert_eq!(
        outcome.expect_err("no value").exit(),
        Some(&Exit::Exited(3))
    );
}

/// The process lives until the value was taken, so its end wakes nobody.
fn value_with_handles_comes_before_the_process_ends(builder: ProcessBuilder) {
    fn make(gate: Shared<Event>) -> Shared<AtomicU32> {
        gate.wait();
        Shared::new(AtomicU32::new(7)).expect("space")
    }
    let gate = gate();
    let mut process = builder.spawn(make, (gate.clone(),)).expect("it starts");
    assert!(poll_once(&mut process).is_pending());
    gate.set();
    let (value, _) = block_on(&mut process);
    assert_eq!(value.expect("a value").load(Relaxed), 7);
}

fn future_that_is_dropped_leaves_the_process_alone(builder: ProcessBuilder) {
    let gate = gate();
    let process = builder.spawn(wait_for, (gate.clone(), 1));
    let mut process = process.expect("it starts");
    for _ in 0..100 {
        let mut first = Some(async { (&mut process).await });
        let (pending, _) = block_on(poll_fn(|context| {
            let future = pin!(first.take().expect("polled once"));
            Poll::Ready(future.poll(context).is_pending())
        }));
        assert!(pending);
    }
    assert!(process.is_alive());
    gate.set();
    // By other ways too.
    assert_eq!(process.join().expect("a value"), 1);
    // One that is dropped while it is awaited wakes nobody any more.
    let mut other = builder.spawn(wait_for, (gate, 2)).expect("it starts");
    let _ = poll_once(&mut other);
    drop(other);
}

fn last_waker_is_the_one_that_is_called(builder: ProcessBuilder) {
    let gate = gate();
    let process = builder.spawn(wait_for, (gate.clone(), 5));
    let mut process = process.expect("it starts");
    let first = Arc::new(Unpark {
        thread: thread::current(),
        count: AtomicU32::new(0),
    });
    let waker = Waker::from(Arc::clone(&first));
    let mut context = Context::from_waker(&waker);
    assert!(Pin::new(&mut process).poll(&mut context).is_pending());
    let opener = thread::spawn(move || gate.set());
    assert_eq!(block_on(&mut process).0.expect("a value"), 5);
    opener.join().expect("no panic");
    // At most once, for what came between the two looks.
    assert!(first.count.load(SeqCst) <= 1);
}

/// More than one thread can sleep for.
fn many_processes_are_awaited_by_three_threads(builder: ProcessBuilder) {
    const COUNT: u32 = 130;
    let gate = gate();
    let start = |number| {
        builder
            .spawn(wait_for, (gate.clone(), number))
            .expect("it starts")
    };
    let mut processes: Vec<Process<u32>> = (0..COUNT).map(start).collect();
    let mut values = Vec::new();
    let mut is_open = false;
    let all = poll_fn(|context| {
        processes.retain_mut(|process| match Pin::new(process).poll(context) {
            Poll::Ready(value) => {
                values.push(value.expect("a value"));
                false
            }
            Poll::Pending => true,
        });
        if !is_open {
            is_open = true;
            assert_eq!(processes.len(), COUNT as usize);
            // They give themselves their names.
            until(|| watchers() == 3);
            gate.set();
        }
        match processes.len() {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    });
    block_on(all);
    values.sort_unstable();
    assert!(values.into_iter().eq(0..COUNT));
}
