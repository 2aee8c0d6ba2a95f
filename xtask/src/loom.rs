//! The models: they pass, and each fails when the bug that it is there for is planted.

use std::process::Command;

use crate::Faults;
use crate::command::{self, Ended};
use crate::test::{Context, summary};

/// The bugs that are planted in the protocols, and the models of which one must find it.
const BUGS: [(&str, &str); 10] = [
    ("word", "loom_tests::word::"),
    ("condition", "loom_tests::condition::"),
    ("semaphore", "loom_tests::semaphore::"),
    ("event", "loom_tests::event::"),
    ("barrier", "loom_tests::barrier::"),
    ("rwlock", "loom_tests::rwlock::"),
    ("parking", "ring::loom_tests::"),
    ("bunk", "ring::loom_tests::loom_two"),
    ("queue", "queue::loom_tests::"),
    ("lease", "queue::loom_tests::loom_lease"),
];

pub(crate) fn step(context: &Context) -> Result<(), Faults> {
    let output = command::run(models(context, "loom_"), "loom", context.limit(), summary)?;
    // A filter that matches nothing passes; models that are not there must not.
    let starting = |word: &str| output.lines().filter(|line| line.starts_with(word)).count();
    if starting("test ") == starting("test result:") {
        return Err(vec!["no model ran".to_owned()]);
    }
    let faults: Faults = BUGS
        .iter()
        .filter_map(|(bug, filter)| misses(context, bug, filter))
        .collect();
    if faults.is_empty() {
        println!("    each of {} planted bugs is found", BUGS.len());
        return Ok(());
    }
    Err(faults)
}

/// What is wrong with the models of this filter when the bug is planted: nothing when one of them
/// finds it. One build serves them all, since a bug is planted at run time.
fn misses(context: &Context, bug: &str, filter: &str) -> Option<String> {
    let mut command = models(context, filter);
    command
        .env("MANYHANDS_PLANTED_BUG", bug)
        .env("RUST_BACKTRACE", "0");
    let log = format!("loom-{bug}");
    match command::run_to_end(command, &log, context.limit(), |_| false) {
        Err(error) => Some(format!("the models could not be run with `{bug}`: {error}")),
        Ok(Ended { fault: None, .. }) => Some(format!("no model finds the planted bug `{bug}`")),
        // Loom panics: over a deadlock, or over what a model asserts.
        Ok(ended) if ended.output.contains("panicked at") => None,
        Ok(_) => Some(format!(
            "no model ran with the planted bug `{bug}`: see {log}.log"
        )),
    }
}

/// In a target folder of its own: the flag would otherwise rebuild everything, there and back.
fn models(context: &Context, filter: &str) -> Command {
    let words = [
        "test",
        "--release",
        "--no-fail-fast",
        "-p",
        "manyhands-sync",
        "-p",
        "manyhands-channel",
        "--lib",
        filter,
    ];
    let mut command = context.cargo(&words);
    command
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", crate::target().join("loom"));
    command
}
