//! What figures must stand beside: machine, kernel, commit.

use std::fs;
use std::process::Command;

/// One line: processor, processors usable, kernel, commit, day.
#[must_use]
pub fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel
        .trim()
        .split('-')
        .next()
        .unwrap_or_default()
        .to_owned();
    let commit = output("git", &["describe", "--always", "--dirty"]);
    let day = output("date", &["-u", "+%Y-%m-%d"]);
    format!("{model}, {usable} usable, Linux {kernel}, commit {commit}, {day}")
}

fn output(program: &str, words: &[&str]) -> String {
    let said = Command::new(program).args(words).output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    said.ok()
        .filter(|said| !said.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
