//! Semaphores, events and barriers between processes that live.
//!
//! The numbers in names are those of the behaviors that CPython's own tests check.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU32};
use std::time::{Duration, Instant};

use manyhands_process::Process;
use manyhands_shm::Shared;
use manyhands_sync::{Barrier, BoundedSemaphore, Broken, Event, Lock, Semaphore};

use crate::{LONG, SOON, until};

/// What a child returned.
macro_rules! joined {
    ($child:expr) => {{
        let mut child = $child;
        let ended = child.join_timeout(LONG).expect("it ends well");
        ended.expect("it ends")
    }};
}

/// Takes two permits, tells whether there was a third, and gives one of them back as another's.
fn take_two_of_three(seats: Shared<BoundedSemaphore>) -> (u32, bool) {
    let first = seats.acquire().expect("few locks");
    let second = seats.try_acquire().expect("there is one");
    let free = seats.inspect().free;
    first.forget();
    second.forget();
    (free, seats.release(1).is_ok())
}

#[test]
fn sem_16_permits_taken_in_one_process_are_given_back_in_another_up_to_the_most() {
    let seats = Shared::new(BoundedSemaphore::new(3)).expect("room");
    let child = Process::spawn(take_two_of_three, (seats.clone(),)).expect("a child");
    assert_eq!(joined!(child), (1, true));
    assert_eq!(seats.inspect().free, 2);
    assert_eq!(seats.release(2).expect_err("one too many").most, 3);
    assert_eq!(seats.inspect().free, 2, "then none is added");
    seats.release(1).expect("it fits");
    assert!(seats.release(1).is_err());
}

const CLIENTS: usize = 8;
const TURNS: usize = 500;

/// Who had the permit, turn by turn; how many turns there were; and the permit.
type Served = ([AtomicU8; CLIENTS * TURNS], AtomicU32, Semaphore);

/// Takes a turn whenever all others wait; how long it waited for all of them.
fn take_turns(served: Shared<Served>, number: u8) -> Duration {
    let (order, turns, semaphore) = &*served;
    let mut waited = Duration::ZERO;
    loop {
        let start = Instant::now();
        let _permit = semaphore.acquire().expect("few locks");
        waited += start.elapsed();
        // The permit orders it.
        let turn = turns.fetch_add(1, Relaxed) as usize;
        match order.get(turn) {
            Some(place) => place.store(number, Relaxed),
            None => return waited,
        }
        let last = turn + 1 == order.len();
        until(|| last || semaphore.inspect().waiting == CLIENTS as u32 - 1);
    }
}

#[test]
fn semaphore_serves_eight_processes_in_turn() {
    let order = [const { AtomicU8::new(0) }; CLIENTS * TURNS];
    let served = (order, AtomicU32::new(0), Semaphore::new(1));
    let served = Shared::new(served).expect("room");
    let clients = [0, 1, 2, 3, 4, 5, 6, 7]
        .map(|number| Process::spawn(take_turns, (served.clone(), number)).expect("a child"));
    let mut waited = clients.map(|child| joined!(child));
    waited.sort();
    let ratio = waited[CLIENTS - 1].as_secs_f64() / waited[0].as_secs_f64();
    println!("waiting times {waited:?}: ratio {ratio:.2}");
    // While all wait who do not hold the permit, nobody is overtaken: the order is a circle.
    for round in served.0.windows(CLIENTS + 1) {
        let (first, again) = (round[0].load(Relaxed), round[CLIENTS].load(Relaxed));
        assert_eq!(first, again, "{round:?}");
    }
}

fn set(event: Shared<Event>) {
    event.set();
}

#[test]
fn event_07_set_by_a_child_wakes_its_parent() {
    let event = Shared::new(Event::new()).expect("room");
    assert!(!event.is_set() && !event.wait_timeout(Duration::ZERO));
    let start = Instant::now();
    assert!(!event.wait_timeout(SOON));
    assert!(start.elapsed() >= SOON);
    let child = Process::spawn(set, (event.clone(),)).expect("a child");
    assert!(event.wait_timeout(LONG));
    joined!(child);
    assert!(event.is_set() && event.wait_timeout(Duration::ZERO));
    event.clear();
    assert!(!event.is_set());
}

/// The place of arrival, or what the barrier says.
fn meet(barrier: Shared<Barrier>) -> Result<u32, String> {
    barrier.wait().map_err(|broken| broken.to_string())
}

fn meet_for(barrier: Shared<Barrier>, time: Duration) -> (Duration, Result<u32, String>) {
    let start = Instant::now();
    let outcome = barrier.wait_timeout(time);
    (
        start.elapsed(),
        outcome.map_err(|broken| broken.to_string()),
    )
}

/// Lets two children wait, ends that by `end`, and tells what they were told.
fn two_wait(barrier: &Shared<Barrier>, end: impl FnOnce()) -> [Result<u32, String>; 2] {
    let children = [(); 2].map(|()| Process::spawn(meet, (barrier.clone(),)).expect("a child"));
    until(|| barrier.waiting() == 2);
    end();
    children.map(|child| joined!(child))
}

fn assert_usable(barrier: &Shared<Barrier>) {
    let mut places = two_wait(barrier, || {
        assert_eq!(barrier.wait(), Ok(2));
    });
    places.sort();
    assert_eq!(places, [Ok(0), Ok(1)]);
}

#[test]
fn barrier_06_07_08_waiting_processes_are_told_and_reset_mends_it() {
    let barrier = Shared::new(Barrier::new(3).expect("three")).expect("room");
    let aborted = || Err(Broken::Aborted.to_string());
    assert_usable(&barrier);
    assert_eq!(
        two_wait(&barrier, || barrier.reset()),
        [aborted(), aborted()]
    );
    assert_usable(&barrier);
    assert_eq!(
        two_wait(&barrier, || barrier.abort()),
        [aborted(), aborted()]
    );
    assert_eq!(barrier.wait(), Err(Broken::Aborted));
    barrier.reset();
    assert_usable(&barrier);

    // The one whose time is up, the one that waits, and the one that comes late.
    let waiting = Process::spawn(meet, (barrier.clone(),)).expect("a child");
    until(|| barrier.waiting() == 1);
    assert_eq!(barrier.wait_timeout(SOON), Err(Broken::TimedOut));
    let late = Process::spawn(meet, (barrier.clone(),)).expect("a child");
    let timed_out = || Err(Broken::TimedOut.to_string());
    assert_eq!(
        [joined!(waiting), joined!(late)],
        [timed_out(), timed_out()]
    );
    barrier.reset();
    assert_usable(&barrier);
}

#[test]
fn barrier_09_10_time_out_of_a_process_elapses_in_full_and_one_party_never_waits() {
    let barrier = Shared::new(Barrier::new(2).expect("two")).expect("room");
    let child = Process::spawn(meet_for, (barrier, 4 * SOON)).expect("a child");
    let (lasted, outcome) = joined!(child);
    assert!(lasted >= 4 * SOON);
    assert_eq!(outcome, Err(Broken::TimedOut.to_string()));

    let barrier = Shared::new(Barrier::new(1).expect("one")).expect("room");
    for _ in 0..3 {
        let child = Process::spawn(meet, (barrier.clone(),)).expect("a child");
        assert_eq!(joined!(child), Ok(0));
        assert_eq!(barrier.wait(), Ok(0));
    }
}

const PARTIES: usize = 5;
const PASSES: usize = 1000;

/// Which pass each message was of, in the order in which they came.
type Messages = Lock<(u32, [u16; PARTIES * PASSES])>;

fn pass_all(shared: Shared<(Barrier, Messages)>) {
    let (barrier, messages) = &*shared;
    for pass in 0..PASSES {
        barrier.wait().expect("nobody breaks it");
        let mut guard = messages.lock().expect("nobody died");
        let index = guard.0 as usize;
        guard.1[index] = pass as u16;
        guard.0 += 1;
    }
}

#[test]
fn barrier_11_messages_of_five_processes_come_strictly_pass_by_pass() {
    let barrier = Barrier::new(PARTIES as u32).expect("five");
    let messages = Lock::new((0, [0; PARTIES * PASSES]));
    let shared = Shared::new((barrier, messages)).expect("room");
    let children =
        [(); PARTIES].map(|()| Process::spawn(pass_all, (shared.clone(),)).expect("a child"));
    for child in children {
        joined!(child);
    }
    let guard = shared.1.lock().expect("nobody died");
    assert_eq!(guard.0 as usize, PARTIES * PASSES);
    for (index, pass) in guard.1.iter().enumerate() {
        assert_eq!(usize::from(*pass), index / PARTIES);
    }
}
