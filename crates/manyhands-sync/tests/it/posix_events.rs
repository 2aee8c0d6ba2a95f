//! Our event behind raw_sync's traits, and raw_sync's own beside it where they agree.

use std::cell::UnsafeCell;
use std::os::unix::process::parent_id;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use manyhands_sync::posix::{self, EventTimedOut, NotAnEvent};
use raw_sync::Timeout;
use raw_sync::events::{self, EventImpl, EventInit, EventState};

use crate::conformance::subjects::Memory;
use crate::{LONG, SOON, each_placement, until};

/// Memory for an event; handles to it are made by each thread, as by each process.
#[repr(align(64))]
struct Place(UnsafeCell<[u64; 32]>);

// SAFETY: the memory is used as an event only, which is for many to use.
unsafe impl Sync for Place {}

impl Place {
    fn empty() -> Self {
        Self(UnsafeCell::new([0; 32]))
    }

    fn with<E: EventInit>(auto_reset: bool) -> Self {
        let place = Self::empty();
        // SAFETY: 256 bytes are enough for any event, and this is the only user yet.
        let made = unsafe { E::new(place.memory(), auto_reset) };
        let (event, size) = made.expect("there is memory");
        assert!(size >= E::size_of(None) && size <= 256);
        drop(event);
        place
    }

    fn memory(&self) -> *mut u8 {
        self.0.get().cast()
    }

    fn event<E: EventInit>(&self) -> Box<dyn EventImpl> {
        // SAFETY: `with` has made the event, and tests keep the place for longer than the handle.
        let (event, _) = unsafe { E::from_existing(self.memory()) }.expect("it was made");
        event
    }
}

fn set(event: &dyn EventImpl) {
    event.set(EventState::Signaled).expect("it can be set");
}

/// What all events of these traits do.
fn basics<E: EventInit>() {
    for auto_reset in [false, true] {
        let place = Place::with::<E>(auto_reset);
        let (event, same) = (place.event::<E>(), place.event::<E>());
        assert!(event.wait(Timeout::Val(Duration::ZERO)).is_err());
        set(&*event);
        set(&*event);
        assert!(same.wait(Timeout::Infinite).is_ok());
        assert_eq!(same.wait(Timeout::Val(Duration::ZERO)).is_err(), auto_reset);
        set(&*same);
        event.set(EventState::Clear).expect("it can be cleared");
        assert!(same.wait(Timeout::Val(Duration::ZERO)).is_err());
    }
}

#[test]
fn event_of_raw_sync_does_the_basics() {
    basics::<events::Event>();
}

#[test]
fn our_event_does_the_basics_through_either_type() {
    basics::<posix::Event>();
    basics::<manyhands_sync::Event>();
}

#[test]
fn time_out_of_an_event_waits_and_is_told_by_type() {
    let place = Place::with::<posix::Event>(true);
    let event = place.event::<posix::Event>();
    let start = std::time::Instant::now();
    let error = event.wait(Timeout::Val(SOON)).expect_err("nobody sets it");
    assert!(start.elapsed() >= SOON);
    assert_eq!(error.downcast_ref(), Some(&EventTimedOut));
    set(&*event);
    assert!(event.wait(Timeout::Val(Duration::MAX)).is_ok());
}

#[test]
fn memory_that_holds_no_event_of_ours_is_refused() {
    let refused = |place: &Place| {
        // SAFETY: the place is large enough, and all bytes are atomics to us.
        let made = unsafe { posix::Event::from_existing(place.memory()) };
        let error = made.map(drop).expect_err("it is none");
        error.downcast_ref() == Some(&NotAnEvent)
    };
    assert!(refused(&Place::empty()));
    assert!(refused(&Place::with::<events::Event>(true)));
}

#[test]
fn unaligned_memory_holds_the_event_at_the_next_aligned_address() {
    let place = Place::empty();
    for offset in 0..8 {
        let memory = place.memory().wrapping_add(offset);
        // SAFETY: the place is large enough; the handle of the last round is gone.
        let (event, size) = unsafe { posix::Event::new(memory, false) }.expect("there is memory");
        assert_eq!(size, posix::Event::size_of(Some(memory)));
        set(&*event);
        assert!(event.wait(Timeout::Infinite).is_ok());
    }
}

#[test]
fn event_that_clears_itself_gives_each_set_to_one_waiter() {
    const SETS: u32 = 2_000;
    let place = Place::with::<posix::Event>(true);
    let taken = AtomicU32::new(0);
    let over = AtomicU32::new(0);
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let event = place.event::<posix::Event>();
                loop {
                    event.wait(Timeout::Val(LONG)).expect("there are sets");
                    if over.load(SeqCst) == 1 {
                        // The last set goes round.
                        return set(&*event);
                    }
                    taken.fetch_add(1, SeqCst);
                }
            });
        }
        let event = place.event::<posix::Event>();
        for count in 1..=SETS {
            set(&*event);
            until(|| taken.load(SeqCst) == count);
        }
        over.store(1, SeqCst);
        set(&*event);
    });
    // Had a set come to two, the count would have passed a step, and the loop would not have ended.
    assert_eq!(taken.load(SeqCst), SETS);
}

#[test]
fn event_that_does_not_clear_itself_wakes_all() {
    let place = Place::with::<posix::Event>(false);
    let ready = Barrier::new(4);
    thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let event = place.event::<posix::Event>();
                ready.wait();
                event.wait(Timeout::Val(LONG)).expect("it is set");
            });
        }
        ready.wait();
        set(&*place.event::<posix::Event>());
    });
}

#[test]
fn event_that_is_ours_from_the_start_has_the_interface_too() {
    each_placement(manyhands_sync::Event::new, |event| {
        let event: &dyn EventImpl = &*event;
        assert!(event.wait(Timeout::Val(Duration::ZERO)).is_err());
        set(event);
        assert!(event.wait(Timeout::Infinite).is_ok());
        assert!(event.wait(Timeout::Infinite).is_ok());
        event.set(EventState::Clear).expect("it can be cleared");
        assert!(event.wait(Timeout::Val(SOON)).is_err());
    });
}

/// Tells the other process of the tests below which memory to use.
const ORDER: &str = "MANYHANDS_SYNC_EVENT";

/// An event that clears itself, in memory of its own, and another process that lives on it.
struct Other {
    event: Box<dyn EventImpl>,
    memory: &'static Memory,
    process: Child,
}

impl Other {
    fn start() -> Self {
        let memory = Memory::fresh();
        // SAFETY: the memory is large enough and stays.
        let made = unsafe { posix::Event::new(memory.start(), true) };
        let (event, _) = made.expect("there is memory");
        let process = Command::new(std::env::current_exe().expect("it is there"))
            .args(["--exact", "posix_events::other_process_sets_and_takes"])
            .env(ORDER, memory.name())
            .stdout(Stdio::null())
            .spawn()
            .expect("a process more");
        Self {
            event,
            memory,
            process,
        }
    }

    /// How often the other process has taken a set.
    fn rounds(&self) -> u32 {
        self.memory.flag().load(SeqCst)
    }

    fn kill(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // A test that fails must not leave it behind; else it is gone already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// No test of its own: takes each set, tells how often, and sets the event again.
#[test]
fn other_process_sets_and_takes() {
    let Ok(name) = std::env::var(ORDER) else {
        return;
    };
    let memory = Memory::named(&name);
    // SAFETY: the test has made the event.
    let (event, _) = unsafe { posix::Event::from_existing(memory.start()) }.expect("it is one");
    let test = parent_id();
    while event.wait(Timeout::Val(LONG)).is_ok() && parent_id() == test {
        memory.flag().fetch_add(1, SeqCst);
        set(&*event);
    }
}

#[test]
fn event_is_whole_after_a_kill_in_the_middle_of_setting_and_taking() {
    for round in 0..20 {
        let mut other = Other::start();
        set(&*other.event);
        // Another moment in each round, by no plan.
        until(|| other.rounds() > 100 + round);
        other.kill();
        let cleared = other.event.set(EventState::Clear);
        cleared.expect("it can be cleared");
        set(&*other.event);
        assert!(other.event.wait(Timeout::Val(LONG)).is_ok());
        assert!(other.event.wait(Timeout::Val(Duration::ZERO)).is_err());
    }
}

#[test]
fn set_reaches_a_waiter_when_another_is_killed_in_its_sleep() {
    let mut other = Other::start();
    // It has begun, and its own set is taken from it, so that it goes to sleep.
    set(&*other.event);
    until(|| other.rounds() > 0 && other.event.wait(Timeout::Val(SOON)).is_ok());
    let memory = other.memory;
    thread::scope(|threads| {
        let survivor = threads.spawn(move || {
            // SAFETY: the event was made there, and the memory stays.
            let made = unsafe { posix::Event::from_existing(memory.start()) };
            let (event, _) = made.expect("it is one");
            event.wait(Timeout::Val(LONG)).is_ok()
        });
        other.kill();
        set(&*other.event);
        assert!(
            survivor.join().expect("no panic"),
            "the set went to the dead"
        );
    });
    assert!(other.event.wait(Timeout::Val(Duration::ZERO)).is_err());
}
