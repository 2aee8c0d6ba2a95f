//! The tasks of this project: `cargo xtask test`, and the few beside it.
//!
//! A word names the task, a file holds it. Nothing here depends on another crate, so that the
//! first task of a fresh clone starts in seconds.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what these tasks do"
)]

mod bench;
mod command;
mod examples;
mod leaks;
mod loom;
mod rescue;
mod samples;
mod stress;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <task>

  test                  everything that must hold before a commit is sent
    --long              the same with the long loops (MANYHANDS_LONG=1)
    --only STEP         one step of it
    --stress N FILTER   the tests that match FILTER, N times, until one fails
  tidy                  what the compiler does not check; lists all faults
    --bless             accept the layout sources as docs/layout.md now describes them
  bench                 one table: ours, peers, floor, ratio
    --peers             with the peers that take long
    --limits            fail when a ratio is over its limit
    --only SCENARIO     the scenarios whose name contains this
  samples               make the samples of rescue again
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.split_first() {
        Some((&"test", rest)) => test::run(rest),
        Some((&"tidy", rest)) => tidy::run(rest),
        Some((&"bench", rest)) => bench::run(rest),
        Some((&"samples", rest)) => samples::run(rest),
        Some((&("help" | "--help" | "-h"), _)) => {
            print!("{HELP}");
            Ok(())
        }
        Some((other, _)) => Err(vec![format!("no task is called `{other}`\n\n{HELP}")]),
        None => Err(vec![HELP.to_owned()]),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => {
            for fault in faults {
                eprintln!("{fault}");
            }
            ExitCode::FAILURE
        }
    }
}

/// What a task found wrong, one line (or paragraph) each; never empty.
type Faults = Vec<String>;

/// The folder of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder that cargo builds into, which `CARGO_TARGET_DIR` may move.
fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    root().join(named.unwrap_or_else(|| PathBuf::from("target")))
}

/// Refuses words that a task does not know, instead of ignoring them.
fn no_more(task: &str, words: &[&str]) -> Result<(), Faults> {
    match words.first() {
        None => Ok(()),
        Some(word) => Err(vec![format!(
            "`cargo xtask {task}` does not know `{word}`\n\n{HELP}"
        )]),
    }
}
