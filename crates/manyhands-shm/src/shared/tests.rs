//! Values that several participants share.

mod model;

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use manyhands_sync::{Event, Lock};

use super::*;
use crate::arena::tests::{in_use, member, root};

/// Counts what happens to it, in memory that outlives it.
struct Witness {
    counts: &'static Counts,
    placed: AtomicU32,
}

#[derive(Default)]
struct Counts {
    placed: AtomicU32,
    dropped: AtomicU32,
}

// SAFETY: not true of the reference; but all members of these tests are one process.
unsafe impl Shareable for Witness {
    fn placed(&self, _: LastPlace) {
        self.placed.fetch_add(1, SeqCst);
        self.counts.placed.fetch_add(1, SeqCst);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.counts.dropped.fetch_add(1, SeqCst);
    }
}

fn witness() -> (Witness, &'static Counts) {
    let counts: &'static Counts = Box::leak(Box::default());
    (
        Witness {
            counts,
            placed: AtomicU32::new(0),
        },
        counts,
    )
}

fn attach<T: ?Sized + Shape>(arena: &'static Arena, value: &Shared<T>) -> Shared<T> {
    Shared::of(Hold::attach(arena, Shared::handle(value), mark::<T>()).expect("alive"))
}

#[test]
fn value_is_placed_once_and_dropped_once_by_the_last_holder() {
    let arena = root(1 << 20);
    let others = [member(arena), member(arena)];
    let (value, counts) = witness();
    let mine = Shared::new_in(arena, value).expect("room");
    assert_eq!(mine.placed.load(SeqCst), 1);
    let more: Vec<Shared<Witness>> = others
        .iter()
        .cycle()
        .take(5)
        .map(|other| attach(other, &mine))
        .collect();
    let clone = more[3].clone();
    drop(mine);
    drop(more);
    assert_eq!(counts.dropped.load(SeqCst), 0);
    drop(clone);
    assert_eq!(counts.placed.load(SeqCst), 1);
    assert_eq!(counts.dropped.load(SeqCst), 1);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn value_whose_last_holder_was_killed_is_freed_without_destructor() {
    let arena = root(1 << 20);
    let victim = member(arena);
    let (value, counts) = witness();
    std::mem::forget(Shared::new_in(victim, value).expect("room"));
    arena.reap(victim.me());
    assert_eq!(counts.dropped.load(SeqCst), 0);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn survivor_of_a_killed_holder_still_drops_the_value() {
    let arena = root(1 << 20);
    let victim = member(arena);
    let (value, counts) = witness();
    let mine = Shared::new_in(arena, value).expect("room");
    std::mem::forget(attach(victim, &mine));
    arena.reap(victim.me());
    drop(mine);
    assert_eq!(counts.dropped.load(SeqCst), 1);
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn block_is_freed_when_the_destructor_panics() {
    struct Angry;
    // SAFETY: it has no contents.
    unsafe impl Shareable for Angry {}
    impl Drop for Angry {
        fn drop(&mut self) {
            panic!("in a destructor")
        }
    }
    let arena = root(1 << 20);
    let value = Shared::new_in(arena, Angry).expect("room");
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(value)));
    assert!(outcome.is_err());
    assert_eq!(in_use(arena), (0, 0, 0));
}

#[test]
fn lock_in_shared_memory_is_shared_between_members() {
    let arena = root(1 << 20);
    let other = member(arena);
    let mine = Shared::new_in(arena, Lock::new(0_u64)).expect("room");
    let theirs = attach(other, &mine);
    std::thread::scope(|threads| {
        for view in [&mine, &theirs] {
            threads.spawn(move || {
                for _ in 0..1000 {
                    *view.lock().expect("nobody dies") += 1;
                }
            });
        }
    });
    assert_eq!(*mine.lock().expect("nobody dies"), 2000);
}

#[test]
fn event_in_shared_memory_wakes_the_other_member() {
    let arena = root(1 << 20);
    let other = member(arena);
    let mine = Shared::new_in(arena, Event::new()).expect("room");
    let theirs = attach(other, &mine);
    std::thread::scope(|threads| {
        threads.spawn(|| theirs.wait());
        mine.set();
    });
    assert!(theirs.is_set());
}

#[test]
fn strictly_aligned_values_are_aligned() {
    #[repr(align(4096))]
    struct Page(AtomicU64);
    // SAFETY: an atomic and padding.
    unsafe impl Shareable for Page {}
    let arena = root(1 << 20);
    let _between = arena.allocate(64).expect("room");
    let page = Shared::new_in(arena, Page(AtomicU64::new(3))).expect("room");
    assert_eq!(&raw const *page as usize % 4096, 0);
    assert_eq!(page.0.load(SeqCst), 3);
    let unit = Shared::new_in(arena, ()).expect("room");
    assert_eq!(format!("{unit:?}"), "Shared(())");
}

#[test]
fn value_that_does_not_fit_is_dropped_and_reported() {
    let arena = root(1 << 20);
    let (value, counts) = witness();
    while let Ok(block) = arena.allocate(1 << 14) {
        std::mem::forget(block);
    }
    assert!(Shared::new_in(arena, (value, [0_u8; 16_000])).is_err());
    assert_eq!(counts.dropped.load(SeqCst), 1);
    assert_eq!(counts.placed.load(SeqCst), 0);
}

#[test]
fn types_have_marks_of_their_own() {
    assert_ne!(mark::<u64>(), mark::<i64>());
    assert_ne!(mark::<Lock<u64>>(), mark::<Lock<i64>>());
    assert_eq!(mark::<Lock<u64>>(), mark::<Lock<u64>>());
    assert_ne!(mark::<u64>(), 0);
}

#[test]
fn slices_and_text_are_seen_whole_by_other_members() {
    let other = member(family().expect("an arena"));
    let numbers = Shared::<[u16]>::from_fn(1001, |index| index as u16).expect("room");
    let theirs = attach(other, &numbers);
    assert!(theirs.iter().copied().eq(0..1001));
    let text = Shared::<str>::copy_of("\u{20ac} 5").expect("room");
    assert_eq!(&*attach(other, &text), "\u{20ac} 5");
    assert_eq!(
        format!("{text} {text:?}"),
        "\u{20ac} 5 Shared(\"\u{20ac} 5\")"
    );
    for len in [0, 1, 7, 63, 64, 65, 4096] {
        let bytes = Shared::<[u8]>::copy_of(&vec![7; len]).expect("room");
        assert_eq!(*attach(other, &bytes), vec![7; len]);
        let locked = Shared::<Lock<[u8]>>::copy_of(&vec![7; len]).expect("room");
        let theirs = attach(other, &locked);
        assert!(locked.inspect().shared);
        assert_eq!(*theirs.lock().expect("nobody died"), vec![7; len]);
    }
}

#[test]
fn zeroed_items_are_zero_in_memory_that_was_used() {
    for _ in 0..3 {
        let used = Shared::<[u64]>::copy_of(&[u64::MAX; 1000]).expect("room");
        drop(used);
        let items = Shared::<[AtomicU64]>::zeroed(1000).expect("room");
        assert!(items.iter().all(|item| item.load(SeqCst) == 0));
        drop(items);
        let items = Shared::<Lock<[u64]>>::zeroed(990).expect("room");
        let mut guard = items.lock().expect("nobody died");
        assert_eq!(*guard, [0; 990]);
        guard.fill(u64::MAX);
    }
}

#[test]
fn items_of_a_slice_are_placed_once_and_dropped_once() {
    let counts: Vec<_> = (0..4).map(|_| witness()).collect();
    let seen: Vec<_> = counts.iter().map(|(_, counts)| *counts).collect();
    let mut values = counts.into_iter().map(|(value, _)| value);
    let items = Shared::<[Witness]>::from_fn(4, |_| values.next().expect("four")).expect("room");
    let theirs = attach(member(family().expect("an arena")), &items);
    drop(items);
    assert!(seen.iter().all(|counts| counts.dropped.load(SeqCst) == 0));
    drop(theirs);
    for counts in seen {
        assert_eq!(
            (counts.placed.load(SeqCst), counts.dropped.load(SeqCst)),
            (1, 1)
        );
    }
}

#[test]
fn only_holder_of_all_may_change_a_value() {
    let family = family().expect("an arena");
    let other = member(family);
    let mut items = Shared::<[u32]>::zeroed(10).expect("room");
    let clone = items.clone();
    assert!(Shared::get_mut(&mut items).is_none());
    drop(clone);
    let theirs = attach(other, &items);
    assert!(Shared::get_mut(&mut items).is_none());
    drop(theirs);
    let parcel = handoff::pack(&items).expect("packable");
    assert!(Shared::get_mut(&mut items).is_none(), "it is on its way");
    drop(parcel);
    Shared::get_mut(&mut items).expect("nobody else has it")[9] = 5;
    let seat = family.reserve_seat().expect("a free seat");
    Shared::hold_for(&items, seat.participant()).expect("it is alive");
    assert!(Shared::get_mut(&mut items).is_none(), "a child will come");
    assert_eq!(items[9], 5);
    family.release_seat(seat);
}

#[test]
fn parcel_that_nobody_keeps_does_not_lead_to_a_value_that_is_changed() {
    let mut items = Shared::<[u32]>::zeroed(10).expect("room");
    let parcel = handoff::pack(&items).expect("packable");
    drop(parcel.holds);
    let before = Shared::handle(&items);
    let changed = Shared::get_mut(&mut items).expect("nobody holds the parcel");
    let second = handoff::unpack::<Shared<[u32]>>(&parcel.bytes);
    assert!(second.is_err(), "two would have it at once");
    changed[0] = 1;
    assert_ne!(Shared::handle(&items), before);
    let parcel = handoff::pack(&items).expect("packable");
    let same: Shared<[u32]> = handoff::unpack(&parcel.bytes).expect("it is kept");
    assert!(Shared::ptr_eq(&same, &items) && same[0] == 1);
}

#[test]
fn slice_that_no_arena_can_have_is_refused() {
    let error = Shared::<[u64]>::zeroed(usize::MAX / 4).expect_err("too large");
    assert_eq!(error.asked, usize::MAX);
    assert!(Shared::<[u8]>::zeroed(1 << 40).is_err());
    assert!(Shared::<Lock<[u8]>>::zeroed(usize::MAX - 3).is_err());
}

#[test]
fn memory_of_a_lock_stays_when_its_guard_was_leaked() {
    let arena = root(1 << 20);
    let leak = || {
        let leaked = Shared::new_in(arena, Lock::new([0_u64; 2])).expect("room");
        std::mem::forget(leaked.lock().expect("it is free"));
        // The last hold of all, and nobody borrows: yet the thread's robust list leads there.
        drop(leaked);
        let next = Shared::new_in(arena, [7_u64; 7]).expect("room");
        let lock = Shared::new_in(arena, Lock::new(0)).expect("room");
        for _ in 0..3 {
            // Taking it links it before the leaked one.
            drop(lock.lock().expect("it is free"));
        }
        assert_eq!(*next, [7; 7], "the list wrote into memory of somebody else");
        std::mem::forget(lock.lock().expect("it is free"));
        lock
    };
    // The end of the thread marks whatever its list has.
    let other = std::thread::spawn(leak).join().expect("no panic");
    assert!(matches!(
        other.lock(),
        Err(manyhands_sync::LockError::OwnerDied { .. })
    ));
    drop(other);
    assert_eq!(in_use(arena), (0, 0, 1), "what was leaked");
}
