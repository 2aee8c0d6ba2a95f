//! What a process pool can be asked to be, and what it refuses to be.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use manyhands_executor::{
    BuildError, Cause, Executor, Pool, ProcessPoolExecutor, TaskError, ThreadPoolExecutor,
};
use manyhands_process::StartMethod;

use crate::support::{
    LONG, add, builder, death, die_by, event, hold, pool, result, spin_until, works,
};

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
