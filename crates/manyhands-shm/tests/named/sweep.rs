//! What a sweep removes, and what it must not.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use manyhands_os::Deadline;
use manyhands_os::process::Identity;
use manyhands_shm::named::{self, CreateError, Segment, SharedMemory};

use crate::children::Actor;
use crate::{await_swept, name};

#[test]
fn remains_of_the_dead_go_and_what_lives_stays() {
    let (dead, used, kept, mine) = (name("dead"), name("used"), name("kept"), name("mine"));
    let mut child = Actor::start();
    for name in [&dead, &used, &kept] {
        assert_eq!(child.ask(&format!("create {name}")), "created");
    }
    let opened = Segment::open(&used).expect("it is there");
    Segment::open(&kept).expect("it is there").keep();
    // Made by a process that lives, and open nowhere.
    drop(Segment::create(&mine, 8).expect("room"));
    named::sweep().expect("the folder can be read");
    assert!(
        [&dead, &used, &kept]
            .iter()
            .all(|name| Segment::open(name).is_ok())
    );

    child.kill();
    await_swept(&dead);
    assert!(opened.owner().has_ended());
    for name in [&used, &kept, &mine] {
        assert!(Segment::open(name).is_ok(), "{name}");
    }
    drop(opened);
    await_swept(&used);
    for name in [&kept, &mine] {
        named::unlink(name).expect("it is there");
    }
}

#[test]
fn owner_is_not_judged_by_its_number_alone() {
    const BOOT: usize = 40;
    const NAMESPACE: usize = 56;
    const PROCESS: usize = 64;
    let name = name("judged");
    let gone = Identity {
        start_time: 1,
        ..Identity::current()
    };
    let (gone, not) = (gone.pack().to_ne_bytes(), 0_u64.to_ne_bytes());
    for (changes, goes) in [
        // Our number, of a process that started at another time, or at another boot.
        (&[(PROCESS, gone)][..], true),
        (&[(BOOT, not), (BOOT + 8, 1_u64.to_ne_bytes())], true),
        // Of another namespace: the number tells nothing.
        (&[(PROCESS, gone), (NAMESPACE, not)], false),
        (&[], false),
    ] {
        let segment = Segment::create(&name, 8).expect("room");
        let file = SharedMemory::open(segment.file_name()).expect("it is there");
        for (at, bytes) in changes {
            file.write_at(*at, bytes).expect("inside");
        }
        drop(segment);
        if goes {
            await_swept(&name);
            continue;
        }
        named::sweep().expect("the folder can be read");
        assert!(Segment::open(&name).is_ok(), "{changes:?}");
        named::unlink(&name).expect("it is there");
    }
}

#[test]
fn two_sweepers_and_a_creator_never_remove_what_lives() {
    const ROUNDS: u32 = 200;
    let name = name("race");
    let over = AtomicBool::new(false);
    let gone = Identity {
        start_time: 1,
        ..Identity::current()
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    named::sweep().expect("the folder can be read");
                }
            });
        }
        let done = scope.spawn(|| {
            for round in 0..ROUNDS {
                let live = create_when_free(&name);
                live.write_at(0, &round.to_ne_bytes()).expect("inside");
                for _ in 0..3 {
                    let again = Segment::try_open(&name).expect("it lives");
                    assert_eq!(again.to_vec(), round.to_ne_bytes());
                }
                // Now it looks dead; as soon as it is closed the sweepers may have it.
                let file = SharedMemory::open(live.file_name()).expect("it is there");
                file.write_at(64, &gone.pack().to_ne_bytes())
                    .expect("inside");
            }
            let last = create_when_free(&name);
            last.unlink().expect("it has its name");
        });
        let done = done.join();
        over.store(true, Relaxed);
        done.expect("nothing that lives was removed");
    });
}

/// Makes a segment as soon as a sweeper has removed the one before.
fn create_when_free(name: &str) -> Segment {
    let deadline = Deadline::after(std::time::Duration::from_secs(60));
    loop {
        match Segment::create(name, 4) {
            Err(CreateError::AlreadyExists { .. }) => thread::yield_now(),
            made => return made.expect("room"),
        }
        assert!(!deadline.has_passed(), "nobody sweeps");
    }
}

#[test]
fn two_processes_that_sweep_remove_each_segment_once() {
    let mut owner = Actor::start();
    let names: Vec<String> = (0..50)
        .map(|index| name(&format!("twice{index}")))
        .collect();
    for name in &names {
        assert_eq!(owner.ask(&format!("create {name}")), "created");
    }
    let (mut one, mut two) = (Actor::start(), Actor::start());
    owner.kill();
    one.tell("sweep");
    two.tell("sweep");
    let (one, two) = (one.answer(), two.answer());
    // A sweep of another test may have taken some; nobody's twice.
    for name in &names {
        let removed = |swept: &str| swept.split(' ').any(|each| each == name);
        assert!(!(removed(&one) && removed(&two)), "{name}");
        await_swept(name);
    }
}
