//! Blocks that lie in shared blocks, and deaths of all who have to do with them.

use std::sync::atomic::Ordering::Relaxed;

use super::*;

const KIND: u64 = 0;

fn shared(arena: &'static Arena, len: usize) -> Hold {
    Hold::share(arena.allocate(len).expect("room"), KIND)
}

fn deposit(hold: &Hold, by: &'static Arena, len: usize) -> Handle {
    hold.deposit(by.allocate(len).expect("room"))
}

fn attach(arena: &'static Arena, hold: &Hold) -> Hold {
    Hold::attach(arena, hold.handle(), KIND).expect("it lives")
}

fn deposited(arena: &Arena) -> u64 {
    let classes = arena.stats().classes;
    classes.iter().map(|class| class.deposited).sum()
}

#[test]
fn deposited_block_outlives_its_owner_and_is_withdrawn_once() {
    let arena = root(1 << 20);
    let (giver, other) = (member(arena), member(arena));
    let hold = shared(arena, 4096);
    let (givers, others) = (attach(giver, &hold), attach(other, &hold));
    let block = giver.allocate(77).expect("room");
    // SAFETY: `write` needs a valid place: the block has 77 bytes and is ours.
    unsafe { block.as_ptr().write(42) };
    let handle = givers.deposit(block);
    std::mem::forget(givers);
    arena.reap(giver.me());
    assert_eq!((in_use(arena), deposited(arena)), ((0, 0, 1), 1));
    assert!(arena.accept(handle).is_none(), "it was given to nobody");

    let seen = others.look_at(handle).expect("it is mapped");
    assert_eq!(seen.map(|(_, len)| len), Some(77));
    let block = others.withdraw(handle).expect("mapped").expect("it lies");
    assert!(hold.withdraw(handle).expect("mapped").is_none());
    assert!(hold.look_at(handle).expect("mapped").is_none());
    assert_eq!(block.len(), 77);
    // SAFETY: `read` needs a valid place: the block has 77 bytes, and nobody else writes.
    assert_eq!(unsafe { block.as_ptr().read() }, 42);
    assert_eq!(hold.entry().deposit.load(Relaxed), 0);
    drop((block, others, hold));
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn block_is_withdrawn_where_it_was_deposited_only() {
    let arena = root(1 << 20);
    let (first, second) = (shared(arena, 64), shared(arena, 64));
    let handle = deposit(&first, arena, 64);
    let withdrawn = |hold: &Hold, handle| hold.withdraw(handle).expect("it is mapped");
    assert!(withdrawn(&second, handle).is_none());
    assert!(withdrawn(&first, second.handle()).is_none());
    let outside = Handle::new(3, 1 << 20, 1);
    assert!(withdrawn(&first, outside).is_none());
    drop(withdrawn(&first, handle).expect("it lies here"));
    let again = deposit(&first, arena, 64);
    assert!(again != handle && withdrawn(&first, handle).is_none());
    assert!(withdrawn(&first, again).is_some());
}

#[test]
fn deposits_are_freed_with_the_last_holder() {
    let arena = root(4 << 20);
    let other = member(arena);
    let hold = shared(arena, 4096);
    let kept = shared(arena, 4096);
    let others = attach(other, &hold);
    for len in [64, 5000, 1 << 15] {
        deposit(&hold, arena, len);
        deposit(&others, other, len);
        deposit(&kept, other, len);
    }
    drop(hold);
    assert_eq!((in_use(arena), deposited(arena)), ((0, 0, 2), 9));
    drop(others);
    assert_eq!((in_use(arena), deposited(arena)), ((0, 0, 1), 3));
    drop(kept);
    assert_eq!((in_use(arena), deposited(arena)), ((0, 0, 0), 0));
}

#[test]
fn deposits_are_freed_also_after_a_look_whether_there_is_one_holder() {
    let arena = root(1 << 20);
    let mut hold = shared(arena, 64);
    deposit(&hold, arena, 64);
    assert!(hold.make_only());
    drop(hold);
    assert_eq!((in_use(arena), deposited(arena)), ((0, 0, 0), 0));
}

/// Wherever the one block lies before the other in the order of the sweep.
#[test]
fn deposits_are_freed_with_a_last_holder_that_died() {
    for (holder, deposits) in [(64, 4096), (4096, 64), (64, 64)] {
        let arena = root(1 << 20);
        let (first, second) = (member(arena), member(arena));
        let early = deposit(&shared(arena, 64), arena, deposits);
        let hold = shared(first, holder);
        let seconds = attach(second, &hold);
        deposit(&hold, first, deposits);
        deposit(&seconds, second, deposits);
        assert_ne!(early, hold.handle());
        std::mem::forget((hold, seconds));
        arena.reap(first.me());
        assert_eq!((in_use(arena), deposited(arena)), ((0, 0, 1), 2));
        arena.reap(second.me());
        assert_eq!((in_use(arena), deposited(arena)), ((0, 0, 0), 0));
    }
}

#[test]
fn what_a_death_leaves_between_the_steps_is_freed() {
    let arena = root(1 << 20);
    let (victim, other) = (member(arena), member(arena));
    let hold = shared(arena, 64);
    let victims = attach(victim, &hold);
    // Counted, and not deposited.
    hold.entry().deposit.fetch_add(1, Relaxed);
    std::mem::forget(victim.allocate(64).expect("room"));
    // Withdrawn, and not counted.
    let handle = deposit(&victims, victim, 64);
    std::mem::forget(victims.withdraw(handle).expect("mapped").expect("it lies"));
    std::mem::forget(victims);
    arena.reap(victim.me());
    assert_eq!((in_use(arena), deposited(arena)), ((0, 0, 1), 0));
    assert!(
        hold.entry().deposit.load(Relaxed) > 0,
        "too high is allowed"
    );

    // The last holder has left, and its deposits are not freed yet.
    let last = attach(other, &hold);
    deposit(&last, other, 64);
    drop(hold);
    let word = word::BlockWord::from_bits(last.entry().word.load(Relaxed));
    let owned = word.with(word::BlockState::Owned, other.me().who());
    last.entry().word.store(owned.to_bits(), Relaxed);
    std::mem::forget(last);
    arena.reap(other.me());
    assert_eq!((in_use(arena), deposited(arena)), ((0, 0, 0), 0));
}
