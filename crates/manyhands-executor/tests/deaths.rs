//! What a process pool promises when its workers die, are killed, or will not end.
//!
//! All with real processes. Tests that look at what this process has left (descriptors,
//! children) run alone in a process of their own.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests may unwrap as tests may"
)]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manyhands_executor::{
    BuildError, Builder, Cause, Death, Executor, Phase, Pool, ProcessPoolExecutor, Shutdown,
    SubmitError, Task, TaskError, ThreadPoolExecutor,
};
use manyhands_os::limits::CappedAllocator;
use manyhands_process::{Process, StartMethod};
use manyhands_shm::Shared;
use manyhands_sync::Event;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[global_allocator]
static ALLOCATOR: CappedAllocator = CappedAllocator;

/// Longer than anything here takes; a wait that lasts so long is a hang.
const LONG: Duration = Duration::from_secs(60);

fn pool(workers: usize) -> ProcessPoolExecutor {
    builder(workers).build().unwrap()
}

fn builder(workers: usize) -> Builder {
    ProcessPoolExecutor::builder().workers(workers)
}

fn result<T>(task: &Task<T>) -> Result<T, TaskError> {
    task.result_timeout(LONG)
        .expect("an outcome within a minute")
}

fn spin_until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "not within a minute");
        thread::yield_now();
    }
}

fn event() -> Shared<Event> {
    Shared::new(Event::new()).unwrap()
}

fn counter() -> Shared<AtomicU64> {
    Shared::new(AtomicU64::new(0)).unwrap()
}

fn kill_hard(pid: u32) {
    // The worker may have ended by itself.
    let _ = kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL);
}

fn ready_workers(pool: &ProcessPoolExecutor, count: usize) -> Vec<u32> {
    spin_until(|| pool.stats().idle == count);
    pool.worker_ids()
}

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn works(pool: &ProcessPoolExecutor) {
    assert_eq!(result(&pool.submit(add, (40, 2)).unwrap()), Ok(42));
}

fn death(error: TaskError) -> Death {
    match error {
        TaskError::Died(death) => death,
        error => panic!("not a death: {error}"),
    }
}

#[expect(unconditional_recursion, reason = "its purpose")]
fn overflow(depth: u64) -> u64 {
    let block = std::hint::black_box([depth; 64]);
    overflow(depth + 1) + block[63]
}

fn spin(started: Shared<Event>) -> u32 {
    started.set();
    loop {
        std::hint::spin_loop();
    }
}

fn hold(started: Shared<Event>, gate: Shared<Event>) -> u32 {
    started.set();
    assert!(gate.wait_timeout(LONG));
    7
}

fn die_by(how: u32) -> u32 {
    match how {
        0 => raise(Signal::SIGSEGV).unwrap(),
        1 => std::process::abort(),
        2 => std::process::exit(0),
        3 => std::process::exit(3),
        4 => raise(Signal::SIGKILL).unwrap(),
        5 => raise(Signal::SIGTERM).unwrap(),
        n => return n,
    }
    unreachable!("the signal does not let it come back")
}

#[test]
fn each_way_to_die_has_its_own_cause_and_fails_its_own_task_only() {
    let pool = pool(2);
    let tasks: Vec<_> = (0..12_u32)
        .map(|how| pool.submit(die_by, (how,)).unwrap())
        .collect();
    let outcomes: Vec<_> = tasks.iter().map(result).collect();
    let signaled = |signal| Cause::Signaled {
        signal,
        core_dumped: false,
    };
    let causes = [
        signaled(11),
        signaled(6),
        Cause::Exited(0),
        Cause::Exited(3),
        Cause::OutsideKill,
        signaled(15),
    ];
    for (how, outcome) in (0..).zip(outcomes) {
        let Some(expected) = causes.get(how) else {
            assert_eq!(outcome, Ok(u32::try_from(how).unwrap()));
            continue;
        };
        let death = death(outcome.unwrap_err());
        let cause = match death.cause {
            Cause::Signaled { signal, .. } => signaled(signal),
            cause => cause,
        };
        assert_eq!(
            (&cause, death.phase, death.attempt),
            (expected, Phase::Running, 1)
        );
        assert_ne!(death.worker.pid, std::process::id());
    }
    let stats = pool.stats();
    assert_eq!((stats.done, stats.failed.died, stats.restarts), (6, 6, 6));
}

#[test]
fn panic_keeps_the_worker() {
    let pool = pool(1);
    let before = ready_workers(&pool, 1);
    let task = pool.submit(|| -> u32 { panic!("no way") }, ()).unwrap();
    assert!(matches!(result(&task), Err(TaskError::Panicked(panic)) if panic.message == "no way"));
    works(&pool);
    assert_eq!(pool.worker_ids(), before);
    assert_eq!(pool.stats().failed.panicked, 1);
}

#[test]
fn stack_overflow_is_named() {
    let pool = pool(1);
    let task = pool.submit(overflow, (0,)).unwrap();
    assert_eq!(result(&task), Err(TaskError::StackOverflow));
    works(&pool);
}

#[test]
fn memory_limit_is_named_with_what_was_asked_and_allowed() {
    let pool = builder(2).memory_limit(64 << 20).build().unwrap();
    let grab = |bytes: usize| std::hint::black_box(vec![1_u8; bytes]).len();
    let within = pool.submit(grab, (8 << 20,)).unwrap();
    let beyond = pool.submit(grab, (1 << 30,)).unwrap();
    assert_eq!(result(&within), Ok(8 << 20));
    match result(&beyond) {
        Err(TaskError::MemoryLimit { asked, allowed }) => {
            assert_eq!((asked, allowed), (Some(1 << 30), 64 << 20));
        }
        other => panic!("{other:?}"),
    }
    works(&pool);
}

#[test]
fn arguments_beyond_the_memory_limit_kill_the_task_and_not_the_pool() {
    let pool = builder(1).memory_limit(16 << 20).build().unwrap();
    let task = pool
        .submit(|bytes: Vec<u8>| bytes.len(), (vec![1; 64 << 20],))
        .unwrap();
    assert!(matches!(result(&task), Err(TaskError::MemoryLimit { .. })));
    works(&pool);
}

#[test]
fn deadline_kills_a_task_that_spins_and_replaces_its_worker() {
    let limit = Duration::from_millis(300);
    let pool = builder(2).task_timeout(limit).build().unwrap();
    let spinning = pool.submit(spin, (event(),)).unwrap();
    for _ in 0..20 {
        works(&pool);
    }
    match result(&spinning) {
        Err(TaskError::Deadline { limit: told, ran }) => assert!(told == limit && ran >= limit),
        other => panic!("{other:?}"),
    }
    assert_eq!(pool.stats().restarts, 1);
    ready_workers(&pool, 2);
}

#[test]
fn deadline_holds_while_nobody_waits() {
    let pool = builder(1)
        .task_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let started = event();
    let spinning = pool.submit(spin, (started.clone(),)).unwrap();
    let second = event();
    let behind = pool.submit(hold, (second.clone(), second.clone())).unwrap();
    // Set by the second task: nobody has waited for the first.
    assert!(second.wait_timeout(LONG));
    assert!(matches!(result(&spinning), Err(TaskError::Deadline { .. })));
    assert_eq!(result(&behind), Ok(7));
}

#[test]
fn time_limit_is_a_budget_over_all_attempts() {
    let limit = Duration::from_secs(2);
    let pool = builder(1)
        .task_timeout(limit)
        .retries(5)
        .quarantine_after(9)
        .build()
        .unwrap();
    let attempts = counter();
    let slow_death = |attempts: Shared<AtomicU64>| -> u32 {
        let first = attempts.fetch_add(1, Ordering::Relaxed) == 0;
        let end = Instant::now() + Duration::from_millis(1700);
        while !first || Instant::now() < end {
            std::hint::spin_loop();
        }
        std::process::abort();
    };
    let task = pool.submit(slow_death, (attempts.clone(),)).unwrap();
    match result(&task) {
        Err(TaskError::Deadline { ran, .. }) => {
            assert!(
                ran >= limit && ran < limit + Duration::from_millis(1500),
                "{ran:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(attempts.load(Ordering::Relaxed), 2);
}

#[test]
fn worker_killed_from_outside_while_idle_is_replaced() {
    let pool = pool(2);
    for round in 1..=10 {
        let workers = ready_workers(&pool, 2);
        kill_hard(workers[round % 2]);
        works(&pool);
        spin_until(|| pool.stats().restarts == round as u64);
    }
    ready_workers(&pool, 2);
    assert_eq!(pool.stats().failed.total(), 0);
}

#[test]
fn all_workers_killed_while_idle_and_nobody_asks_are_replaced() {
    let pool = pool(2);
    let workers = ready_workers(&pool, 2);
    workers.iter().copied().for_each(kill_hard);
    spin_until(|| {
        let now = pool.worker_ids();
        now.len() == 2 && now.iter().all(|pid| !workers.contains(pid))
    });
    works(&pool);
}

#[test]
fn task_killed_from_outside_fails_unless_retries_for_that_are_given() {
    for retries in [0, 1] {
        let pool = builder(1)
            .retries_after_outside_kill(retries)
            .build()
            .unwrap();
        let (started, gate) = (event(), event());
        let task = pool.submit(hold, (started.clone(), gate.clone())).unwrap();
        assert!(started.wait_timeout(LONG));
        kill_hard(pool.worker_ids()[0]);
        gate.set();
        let outcome = result(&task);
        if retries == 1 {
            assert_eq!(outcome, Ok(7));
            assert_eq!(pool.stats().retries, 1);
        } else {
            let death = death(outcome.unwrap_err());
            assert_eq!(
                (death.cause, death.phase),
                (Cause::OutsideKill, Phase::Running)
            );
        }
        works(&pool);
    }
}

#[test]
fn task_whose_worker_dies_before_it_looks_runs_exactly_once() {
    let pool = pool(1);
    let ran = counter();
    for round in 1..=20 {
        let worker = ready_workers(&pool, 1)[0];
        kill(Pid::from_raw(worker.try_into().unwrap()), Signal::SIGSTOP).unwrap();
        let count = |ran: Shared<AtomicU64>| ran.fetch_add(1, Ordering::Relaxed) + 1;
        let task = pool.submit(count, (ran.clone(),)).unwrap();
        kill_hard(worker);
        assert_eq!(result(&task), Ok(round));
    }
    assert_eq!(ran.load(Ordering::Relaxed), 20);
}

#[test]
fn task_that_keeps_killing_workers_is_quarantined_with_all_its_deaths() {
    let pool = builder(2).retries(10).quarantine_after(3).build().unwrap();
    let bad = pool.submit(die_by, (0,)).unwrap();
    match result(&bad) {
        Err(TaskError::Quarantined { deaths }) => {
            let attempts: Vec<_> = deaths.iter().map(|death| death.attempt).collect();
            assert_eq!(attempts, [1, 2, 3]);
            let workers: HashSet<_> = deaths.iter().map(|death| death.worker.pid).collect();
            assert_eq!(workers.len(), 3);
        }
        other => panic!("{other:?}"),
    }
    ready_workers(&pool, 2);
    let stats = pool.stats();
    assert_eq!(
        (stats.restarts, stats.failed.quarantined, stats.retries),
        (3, 1, 2)
    );
}

#[test]
fn one_bad_task_among_two_hundred_good_ones_fails_alone() {
    let pool = builder(2).retries(5).build().unwrap();
    let items = (0..201_u32).map(|n| if n == 100 { 0 } else { n + 1000 });
    let outcomes: Vec<_> = pool.map(die_by, items).collect();
    for (n, outcome) in (0..).zip(outcomes) {
        match outcome {
            Ok(value) => assert_eq!(value, n + 1000),
            Err(TaskError::Quarantined { deaths }) => assert_eq!((n, deaths.len()), (100, 2)),
            Err(error) => panic!("{error}"),
        }
    }
    let stats = pool.stats();
    assert_eq!((stats.done, stats.failed.total()), (200, 1));
    assert!(stats.started <= 4, "{stats:?}");
}

#[test]
fn storm_of_kills_loses_nothing_and_doubles_nothing() {
    const TASKS: u64 = 2000;
    let pool = builder(3).retries_after_outside_kill(100).build().unwrap();
    let kills = counter();
    let over = event();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut seed = 88_172_645_463_325_252_u64;
            while !over.wait_timeout(Duration::from_micros(1000 + seed % 4000)) {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let workers = pool.worker_ids();
                if let Some(worker) = workers.get(seed as usize % workers.len().max(1)) {
                    kill_hard(*worker);
                    kills.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let work = |n: u64| (0..20_000).fold(n, |sum: u64, k| std::hint::black_box(sum ^ k)) ^ n;
        let expected = work(0);
        let mut seen = HashMap::new();
        for (number, outcome) in pool.map_unordered(work, 0..TASKS).in_flight(40) {
            assert_eq!(outcome, Ok(expected), "task {number}");
            *seen.entry(number).or_insert(0) += 1;
        }
        over.set();
        assert_eq!(seen.len() as u64, TASKS);
        assert!(seen.into_values().all(|times| times == 1));
    });
    let stats = pool.stats();
    assert_eq!((stats.done, stats.failed.total()), (TASKS, 0));
    assert!(
        kills.load(Ordering::Relaxed) > 0 && stats.restarts > 0,
        "{stats:?}"
    );
    works(&pool);
}

#[test]
fn running_task_is_killed_only_when_that_is_asked_for() {
    let pool = pool(1);
    let started = event();
    let task = pool.submit(spin, (started.clone(),)).unwrap();
    assert!(started.wait_timeout(LONG));
    assert!(!task.cancel());
    assert!(task.is_running());
    assert!(task.cancel_running());
    assert_eq!(result(&task), Err(TaskError::Cancelled));
    works(&pool);
    assert_eq!(pool.stats().restarts, 1);
}

#[test]
fn shutdown_now_ends_workers_that_will_not_end() {
    let pool = pool(2);
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let started = event();
            let task = pool.submit(spin, (started.clone(),)).unwrap();
            assert!(started.wait_timeout(LONG));
            task
        })
        .collect();
    let queued = pool.submit(add, (1, 1)).unwrap();
    let workers = pool.worker_ids();
    let report = pool.shutdown(Shutdown::Now, Duration::from_millis(500));
    assert_eq!((report.done, report.cancelled, report.killed), (0, 1, 2));
    assert_eq!(queued.try_result(), Some(Err(TaskError::Cancelled)));
    for task in &tasks {
        assert_eq!(task.try_result(), Some(Err(TaskError::PoolShutDown)));
    }
    assert!(
        workers
            .iter()
            .all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap())
    );
    assert_eq!(
        pool.submit(add, (1, 1)).err(),
        Some(SubmitError::PoolShutDown)
    );
}

#[test]
fn drain_that_takes_too_long_kills_what_is_left() {
    let pool = pool(1);
    let stuck = pool.submit(spin, (event(),)).unwrap();
    let queued = pool.submit(add, (1, 1)).unwrap();
    let report = pool.shutdown(Shutdown::Drain, Duration::from_millis(200));
    assert_eq!((report.done, report.cancelled, report.killed), (0, 1, 1));
    assert_eq!(result(&stuck), Err(TaskError::PoolShutDown));
    assert_eq!(result(&queued), Err(TaskError::Cancelled));
}

#[test]
fn shutdown_ends_a_worker_that_is_stopped() {
    let pool = pool(2);
    let workers = ready_workers(&pool, 2);
    kill(
        Pid::from_raw(workers[0].try_into().unwrap()),
        Signal::SIGSTOP,
    )
    .unwrap();
    pool.shutdown(Shutdown::Drain, Duration::from_millis(200));
    assert!(
        workers
            .iter()
            .all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap())
    );
}

#[test]
fn stopped_worker_does_not_keep_the_others_from_big_tasks() {
    let pool = pool(2);
    let workers = ready_workers(&pool, 2);
    for pid in &workers {
        kill(Pid::from_raw((*pid).try_into().unwrap()), Signal::SIGSTOP).unwrap();
    }
    let count = |bytes: Vec<u8>| bytes.len();
    let tasks = [0, 1].map(|_| pool.submit(count, (vec![1; 1 << 20],)).unwrap());
    kill(
        Pid::from_raw(workers[1].try_into().unwrap()),
        Signal::SIGCONT,
    )
    .unwrap();
    spin_until(|| tasks.iter().any(Task::is_done));
    kill(
        Pid::from_raw(workers[0].try_into().unwrap()),
        Signal::SIGCONT,
    )
    .unwrap();
    for task in &tasks {
        assert_eq!(result(task), Ok(1 << 20));
    }
}

#[test]
fn workers_are_recycled_silently() {
    let pool = builder(2).max_tasks_per_worker(3).build().unwrap();
    let mut tasks = HashMap::new();
    for outcome in pool.map(|_: u32| std::process::id(), 0..60) {
        *tasks.entry(outcome.unwrap()).or_insert(0) += 1;
    }
    assert!(
        tasks.len() >= 20 && tasks.values().all(|&count| count <= 3),
        "{tasks:?}"
    );
    spin_until(|| pool.stats().recycled >= 19);
    let stats = pool.stats();
    assert_eq!(
        (stats.restarts, stats.failed.total(), stats.done),
        (0, 0, 60)
    );
}

#[test]
fn result_beyond_the_output_limit_is_refused() {
    let pool = builder(1).output_limit(1000).build().unwrap();
    let bytes = |size: usize| vec![1_u8; size];
    assert_eq!(
        result(&pool.submit(bytes, (900,)).unwrap()).map(|bytes| bytes.len()),
        Ok(900)
    );
    match result(&pool.submit(bytes, (100_000,)).unwrap()) {
        Err(TaskError::OutputLimit {
            size,
            allowed: 1000,
        }) => assert!(size >= 100_000),
        other => panic!("{other:?}"),
    }
    works(&pool);
}

/// Goes out and never comes in.
#[derive(Debug, PartialEq, Serialize)]
struct OneWay(u32);

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("no way in"))
    }
}

#[test]
fn what_cannot_be_decoded_is_a_typed_error_on_either_side() {
    let pool = pool(1);
    let there = pool.submit(|_: OneWay| 1, (OneWay(1),)).unwrap();
    let here = pool.submit(|| OneWay(2), ()).unwrap();
    assert!(matches!(result(&there), Err(TaskError::Undecodable { .. })));
    assert!(matches!(result(&here), Err(TaskError::Undecodable { .. })));
    works(&pool);
    assert_eq!(pool.stats().restarts, 0);
}

/// Panics on the way in, and, if it says so, on the way out.
#[derive(Debug, PartialEq)]
struct Explosive {
    on_the_way_out: bool,
}

impl Serialize for Explosive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!self.on_the_way_out, "bang");
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Explosive {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("bang")
    }
}

#[test]
fn codec_that_panics_is_a_typed_error_on_either_side() {
    let pool = pool(1);
    let submitted = pool.submit(
        |_: Explosive| 1,
        (Explosive {
            on_the_way_out: true,
        },),
    );
    assert!(
        matches!(submitted, Err(SubmitError::Unencodable { reason }) if reason.contains("bang"))
    );
    let there = pool
        .submit(
            |_: Explosive| 1,
            (Explosive {
                on_the_way_out: false,
            },),
        )
        .unwrap();
    assert!(matches!(result(&there), Err(TaskError::Panicked(panic)) if panic.message == "bang"));
    let leaves = pool
        .submit(
            || Explosive {
                on_the_way_out: true,
            },
            (),
        )
        .unwrap();
    assert!(matches!(result(&leaves), Err(TaskError::Panicked(panic)) if panic.message == "bang"));
    let here = pool
        .submit(
            || Explosive {
                on_the_way_out: false,
            },
            (),
        )
        .unwrap();
    assert!(
        matches!(result(&here), Err(TaskError::Undecodable { reason }) if reason.contains("bang"))
    );
    works(&pool);
    assert_eq!(pool.stats().restarts, 0);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let zero = |result: Result<ProcessPoolExecutor, BuildError>, name: &str| {
        assert!(matches!(result, Err(BuildError::Zero { setting }) if setting == name));
    };
    assert!(matches!(builder(0).build(), Err(BuildError::NoWorkers)));
    let empty = RangeInclusive::new(3, 2);
    let empty = ProcessPoolExecutor::builder().workers(empty).build();
    assert!(matches!(empty, Err(BuildError::NoWorkers)));
    assert!(matches!(
        builder(100_000).build(),
        Err(BuildError::TooManyWorkers { asked: 100_000, .. })
    ));
    assert!(matches!(
        builder(1).memory_limit(0).build(),
        Err(BuildError::MemoryLimitTooSmall { asked: 0, .. })
    ));
    zero(
        builder(1).task_timeout(Duration::ZERO).build(),
        "task_timeout",
    );
    zero(builder(1).output_limit(0).build(), "output_limit");
    zero(builder(1).quarantine_after(0).build(), "quarantine_after");
    zero(
        builder(1).max_tasks_per_worker(0).build(),
        "max_tasks_per_worker",
    );
    assert!(matches!(
        ThreadPoolExecutor::new(0),
        Err(BuildError::NoWorkers)
    ));
    assert!(matches!(Pool::new(0), Err(BuildError::NoWorkers)));
}

#[test]
fn pool_grows_within_its_range_as_tasks_come() {
    let pool = ProcessPoolExecutor::builder()
        .workers(0..=3)
        .build()
        .unwrap();
    assert_eq!(pool.stats().workers, 0);
    let gate = event();
    let tasks: Vec<_> = (0..5)
        .map(|_| pool.submit(hold, (event(), gate.clone())).unwrap())
        .collect();
    spin_until(|| pool.stats().running == 3);
    assert_eq!((pool.stats().workers, pool.stats().queued), (3, 2));
    gate.set();
    for task in &tasks {
        assert_eq!(result(task), Ok(7));
    }
}

#[test]
fn workers_started_as_fresh_programs_work_and_die_alike() {
    let pool = builder(1).start_method(StartMethod::Exec).build().unwrap();
    works(&pool);
    let died = death(result(&pool.submit(die_by, (1,)).unwrap()).unwrap_err());
    assert!(matches!(died.cause, Cause::Signaled { signal: 6, .. }));
    works(&pool);
}

#[test]
fn pool_of_python_names_works() {
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.apply(add, (1, 2)), Ok(3));
    assert_eq!(pool.apply_async(add, (3, 4)).unwrap().result(), Ok(7));
    assert_eq!(
        pool.map(|x: u64| x * x * x, 0..5),
        Ok(vec![0, 1, 8, 27, 64])
    );
    let ordered: Result<Vec<_>, _> = pool.imap(|x: u64| x + 1, 0..5).collect();
    assert_eq!(ordered, Ok(vec![1, 2, 3, 4, 5]));
    let mut any: Vec<_> = pool
        .imap_unordered(|x: u64| x + 1, 0..5)
        .map(Result::unwrap)
        .collect();
    any.sort_unstable();
    assert_eq!(any, [1, 2, 3, 4, 5]);
    let failed = pool.map(die_by, [9, 1, 9, 9]);
    assert!(matches!(failed, Err(TaskError::Died(_))));
    assert_eq!(pool.close(LONG).killed, 0);
}

#[test]
fn task_may_have_a_pool_of_its_own() {
    let pool = pool(1);
    let nested = |n: u64| Pool::new(1).unwrap().apply(|n: u64| n + 1, (n,)).unwrap() + 1;
    assert_eq!(result(&pool.submit(nested, (40,)).unwrap()), Ok(42));
}

/// Runs `f` in a process where nothing else happens.
fn alone(f: impl Fn() + Copy + Send + 'static) {
    Process::spawn(f, ()).unwrap().join().unwrap();
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Processes whose parent is this one, zombies included.
fn children() -> Vec<u32> {
    let lists: Vec<String> = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .collect();
    lists
        .iter()
        .flat_map(|list| list.split_whitespace())
        .map(|pid| pid.parse().unwrap())
        .collect()
}

#[test]
fn pool_goes_on_when_the_zygote_is_killed_with_the_workers() {
    alone(|| {
        let pool = pool(2);
        for _ in 0..5 {
            ready_workers(&pool, 2);
            let before = children();
            assert!(before.len() >= 3, "two workers and the zygote: {before:?}");
            before.iter().copied().for_each(kill_hard);
            works(&pool);
            spin_until(|| {
                let now = pool.worker_ids();
                now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
            });
        }
    });
}

fn has_ended(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // A zombie has ended; whoever inherited it may take its time.
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(_) => true,
    }
}

#[test]
fn workers_end_when_their_owner_is_killed() {
    let (ready, busy, forever) = (event(), event(), event());
    let pids = Shared::new([const { AtomicU64::new(0) }; 2]).unwrap();
    let own = |ready: Shared<Event>,
               busy: Shared<Event>,
               forever: Shared<Event>,
               pids: Shared<[AtomicU64; 2]>| {
        let pool = pool(2);
        for (place, pid) in pids.iter().zip(ready_workers(&pool, 2)) {
            place.store(pid.into(), Ordering::Relaxed);
        }
        // One of them works, the other waits.
        let _task = pool.submit(spin, (busy.clone(),)).unwrap();
        assert!(busy.wait_timeout(LONG));
        ready.set();
        assert!(!forever.wait_timeout(LONG), "nobody sets it");
    };
    let arguments = (ready.clone(), busy, forever, pids.clone());
    let mut owner = Process::spawn(own, arguments).unwrap();
    assert!(ready.wait_timeout(LONG));
    owner.kill().unwrap();
    assert!(owner.join().is_err());
    for place in &*pids {
        let pid = place.load(Ordering::Relaxed).try_into().unwrap();
        spin_until(|| has_ended(pid));
    }
}

#[test]
fn nothing_is_left_of_a_pool_whose_workers_were_killed() {
    alone(|| {
        let round = || {
            let pool = builder(2).retries_after_outside_kill(50).build().unwrap();
            let bad = pool.submit(die_by, (0,)).unwrap();
            for outcome in pool.map(|n: u32| n + 1, 0..100) {
                if outcome.unwrap() % 10 == 0 {
                    pool.worker_ids().into_iter().take(1).for_each(kill_hard);
                }
            }
            assert!(result(&bad).is_err());
        };
        // The first pool starts what stays: the zygote and the keeper.
        round();
        let before = (descriptors(), children().len());
        for _ in 0..5 {
            round();
        }
        assert_eq!((descriptors(), children().len()), before);
    });
}

#[test]
fn pool_that_cannot_start_workers_says_why_and_hangs_nobody() {
    alone(|| {
        let pool = builder(2).build().unwrap();
        let workers = ready_workers(&pool, 2);
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
        workers.into_iter().for_each(kill_hard);
        spin_until(|| match pool.submit(add, (1, 1)) {
            Ok(task) => matches!(result(&task), Err(TaskError::Broken { .. })),
            Err(SubmitError::Broken { reason }) => !reason.is_empty(),
            Err(error) => panic!("{error}"),
        });
        assert!(matches!(
            pool.submit(add, (1, 1)),
            Err(SubmitError::Broken { .. })
        ));
    });
}
