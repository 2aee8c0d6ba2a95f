//! Blocks that change hands, and deaths at every step of it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;

use super::*;

fn give(block: Block, to: &Arena) -> Handle {
    let mailbox = AtomicU64::new(0);
    block.give(to.me(), &mailbox).expect("the receiver lives");
    Handle::from_bits(mailbox.load(Acquire)).expect("a handle")
}

#[test]
fn given_block_is_accepted_once_by_its_receiver_only() {
    let arena = root(1 << 20);
    let (receiver, stranger) = (member(arena), member(arena));
    let block = arena.allocate(77).expect("room");
    // SAFETY: `write` needs a valid place: the block has 77 bytes and is ours.
    unsafe { block.as_ptr().write(42) };
    let handle = give(block, receiver);
    assert!(arena.accept(handle).is_none());
    assert!(stranger.accept(handle).is_none());
    let accepted = receiver.accept(handle).expect("it was given to it");
    assert!(receiver.accept(handle).is_none());
    assert_eq!(accepted.len(), 77);
    // SAFETY: `read` needs a valid place: the block has 77 bytes, and nobody else writes.
    assert_eq!(unsafe { accepted.as_ptr().read() }, 42);
    drop(accepted);
    assert!(receiver.accept(handle).is_none());
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn handle_in_a_mailbox_is_refused_until_the_block_is_handed_over() {
    let arena = root(1 << 20);
    let receiver = member(arena);
    let block = arena.allocate(64).expect("room");
    // The state between the two steps of `give`.
    let handle = block.handle();
    assert!(receiver.accept(handle).is_none());
    block.hand_over(receiver.me()).expect("it lives");
    assert!(receiver.accept(handle).is_some());
}

#[test]
fn block_of_a_giver_that_died_before_it_handed_over_is_free() {
    let arena = root(1 << 20);
    let giver = member(arena);
    let block = giver.allocate(64).expect("room");
    let handle = block.handle();
    std::mem::forget(block);
    arena.reap(giver.me());
    assert!(arena.accept(handle).is_none());
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn given_block_survives_its_giver() {
    let arena = root(1 << 20);
    let giver = member(arena);
    let handle = give(giver.allocate(64).expect("room"), arena);
    arena.reap(giver.me());
    assert_eq!(in_use(arena), (0, 1, 0));
    assert!(arena.accept(handle).is_some());
}

#[test]
fn block_given_to_a_process_that_died_before_it_accepted_is_free() {
    let arena = root(1 << 20);
    let receiver = member(arena);
    let handle = give(arena.allocate(64).expect("room"), receiver);
    arena.reap(receiver.me());
    assert!(receiver.accept(handle).is_none());
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn block_for_a_process_that_has_ended_comes_back() {
    let arena = root(1 << 20);
    let (dead, reaped) = (member(arena), member(arena));
    mark_dead(dead);
    arena.reap(reaped.me());
    for receiver in [dead, reaped] {
        let block = arena.allocate(64).expect("room");
        let handle = block.handle();
        let error = block
            .give(receiver.me(), &AtomicU64::new(0))
            .expect_err("it is dead");
        assert_eq!(error.block.handle(), handle);
    }
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn block_given_too_late_does_not_fall_to_the_next_on_the_seat() {
    let arena = root(1 << 20);
    let (giver, receiver) = (member(arena), member(arena));
    let block = giver.allocate(64).expect("room");
    // The giver looked, the receiver died, was reaped, and its seat has a new user; then the giver
    // stored the word and died too.
    arena.reap(receiver.me());
    let next = member(arena);
    assert_eq!(next.me().slot(), receiver.me().slot());
    let entry = block.entry();
    let owned = word::BlockWord::from_bits(entry.word.load(Acquire));
    let given = owned.with(word::BlockState::Inbox, receiver.me().who());
    entry.word.store(given.to_bits(), Release);
    let handle = block.handle();
    std::mem::forget(block);
    assert!(next.accept(handle).is_none());
    arena.reap(giver.me());
    assert_eq!(in_use(arena), (0, 0, 0));
}
