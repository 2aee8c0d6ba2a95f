//! Processes killed from outside: workers, all of them at once, their zygote, their owner.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use manyhands_executor::{Cause, Executor, Phase, ProcessPoolExecutor};
use manyhands_process::{Process, Zygote};
use manyhands_shm::Shared;
use manyhands_sync::Event;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{
    LONG, alone, builder, counter, death, die_by, event, has_ended, hold, kill_hard, pool,
    ready_workers, result, spin, spin_until, works,
};

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

/// Kills a random worker every few milliseconds while `work` goes on; returns how many it killed.
fn storm(pool: &ProcessPoolExecutor, work: impl FnOnce()) -> u64 {
    let over = event();
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut kills = 0;
            let mut seed = 88_172_645_463_325_252_u64;
            while !over.wait_timeout(Duration::from_micros(1000 + seed % 4000)) {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let workers = pool.worker_ids();
                if let Some(worker) = workers.get(seed as usize % workers.len().max(1)) {
                    kill_hard(*worker);
                    kills += 1;
                }
            }
            kills
        });
        // Also when the work fails: the killer must end.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.set();
        let kills = killer.join().unwrap();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        kills
    })
}

#[test]
fn storm_of_kills_loses_nothing_and_doubles_nothing() {
    const TASKS: u64 = 2000;
    let pool = builder(3).retries_after_outside_kill(100).build().unwrap();
    let work = |n: u64| {
        let busy = (0..20_000).fold(n, |sum: u64, k| std::hint::black_box(sum ^ k));
        (n, busy ^ n)
    };
    let expected = work(0).1;
    let kills = storm(&pool, || {
        let mut seen = HashMap::new();
        for (number, outcome) in pool.map_unordered(work, 0..TASKS).in_flight(40) {
            assert_eq!(outcome, Ok((number as u64, expected)));
            *seen.entry(number).or_insert(0) += 1;
        }
        assert_eq!(seen.len() as u64, TASKS);
        assert!(seen.into_values().all(|times| times == 1));
    });
    let stats = pool.stats();
    assert_eq!((stats.done, stats.failed.total()), (TASKS, 0));
    assert!(kills > 0 && stats.restarts > 0, "{stats:?}");
    works(&pool);
}

#[test]
fn storm_of_kills_breaks_no_handle_in_a_result_and_no_large_one() {
    let pool = builder(3).retries_after_outside_kill(100).build().unwrap();
    let make = |n: u64| {
        (
            Shared::new(AtomicU64::new(n)).unwrap(),
            vec![n as u8; 30_000],
        )
    };
    let kills = storm(&pool, || {
        for (n, outcome) in (0..600).zip(pool.map(make, 0..600).in_flight(20)) {
            let (number, bytes) = outcome.unwrap();
            assert_eq!(number.load(Ordering::Relaxed), n);
            assert!(bytes.len() == 30_000 && bytes.iter().all(|&byte| byte == n as u8));
        }
    });
    assert!(kills > 0 && pool.stats().restarts > 0);
    works(&pool);
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
            assert!(
                before.len() >= 3,
                "two workers, the zygote and its fork: {before:?}"
            );
            before.iter().copied().for_each(kill_hard);
            works(&pool);
            spin_until(|| {
                let now = pool.worker_ids();
                now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
            });
        }
    });
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
        // The first pool starts what stays: the zygote, the process that it forks ahead, the keeper.
        round();
        let count = || {
            spin_until(|| Zygote::spare().is_some());
            (descriptors(), children().len())
        };
        let before = count();
        for _ in 0..5 {
            round();
        }
        assert_eq!(count(), before);
    });
}
