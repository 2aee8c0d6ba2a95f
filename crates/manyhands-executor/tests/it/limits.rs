//! What a task may use, and what happens when it uses more.

use std::time::{Duration, Instant};

use manyhands_executor::{Executor, TaskError};

use crate::support::{builder, event, has_ended, ready_workers, result, spin, spin_until, works};

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
    let limit = Duration::from_secs(2);
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
    let limit = Duration::from_millis(50);
    let pool = builder(1).task_timeout(limit).build().unwrap();
    let worker = ready_workers(&pool, 1)[0];
    let spinning = pool.submit(spin, (event(),)).unwrap();
    // From here on nobody asks the pool for anything until the worker is gone.
    spin_until(|| has_ended(worker));
    assert!(matches!(result(&spinning), Err(TaskError::Deadline { .. })));
}

#[test]
fn time_limit_is_a_budget_over_all_attempts() {
    let limit = Duration::from_secs(1);
    let endless = builder(1).retries(u32::MAX).quarantine_after(u32::MAX);
    let pool = endless.task_timeout(limit).build().unwrap();
    // Each attempt is far below the limit: counted one by one they would go on for ever.
    let die_slowly = || -> u32 {
        let end = Instant::now() + Duration::from_millis(50);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        std::process::abort();
    };
    match result(&pool.submit(die_slowly, ()).unwrap()) {
        Err(TaskError::Deadline { ran, .. }) => assert!(ran >= limit),
        other => panic!("{other:?}"),
    }
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
