//! What the dead leave, at every step.

use super::word::{SeatState, SeatWord};
use super::*;

#[test]
fn reaping_returns_every_block_of_the_dead_and_no_other() {
    let arena = root(4 << 20);
    let (victim, bystander) = (member(arena), member(arena));
    for len in [1, 100, 5000, 60_000] {
        for _ in 0..4 {
            std::mem::forget(victim.allocate(len).expect("room"));
        }
    }
    let kept: Vec<Block> = (0..4)
        .map(|_| bystander.allocate(100).expect("room"))
        .collect();
    assert_eq!(in_use(arena), (20, 0, 0));
    arena.reap(victim.me());
    assert_eq!(in_use(arena), (4, 0, 0));
    arena.reap(victim.me());
    assert_eq!(in_use(arena), (4, 0, 0));
    drop(kept);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn life_word_of_the_dead_is_enough_to_find_them() {
    let arena = root(1 << 20);
    let victim = member(arena);
    std::mem::forget(victim.allocate(64).expect("room"));
    assert_eq!(arena.reap_dead(), 0);
    mark_dead(victim);
    assert!(!arena.is_alive(victim.me()));
    assert_eq!(arena.reap_dead(), 1);
    assert_eq!(arena.reap_dead(), 0);
    assert_eq!(in_use(arena), (0, 0, 0));
    assert!(seat_record(arena, victim.me()).life.is_vacant());
}

#[test]
fn process_that_died_before_it_held_its_life_word_is_found_by_its_identity() {
    let arena = root(1 << 20);
    let victim = member(arena);
    assert_eq!(arena.reap_dead(), 0, "it may still be coming");
    // A process of this number that started at another time is not running.
    let gone = Identity {
        start_time: 1,
        ..Identity::current()
    };
    seat_record(arena, victim.me())
        .identity
        .store(gone.pack(), Release);
    assert_eq!(arena.reap_dead(), 1);
}

#[test]
fn what_a_killed_process_had_stays_until_all_its_threads_are_gone() {
    let arena = root(1 << 20);
    let victim = member(arena);
    let held = Hold::share(arena.allocate(64).expect("room"), 0);
    std::mem::forget(Hold::attach(victim, held.handle(), 0).expect("alive"));
    std::mem::forget(Hold::share(victim.allocate(64).expect("room"), 0));
    std::mem::forget(victim.allocate(64).expect("room"));
    let bystander = member(arena);
    std::mem::forget(bystander.allocate(64).expect("room"));
    let mut process = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("sleep");
    let identity = Identity::of(process.id()).expect("it runs");
    let record = seat_record(arena, victim.me());
    record.identity.store(identity.pack(), Release);
    mark_dead(victim);
    assert_eq!(arena.reap_dead(), 0);
    arena.reap(victim.me());
    assert!(!arena.is_alive(victim.me()));
    assert_eq!(in_use(arena), (2, 0, 2));
    // The end of another takes nothing of it.
    arena.reap(bystander.me());
    assert_eq!(in_use(arena), (1, 0, 2));
    let next = arena.reserve_seat().expect("a seat");
    assert_ne!(next.participant().slot(), victim.me().slot());
    // The other holder leaves: the block stays the dead one's.
    drop(held);
    assert_eq!(in_use(arena), (1, 0, 2));
    process.kill().expect("it is ours");
    process.wait().expect("it is ours");
    assert_eq!(arena.reap_dead(), 1);
    assert_eq!(in_use(arena), (0, 0, 0));
    assert!(record.life.is_vacant());
}

#[test]
fn full_arena_takes_back_what_the_dead_have() {
    let arena = root(1 << 20);
    let victim = member(arena);
    while let Ok(block) = victim.allocate(1 << 14) {
        std::mem::forget(block);
    }
    assert!(arena.allocate(1 << 14).is_err());
    mark_dead(victim);
    assert!(arena.allocate(1 << 14).is_ok());
}

#[test]
fn reaping_that_was_left_half_done_is_completed() {
    let arena = root(1 << 20);
    let victim = member(arena);
    let region = Hold::share(victim.allocate(64).expect("room"), 0);
    std::mem::forget(region);
    std::mem::forget(victim.allocate(64).expect("room"));
    // A reaper that died after its first step.
    arena.end_seat(victim.me().slot(), arena.seat_word(victim.me().slot()));
    assert!(!arena.is_alive(victim.me()));
    assert_eq!(in_use(arena), (1, 0, 1));
    assert_eq!(arena.reap_dead(), 1);
    assert_eq!(in_use(arena), (0, 0, 0));
    // One that died after the life word was cleared.
    let victim = member(arena);
    mark_dead(victim);
    arena.end_seat(victim.me().slot(), arena.seat_word(victim.me().slot()));
    seat_record(arena, victim.me()).life.clear();
    assert_eq!(arena.reap_dead(), 1);
    assert_eq!(arena.seat_word(victim.me().slot()).state(), SeatState::Free);
}

/// Seen as one storm of conditions in twenty that stood still, with three others on two processors:
/// the reaper clears the life word, which wakes all who watched it, and is put off the processor by
/// them. They found a vacant word, as of one who is just coming, watched it no more, and lay down; what
/// the dead had been told was lost.
#[test]
fn one_whose_life_was_cleared_is_over_before_its_seat_is_free() {
    let arena = root(1 << 20);
    let victim = member(arena);
    let coming = arena.reserve_seat().expect("a seat");
    mark_dead(victim);
    assert!(arena.life(victim.me()).is_some_and(|life| life.is_dead()));
    arena.end_seat(victim.me().slot(), arena.seat_word(victim.me().slot()));
    assert!(arena.life(victim.me()).is_some_and(|life| life.is_dead()));
    seat_record(arena, victim.me()).life.clear();
    assert!(arena.seat_of(victim.me()).is_some(), "not free yet");
    assert!(arena.life(victim.me()).is_none());
    assert!(
        arena
            .life(coming.participant())
            .is_some_and(|life| life.is_vacant())
    );
    assert_eq!(arena.reap_dead(), 1);
    assert!(arena.life(victim.me()).is_none());
}

#[test]
fn slow_reaper_does_not_touch_the_next_on_the_seat() {
    let arena = root(1 << 20);
    let victim = member(arena);
    let word = arena.seat_word(victim.me().slot());
    let remembered = vec![(victim.me().slot(), word.with(SeatState::Ending))];
    arena.end_seat(victim.me().slot(), word);
    assert_ne!(arena.still_ending(&remembered), [0; 8]);
    arena.reap_dead();
    let next = member(arena);
    assert_eq!(next.me().slot(), victim.me().slot());
    assert_eq!(arena.still_ending(&remembered), [0; 8]);
    arena.free_seat(victim.me().slot(), word.with(SeatState::Ending));
    assert!(arena.is_alive(next.me()));
}

#[test]
fn seat_that_was_ended_too_early_is_not_reused() {
    let arena = root(1 << 20);
    let seat = arena.reserve_seat().expect("a seat");
    let fd = arena.as_fd().try_clone_to_owned().expect("a descriptor");
    let child = Arena::sit_down(Memory::attach(fd).expect("an arena"), seat, keeper::hold)
        .expect("reserved");
    arena.end_seat(child.me().slot(), arena.seat_word(child.me().slot()));
    arena.sweep();
    assert_eq!(
        arena.seat_word(child.me().slot()).state(),
        SeatState::Ending
    );
    assert!(
        arena
            .reserve_seat()
            .is_ok_and(|next| next.participant().slot() != child.me().slot())
    );
}

#[test]
fn region_whose_second_holder_died_while_attaching_has_one_holder() {
    let arena = root(1 << 20);
    let victim = member(arena);
    let mut region = Hold::share(arena.allocate(64).expect("room"), 0);
    // `add_holder` up to the exchange of the word.
    holders(arena, region.handle()).insert(arena.me().slot());
    holders(arena, region.handle()).insert(victim.me().slot());
    arena.reap(victim.me());
    assert_eq!(in_use(arena), (0, 0, 1));
    assert!(region.make_only());
    drop(region);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn region_whose_last_holder_died_while_leaving_is_free() {
    let arena = root(1 << 20);
    let victim = member(arena);
    let region = Hold::share(victim.allocate(64).expect("room"), 0);
    drop(Hold::attach(arena, region.handle(), 0).expect("alive"));
    // `Hold::leave` between its two stores.
    holders(arena, region.handle()).remove(victim.me().slot());
    std::mem::forget(region);
    assert_eq!(in_use(arena), (0, 0, 1));
    arena.reap(victim.me());
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn value_whose_last_holder_died_in_its_destructor_is_free() {
    let arena = root(1 << 20);
    let victim = member(arena);
    let region = Hold::share(victim.allocate(64).expect("room"), 0);
    let handle = region.handle();
    let entry = arena.locate(handle).expect("in the arena");
    // `Hold::leave` is done, the destructor runs.
    let shared = word::BlockWord::from_bits(entry.word.load(std::sync::atomic::Ordering::Acquire));
    let owned = shared.with(word::BlockState::Owned, victim.me().who());
    entry.word.store(owned.to_bits(), Release);
    std::mem::forget(region);
    arena.reap(victim.me());
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn seats_that_a_dead_parent_kept_are_ended_with_everything_handed_to_them() {
    let arena = root(1 << 20);
    let parent = member(arena);
    let seat = parent.reserve_seat().expect("a seat");
    let region = Hold::share(parent.allocate(64).expect("room"), 0);
    region.hold_for(seat.participant()).expect("reserved");
    std::mem::forget(region);
    mark_dead(parent);
    assert_eq!(arena.reap_dead(), 2);
    assert_eq!(in_use(arena), (0, 0, 0));
    let word = arena.seat_word(seat.participant().slot());
    let generation = seat.participant().generation();
    assert_eq!(
        word,
        SeatWord::new(generation, word::Who::NOBODY, SeatState::Free)
    );
}

#[test]
fn many_reapers_at_once_do_what_one_does() {
    let arena = root(4 << 20);
    let others: Vec<&Arena> = (0..3).map(|_| member(arena)).collect();
    for _ in 0..50 {
        let victim = member(arena);
        for len in 0..40 {
            std::mem::forget(victim.allocate(len * 50).expect("room"));
        }
        std::mem::forget(Hold::share(victim.allocate(9).expect("room"), 0));
        mark_dead(victim);
        std::thread::scope(|threads| {
            for other in &others {
                threads.spawn(|| other.reap_dead());
            }
        });
        assert_eq!(in_use(arena), (0, 0, 0));
        assert!(arena.seat_of(victim.me()).is_none());
    }
}
