//! One arena, seen by several participants that all are this process.
//!
//! A participant that is abandoned is what a killed process leaves: it never runs again, and
//! nothing of it is dropped.

mod allocating;
mod depositing;
mod giving;
mod holding;
mod model;
mod parcels;
mod reaping;
mod seats;
mod windows;

use super::layout::{HolderSet, SeatRecord};
use super::*;

/// The arena of a family of its own, as its root sees it.
pub(crate) fn root(len: u64) -> &'static Arena {
    root_with_windows(len, 1)
}

fn root_with_windows(len: u64, windows: u32) -> &'static Arena {
    Arena::found(Memory::create(len, windows).expect("a small arena")).expect("the keeper runs")
}

/// Another participant of the same family, which does not hold its life word, so that it can be
/// reaped while this process lives.
pub(crate) fn member(root: &Arena) -> &'static Arena {
    let seat = root.reserve_seat().expect("a free seat");
    sit_down(root, seat).expect("the seat is reserved")
}

/// Takes a seat without holding the life word.
fn sit_down(root: &Arena, seat: Seat) -> Option<&'static Arena> {
    let fd = root.as_fd().try_clone_to_owned().expect("a descriptor");
    let arena = Arena::new(Memory::attach(fd).expect("an arena"), seat.participant());
    arena.take_seat(seat).then_some(arena)
}

/// Marks the life word as the kernel does when the process that holds it dies.
fn mark_dead(member: &Arena) {
    const OWNER_DIED: u64 = 1 << 30;
    let life = &raw const member.memory.seat(member.me().slot()).life;
    // SAFETY: `from_ptr` needs an aligned place that is only used atomically: the first word of a
    // life word is its atomic, at least 8-byte aligned, and mapped for ever.
    let word = unsafe { std::sync::atomic::AtomicU64::from_ptr(life.cast_mut().cast()) };
    word.store(OWNER_DIED, Release);
}

fn seat_record(arena: &Arena, participant: Participant) -> &'static SeatRecord {
    arena.memory.seat(participant.slot())
}

fn holders(arena: &Arena, handle: Handle) -> &'static HolderSet {
    arena.memory.holders(handle.class(), handle.index())
}

/// Owned, given, shared: the blocks in use.
pub(crate) fn in_use(arena: &Arena) -> (u64, u64, u64) {
    arena.stats().classes.iter().fold((0, 0, 0), |sum, class| {
        (
            sum.0 + class.owned,
            sum.1 + class.given,
            sum.2 + class.shared,
        )
    })
}

#[test]
fn family_arena_is_made_once_when_many_threads_ask() {
    let arenas: Vec<&Arena> = std::thread::scope(|threads| {
        let asking: Vec<_> = (0..8).map(|_| threads.spawn(family)).collect();
        asking
            .into_iter()
            .map(|t| t.join().expect("no panic").expect("made"))
            .collect()
    });
    assert!(arenas.iter().all(|arena| std::ptr::eq(*arena, arenas[0])));
    assert!(arenas[0].me().is_alive());
    assert_eq!(arenas[0].me().identity(), Some(Identity::current()));
}

#[test]
fn process_that_has_an_arena_cannot_join_another() {
    family().expect("an arena");
    let other = root(1 << 20);
    let seat = other.reserve_seat().expect("a seat");
    let fd = other.as_fd().try_clone_to_owned().expect("a descriptor");
    assert!(matches!(join(fd, seat), Err(ArenaError::AlreadyJoined)));
    assert!(
        other.is_alive(seat.participant()),
        "the seat is still reserved"
    );
}

#[test]
fn descriptor_of_another_kind_is_no_arena() {
    let empty = manyhands_os::memory::Memfd::create("test", 1 << 20).expect("a file");
    let fd = empty.as_fd().try_clone_to_owned().expect("a descriptor");
    assert!(matches!(
        Memory::attach(fd),
        Err(ArenaError::Incompatible { found: 0, .. })
    ));
    let short = manyhands_os::memory::Memfd::create("test", 4096).expect("a file");
    let fd = short.as_fd().try_clone_to_owned().expect("a descriptor");
    assert!(matches!(
        Memory::attach(fd),
        Err(ArenaError::Incompatible { found: 0, .. })
    ));
}

#[test]
fn arena_costs_nearly_nothing_until_it_is_used() {
    let arena = root(16 << 30);
    assert!(arena.stats().resident_bytes < 256 << 10);
    assert_eq!(arena.len(), 16 << 30);
    assert!(!arena.is_empty());
}

#[test]
fn statistics_tell_who_has_what() {
    let arena = root(4 << 20);
    let other = member(arena);
    let block = other.allocate(100).expect("room");
    let region = Hold::share(arena.allocate(5000).expect("room"), 0);
    region.hold_for(other.me()).expect("it lives");
    let stats = arena.stats();
    assert_eq!(stats.used_blocks(), 2);
    assert_eq!(stats.holders.len(), 2);
    let (first, second) = (stats.holders[0], stats.holders[1]);
    assert_eq!(
        (first.participant, first.owned, first.shared),
        (arena.me(), 0, 1)
    );
    assert_eq!(
        (second.participant, second.owned, second.owned_bytes),
        (other.me(), 1, 100)
    );
    assert_eq!((second.shared, second.shared_bytes), (1, 5000));
    assert!(first.is_alive && second.is_alive);
    assert!(stats.resident_bytes >= 5000);
    assert_eq!(stats.used_bytes(), 5100, "a shared block counts once");
    assert!(stats.free_warm_bytes() >= 128 * 31 && stats.free_warm_bytes().is_multiple_of(128));
    let identity = Identity::current();
    let text = stats.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("arena of 4.0 MiB: "), "{text}");
    assert!(
        lines[0].contains("; 2 blocks in use, 5.0 KiB of them; "),
        "{text}"
    );
    assert!(lines[2].contains(" 128 B "), "{text}");
    let first = format!("  participant 0/1, {identity}: owns 0 (0 B), shares 1 (4.9 KiB)");
    let second = format!("  participant 1/1, {identity}: owns 1 (100 B), shares 1 (4.9 KiB)");
    assert_eq!(lines[lines.len() - 2..], [first, second]);
    mark_dead(other);
    let dead = arena.stats().holders[1].to_string();
    assert_eq!(
        dead,
        "participant 1/1, dead: owns 1 (100 B), shares 1 (4.9 KiB)"
    );
    drop((block, region));
}
