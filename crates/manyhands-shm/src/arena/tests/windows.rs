//! Arenas of several windows.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use super::*;
use crate::error::ShortOf;

/// The largest block in windows of 1 MiB, each of which has four of it.
const LARGEST: usize = 1 << 14;

fn windows(blocks: &[Block]) -> Vec<u32> {
    blocks.iter().map(|block| block.handle().window()).collect()
}

/// Takes all of the largest blocks.
fn fill(arena: &'static Arena) -> (Vec<Block>, crate::NoSpace) {
    let mut blocks = Vec::new();
    loop {
        match arena.allocate(LARGEST) {
            Ok(block) => blocks.push(block),
            Err(error) => return (blocks, error),
        }
    }
}

#[test]
fn full_window_opens_the_next_until_the_last_is_full() {
    let arena = root_with_windows(1 << 20, 3);
    assert_eq!(arena.len(), 1 << 20);
    let (mut blocks, error) = fill(arena);
    assert_eq!(windows(&blocks), [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    assert!(matches!(error.short_of, ShortOf::Blocks) && error.free == 0);
    assert_eq!(arena.len(), 3 << 20);
    let class = *arena.stats().classes.last().expect("the largest");
    assert_eq!((class.capacity, class.owned), (12, 12));
    for (number, block) in blocks.iter().enumerate() {
        // SAFETY: `write_bytes` needs a valid, exclusive place: the block has so many bytes, and is
        // owned by this test.
        unsafe { block.as_ptr().write_bytes(number as u8, LARGEST) };
    }
    for (number, block) in blocks.iter().enumerate() {
        // SAFETY: `from_raw_parts` needs valid bytes that nobody changes: the block is ours.
        let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), LARGEST) };
        assert!(bytes.iter().all(|byte| usize::from(*byte) == number));
    }
    let freed = blocks.remove(6).handle();
    let again = arena.allocate(LARGEST).expect("one is free again");
    assert_eq!(
        (again.handle().index(), again.handle().window()),
        (freed.index(), 1)
    );
    assert_ne!(again.handle(), freed);
}

#[test]
fn requests_that_no_window_can_hold_open_none() {
    let arena = root_with_windows(1 << 20, 3);
    assert!(arena.allocate(LARGEST + 1).is_err());
    assert_eq!(arena.len(), 1 << 20);
}

#[test]
fn blocks_in_a_window_that_others_opened_are_found_by_their_handles() {
    let arena = root_with_windows(1 << 20, 2);
    let other = member(arena);
    let (mut blocks, _) = fill(arena);
    let given = blocks.pop().expect("eight");
    let mailbox = AtomicU64::new(0);
    given.give(other.me(), &mailbox).expect("it lives");
    let handle = Handle::from_bits(mailbox.load(Acquire)).expect("a handle");
    assert_eq!(handle.window(), 1);
    drop(other.accept(handle).expect("it was given to it"));
    let hold = Hold::share(blocks.pop().expect("seven"), 5);
    let theirs = Hold::attach(other, hold.handle(), 5).expect("alive");
    drop(hold);
    drop(theirs);
    assert_eq!(in_use(arena), (6, 0, 0));
    // What the other has freed is not in our hints.
    assert_eq!(fill(arena).0.len(), 2);
}

#[test]
fn what_the_dead_had_in_a_window_is_taken_back_by_one_who_never_saw_it() {
    let arena = root_with_windows(1 << 20, 2);
    let victim = member(arena);
    let (blocks, _) = fill(victim);
    assert_eq!(windows(&blocks)[7], 1);
    std::mem::forget(blocks);
    mark_dead(victim);
    assert_eq!(arena.reap_dead(), 1);
    assert_eq!(in_use(arena), (0, 0, 0));
    assert_eq!(fill(arena).0.len(), 8);
}

#[test]
fn window_whose_opener_died_half_way_is_opened_by_the_next() {
    let arena = root_with_windows(1 << 20, 2);
    // `open_window` up to its last store.
    arena.memory.file.reserve(1 << 20, 4096).expect("a page");
    arena.memory.map_window(1).expect("there is room");
    assert_eq!(arena.memory.opened(), 1);
    assert_eq!(fill(arena).0.len(), 8);
}

#[test]
fn handles_and_numbers_that_point_to_no_window_are_refused() {
    let arena = root_with_windows(1 << 20, 2);
    for window in [1, 2, 254] {
        let handle = Handle::new(0, window << 22, 0);
        assert_eq!(Handle::from_bits(handle.to_bits()), Some(handle));
        assert_eq!((handle.window(), handle.index()), (window, window << 22));
        arena.reach(handle).expect("there is nothing to map");
        assert!(arena.accept(handle).is_none());
        assert!(Hold::attach(arena, handle, 0).is_none());
    }
    for (wrong, clamped) in [(0, 1), (u32::MAX, 2)] {
        arena.memory.header().windows.store(wrong, Release);
        assert_eq!(arena.memory.windows(), clamped);
    }
}

#[test]
fn threads_that_open_windows_at_once_get_blocks_of_their_own() {
    let arena = root_with_windows(1 << 20, 8);
    let members = [arena, member(arena), member(arena), member(arena)];
    let counts = std::thread::scope(|threads| {
        let filling = members.map(|view| {
            threads.spawn(move || {
                let (blocks, _) = fill(view);
                let count = blocks.len();
                // Kept, so that nobody takes one a second time.
                std::mem::forget(blocks);
                count
            })
        });
        filling.map(|thread| thread.join().expect("no panic"))
    });
    assert_eq!(counts.iter().sum::<usize>(), 8 * 4);
    assert_eq!(in_use(arena).0, 8 * 4);
}
