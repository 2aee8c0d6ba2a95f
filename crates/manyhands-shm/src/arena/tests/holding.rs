//! Shared blocks and their holders.

use std::sync::atomic::Ordering::Acquire;

use super::word::BlockState;
use super::*;

fn state(arena: &Arena, handle: Handle) -> BlockState {
    let word = arena
        .locate(handle)
        .expect("in the arena")
        .word
        .load(Acquire);
    word::BlockWord::from_bits(word).state()
}

#[test]
fn shared_block_lives_until_its_last_holder_leaves() {
    let arena = root(1 << 20);
    let other = member(arena);
    let mine = Hold::share(arena.allocate(500).expect("room"), 0);
    let (handle, address) = (mine.handle(), mine.address());
    let theirs = Hold::attach(other, handle, 0).expect("alive");
    assert_eq!(theirs.len(), 500);
    assert_ne!(theirs.address(), address, "another map");
    drop(mine);
    assert_eq!(in_use(arena), (0, 0, 1));
    drop(theirs);
    assert_eq!(in_use(arena), (0, 0, 0));
    assert!(Hold::attach(other, handle, 0).is_none());
}

#[test]
fn holds_of_one_process_count_as_one_bit() {
    let arena = root(1 << 20);
    let first = Hold::share(arena.allocate(64).expect("room"), 0);
    let more: Vec<Hold> = (0..10)
        .map(|_| Hold::attach(arena, first.handle(), 0).expect("alive"))
        .collect();
    let handle = first.handle();
    drop(first);
    assert_eq!(in_use(arena), (0, 0, 1));
    assert_eq!(state(arena, handle), BlockState::Single);
    drop(more);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn set_is_written_when_a_second_process_comes_to_hold() {
    let arena = root(1 << 20);
    let other = member(arena);
    let mut first = Hold::share(arena.allocate(64).expect("room"), 0);
    let set = holders(arena, first.handle());
    // What somebody left there who died before the word said that there is a set.
    set.insert(77);
    let theirs = Hold::attach(other, first.handle(), 0).expect("alive");
    assert_eq!(state(arena, first.handle()), BlockState::Shared);
    assert!(set.contains(arena.me().slot()) && set.contains(other.me().slot()));
    assert!(!set.contains(77) && !first.make_only());
    drop(theirs);
    assert!(first.make_only());
    assert_eq!(state(arena, first.handle()), BlockState::Single);
    assert!(first.make_only());
    drop(first);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn who_attaches_while_the_only_holder_leaves_has_the_block_or_is_refused() {
    let arena = root(1 << 20);
    let other = member(arena);
    for round in 0..4000_u64 {
        let hold = Hold::share(arena.allocate(64).expect("room"), 0);
        let handle = hold.handle();
        let start = std::sync::Barrier::new(2);
        let theirs = std::thread::scope(|threads| {
            threads.spawn(|| {
                start.wait();
                drop(hold);
            });
            start.wait();
            Hold::attach(other, handle, 0)
        });
        // What was taken by both would be handed out twice.
        let again: Vec<Block> = (0..2).map(|_| arena.allocate(64).expect("room")).collect();
        let is_new = |block: &Block| block.as_ptr() != arena.memory.data(0, handle.index());
        assert!(
            theirs.is_none() || again.iter().all(is_new),
            "round {round}"
        );
        assert_eq!(in_use(arena), (2, 0, u64::from(theirs.is_some())));
    }
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn handle_of_another_kind_is_refused() {
    let arena = root(1 << 20);
    let other = member(arena);
    let hold = Hold::share(arena.allocate(64).expect("room"), 7);
    assert!(Hold::attach(arena, hold.handle(), 0).is_none());
    assert!(Hold::attach(other, hold.handle(), 8).is_none());
    assert!(Hold::attach(other, hold.handle(), 7).is_some());
}

#[test]
fn owned_block_cannot_be_attached() {
    let arena = root(1 << 20);
    let block = arena.allocate(64).expect("room");
    assert!(Hold::attach(arena, block.handle(), 0).is_none());
}

#[test]
fn child_finds_itself_a_holder_of_what_was_held_for_it() {
    let arena = root(1 << 20);
    let seat = arena.reserve_seat().expect("a seat");
    let hold = Hold::share(arena.allocate(64).expect("room"), 0);
    hold.hold_for(seat.participant()).expect("reserved");
    let handle = hold.handle();
    drop(hold);
    assert_eq!(in_use(arena), (0, 0, 1));
    let child = sit_down(arena, seat).expect("reserved");
    drop(Hold::attach(child, handle, 0).expect("alive"));
    assert_eq!(in_use(arena), (0, 0, 0));
}

/// A child that was stopped while it attached its page held up the family.
#[test]
fn child_attaches_what_was_held_for_it_without_the_lock() {
    let arena = root(1 << 20);
    let seat = arena.reserve_seat().expect("a seat");
    let hold = Hold::share(arena.allocate(64).expect("room"), 0);
    hold.hold_for(seat.participant()).expect("reserved");
    let child = sit_down(arena, seat).expect("reserved");
    let (sender, attached) = std::sync::mpsc::channel();
    std::thread::scope(|threads| {
        let guard = arena.lock();
        threads.spawn(|| {
            let own = Hold::attach(child, hold.handle(), 0);
            sender.send(own.is_some()).expect("it is waited for");
            own
        });
        let came = attached.recv_timeout(std::time::Duration::from_secs(10));
        drop(guard);
        assert_eq!(came, Ok(true));
        assert!(Hold::attach(child, hold.handle(), 7).is_none());
    });
}

#[test]
fn what_was_held_for_a_child_that_never_came_is_free() {
    let arena = root(1 << 20);
    let seat = arena.reserve_seat().expect("a seat");
    let hold = Hold::share(arena.allocate(64).expect("room"), 0);
    hold.hold_for(seat.participant()).expect("reserved");
    drop(hold);
    arena.release_seat(seat);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn nothing_can_be_held_for_a_participant_that_has_ended() {
    let arena = root(1 << 20);
    let seat = arena.reserve_seat().expect("a seat");
    arena.release_seat(seat);
    let hold = Hold::share(arena.allocate(64).expect("room"), 0);
    assert!(hold.hold_for(seat.participant()).is_err());
}

#[test]
fn holds_of_the_dead_are_dropped_and_those_of_others_stay() {
    let arena = root(1 << 20);
    let victim = member(arena);
    let both = Hold::share(arena.allocate(64).expect("room"), 0);
    std::mem::forget(Hold::attach(victim, both.handle(), 0).expect("alive"));
    std::mem::forget(Hold::share(victim.allocate(64).expect("room"), 0));
    assert_eq!(in_use(arena), (0, 0, 2));
    arena.reap(victim.me());
    assert_eq!(in_use(arena), (0, 0, 1));
    assert!(!holders(arena, both.handle()).contains(victim.me().slot()));
    assert!(holders(arena, both.handle()).contains(arena.me().slot()));
}

#[test]
fn threads_of_several_participants_free_a_shared_block_exactly_once() {
    let arena = root(1 << 20);
    let members = [arena, member(arena), member(arena)];
    for _ in 0..500 {
        let first = Hold::share(arena.allocate(64).expect("room"), 0);
        let handle = first.handle();
        let holds: Vec<Hold> = members
            .iter()
            .cycle()
            .take(6)
            .map(|view| Hold::attach(view, handle, 0).expect("alive"))
            .collect();
        drop(first);
        std::thread::scope(|threads| {
            for hold in holds {
                threads.spawn(move || drop(hold));
            }
        });
        assert_eq!(in_use(arena), (0, 0, 0));
    }
}

#[test]
fn members_that_come_and_go_at_once_lose_no_hold() {
    let arena = root(1 << 20);
    let members = [member(arena), member(arena), member(arena)];
    let kept = Hold::share(arena.allocate(64).expect("room"), 0);
    let handle = kept.handle();
    std::thread::scope(|threads| {
        for view in members {
            threads.spawn(move || {
                for _ in 0..30_000 {
                    drop(Hold::attach(view, handle, 0).expect("one hold is kept"));
                }
            });
        }
    });
    assert_eq!(in_use(arena), (0, 0, 1));
    drop(kept);
    assert_eq!(in_use(arena), (0, 0, 0));
}
