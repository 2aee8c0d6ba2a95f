//! Finding and freeing blocks.

use std::collections::HashSet;

use super::*;
use crate::arena::layout::{CLASSES, PAGE, class_size};
use crate::error::ShortOf;

fn bytes(block: &Block) -> &'static mut [u8] {
    // SAFETY: `from_raw_parts_mut` needs valid, exclusive bytes: the block has `len` of them and is
    // owned by this test, which keeps the slice no longer than the block.
    unsafe { std::slice::from_raw_parts_mut(block.as_ptr(), block.len()) }
}

#[test]
fn blocks_do_not_overlap_and_are_aligned() {
    let arena = root(4 << 20);
    let lengths = [0, 1, 63, 64, 65, 1000, 4096, 4097, 30_000, 65_536];
    let blocks: Vec<Block> = lengths
        .iter()
        .cycle()
        .take(60)
        .map_while(|len| arena.allocate(*len).ok())
        .collect();
    assert!(blocks.len() > 20);
    for (number, block) in blocks.iter().enumerate() {
        bytes(block).fill(number as u8);
        let alignment = block.len().next_power_of_two().clamp(64, PAGE as usize);
        assert_eq!(block.as_ptr() as usize % alignment, 0);
    }
    for (number, block) in blocks.iter().enumerate() {
        assert!(bytes(block).iter().all(|byte| *byte == number as u8));
    }
}

#[test]
fn freed_block_is_used_again_under_another_handle() {
    let arena = root(1 << 20);
    let first = arena.allocate(64).expect("room");
    let (address, handle) = (first.as_ptr(), first.handle());
    drop(first);
    let second = arena.allocate(64).expect("room");
    assert_eq!(second.as_ptr(), address);
    assert_ne!(second.handle(), handle);
    assert!(arena.accept(handle).is_none());
}

#[test]
fn full_arena_tells_what_was_asked_and_what_is_free() {
    let arena = root(1 << 20);
    let largest = 1 << 14;
    let mut blocks = Vec::new();
    let error = loop {
        match arena.allocate(largest) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert_eq!((error.asked, error.free), (largest, 0));
    assert!(matches!(error.short_of, ShortOf::Blocks));
    assert_eq!(blocks.len() as u32, arena.memory.layout.classes[8].capacity);
    blocks.pop();
    blocks.push(arena.allocate(largest).expect("one is free again"));
    let small = arena.allocate(100).expect("other classes have room");
    assert_eq!(small.len(), 100);
}

#[test]
fn block_that_no_class_can_hold_is_refused() {
    let arena = root(1 << 20);
    for len in [(1 << 14) + 1, 1 << 30, (1 << 30) + 1, usize::MAX] {
        let error = arena.allocate(len).expect_err("too long");
        assert_eq!((error.asked, error.free), (len, 0));
    }
}

#[test]
fn small_request_takes_a_larger_block_when_its_class_is_full() {
    let arena = root(1 << 20);
    let smallest = arena.memory.layout.classes[0].capacity as usize;
    let blocks: Vec<Block> = (0..=smallest)
        .map(|_| arena.allocate(1).expect("some class has room"))
        .collect();
    assert_eq!(blocks[smallest].handle().class(), 1);
    let everything: Vec<Block> = std::iter::from_fn(|| arena.allocate(1).ok()).collect();
    let capacity: u32 = arena
        .memory
        .layout
        .classes
        .iter()
        .map(|class| class.capacity)
        .sum();
    assert_eq!(blocks.len() + everything.len(), capacity as usize);
}

#[test]
fn every_block_is_found_again_when_another_process_freed_it() {
    let arena = root(1 << 20);
    let other = member(arena);
    let mailbox = std::sync::atomic::AtomicU64::new(0);
    let capacity = arena.memory.layout.classes[0].capacity;
    let mut seen = HashSet::new();
    // What is freed by `other` is in its hints and not in ours.
    for _ in 0..capacity * 4 {
        let block = arena.allocate(64).expect("room");
        assert_eq!(block.handle().class(), 0);
        seen.insert(block.handle().index());
        block.give(other.me(), &mailbox).expect("it lives");
        let value = Handle::from_bits(mailbox.load(std::sync::atomic::Ordering::Acquire));
        drop(other.accept(value.expect("a handle")).expect("given"));
    }
    assert!(seen.len() <= capacity as usize);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn zeroed_block_is_zero_whatever_was_in_it() {
    let arena = root(4 << 20);
    for len in [64, 100, 5000, 60_000] {
        let block = arena.allocate(len).expect("room");
        bytes(&block).fill(0xff);
        let index = block.handle().index();
        drop(block);
        let mut again = arena.allocate(len - 1).expect("room");
        assert_eq!(again.handle().index(), index);
        again.zero();
        assert!(bytes(&again).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn fresh_pages_of_a_reused_block_need_no_zeroing() {
    let arena = root(4 << 20);
    let short = arena.allocate(33_000).expect("room");
    bytes(&short).fill(0xff);
    drop(short);
    let mut long = arena.allocate(64_000).expect("room");
    assert_eq!(long.dirty, 33_000_usize.next_multiple_of(PAGE as usize));
    long.zero();
    assert!(bytes(&long).iter().all(|byte| *byte == 0));
}

#[test]
fn trimmed_arena_has_given_its_large_blocks_back() {
    let arena = root(1 << 30);
    let kept = arena.allocate(1 << 20).expect("room");
    bytes(&kept).fill(7);
    let freed: Vec<Block> = (0..8)
        .map(|_| arena.allocate(1 << 20).expect("room"))
        .collect();
    drop(freed);
    let before = arena.stats().resident_bytes;
    assert!(before > 8 << 20);
    arena.trim();
    assert!(arena.stats().resident_bytes <= before - (7 << 20));
    assert!(bytes(&kept).iter().all(|byte| *byte == 7));
    assert_eq!(in_use(arena), (1, 0, 0));
}

#[test]
fn large_blocks_do_not_stay_warm_without_bound() {
    let arena = root(16 << 30);
    let blocks: Vec<Block> = (0..3)
        .map(|_| arena.allocate(32 << 20).expect("room"))
        .collect();
    drop(blocks);
    assert!(arena.stats().resident_bytes < 80 << 20);
}

/// What a message of one MiB needs, with its head.
const FRAME: usize = (1 << 20) + 8;

/// Gives a block to another participant, which frees it.
fn pass(block: Block, to: &'static Arena) {
    let mailbox = std::sync::atomic::AtomicU64::new(0);
    block.give(to.me(), &mailbox).expect("it lives");
    let handle = Handle::from_bits(mailbox.load(std::sync::atomic::Ordering::Acquire));
    drop(to.accept(handle.expect("a handle")).expect("given"));
}

/// Once each message cost three calls of the system: who took it gave the pages back, counting all
/// that it had ever freed, and who sent the next took a cold block beside warm ones.
#[test]
fn large_blocks_that_others_free_are_used_again_warm() {
    let arena = root(16 << 30);
    let other = member(arena);
    let mut on_the_way = std::collections::VecDeque::new();
    let mut seen = HashSet::new();
    for round in 0..500 {
        let block = arena.allocate(FRAME).expect("room");
        let is_warm = block.dirty == FRAME;
        assert_eq!(is_warm, !seen.insert(block.handle().index()), "{round}");
        on_the_way.push_back(block);
        if on_the_way.len() > 16 {
            pass(on_the_way.pop_front().expect("some"), other);
        }
    }
    assert_eq!(seen.len(), 17);
}

#[test]
fn large_blocks_that_one_takes_and_another_frees_do_not_stay_warm_without_bound() {
    let arena = root(16 << 30);
    let other = member(arena);
    let mut warm = Vec::new();
    for _ in 0..4 {
        let blocks: Vec<Block> = (0..100)
            .map(|_| arena.allocate(FRAME).expect("room"))
            .collect();
        warm.push(blocks.iter().filter(|block| block.dirty == FRAME).count());
        blocks.into_iter().for_each(|block| pass(block, other));
        assert!(arena.stats().resident_bytes < 65 << 20);
    }
    // All that may stay does, by its pages and not by what it could have.
    assert_eq!(warm, [0, 63, 63, 63]);
}

#[test]
fn large_block_is_taken_cold_when_no_warm_one_is_free() {
    let arena = root(16 << 30);
    let cold = arena.allocate(FRAME).expect("room");
    let index = cold.handle().index();
    drop(cold);
    arena.trim();
    let again = arena.allocate(FRAME).expect("room");
    assert_eq!((again.handle().index(), again.dirty), (index, 0));
    let ready = arena.memory.ready(0, again.handle().class());
    let all: HashSet<u32> = (1..ready.len())
        .map(|_| arena.allocate(2 << 20).expect("room"))
        .map(|block| std::mem::ManuallyDrop::new(block).handle().index())
        .chain([index])
        .collect();
    assert_eq!(all, ready.collect(), "no more are made ready before");
}

#[test]
fn block_whose_last_owner_died_while_punching_is_clean_for_the_next() {
    let arena = root(4 << 20);
    let block = arena.allocate(60_000).expect("room");
    bytes(&block).fill(0xff);
    // What a process leaves that is killed between the mark and the end of `punch`.
    block.entry().warm.fetch_or(1 << 31, Release);
    drop(block);
    let mut next = arena.allocate(60_000).expect("room");
    assert_eq!(next.dirty, 0);
    next.zero();
    assert!(bytes(&next).iter().all(|byte| *byte == 0));
}

/// Seen as one storm of objects in 25 that left two megabytes.
#[test]
fn pages_of_one_who_died_while_taking_them_are_given_back() {
    let arena = root(64 << 20);
    let block = arena.allocate(1 << 20).expect("room");
    let handle = block.handle();
    drop(block);
    arena.trim();
    let before = arena.stats().resident_bytes;
    // What a process leaves that is killed between the system's answer and the number of pages.
    let entry = arena.locate(handle).expect("in the arena");
    entry.warm.fetch_or(1 << 31, Release);
    let start = arena.memory.data_offset(handle.class(), handle.index());
    arena.memory.file.reserve(start, 1 << 20).expect("memory");
    assert_eq!(arena.stats().resident_bytes, before + (1 << 20));
    arena.trim();
    assert_eq!(arena.stats().resident_bytes, before);
    let again = arena.allocate(1 << 20).expect("room");
    assert_eq!((again.handle().index(), again.dirty), (handle.index(), 0));
}

#[test]
fn handles_that_point_out_of_the_arena_are_refused() {
    let arena = root(1 << 20);
    arena.allocate(64).expect("room");
    for class in 0..32 {
        for index in [0, 1, 63, 64, 511, 512, 1 << 20, (1 << 22) - 1] {
            for generation in [0, 1, u32::MAX] {
                let handle = Handle::new(class, index, generation);
                assert!(arena.accept(handle).is_none());
                assert!(Hold::attach(arena, handle, 0).is_none());
                assert!(!format!("{handle:?}").is_empty());
            }
        }
    }
    assert!(Handle::from_bits(0).is_none());
}

#[test]
fn wrong_numbers_in_entries_do_not_lead_out_of_a_block() {
    let arena = root(1 << 20);
    let block = arena.allocate(64).expect("room");
    block.entry().length.store(u32::MAX, Release);
    let mailbox = std::sync::atomic::AtomicU64::new(0);
    let handle = block.handle();
    block.give(arena.me(), &mailbox).expect("we live");
    assert_eq!(arena.accept(handle).expect("given").len(), 64);
    for class in 0..CLASSES {
        arena.memory.header().ready[class].store(u32::MAX, Release);
        assert_eq!(
            arena.memory.ready(0, class).end,
            arena.memory.capacity(class)
        );
    }
}

#[test]
fn threads_of_several_participants_never_get_the_same_block() {
    let arena = root(1 << 20);
    let members = [arena, member(arena), member(arena)];
    std::thread::scope(|threads| {
        for (number, view) in members.iter().cycle().take(6).enumerate() {
            threads.spawn(move || {
                for round in 0..3000_usize {
                    let blocks: Vec<Block> = (0..round % 7)
                        .filter_map(|size| view.allocate(40 << size).ok())
                        .inspect(|block| bytes(block).fill(number as u8))
                        .collect();
                    let untouched = |block| bytes(block).iter().all(|byte| *byte == number as u8);
                    assert!(blocks.iter().all(untouched));
                }
            });
        }
    });
    assert_eq!(in_use(arena), (0, 0, 0));
    assert_eq!(class_size(0), 64);
}
