//! Starting processes, and calls that run in a pool of them.

use std::process::{Command, Stdio};
use std::time::Instant;

use manyhands_executor::{Executor, ProcessPoolExecutor, TaskError, ThreadPoolExecutor};
use manyhands_process::{Process, StartMethod};

use crate::bare_zygote::BareZygote;
use crate::{Broken, Contender, Role, Scenario};

/// What [`Command`] starts: about the smallest program there is.
const TRUE: &str = "true";

/// Tasks that are on their way at the same time.
const IN_FLIGHT: usize = 64;

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "process started and joined, x 50, with a value",
            count: 50,
            rounds: 9,
            contenders: vec![
                start("Process, Zygote", StartMethod::Zygote),
                start("Process, Exec", StartMethod::Exec),
                bare("bare clone3 zygote"),
                command("std Command, `true`"),
            ],
            limit: Some(1.0),
        },
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

/// For other files: a process with its value, from the zygote.
pub(crate) fn by_zygote() -> Contender {
    start("Process, Zygote", StartMethod::Zygote)
}

/// For other files: tasks one at a time in a pool of one.
pub(crate) fn by_pool() -> Contender {
    one_at_a_time("ProcessPoolExecutor", Role::Ours, processes(1))
}

fn add_one(number: u64) -> u64 {
    number + 1
}

fn said(error: &impl ToString) -> Broken {
    error.to_string()
}

fn start(name: &'static str, method: StartMethod) -> Contender {
    Contender::new(name, Role::Ours, move |count| {
        let builder = Process::builder().start_method(method);
        let start = Instant::now();
        for number in 0..count {
            let mut process = builder.spawn(add_one, (number,)).map_err(|e| said(&e))?;
            if process.join().map_err(|e| said(&e))? != number + 1 {
                return Err("gave another value".to_owned());
            }
        }
        Ok(start.elapsed())
    })
}

fn bare(name: &'static str) -> Contender {
    let mut zygote = None;
    Contender::new(name, Role::Peer, move |count| {
        let zygote = match &zygote {
            Some(zygote) => zygote,
            None => zygote.insert(BareZygote::start().map_err(|e| said(&e))?),
        };
        let start = Instant::now();
        for number in 0..count {
            if zygote.add_one(number).map_err(|e| said(&e))? != number + 1 {
                return Err("gave another value".to_owned());
            }
        }
        Ok(start.elapsed())
    })
}

fn command(name: &'static str) -> Contender {
    Contender::new(name, Role::Peer, move |count| {
        let start = Instant::now();
        for _ in 0..count {
            let status = Command::new(TRUE)
                .stdin(Stdio::null())
                .status()
                .map_err(|e| said(&e))?;
            if !status.success() {
                return Err("failed".to_owned());
            }
        }
        Ok(start.elapsed())
    })
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
