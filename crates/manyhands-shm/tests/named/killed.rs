//! Creators that are killed at any point.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use manyhands_os::process::Identity;
use manyhands_os::{Deadline, names};
use manyhands_shm::named::{self, Segment, SegmentOf};

use crate::children::this_program;
use crate::{await_swept, name};

/// Names the segment that counts what the child has done.
const COUNT: &str = "MANYHANDS_NAMED_COUNT";

/// How many, unless the long loops are asked for.
const KILLS: u64 = 40;
const LONG_KILLS: u64 = 1000;

/// The names that the storm uses.
fn stormy(count: &str) -> [String; 3] {
    ["a", "b", "c"].map(|each| format!("{count}-{each}"))
}

/// The child: makes and removes segments until it is killed.
pub(crate) fn storm() {
    let count = std::env::var(COUNT).expect("the parent says it");
    let steps = SegmentOf::<AtomicU64>::open(&count).expect("the parent has it");
    loop {
        for name in stormy(&count) {
            let segment = Segment::attach_or_create(&name, 100_000).expect("room");
            // Of the same child, or of one that died: filled in later, by whoever has it.
            segment.write_at(0, &[1; 64]).expect("inside");
            drop(segment);
            // A sweeper may have been quicker.
            if steps.fetch_add(1, Release).is_multiple_of(3) {
                let _ = named::unlink(&name);
            }
        }
    }
}

#[test]
fn creators_killed_at_random_points_leave_nothing_that_a_sweep_does_not_find() {
    let kills = match std::env::var_os("MANYHANDS_LONG") {
        Some(_) => LONG_KILLS,
        None => KILLS,
    };
    let (count, detached) = (name("storm"), name("storm-detached"));
    let steps = SegmentOf::<AtomicU64>::create(&count, |_| {}).expect("room");
    drop(Segment::create(&detached, 8).expect("room"));
    let mut random = u64::from(std::process::id()) << 20 | 1;
    println!("seed {random}");
    let mut found = (0, 0);
    for _ in 0..kills {
        let mut command = this_program("storm");
        let child = command
            .env(COUNT, &count)
            .stdout(std::process::Stdio::null())
            .spawn();
        let mut child = child.expect("it starts");
        let identity = Identity::of(child.id()).expect("it was not waited for");
        let target = steps.load(Acquire) + random % 7;
        let deadline = Deadline::after(Duration::from_secs(60));
        while steps.load(Acquire) <= target {
            assert!(!deadline.has_passed(), "the child makes no progress");
            std::thread::yield_now();
        }
        // A moment that ends in any of the steps.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        for _ in 0..random % 30_000 {
            std::hint::spin_loop();
        }
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        let swept = named::sweep().expect("the folder can be read");
        found.0 += swept.unfinished;
        found.1 += swept.removed.len();
        for name in stormy(&count) {
            await_swept(&name);
        }
        let digits = format!("{:016x}", identity.pack());
        let left = names::all().expect("the folder can be read");
        assert!(left.iter().all(|name| !name.contains(&digits)), "{left:?}");
        // What lives is still there, open or not.
        assert!(SegmentOf::<AtomicU64>::try_open(&count).is_ok());
        assert!(Segment::try_open(&detached).is_ok());
    }
    let (unfinished, segments) = found;
    println!("{kills} kills: {unfinished} without a name and {segments} segments were swept");
    steps.unlink().expect("it has its name");
    named::unlink(&detached).expect("it is there");
}
