//! Runs one storm: `storm OBJECT KILLS [SEED]`; exit code 1 when it found something, or was none.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing the result is its job"
)]

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use manyhands_sync::raw::net;
use manyhands_tests::subjects::lock::{Raw, Short, Whole};
use manyhands_tests::subjects::plain_futex::PlainFutex;
use manyhands_tests::{storm, system};

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
    let weather = match arguments[0].as_str() {
        "Lock" => storm::storm_of_locks::<Whole>(seed, kills),
        "RawLock" => storm::storm_of_locks::<Raw>(seed, kills),
        "ShortLock" => storm::storm_of_locks::<Short>(seed, kills),
        "Event" => storm::storm_of_sets(seed, kills),
        "plain-futex" => storm::storm_of_locks::<PlainFutex>(seed, kills),
        _ => return usage(),
    };
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
    eprintln!("usage: storm (Lock | RawLock | ShortLock | Event | plain-futex) KILLS [SEED]");
    ExitCode::from(2)
}
