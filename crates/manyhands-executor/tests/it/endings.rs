//! Ending one task that runs, and ending a pool whose workers will not end.

use std::fs;
use std::time::Duration;

use manyhands_executor::{Executor, Shutdown, SubmitError, Task, TaskError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{LONG, add, event, pool, ready_workers, result, spin, spin_until, works};

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
    let started = event();
    let stuck = pool.submit(spin, (started.clone(),)).unwrap();
    assert!(started.wait_timeout(LONG));
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
