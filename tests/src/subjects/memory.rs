//! Whether the arena's memory is what it must have: nothing is left of what was freed.

use std::cell::Cell;

use manyhands_shm::arena::Stats;

use super::family;

/// Of each block there is an entry and a holder set, whoever uses it.
const RECORDS: u64 = 32 + 64;
/// Up to this size, blocks keep their pages.
const PAGE: u64 = 4096;

thread_local! {
    static BEFORE: Cell<u64> = const { Cell::new(0) };
}

/// Remembers what the arena has before anything happens.
pub fn note() {
    BEFORE.set(family::family().stats().resident_bytes);
}

/// Gives back what is kept warm; whether the rest is what small blocks and records need.
#[allow(
    clippy::print_stderr,
    reason = "says how much it is, which the outcome alone does not"
)]
pub fn is_at_base() -> bool {
    let family = family::family();
    family.trim();
    let stats = family.stats();
    let most = BEFORE.get() + needed(&stats);
    let is_at_base = stats.resident_bytes <= most;
    if !is_at_base {
        eprintln!("{} bytes are left, of {most}", stats.resident_bytes);
    }
    is_at_base
}

fn needed(stats: &Stats) -> u64 {
    let classes = stats.classes.iter().map(|class| {
        let blocks = [
            class.free_warm,
            class.free_cold,
            class.owned,
            class.given,
            class.shared,
            class.deposited,
        ];
        let blocks: u64 = blocks.into_iter().sum();
        let small = class.block_size <= PAGE;
        let data = if small { blocks * class.block_size } else { 0 };
        (blocks * RECORDS).next_multiple_of(PAGE) + PAGE + data
    });
    classes.sum()
}
