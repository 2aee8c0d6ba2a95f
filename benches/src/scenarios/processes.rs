//! Calls that run in a pool.

use std::time::Instant;

use manyhands_executor::{Executor, ProcessPoolExecutor, TaskError, ThreadPoolExecutor};

use crate::{Broken, Contender, Role, Scenario};

/// Tasks that are on their way at the same time.
const IN_FLIGHT: usize = 64;

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "task there and back, x 5k, one at a time, 1 worker",
            count: 5_000,
            rounds: 9,
            contenders: vec![
                one_at_a_time("ProcessPoolExecutor", Role::Ours, processes(1)),
                one_at_a_time("ThreadPoolExecutor", Role::Ours, threads(1)),
            ],
            limit: None,
        },
        Scenario {
            name: "tasks that do nothing, x 20k, 64 in flight, 2 workers",
            count: 20_000,
            rounds: 9,
            contenders: vec![
                many("ProcessPoolExecutor", Role::Ours, processes(2)),
                many("ThreadPoolExecutor", Role::Ours, threads(2)),
            ],
            limit: None,
        },
    ]
}

/// For other files: tasks one at a time in a pool of one.
pub(crate) fn by_pool() -> Contender {
    one_at_a_time("ProcessPoolExecutor", Role::Ours, processes(1))
}

pub(crate) fn add_one(number: u64) -> u64 {
    number + 1
}

pub(crate) fn said(error: &impl ToString) -> Broken {
    error.to_string()
}

fn processes(workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(workers).expect("a pool can be made")
}

fn threads(workers: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::new(workers).expect("threads can be started")
}

fn one_at_a_time<E: Executor + 'static>(name: &'static str, role: Role, executor: E) -> Contender {
    Contender::new(name, role, move |count| {
        let start = Instant::now();
        for number in 0..count {
            let task = executor.submit(add_one, (number,)).map_err(|e| said(&e))?;
            if task.result().map_err(|e| said(&e))? != number + 1 {
                return Err("gave another value".to_owned());
            }
        }
        Ok(start.elapsed())
    })
}

fn many<E: Executor + 'static>(name: &'static str, role: Role, executor: E) -> Contender {
    Contender::new(name, role, move |count| {
        let start = Instant::now();
        let sum: Result<u64, TaskError> =
            executor.map(add_one, 0..count).in_flight(IN_FLIGHT).sum();
        let took = start.elapsed();
        if sum.map_err(|e| said(&e))? != count * (count + 1) / 2 {
            return Err("lost a task".to_owned());
        }
        Ok(took)
    })
}
