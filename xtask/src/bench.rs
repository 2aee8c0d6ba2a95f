//! `cargo xtask bench`: one table of ours, peers, floor and ratio, all from one run.

use std::process::Command;

use crate::Faults;

/// The package that measures; its program prints the table and keeps it in `benches/RESULTS.md`.
const MEASURE: [&str; 4] = ["run", "--release", "-p", "manyhands-benches"];

/// Builds what is measured (rescue too, which one scenario starts), then measures. Peers that take
/// long to build are built only if they are asked for.
pub(crate) fn run(words: &[&str]) -> Result<(), Faults> {
    cargo(&["build", "--release", "-p", "rescue"])?;
    let mut all = MEASURE.to_vec();
    if words.contains(&"--peers") {
        all.extend(["--features", "peers"]);
    }
    all.push("--");
    all.extend(words);
    cargo(&all)
}

fn cargo(words: &[&str]) -> Result<(), Faults> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    match Command::new(program)
        .args(words)
        .current_dir(crate::root())
        .status()
    {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(vec![format!("cargo {}: {status}", words.join(" "))]),
        Err(error) => Err(vec![format!("cargo: {error}")]),
    }
}
