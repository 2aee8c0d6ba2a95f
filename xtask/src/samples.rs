//! `cargo xtask samples`: makes the samples that ship with rescue again.
//!
//! Writing images needs the encoders, and this package depends on nothing; so the maker is an
//! example of rescue, and this task its short name.

use std::process::Command;

use crate::Faults;

/// The package and the example of it that makes the samples.
const MAKER: [&str; 6] = [
    "run",
    "--release",
    "-p",
    "rescue",
    "--example",
    "make_samples",
];

/// Runs the maker; it prints what it made.
pub(crate) fn run(words: &[&str]) -> Result<(), Faults> {
    crate::no_more("samples", words)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(MAKER)
        .current_dir(crate::root())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(vec![format!("samples: {status}")]),
        Err(error) => Err(vec![format!("samples: {error}")]),
    }
}
