//! `cargo xtask bench`: measures, prints one table, keeps it in `RESULTS.md`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what it does"
)]

use std::path::Path;
use std::process::ExitCode;

use manyhands_benches::{machine, measure, scenarios, table};

const HELP: &str = "cargo xtask bench [--peers] [--limits] [--only SCENARIO]";

#[derive(Default)]
struct Options {
    peers: bool,
    limits: bool,
    only: Option<String>,
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{HELP}");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Option<Options> {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--peers" => options.peers = true,
            "--limits" => options.limits = true,
            "--only" => options.only = Some(words.next()?),
            _ => return None,
        }
    }
    Some(options)
}

fn run(options: &Options) -> Result<(), String> {
    let mut all = scenarios::all();
    all.extend(scenarios::of_programs());
    if options.peers {
        all.extend(scenarios::of_python());
    }
    if let Some(only) = &options.only {
        all.retain(|scenario| scenario.name.contains(only.as_str()));
    }
    let mut outcomes = Vec::new();
    // By value: what a scenario holds is gone before the next one.
    for mut scenario in all {
        eprintln!("{} ...", scenario.name);
        outcomes.push(measure(&mut scenario)?);
    }
    let table = table::draw(&outcomes);
    let machine = machine::describe();
    println!("{machine}\n\n{table}");
    // A part of the scenarios must not replace the figures of all.
    if options.only.is_none() {
        keep(&machine, &table).map_err(|error| format!("RESULTS.md: {error}"))?;
    }
    let over: Vec<&str> = outcomes
        .iter()
        .filter(|o| o.is_over())
        .map(|o| o.name)
        .collect();
    if options.limits && !over.is_empty() {
        return Err(format!("over the limit: {}", over.join("; ")));
    }
    Ok(())
}

const INTRODUCTION: &str = "\
# Results

The last table of `cargo xtask bench`: times for one operation, the median of all rounds and half the
width of their middle half; behind each peer the ratio of the first of ours to it, round by round, the
median; and in a column of its own that to the first peer. All from one run. A shared machine: compare within a row, not between days.
";

fn keep(machine: &str, table: &str) -> std::io::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
    std::fs::write(file, format!("{INTRODUCTION}\n{machine}\n\n{table}"))
}
