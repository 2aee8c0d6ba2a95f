//! Coming and going.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::error::ShortOf;

#[test]
fn reserved_seat_is_alive_until_it_is_released() {
    let arena = root(1 << 20);
    let seat = arena.reserve_seat().expect("a seat");
    assert!(arena.is_alive(seat.participant()));
    assert_eq!(arena.identity(seat.participant()), None);
    assert!(
        arena
            .life(seat.participant())
            .is_some_and(|life| life.is_vacant())
    );
    arena.release_seat(seat);
    assert!(!arena.is_alive(seat.participant()));
    assert!(arena.life(seat.participant()).is_none());
    assert!(sit_down(arena, seat).is_none(), "the child came too late");
    arena.release_seat(seat);
}

#[test]
fn child_on_a_seat_holds_its_life_word() {
    let arena = root(1 << 20);
    let seat = arena.reserve_seat().expect("a seat");
    let fd = arena.as_fd().try_clone_to_owned().expect("a descriptor");
    let child = Arena::sit_down(Memory::attach(fd).expect("an arena"), seat, keeper::hold)
        .expect("reserved");
    child.follow(seat, None).expect("the parent lives");
    assert!(arena.life(child.me()).is_some_and(|life| life.is_alive()));
    assert_eq!(arena.identity(child.me()), Some(Identity::current()));
    arena.reap(child.me());
    assert!(
        arena.is_alive(child.me()),
        "who holds its life word is not reaped"
    );
    arena.release_seat(seat);
    assert!(arena.is_alive(child.me()), "a taken seat is not released");
}

#[test]
fn seat_is_taken_once() {
    let arena = root(1 << 20);
    let seat = arena.reserve_seat().expect("a seat");
    assert!(sit_down(arena, seat).is_some());
    assert!(sit_down(arena, seat).is_none());
}

#[test]
fn child_of_a_parent_that_was_reaped_finds_no_seat() {
    let arena = root(1 << 20);
    let parent = member(arena);
    let seat = parent.reserve_seat().expect("a seat");
    arena.reap(parent.me());
    assert!(!arena.is_alive(seat.participant()));
    assert!(sit_down(arena, seat).is_none());
}

#[test]
fn child_that_came_before_its_parent_was_reaped_keeps_its_seat_but_cannot_follow() {
    let arena = root(1 << 20);
    let parent = member(arena);
    let seat = parent.reserve_seat().expect("a seat");
    let child = sit_down(arena, seat).expect("reserved");
    arena.reap(parent.me());
    assert!(arena.is_alive(child.me()));
    assert!(matches!(
        child.follow(seat, None),
        Err(ArenaError::ParentGone { .. })
    ));
}

#[test]
fn all_seats_can_be_taken_and_no_more() {
    let arena = root(1 << 20);
    let seats: Vec<Seat> = (1..512)
        .map(|_| arena.reserve_seat().expect("a seat"))
        .collect();
    let error = arena.reserve_seat().expect_err("none is left");
    assert!(matches!(error.short_of, ShortOf::Seats));
    arena.release_seat(seats[100]);
    let next = arena.reserve_seat().expect("one was released");
    assert_eq!(next.participant().slot(), seats[100].participant().slot());
    assert_ne!(next.participant(), seats[100].participant());
}

#[test]
fn seats_of_the_dead_are_found_when_all_are_taken() {
    let arena = root(1 << 20);
    let dead = member(arena);
    while arena.reserve_seat().is_ok() {}
    mark_dead(dead);
    let next = arena.reserve_seat().expect("the dead one's");
    assert_eq!(next.participant().slot(), dead.me().slot());
}

#[test]
fn participants_survive_packing_into_a_word() {
    for participant in [Participant::new(0, 1), Participant::new(511, u32::MAX)] {
        assert_eq!(
            Participant::from_bits(participant.to_bits()),
            Some(participant)
        );
    }
    for bits in [0, 5, 512 | 1 << 16, u64::MAX] {
        assert_eq!(Participant::from_bits(bits), None);
    }
}

#[test]
fn participant_out_of_bounds_is_nobody() {
    let arena = root(1 << 20);
    let nobody = Participant::new(9999, 1);
    assert!(!arena.is_alive(nobody));
    assert!(arena.life(nobody).is_none());
    arena.reap(nobody);
}

#[test]
fn children_to_be_ended_are_those_that_sit_and_do_not_follow() {
    let arena = root(1 << 20);
    let parent = member(arena);
    let seat = || parent.reserve_seat().expect("a seat");
    let (reserved, follower, child) = (seat(), seat(), seat());
    let follower = sit_down(arena, follower).expect("reserved");
    let followed = arena.memory.seat(follower.me().slot());
    followed.follows.store(follower.me().generation(), Relaxed);
    // What another user of the seat did is not what this one does.
    let taken = arena.memory.seat(child.participant().slot());
    taken
        .follows
        .store(child.participant().generation() + 1, Relaxed);
    let here = Some(Identity::current());
    let children = || arena.memory.children(parent.me());
    assert_eq!(children(), []);
    assert!(sit_down(arena, child).is_some());
    assert_eq!(children().first().copied(), here);
    assert!(sit_down(arena, reserved).is_some());
    assert_eq!(children().len(), 2);
    assert_eq!(arena.memory.children(arena.me()).len(), 1, "the parent");
}

#[test]
fn children_of_another_with_the_same_short_name_are_not_ended() {
    let arena = root(1 << 20);
    let parent = member(arena);
    sit_down(arena, parent.reserve_seat().expect("a seat")).expect("reserved");
    let me = parent.me();
    // The generation of a name that is as short: 128 before.
    let former = Participant::new(me.slot(), me.generation().wrapping_add(128));
    assert_eq!(former.who(), me.who());
    assert_eq!(arena.memory.children(former), []);
    assert_eq!(arena.memory.children(me).len(), 1);
}
