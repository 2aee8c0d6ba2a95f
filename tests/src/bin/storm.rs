//! Runs one storm: `storm OBJECT KILLS [SEED]`; exit code 1 when it found something, or was none.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing the result is its job"
)]

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use manyhands_sync::raw::net;
use manyhands_sync::{BoundedSemaphore, Semaphore};
use manyhands_tests::storm::barrier::OfBarrier;
use manyhands_tests::storm::condition::OfCondition;
use manyhands_tests::storm::locks::OfLock;
use manyhands_tests::storm::mixed::Mixed;
use manyhands_tests::storm::objects::Objects;
use manyhands_tests::storm::once::OfOnce;
use manyhands_tests::storm::rwlock::OfRwLock;
use manyhands_tests::storm::semaphore::OfPermits;
use manyhands_tests::storm::{self, Weather};
use manyhands_tests::subjects::lock::{Raw, Short, Whole};
use manyhands_tests::subjects::plain_futex::PlainFutex;
use manyhands_tests::subjects::relock::Again;
use manyhands_tests::system;

/// A storm, started with a seed and a number of kills.
type Storm = fn(u64, u64) -> Weather;

const STORMS: [(&str, Storm); 14] = [
    ("Lock", storm::run::<OfLock<Whole>>),
    ("RLock", storm::run::<OfLock<Again>>),
    ("RawLock", storm::run::<OfLock<Raw>>),
    ("ShortLock", storm::run::<OfLock<Short>>),
    ("RwLock", storm::run::<OfRwLock>),
    ("Semaphore", storm::run::<OfPermits<Semaphore>>),
    (
        "BoundedSemaphore",
        storm::run::<OfPermits<BoundedSemaphore>>,
    ),
    ("Barrier", storm::run::<OfBarrier>),
    ("Condition", storm::run::<OfCondition>),
    ("Once", storm::run::<OfOnce>),
    ("mixed", storm::run::<Mixed>),
    ("objects", storm::run::<Objects>),
    ("Event", storm::event::storm_of_sets),
    ("plain-futex", storm::run::<OfLock<PlainFutex>>),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| {
        arguments
            .get(index)
            .and_then(|text| text.parse::<u64>().ok())
    };
    let Some(kills) = number(1) else {
        return usage();
    };
    let seed = number(2).unwrap_or_else(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        now.as_nanos() as u64
    });
    net::take_away();
    // Whatever happens, somebody hears of it.
    system::end_after(60 + kills as u32);
    let started = Instant::now();
    let Some((_, run)) = STORMS.iter().find(|(name, _)| *name == arguments[0]) else {
        return usage();
    };
    let weather = run(seed, kills);
    println!(
        "{}: {weather}, {:.1} s",
        arguments[0],
        started.elapsed().as_secs_f64()
    );
    if weather.is_fair() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn usage() -> ExitCode {
    let names = STORMS.map(|(name, _)| name).join(" | ");
    eprintln!("usage: storm ({names}) KILLS [SEED]");
    ExitCode::from(2)
}
