//! `cargo xtask test --stress N FILTER`: the same tests again and again, until one fails.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::Faults;
use crate::command::{self, cargo, program};
use crate::leaks::Run;

/// How long the matching tests of one binary may take in one round.
const LIMIT: Duration = Duration::from_secs(600);

/// How long building may take.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// A test binary, and the folder that cargo would run it in.
struct Binary {
    file: String,
    folder: String,
}

/// Builds once, then runs the tests that match `filter` `count` times.
pub(crate) fn run(count: &str, filter: &str) -> Result<(), Faults> {
    let count = match count.parse::<u32>() {
        Ok(count) if count > 0 => count,
        _ => return Err(vec![format!("`{count}` is no number of rounds")]),
    };
    let mut run = Run::begin().map_err(|error| vec![format!("temporary folder: {error}")])?;
    let words = [
        "test",
        "--release",
        "--workspace",
        "--features",
        crate::test::FEATURES,
        "--no-run",
        "--message-format",
        "json",
    ];
    let messages = command::run(cargo(&words, &run), "stress-build", BUILD_LIMIT, |_| false)?;
    let mut binaries: Vec<Binary> = messages.lines().filter_map(test_binary).collect();
    binaries.retain(|binary| matches(binary, filter, &run));
    if binaries.is_empty() {
        return Err(vec![format!("no test matches `{filter}`")]);
    }
    let started = Instant::now();
    for round in 1..=count {
        for binary in &binaries {
            let command = of(binary, &[filter], &run);
            let mut faults = command::run(command, "stress", LIMIT, |_| false).err();
            let left = run.leftovers();
            if !left.is_empty() {
                faults.get_or_insert_default().extend(left);
            }
            if let Some(mut faults) = faults {
                faults.insert(0, format!("round {round} of {count} failed"));
                return Err(faults);
            }
        }
        if round.is_power_of_two() || round == count {
            println!(
                "{round} of {count} rounds, {:.0} s",
                started.elapsed().as_secs_f64()
            );
        }
    }
    Ok(())
}

fn of(binary: &Binary, words: &[&str], run: &Run) -> Command {
    let mut command = program(&binary.file, words, run);
    command
        .current_dir(&binary.folder)
        .env("CARGO_MANIFEST_DIR", &binary.folder);
    command
}

fn matches(binary: &Binary, filter: &str, run: &Run) -> bool {
    let listed = of(binary, &[filter, "--list"], run).output();
    listed.is_ok_and(|listed| String::from_utf8_lossy(&listed.stdout).contains(": test"))
}

/// Reads cargo's message about a finished test binary; other lines are not of interest.
fn test_binary(message: &str) -> Option<Binary> {
    let file = text_in(message, "executable")?;
    let manifest = text_in(message, "manifest_path")?;
    let is_test = message.contains("\"test\":true") && message.contains("\"profile\":");
    let folder = manifest.strip_suffix("/Cargo.toml")?.to_owned();
    is_test.then_some(Binary { file, folder })
}

/// The text value of `key` in a JSON message, of which neither path nor name needs escapes.
fn text_in(message: &str, key: &str) -> Option<String> {
    let (_, rest) = message.split_once(&format!("\"{key}\":\""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_found_in_the_messages_of_cargo() {
        let message =
            r#"{"manifest_path":"/a/Cargo.toml","profile":{"test":true},"executable":"/t/b-1"}"#;
        let binary = test_binary(message).unwrap();
        assert_eq!(
            (binary.file.as_str(), binary.folder.as_str()),
            ("/t/b-1", "/a")
        );
        let library =
            r#"{"manifest_path":"/a/Cargo.toml","profile":{"test":false},"executable":null}"#;
        assert!(test_binary(library).is_none());
    }
}
