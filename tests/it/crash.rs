//! Objects whose users are killed: at every instruction by the program `crashstep`, at random by
//! the program `storm`. Both fork, which only a program with one thread may do. What they print is
//! printed here, so that the log of a run has the numbers.
//!
//! The controls are broken on purpose: a harness in which they pass proves nothing.

use std::process::Command;

/// Code that is not optimized has five times as many instructions, and a sweep takes the square of
/// that. So this run of the tests takes a sample, and the release run takes every boundary.
const STRIDE: &str = if cfg!(debug_assertions) { "29" } else { "1" };

fn is_long() -> bool {
    std::env::var_os("MANYHANDS_LONG").is_some_and(|value| value == "1")
}

#[allow(
    clippy::print_stdout,
    reason = "the table is what a reader of the log looks for"
)]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .expect("the program starts");
    let table = String::from_utf8_lossy(&output.stdout);
    println!("{table}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{table}\n{errors}",
        output.status
    );
}

fn control(object: &str) {
    run(env!("CARGO_BIN_EXE_crashstep"), &[object]);
}

fn sweep(object: &str) {
    let stride = ["--stride", STRIDE];
    let how: &[&str] = if is_long() { &["--long"] } else { &stride };
    run(env!("CARGO_BIN_EXE_crashstep"), &[&[object], how].concat());
}

fn pairs(object: &str) {
    let long: &[&str] = if is_long() { &["--long"] } else { &[] };
    run(
        env!("CARGO_BIN_EXE_crashstep"),
        &[&[object, "--pairs"], long].concat(),
    );
}

fn storm(object: &str) {
    let kills = if is_long() { "10000" } else { "500" };
    run(env!("CARGO_BIN_EXE_storm"), &[object, kills]);
}

#[test]
fn control_plain_futex_hangs() {
    control("control: plain futex");
}

#[test]
fn control_queue_that_clears_its_flag_before_it_wakes_hangs() {
    control("control: flag queue");
}

#[test]
fn control_word_that_forgets_its_sleepers_hangs_when_robbed() {
    control("control: non-sticky word");
}

#[test]
fn control_robust_mutex_of_glibc_hangs_when_robbed() {
    control("control: glibc robust");
}

#[test]
fn control_ring_with_claimed_slots_hangs() {
    control("control: slot ring");
}

#[test]
fn control_condition_of_glibc_hangs() {
    control("control: glibc condition");
}

#[test]
fn short_lock_survives_a_death_at_every_instruction() {
    sweep("ShortLock");
}

#[test]
fn raw_lock_survives_a_death_at_every_instruction() {
    sweep("RawLock");
}

#[test]
fn lock_survives_a_death_at_every_instruction() {
    sweep("Lock<T>");
}

#[test]
fn rlock_survives_a_death_at_every_instruction() {
    sweep("RLock<T>");
}

#[test]
fn posix_lock_survives_a_death_at_every_instruction() {
    sweep("PosixLock");
}

#[test]
fn once_is_done_by_the_next_after_a_death_at_every_instruction() {
    sweep("Once");
}

#[test]
fn event_survives_a_death_at_every_instruction() {
    sweep("Event");
}

#[test]
fn life_word_tells_all_of_a_death_at_every_instruction() {
    sweep("LifeWord");
}

#[test]
fn arena_loses_and_doubles_no_block_by_a_death_at_every_instruction() {
    sweep("Arena block");
}

#[test]
fn arena_loses_and_doubles_no_region_by_a_death_at_every_instruction() {
    sweep("Arena region");
}

#[test]
fn arena_loses_no_seat_by_a_death_at_every_change() {
    sweep("Arena seat");
}

#[test]
fn ring_tears_no_message_by_a_death_at_every_instruction() {
    sweep("Ring");
}

#[test]
fn pipe_keeps_its_handles_by_a_death_at_any_instruction() {
    sweep("Pipe");
}

#[test]
fn queue_forgets_nobody_by_a_death_at_every_instruction() {
    sweep("Queue");
}

#[test]
fn queue_loses_no_lease_by_a_death_at_every_instruction() {
    sweep("Queue leases");
}

#[test]
fn memory_with_a_name_survives_a_death_at_every_call() {
    sweep("Segment");
}

#[test]
fn short_lock_survives_the_death_of_the_one_who_takes_over() {
    pairs("ShortLock");
}

#[test]
fn raw_lock_survives_the_death_of_the_one_who_takes_over() {
    pairs("RawLock");
}

#[test]
fn lock_survives_a_storm_of_kills() {
    storm("Lock");
}

#[test]
fn rlock_survives_a_storm_of_kills() {
    storm("RLock");
}

#[test]
fn rwlock_survives_a_storm_of_kills() {
    storm("RwLock");
}

#[test]
fn semaphore_survives_a_storm_of_kills() {
    storm("Semaphore");
}

#[test]
fn bounded_semaphore_survives_a_storm_of_kills() {
    storm("BoundedSemaphore");
}

#[test]
fn barrier_survives_a_storm_of_kills() {
    storm("Barrier");
}

#[test]
fn condition_survives_a_storm_of_kills() {
    storm("Condition");
}

#[test]
fn once_survives_a_storm_of_kills() {
    storm("Once");
}

#[test]
fn our_locks_and_robust_mutexes_inside_each_other_survive_a_storm_of_kills() {
    storm("mixed");
}

#[test]
fn event_survives_a_storm_of_kills() {
    storm("Event");
}

#[test]
fn objects_of_the_arena_survive_a_storm_of_kills() {
    let kills = if is_long() { "2000" } else { "200" };
    run(env!("CARGO_BIN_EXE_storm"), &["objects", kills]);
}

#[test]
fn large_slice_is_not_copied_and_many_small_ones_leave_nothing() {
    let size = if is_long() { "1024" } else { "256" };
    run(env!("CARGO_BIN_EXE_large"), &[size, "100000"]);
}

#[test]
fn job_that_is_killed_as_a_whole_leaves_nothing() {
    let kills = if is_long() { "500" } else { "100" };
    run(env!("CARGO_BIN_EXE_job"), &[kills]);
}

#[test]
fn control_plain_futex_does_not_survive_a_storm_of_kills() {
    let status = Command::new(env!("CARGO_BIN_EXE_storm"))
        .args(["plain-futex", "500"])
        .status()
        .expect("the program starts");
    assert_eq!(
        status.code(),
        Some(1),
        "a lock that no death unlocks must stand still"
    );
}

#[test]
fn semaphore_survives_a_death_at_every_instruction() {
    sweep("Semaphore");
}

#[test]
fn rwlock_survives_a_death_at_every_instruction() {
    sweep("RwLock");
}

#[test]
fn barrier_survives_a_death_at_every_instruction() {
    sweep("Barrier");
}

#[test]
fn condition_survives_a_death_at_every_instruction() {
    sweep("Condition");
}
