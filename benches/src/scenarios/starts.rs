//! Starting processes: against what the kernel needs, against programs, and beside much memory.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use manyhands_channel::{Connection, Pipe};
use manyhands_process::{Process, StartMethod};
use manyhands_sync::Event;

use super::processes::{add_one, said};
use crate::bare_zygote::BareZygote;
use crate::{Broken, Contender, Role, Scenario};

/// About the smallest program there is.
const TRUE: &str = "true";
/// This one; the argument is one that it does not know.
const THIS: &str = "/proc/self/exe";
const REFUSED: &str = "--nothing";

/// So much time is between two starts of a program that does not start processes in a row.
const PAUSE: Duration = Duration::from_millis(2);

/// How much a parent has touched, in the scenario of its name.
const MUCH: usize = 8 << 30;
/// When it is only tried whether the scenario works.
const LITTLE: usize = 64 << 20;
/// Starts of which the slowest hundredth is looked at.
const MANY: u64 = 300;

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "process started and joined, x 50, with a value",
            count: 50,
            rounds: 15,
            contenders: vec![
                by_zygote(),
                bare("bare clone3 zygote", Role::Peer, Duration::ZERO),
            ],
            limit: Some(1.5),
        },
        Scenario {
            name: "process started and joined, x 50, 2 ms between",
            count: 50,
            rounds: 15,
            contenders: vec![
                start("Process, Zygote", StartMethod::Zygote, PAUSE),
                bare("bare clone3 zygote", Role::Peer, PAUSE),
            ],
            limit: Some(1.5),
        },
        Scenario {
            name: "process started and joined, x 50, against programs",
            count: 50,
            rounds: 15,
            contenders: vec![
                by_zygote(),
                start("Process, Exec", StartMethod::Exec, Duration::ZERO),
                command("std Command, this program, 2 MB", || THIS.into(), REFUSED),
                command("std Command, `true`", || TRUE.into(), ""),
                floor(),
            ],
            limit: None,
        },
        Scenario {
            name: "slowest hundredth of 300 starts, parent of 8 GiB",
            count: MANY,
            rounds: 9,
            contenders: vec![
                slowest("8 GiB touched", Role::Ours, MUCH),
                slowest("small parent", Role::Peer, 0),
            ],
            limit: Some(1.3),
        },
    ]
}

/// What is measured against rescue, which is built for release: six megabytes of code and data are loaded
/// with it, without what is for debuggers.
pub(crate) fn of_programs() -> Vec<Scenario> {
    vec![Scenario {
        name: "process started and joined, x 50, against a program of 6 MB",
        count: 50,
        rounds: 15,
        contenders: vec![
            by_zygote(),
            command(
                "std Command, rescue, 6 MB of code and data",
                || super::rescue::program().unwrap_or_default(),
                "--version",
            ),
            floor(),
        ],
        limit: Some(0.2),
    }]
}

/// For other files: a process with its value, from the zygote.
pub(crate) fn by_zygote() -> Contender {
    start("Process, Zygote", StartMethod::Zygote, Duration::ZERO)
}

fn start(name: &'static str, method: StartMethod, pause: Duration) -> Contender {
    Contender::new(name, Role::Ours, move |count| {
        one_by_one(count, pause, |number| start_one(method, number))
    })
}

/// How long `call` takes so many times, without the pauses between.
fn one_by_one(
    count: u64,
    pause: Duration,
    mut call: impl FnMut(u64) -> Result<(), Broken>,
) -> Result<Duration, Broken> {
    let nobody = Event::new();
    let mut taken = Duration::ZERO;
    for number in 0..count {
        let _ = nobody.wait_timeout(pause);
        let start = Instant::now();
        call(number)?;
        taken += start.elapsed();
    }
    Ok(taken)
}

fn start_one(method: StartMethod, number: u64) -> Result<(), Broken> {
    let builder = Process::builder().start_method(method);
    let mut process = builder.spawn(add_one, (number,)).map_err(|e| said(&e))?;
    if process.join().map_err(|e| said(&e))? != number + 1 {
        return Err("gave another value".to_owned());
    }
    Ok(())
}

/// What the system needs for any start.
fn floor() -> Contender {
    bare("bare clone3 zygote", Role::Floor, Duration::ZERO)
}

fn bare(name: &'static str, role: Role, pause: Duration) -> Contender {
    let mut zygote = None;
    Contender::new(name, role, move |count| {
        let zygote = match &zygote {
            Some(zygote) => zygote,
            None => zygote.insert(BareZygote::start().map_err(|e| said(&e))?),
        };
        one_by_one(count, pause, |number| {
            match zygote.add_one(number).map_err(|e| said(&e))? == number + 1 {
                true => Ok(()),
                false => Err("gave another value".to_owned()),
            }
        })
    })
}

fn command(
    name: &'static str,
    program: impl Fn() -> PathBuf + 'static,
    argument: &'static str,
) -> Contender {
    Contender::new(name, Role::Peer, move |count| {
        let program = program();
        let start = Instant::now();
        for _ in 0..count {
            let mut command = Command::new(&program);
            command.arg(argument).stdin(Stdio::null());
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            if status.map_err(|e| said(&e))?.code().is_none() {
                return Err("was killed".to_owned());
            }
        }
        Ok(start.elapsed())
    })
}

/// A parent in a process of its own, which is asked for so many starts and tells how long the slowest
/// hundredth took at least.
struct Parent {
    _process: Process<()>,
    questions: Connection<u64, Result<Duration, Broken>>,
    touched: usize,
}

impl Parent {
    fn new(touched: usize) -> Result<Self, Broken> {
        let (questions, answers) = Pipe::duplex().map_err(|e| said(&e))?;
        let process = Process::spawn(be_parent, (touched, answers)).map_err(|e| said(&e))?;
        Ok(Self {
            _process: process,
            questions,
            touched,
        })
    }

    fn ask(&mut self, count: u64) -> Result<Duration, Broken> {
        self.questions.send(&count).map_err(|e| said(&e))?;
        self.questions.recv().map_err(|e| said(&e))?
    }
}

fn be_parent(touched: usize, mut answers: Connection<Result<Duration, Broken>, u64>) {
    let memory = vec![1_u8; touched];
    // It ends with the other side.
    while let Ok(count) = answers.recv() {
        if answers.send(&slowest_of(count)).is_err() {
            break;
        }
    }
    drop(memory);
}

fn slowest_of(count: u64) -> Result<Duration, Broken> {
    let mut times = Vec::new();
    for number in 0..count {
        let start = Instant::now();
        start_one(StartMethod::Zygote, number)?;
        times.push(start.elapsed());
    }
    times.sort();
    let place = times.len().saturating_sub(1) * 99 / 100;
    Ok(times.get(place).copied().unwrap_or_default())
}

fn slowest(name: &'static str, role: Role, touched: usize) -> Contender {
    let mut parent: Option<Parent> = None;
    Contender::new(name, role, move |count| {
        let touched = if count < MANY {
            touched.min(LITTLE)
        } else {
            touched
        };
        let parent = match &mut parent {
            Some(parent) if parent.touched == touched => parent,
            other => other.insert(Parent::new(touched)?),
        };
        // The table shows a time for one.
        Ok(parent.ask(count)? * u32::try_from(count).unwrap_or(u32::MAX))
    })
}
