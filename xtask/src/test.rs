//! `cargo xtask test`: all that must hold, in order, each step with its time.
//!
//! A step that fails does not stop the others; all faults are told again at the end. After each
//! step its leftovers are looked for, so that a leak has the name of the step that made it. Two steps run
//! side by side; a leak of either has the name of the second one.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::Faults;
use crate::command::{self, cargo};
use crate::leaks::Run;
use crate::{examples, loom, rescue, stress, tidy};

/// How long one program of a step may take, building included.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// The same with the long loops.
const LONG_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);

/// What a step needs to know about the run it is part of.
pub(crate) struct Context {
    pub(crate) run: Run,
    pub(crate) long: bool,
}

impl Context {
    /// The time that one program may take.
    pub(crate) fn limit(&self) -> Duration {
        if self.long { LONG_LIMIT } else { LIMIT }
    }

    /// Cargo with these words, marked as part of this run.
    pub(crate) fn cargo(&self, words: &[&str]) -> Command {
        let mut command = cargo(words, &self.run);
        if self.long {
            command.env("MANYHANDS_LONG", "1");
        }
        command
    }
}

type Step = fn(&Context) -> Result<(), Faults>;

/// The steps in their order: the quick ones first.
const STEPS: [(&str, &str, Step); 10] = [
    ("fmt", "the sources are formatted", fmt),
    ("clippy", "no lint fires", clippy),
    ("tidy", "what the compiler does not check", tidy_step),
    (
        "unit",
        "unit, integration and doc tests of each crate",
        unit,
    ),
    (
        "docs",
        "the documentation builds, its links lead somewhere",
        docs,
    ),
    (
        "loom",
        "models of the protocols, all interleavings; each finds its planted bug",
        loom::step,
    ),
    ("cross", "tests that need a second process", cross),
    (
        "examples",
        "the examples print what they should",
        examples::step,
    ),
    (
        "rescue",
        "its own tests, and the samples with the right verdicts",
        rescue::step,
    ),
    (
        "benches",
        "the benches build and what they measure works",
        benches,
    ),
];

/// `cargo xtask test [--long] [--only STEP] [--stress N FILTER]`.
pub(crate) fn run(words: &[&str]) -> Result<(), Faults> {
    let mut only = None;
    let mut long = false;
    let mut rest = words;
    loop {
        rest = match rest {
            [] => break,
            ["--long", more @ ..] => {
                long = true;
                more
            }
            ["--only", step, more @ ..] => {
                only = Some(*step);
                more
            }
            ["--stress", count, filter] => return stress::run(count, filter),
            more => return crate::no_more("test", more),
        }
    }
    let known = |name: &str| STEPS.iter().any(|(step, ..)| *step == name);
    if let Some(step) = only.filter(|step| !known(step)) {
        let names: Vec<&str> = STEPS.iter().map(|(name, ..)| *name).collect();
        return Err(vec![format!(
            "no step is called `{step}`; there are: {}",
            names.join(" ")
        )]);
    }
    let run = Run::begin().map_err(|error| vec![format!("temporary folder: {error}")])?;
    all(Context { run, long }, only)
}

/// Steps that run at the same time: each of them needs one core for most of its time, and neither looks
/// at a clock.
const TOGETHER: [&str; 2] = ["docs", "loom"];

fn are_together(one: &str, next: &str) -> bool {
    [one, next].iter().all(|name| TOGETHER.contains(name))
}

/// How a step ended.
struct Ended {
    name: &'static str,
    found: Faults,
    took: Duration,
}

fn side_by_side(steps: &[&(&'static str, &'static str, Step)], context: &Context) -> Vec<Ended> {
    let run = |name, step: Step| {
        let started = Instant::now();
        let found = step(context).err().unwrap_or_default();
        let took = started.elapsed();
        Ended { name, found, took }
    };
    thread::scope(|threads| {
        let run = &run;
        let started: Vec<_> = steps
            .iter()
            .map(|(name, _, step)| threads.spawn(move || run(*name, *step)))
            .collect();
        let ended = started.into_iter().map(|step| step.join());
        ended.map(|step| step.expect("a step returns")).collect()
    })
}

fn all(mut context: Context, only: Option<&str>) -> Result<(), Faults> {
    let started = Instant::now();
    let mut faults = Faults::new();
    let steps: Vec<_> = STEPS
        .iter()
        .filter(|(name, ..)| only.is_none_or(|o| o == *name))
        .collect();
    let mut table = String::new();
    let mut number = 0;
    for together in steps.chunk_by(|one, next| are_together(one.0, next.0)) {
        for (name, what, _) in together {
            number += 1;
            println!("[{number}/{}] {name}: {what}", steps.len());
        }
        let mut ended = side_by_side(together, &context);
        // They are told of the last one: whose they are cannot be seen.
        let left = context.run.leftovers();
        ended.last_mut().expect("a step").found.extend(left);
        for Ended { name, found, took } in ended {
            let word = if found.is_empty() { "ok" } else { "FAILED" };
            let line = format!("    {word:<7} {name:<9} {:>7.1} s", took.as_secs_f64());
            println!("{line}");
            table.push_str(&line);
            table.push('\n');
            faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
        }
    }
    println!("\n{table}");
    let seconds = started.elapsed().as_secs_f64();
    if faults.is_empty() {
        let count = match steps.len() {
            1 => "the step".to_owned(),
            more => format!("all {more} steps"),
        };
        println!("{count} passed in {seconds:.0} s, nothing left behind");
        return Ok(());
    }
    let count = match faults.len() {
        1 => "1 fault".to_owned(),
        more => format!("{more} faults"),
    };
    let logs = command::logs().display().to_string();
    faults.insert(
        0,
        format!("{count} in {seconds:.0} s; full output in {logs}"),
    );
    Err(faults)
}

/// Features that are off by default, with which the quick steps run; the others take what they need.
pub(crate) const FEATURES: &str = "manyhands-sync/posix,manyhands-shm/named";

/// The lines of cargo's and the test harness's output that tell how it went.
pub(crate) fn summary(line: &str) -> bool {
    let line = line.trim_start();
    let starts = [
        "Running ",
        "Doc-tests ",
        "test result:",
        "error",
        "warning:",
        "failures:",
    ];
    starts.iter().any(|start| line.starts_with(start)) || line.ends_with("FAILED")
}

/// Runs one program of a step and forgets what it said.
fn one(context: &Context, log: &str, command: Command) -> Result<(), Faults> {
    command::run(command, log, context.limit(), summary).map(drop)
}

fn fmt(context: &Context) -> Result<(), Faults> {
    one(
        context,
        "fmt",
        context.cargo(&["fmt", "--all", "--check", "--", "--color", "never"]),
    )
}

fn clippy(context: &Context) -> Result<(), Faults> {
    let words = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        FEATURES,
        "--",
        "-D",
        "warnings",
    ];
    one(context, "clippy", context.cargo(&words))
}

fn tidy_step(_: &Context) -> Result<(), Faults> {
    tidy::run(&[])
}

/// All but what later steps build in release: tests of two processes, and rescue's decoders.
fn unit(context: &Context) -> Result<(), Faults> {
    let words = [
        "test",
        "--workspace",
        "--features",
        FEATURES,
        "--no-fail-fast",
        "--exclude",
        "manyhands-tests",
        "--exclude",
        "manyhands-benches",
        "--exclude",
        "rescue",
    ];
    one(context, "unit", context.cargo(&words))
}

fn docs(context: &Context) -> Result<(), Faults> {
    let mut command = context.cargo(&["doc", "--workspace", "--no-deps", "--features", FEATURES]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    one(context, "docs", command)
}

fn cross(context: &Context) -> Result<(), Faults> {
    let words = [
        "test",
        "--release",
        "--no-fail-fast",
        "-p",
        "manyhands-tests",
    ];
    one(context, "cross", context.cargo(&words))
}

fn benches(context: &Context) -> Result<(), Faults> {
    let mut words = vec![
        "test",
        "--release",
        "--no-fail-fast",
        "-p",
        "manyhands-benches",
    ];
    if context.long {
        words.extend(["--features", "peers"]);
    }
    one(context, "benches", context.cargo(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_lines_are_shown_and_single_passing_tests_are_not() {
        assert!(summary("test result: ok. 3 passed; 0 failed"));
        assert!(summary(
            "     Running unittests src/lib.rs (target/debug/deps/x)"
        ));
        assert!(summary("test lock::tests::waits ... FAILED"));
        assert!(!summary("test lock::tests::waits ... ok"));
    }

    #[test]
    fn unknown_words_are_refused() {
        assert!(run(&["--lnog"]).is_err());
        assert!(run(&["--only", "no-such-step"]).is_err());
        assert!(run(&["--stress", "0", "x"]).is_err());
    }
}
