//! What a task does to its worker, and that it is that task's error only.

use std::collections::HashSet;

use manyhands_executor::{Cause, Executor, Phase, SubmitError, TaskError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::support::{
    add, alone, builder, death, die_by, kill_hard, pool, ready_workers, result, spin_until, works,
};

#[expect(unconditional_recursion, reason = "its purpose")]
fn overflow(depth: u64) -> u64 {
    let block = std::hint::black_box([depth; 64]);
    overflow(depth + 1) + block[63]
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
