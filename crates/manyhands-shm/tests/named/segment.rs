//! Making, opening and waiting for segments.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use manyhands_os::names::{Hold, NamedFile};
use manyhands_shm::named::{
    self, AttachError, CreateError, OpenError, Segment, SegmentOf, UnlinkError, unlink,
};
use manyhands_shm::{Shareable, portable};

use crate::children::{Actor, this_program_after};
use crate::name;

/// Long enough that only a fault reaches it.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn value_is_the_same_in_two_processes() {
    let name = name("value");
    let number = SegmentOf::<AtomicU64>::create(&name, |number| number.store(41, Relaxed));
    let number = number.expect("room");
    let mut child = Actor::start();
    assert_eq!(child.ask(&format!("add {name}")), "41");
    assert_eq!(number.load(Relaxed), 42);
    assert_eq!(number.owner().process().pid, std::process::id());
    number.unlink().expect("it has its name");
}

#[test]
fn opener_waits_for_a_creator_that_lives() {
    let name = name("slow");
    let mut child = Actor::start();
    child.tell(&format!("create-slowly {name}"));
    assert_eq!(child.answer(), "filling");
    for refused in [
        Segment::try_open(&name),
        Segment::open_timeout(&name, Duration::from_millis(5)),
        Segment::open_deadline(&name, Instant::now()),
    ] {
        match refused.expect_err("not ready") {
            OpenError::NotReady { owner, .. } => assert_eq!(owner.process().pid, child.id()),
            other => panic!("{other}"),
        }
    }
    let refused = Segment::try_attach_or_create(&name, 64).expect_err("not ready");
    assert!(matches!(
        refused,
        AttachError::Open(OpenError::NotReady { .. })
    ));
    let waiter = thread::spawn({
        let name = name.clone();
        move || Segment::open(&name)
    });
    child.tell("now");
    assert_eq!(child.answer(), "created");
    let segment = waiter.join().expect("it returns").expect("ready");
    let mut text = [0; 6];
    segment.read_at(0, &mut text).expect("inside");
    assert_eq!(&text, b"filled");
    segment.unlink().expect("it has its name");
}

#[test]
fn opener_is_told_when_the_creator_is_killed_and_can_make_it_anew() {
    let name = name("died");
    let mut child = Actor::start();
    child.tell(&format!("create-slowly {name}"));
    assert_eq!(child.answer(), "filling");
    let died = |outcome: Result<Segment, OpenError>, victim| match outcome {
        Err(OpenError::CreatorDied { owner, .. }) => assert_eq!(owner.process().pid, victim),
        other => panic!("{other:?}"),
    };
    // As if somebody had it open, so that no sweeper of another test takes it away.
    let file_name = named::file_name(&name).expect("a name");
    let open = NamedFile::open(&file_name).expect("it is there");
    assert!(open.try_lock(0, Hold::Shared).expect("locks"));
    let waiting = name.clone();
    let waiter = thread::spawn(move || Segment::open_timeout(&waiting, LONG));
    let victim = child.id();
    child.kill();
    died(waiter.join().expect("it returns"), victim);
    died(Segment::try_open(&name), victim);
    // It cannot be made anew while somebody has it open.
    match Segment::attach_or_create_timeout(&name, 128, Duration::from_millis(5)) {
        Err(AttachError::Open(refused)) => died(Err(refused), victim),
        other => panic!("{other:?}"),
    }
    drop(open);
    let anew = Segment::attach_or_create_timeout(&name, 128, LONG).expect("made anew");
    assert_eq!((anew.len(), anew.to_vec()), (128, vec![0; 128]));
    assert_eq!(anew.owner().process().pid, std::process::id());
    anew.unlink().expect("it has its name");
}

#[test]
fn creator_that_panics_leaves_nothing_and_lets_nobody_wait() {
    let name = name("panics");
    let (filling, is_filling) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let creator = thread::spawn({
        let name = name.clone();
        move || {
            let made = Segment::create_with(&name, 8, |_| {
                filling.send(()).expect("the test waits");
                gone.recv().expect("the test says so");
                panic!("a panic that the test wants");
            });
            drop(made);
        }
    });
    is_filling.recv().expect("it fills");
    let waiter = thread::spawn({
        let name = name.clone();
        move || Segment::open_timeout(&name, LONG)
    });
    go.send(()).expect("it waits");
    assert!(creator.join().is_err());
    let refused = waiter.join().expect("it returns").expect_err("taken back");
    assert!(matches!(refused, OpenError::NotFound { .. }), "{refused}");
    drop(Segment::create(&name, 8).expect("the name is free"));
    unlink(&name).expect("it is there");
}

#[test]
fn name_is_removed_once_and_never_that_of_a_later_segment() {
    let name = name("once");
    let first = Segment::create(&name, 8).expect("room");
    let exists = Segment::create(&name, 8).expect_err("the name is used");
    assert!(
        matches!(exists, CreateError::AlreadyExists { .. }),
        "{exists}"
    );
    first.unlink().expect("it has its name");
    assert!(matches!(first.unlink(), Err(UnlinkError::NotFound { .. })));
    let second = Segment::create(&name, 8).expect("the name is free");
    first.write_at(0, b"first").expect("who has it keeps it");
    assert!(matches!(first.unlink(), Err(UnlinkError::NotFound { .. })));
    drop(first);
    assert_eq!(Segment::open(&name).expect("the second").to_vec(), [0; 8]);
    second.unlink().expect("it has its name");
    let refused = Segment::open(&name).expect_err("no name");
    assert!(matches!(refused, OpenError::NotFound { .. }));
    assert!(matches!(unlink(&name), Err(UnlinkError::NotFound { .. })));
}

#[test]
fn of_many_that_attach_or_create_one_creates() {
    let name = name("many");
    let filled = AtomicU32::new(0);
    thread::scope(|scope| {
        let attach = || {
            SegmentOf::<AtomicU64>::attach_or_create(&name, |number| {
                filled.fetch_add(1, Relaxed);
                number.store(7, Relaxed);
            })
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(attach)).collect();
        for thread in threads {
            let segment = thread.join().expect("it returns").expect("there is one");
            assert!(segment.fetch_add(1, Relaxed) >= 7);
        }
    });
    let segment = SegmentOf::<AtomicU64>::open(&name).expect("it is there");
    assert_eq!((filled.load(Relaxed), segment.load(Relaxed)), (1, 15));
    segment.unlink().expect("it has its name");
}

#[derive(Shareable)]
#[repr(C, align(1024))]
struct Wide {
    last: AtomicU32,
    numbers: [AtomicU64; 3],
}
portable!(Wide {
    last: AtomicU32,
    numbers: [AtomicU64; 3]
});

#[test]
fn typed_segment_is_aligned_and_opens_as_its_own_type_only() {
    let name = name("typed");
    let wide = SegmentOf::<Wide>::create(&name, |wide| wide.numbers[2].store(3, Relaxed));
    let wide = wide.expect("room");
    let same = SegmentOf::<Wide>::open(&name).expect("the same type");
    assert_eq!(same.numbers[2].load(Relaxed), 3);
    assert!((&raw const *same).is_aligned());
    let other = SegmentOf::<[AtomicU64; 3]>::open(&name).expect_err("another type");
    assert!(matches!(other, OpenError::Shape { .. }), "{other}");
    let plain = Segment::open(&name).expect_err("no plain bytes");
    assert!(
        matches!(plain, OpenError::Shape { expected: 0, .. }),
        "{plain}"
    );
    wide.unlink().expect("it has its name");
}

#[test]
fn existing_segment_keeps_its_length_and_a_shorter_one_is_refused() {
    let name = name("short");
    let made = Segment::attach_or_create(&name, 100).expect("room");
    let found = Segment::attach_or_create(&name, 50).expect("long enough");
    assert_eq!((made.len(), found.len()), (100, 100));
    match Segment::attach_or_create(&name, 101).expect_err("too short") {
        AttachError::Open(OpenError::TooShort { found, asked, .. }) => {
            assert_eq!((found, asked), (100, 101));
        }
        other => panic!("{other}"),
    }
    made.unlink().expect("it has its name");
}

#[test]
fn mode_is_for_the_owner_alone_whatever_the_mask_is() {
    for mask in ["0777", "0000"] {
        let name = name(&format!("mask{mask}"));
        let mut child = Actor::start_by(this_program_after(&format!("umask {mask}"), "serve"));
        assert_eq!(child.ask(&format!("create {name}")), "created");
        let segment = Segment::open(&name).expect("it is there");
        let path = format!("/dev/shm/{}", segment.file_name());
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).expect("there"));
        assert_eq!(mode & 0o7777, 0o600);
        segment.unlink().expect("it has its name");
    }
}

#[test]
fn file_name_fits_into_the_shortest_limit_and_any_name_will_do() {
    let name = name(&"long/ \n\u{e4} ".repeat(100));
    let segment = Segment::create(&name, 0).expect("no bytes are some, too");
    assert!(segment.file_name().len() <= 30);
    assert_eq!((segment.name(), segment.is_empty()), (&*name, true));
    assert!(Segment::open(&name).is_ok());
    segment.unlink().expect("it has its name");
    assert!(matches!(Segment::create("", 8), Err(CreateError::Name(_))));
    assert!(matches!(Segment::open("a\0b"), Err(OpenError::Name(_))));
}
