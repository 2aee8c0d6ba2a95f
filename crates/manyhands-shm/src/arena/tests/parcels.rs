//! Blocks that hold shared blocks, and deaths of all who have to do with them.

use std::sync::atomic::Ordering::Relaxed;

use super::parcel::list_len;
use super::*;

const KIND: u64 = 0;

fn shared(arena: &'static Arena, len: usize) -> Hold {
    Hold::share(arena.allocate(len).expect("room"), KIND)
}

fn attach(arena: &'static Arena, handle: Handle) -> Option<Hold> {
    Hold::attach(arena, handle, KIND)
}

fn parcel(by: &'static Arena, handles: &[Handle]) -> Block {
    let len = list_len(handles.len()).expect("a few") + 5;
    let parcel = by.allocate(len).expect("room");
    assert!(by.hold_all(&parcel, handles));
    assert_eq!((parcel.start(), parcel.len()), (len - 5, len));
    parcel
}

fn parcels(hold: &Hold) -> u32 {
    hold.entry().parcels()
}

fn all(arena: &Arena) -> u64 {
    arena.stats().used_blocks()
}

#[test]
fn parcel_keeps_what_it_holds_until_it_is_freed() {
    let arena = root(1 << 20);
    let (first, second) = (shared(arena, 100), shared(arena, 5000));
    let handles = [first.handle(), second.handle(), first.handle()];
    let holding = parcel(arena, &handles);
    assert_eq!((parcels(&first), parcels(&second)), (2, 1));
    drop((first, second));
    assert_eq!(all(arena), 3);
    let mut first = attach(member(arena), handles[0]).expect("it is held");
    assert!(!first.make_only(), "a parcel holds it, too");
    drop(holding);
    assert_eq!(all(arena), 1, "the second had no other holder");
    assert!(attach(arena, handles[1]).is_none());
    assert!(parcels(&first) == 0 && first.make_only());
    drop(first);
    assert_eq!(all(arena), 0);
}

#[test]
fn what_is_on_its_way_outlives_its_sender() {
    let arena = root(1 << 20);
    let (sender, receiver) = (member(arena), member(arena));
    let queue = shared(arena, 4096);
    let (senders, receivers) = (
        attach(sender, queue.handle()),
        attach(receiver, queue.handle()),
    );
    let sent = shared(sender, 100);
    let handle = sent.handle();
    let message = senders
        .as_ref()
        .map(|queue| queue.deposit(parcel(sender, &[handle])));
    std::mem::forget((senders, sent));
    arena.reap(sender.me());
    assert_eq!(all(arena), 3);

    let queue_there = receivers.expect("it lives");
    let message = message.expect("it was sent");
    let (_, len) = queue_there
        .look_at(message)
        .expect("mapped")
        .expect("there");
    assert_eq!(len, 5, "without the list");
    let message = queue_there
        .withdraw(message)
        .expect("mapped")
        .expect("there");
    let received = attach(receiver, handle).expect("the message holds it");
    drop(message);
    assert_eq!(parcels(&received), 0);
    drop((received, queue_there, queue));
    assert_eq!(all(arena), 0);
}

#[test]
fn parcels_of_the_dead_let_go() {
    for len in [64, 4096] {
        let arena = root(1 << 20);
        let (victim, other) = (member(arena), member(arena));
        let (lone, kept) = (shared(victim, len), shared(victim, len));
        let others = attach(other, kept.handle()).expect("it lives");
        let owned = parcel(victim, &[lone.handle(), kept.handle()]);
        // Half made: the list says two, the second is not held yet.
        let half = parcel(victim, &[kept.handle()]);
        let list = half.as_ptr().cast::<u64>();
        // SAFETY: `from_ptr` needs an aligned place that is only used atomically: the head of a list.
        unsafe { std::sync::atomic::AtomicU64::from_ptr(list) }.store(2, Relaxed);
        assert_eq!(parcels(&others), 2);
        std::mem::forget((lone, kept, owned, half));
        arena.reap(victim.me());
        assert_eq!((all(arena), parcels(&others)), (1, 0));
        drop(others);
        assert_eq!(all(arena), 0);
    }
}

/// As by a process that has no addresses for what is in it.
#[test]
fn parcel_that_cannot_be_emptied_is_left_to_the_next_sweep() {
    let arena = root(1 << 20);
    let victim = member(arena);
    let hold = shared(arena, 5000);
    let parcel = parcel(arena, &[hold.handle()]);
    drop(hold);
    arena.abandon(parcel.handle());
    std::mem::forget(parcel);
    assert_eq!(all(arena), 2);
    arena.reap(victim.me());
    assert_eq!(all(arena), 0);
}

/// A queue in a message in a queue in a message in a queue, and nobody left.
#[test]
fn parcels_in_queues_in_parcels_are_freed_to_the_last() {
    for dies in [false, true] {
        let arena = root(1 << 20);
        let holder = member(arena);
        let queues = [64, 5000, 300].map(|len| shared(holder, len));
        for pair in queues.windows(2) {
            pair[0].deposit(parcel(holder, &[pair[1].handle()]));
        }
        queues[2].deposit(holder.allocate(77).expect("room"));
        let [first, second, third] = queues;
        drop((second, third));
        assert_eq!(all(arena), 6);
        match dies {
            true => {
                std::mem::forget(first);
                arena.reap(holder.me());
            }
            false => drop(first),
        }
        assert_eq!(all(arena), 0);
    }
}

/// Wherever somebody dies in a step, the next one who takes the lock has the same outcome.
#[test]
fn step_that_a_death_has_left_is_completed_once() {
    for up in [true, false] {
        for done in 0..=3 {
            let arena = root(1 << 20);
            let hold = shared(arena, 64);
            let holding = parcel(arena, &[hold.handle(), hold.handle()]);
            let held = holding.as_ptr().wrapping_add(8).cast::<u64>();
            // SAFETY: `from_ptr` needs an aligned place that is only used atomically: the head of a list.
            let held = unsafe { std::sync::atomic::AtomicU64::from_ptr(held) };
            // Back to one, as before the step, or on from two.
            let journal = &arena.memory.header().journal;
            let deposits = |parcels: u64| parcels << 32;
            if up {
                hold.entry().deposit.store(deposits(1), Relaxed);
                held.store(1, Relaxed);
            }
            let after = if up { 2 } else { 1 };
            journal.block.store(hold.handle().to_bits(), Relaxed);
            journal.parcels.store(after, Relaxed);
            journal.held.store(after, Relaxed);
            if done > 0 {
                journal.parcel.store(holding.handle().to_bits(), Relaxed);
            }
            if done > 1 {
                hold.entry().deposit.store(deposits(after.into()), Relaxed);
            }
            if done > 2 {
                held.store(after.into(), Relaxed);
            }
            drop(arena.lock());
            let before = if up { 1 } else { 2 };
            let expected = if done > 0 { after } else { before };
            assert_eq!(parcels(&hold), expected);
            assert_eq!(held.load(Relaxed), u64::from(expected));
            assert_eq!(journal.parcel.load(Relaxed), 0);
            drop(holding);
            assert_eq!(parcels(&hold), 0);
        }
    }
}
