//! Tests of the program `rescue`, each by running it as a user does.

#![forbid(unsafe_code)]
// Said for a test that fails: which seed, and what was skipped.
#![allow(clippy::print_stdout)]

mod support;

/// Wrong calls: one line, exit code 2, nothing left.
mod bad_use;
/// A disk that is full.
mod full_disk;
/// Workers killed from outside, at random.
mod kills;
/// What may lie in a folder beside good files.
mod odd_entries;
/// The parent killed at random points, and `--resume`.
mod resume;
/// The samples that ship with it, and the verdict due for each.
mod samples;
