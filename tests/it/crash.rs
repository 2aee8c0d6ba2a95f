//! Objects whose users are killed at every instruction. Each test runs the program `crashstep`,
//! which has one thread and may therefore fork; its table is printed.
//!
//! The controls are broken on purpose: a harness in which they pass proves nothing.

use std::process::Command;

#[allow(
    clippy::print_stdout,
    reason = "the table is what a reader of the log looks for"
)]
fn sweep(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_crashstep"))
        .args(arguments)
        .output()
        .expect("crashstep starts");
    let table = String::from_utf8_lossy(&output.stdout);
    println!("{table}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{table}\n{errors}");
}

#[test]
fn control_plain_futex_hangs() {
    sweep(&["control: plain futex"]);
}

#[test]
fn control_queue_that_clears_its_flag_before_it_wakes_hangs() {
    sweep(&["control: flag queue"]);
}

#[test]
fn control_word_that_forgets_its_sleepers_hangs_when_robbed() {
    sweep(&["control: non-sticky word"]);
}

#[test]
fn control_robust_mutex_of_glibc_hangs_when_robbed() {
    sweep(&["control: glibc robust"]);
}

#[test]
fn control_ring_with_claimed_slots_hangs() {
    sweep(&["control: slot ring"]);
}

#[test]
fn control_condition_of_glibc_hangs() {
    sweep(&["control: glibc condition"]);
}
