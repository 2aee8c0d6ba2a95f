//! Creators, openers and sweepers that are killed at any point.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use manyhands_os::process::Identity;
use manyhands_os::{Deadline, names};
use manyhands_shm::named::{self, Segment, SegmentOf, SharedMemory};

use crate::children::this_program;
use crate::{await_gone, await_swept, name};

/// Names the segment that counts what the children have done.
const COUNT: &str = "MANYHANDS_NAMED_COUNT";

/// How many children there are at a time.
const HANDS: usize = 4;

/// How many are killed, unless the long loops are asked for.
const KILLS: u64 = 60;
const LONG_KILLS: u64 = 2000;

/// The names that all children use.
fn common(count: &str) -> [String; 3] {
    ["a", "b", "c"].map(|each| format!("{count}-{each}"))
}

/// The name that only one child uses, while it lives.
fn own(count: &str, id: u32) -> String {
    format!("{count}-{id}")
}

/// The child: makes, opens, unlinks and sweeps until it is killed. It ends by itself only with the
/// parent, or when something that lives was removed, or is not what it should be.
pub(crate) fn storm() {
    let count = std::env::var(COUNT).expect("the parent says it");
    let steps = SegmentOf::<AtomicU64>::open(&count).expect("the parent has it");
    let id = std::process::id();
    // Closed at once: its owner lives, and that is enough.
    let mine = own(&count, id);
    let lasting = format!("{mine}-lasting");
    let _lasting = SharedMemory::create_owned(&lasting, 64).expect("room");
    drop(Segment::create_with(&mine, 4, |bytes| mark(bytes, id)).expect("room"));
    while !steps.owner().has_ended() {
        for name in common(&count) {
            let segment = Segment::attach_or_create(&name, 100_000).expect("room");
            segment.write_at(50_000, &[1; 64]).expect("inside");
            drop(segment);
            let again = Segment::try_open(&mine).expect("its owner lives");
            assert_eq!(again.to_vec(), id.to_ne_bytes());
            drop(SharedMemory::open(&lasting).expect("its owner lives"));
            match steps.fetch_add(1, Release) % 4 {
                // Another one may have been quicker.
                0 => drop(named::unlink(&name)),
                1 => drop(named::sweep().expect("the folder can be read")),
                2 => drop(SharedMemory::create_owned(&format!("{mine}-short"), 64).expect("room")),
                _ => {}
            }
        }
    }
}

fn mark(bytes: &named::Bytes, id: u32) {
    bytes.write_at(0, &id.to_ne_bytes()).expect("inside");
}

/// Starts a child; the number of the process goes with it.
fn start(count: &str) -> (Child, Identity) {
    let mut command = this_program("storm");
    let child = command.env(COUNT, count).stdout(Stdio::null()).spawn();
    let child = child.expect("it starts");
    let identity = Identity::of(child.id()).expect("it was not waited for");
    (child, identity)
}

/// Kills a child, and sweeps what only it had; returns how many files without a name were found here,
/// and not by a sweep of the others.
fn kill(count: &str, (mut child, identity): (Child, Identity)) -> usize {
    child.kill().expect("it is ours");
    let status = child.wait().expect("it is ours");
    assert_eq!(status.signal(), Some(9), "the child found a fault");
    let swept = named::sweep().expect("the folder can be read");
    let own = own(count, identity.pid);
    await_swept(&own);
    for plain in [format!("{own}-lasting"), format!("{own}-short")] {
        await_gone(&plain);
    }
    let digits = format!("{:016x}", identity.pack());
    let left = names::all().expect("the folder can be read");
    assert!(left.iter().all(|name| !name.contains(&digits)), "{left:?}");
    swept.unfinished
}

#[test]
fn processes_killed_at_random_points_leave_nothing_and_lose_nothing_that_lives() {
    let kills = match std::env::var_os("MANYHANDS_LONG") {
        Some(_) => LONG_KILLS,
        None => KILLS,
    };
    let (count, detached) = (name("storm"), name("storm-detached"));
    let steps = SegmentOf::<AtomicU64>::create(&count, |_| {}).expect("room");
    drop(Segment::create(&detached, 8).expect("room"));
    let mut random = u64::from(std::process::id()) << 20 | 1;
    println!("seed {random}");
    let mut hands: Vec<_> = (0..HANDS).map(|_| start(&count)).collect();
    let mut unfinished = 0;
    for _ in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        await_steps(&steps, random % 7);
        // A moment that ends in any of the steps.
        for _ in 0..random % 30_000 {
            std::hint::spin_loop();
        }
        let hand = hands.swap_remove((random >> 32) as usize % HANDS);
        unfinished += kill(&count, hand);
        // What lives is still there, open or not.
        assert!(SegmentOf::<AtomicU64>::try_open(&count).is_ok());
        assert!(Segment::try_open(&detached).is_ok());
        hands.push(start(&count));
    }
    await_steps(&steps, 100);
    for hand in hands {
        kill(&count, hand);
    }
    for name in common(&count) {
        await_swept(&name);
    }
    let done = steps.load(Acquire);
    println!("{kills} kills, {done} steps, {unfinished} files without a name");
    steps.unlink().expect("it has its name");
    named::unlink(&detached).expect("it is there");
}

/// Waits until the children have done more than so many steps.
fn await_steps(steps: &AtomicU64, more: u64) {
    let target = steps.load(Acquire) + more;
    let deadline = Deadline::after(Duration::from_secs(60));
    while steps.load(Acquire) <= target {
        assert!(!deadline.has_passed(), "the children make no progress");
        std::thread::yield_now();
    }
}
