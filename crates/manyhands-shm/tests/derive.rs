//! What `#[derive(Shareable)]` accepts, and what it refuses and how it says so.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use manyhands_shm::{Shareable, Shared};
use manyhands_sync::{Event, Lock, Once, RwLock};

#[derive(Shareable)]
struct Counters {
    hits: AtomicU64,
    last: Lock<[u8; 32]>,
    state: State,
    flags: Flags<AtomicU32, 2>,
    nothing: Nothing,
    // The standard library's types of these names are refused.
    namesakes: (Once, RwLock<u8>),
}

#[derive(Shareable)]
struct State(Event, (u8, [Option<u16>; 3]));

#[derive(Shareable)]
struct Flags<T: Default, const N: usize>
where
    T: Send,
{
    flags: [T; N],
}

#[derive(Shareable)]
struct Nothing;

#[derive(Shareable)]
#[shareable(crate = elsewhere::shm)]
struct Elsewhere {
    number: u64,
}

mod elsewhere {
    pub(crate) use manyhands_shm as shm;
}

#[test]
fn derived_type_can_be_shared_and_its_parts_are_placed() {
    let counters = Shared::new(Counters {
        hits: AtomicU64::new(0),
        last: Lock::new([0; 32]),
        state: State(Event::new(), (1, [None, Some(2), None])),
        flags: Flags {
            flags: [AtomicU32::new(1), AtomicU32::new(2)],
        },
        nothing: Nothing,
        namesakes: (Once::new(), RwLock::new(0)),
    })
    .expect("room");
    assert!(counters.last.inspect().shared, "the lock was placed");
    counters.hits.fetch_add(1, Relaxed);
    counters.last.lock().expect("nobody dies")[0] = 7;
    counters.state.0.set();
    assert_eq!(counters.hits.load(Relaxed), 1);
    assert_eq!(counters.state.1, (1, [None, Some(2), None]));
    assert_eq!(counters.flags.flags[1].load(Relaxed), 2);
    let Nothing = counters.nothing;
}

#[test]
fn derive_finds_the_trait_where_it_is_told() {
    assert_eq!(
        Shared::new(Elsewhere { number: 3 }).expect("room").number,
        3
    );
}

#[test]
fn what_cannot_be_shared_is_refused_with_what_to_use_instead() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
