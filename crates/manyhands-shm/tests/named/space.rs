//! Too little memory: errors and nothing left, never a signal. In a mount of its own, which needs root.

use std::process::Command;
use std::thread;

use manyhands_os::names;
use manyhands_shm::named::{Bytes, CreateError, Segment, ShareableList, SharedMemory};

use crate::children::{this_program, this_program_after};

const MEBI: usize = 1 << 20;

#[test]
fn too_large_a_segment_in_64_mib_is_no_space_and_leaves_nothing() {
    let mount = "mount -t tmpfs -o size=64m,nr_inodes=32 none /dev/shm";
    let unshare = |command: &mut Command| {
        let mut around = Command::new("unshare");
        around
            .arg("--mount")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            around.env(name, value.expect("set"));
        }
        around
    };
    let mut probe = Command::new("sh");
    let probe = unshare(probe.args(["-c", mount])).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("skipped: mounting a small file system needs root and unshare");
        return;
    }
    let before = names::all().expect("the folder can be read");
    let child = unshare(&mut this_program_after(mount, "space"))
        .output()
        .expect("it starts");
    let told = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    // A signal has no code.
    assert_eq!(child.status.code(), Some(0), "{told}{errors}");
    assert!(told.contains("space was short"), "{told}{errors}");
    // What the child did was in its own mount.
    assert!(before.iter().all(|name| !name.contains("mh-space")));
}

fn no_space<T: std::fmt::Debug>(outcome: Result<T, CreateError>) -> (u64, Option<u64>) {
    match outcome.expect_err("too large") {
        CreateError::NoSpace { asked, free, .. } => (asked, free),
        other => panic!("{other}"),
    }
}

fn nothing_is_left() -> bool {
    names::all().expect("the folder can be read").is_empty()
}

/// Writes to each page: what was not reserved would end here in a signal.
fn touch(bytes: &Bytes) {
    for offset in (0..bytes.len()).step_by(4096) {
        bytes.write_at(offset, &[1]).expect("inside");
    }
}

/// In the child, whose named memory is 64 MiB.
pub(crate) fn small_file_system() {
    assert!(nothing_is_left(), "the mount is new");
    let (asked, free) = no_space(Segment::create("mh-space", 100 * MEBI));
    assert!(asked > 100 << 20 && free == Some(64 << 20));
    assert!(nothing_is_left());
    no_space(Segment::create("mh-space", usize::MAX));
    no_space(SharedMemory::create("mh-space", 65 * MEBI));
    no_space(SharedMemory::create_unnamed(isize::MAX as usize));
    let large = (0..9).map(|_| "x".repeat(9_000_000));
    assert!(ShareableList::create("mh-space", large).is_err());
    assert!(nothing_is_left());

    let half = Segment::create("mh-space-half", 40 * MEBI).expect("there is room");
    touch(&half);
    no_space(Segment::create("mh-space", 40 * MEBI));
    assert!(Segment::attach_or_create("mh-space", 40 * MEBI).is_err());
    assert_eq!(names::all().expect("the folder can be read").len(), 1);
    half.unlink().expect("it has its name");
    drop(half);

    // Both look at the free space before one of them takes it: the reservation decides.
    for _ in 0..5 {
        let make =
            |name: &'static str| thread::spawn(move || SharedMemory::create(name, 40 * MEBI));
        let both =
            [make("mh-space-1"), make("mh-space-2")].map(|made| made.join().expect("returns"));
        let made: Vec<_> = both
            .into_iter()
            .filter_map(|made| match made {
                Ok(memory) => Some(memory),
                refused => {
                    no_space(refused);
                    None
                }
            })
            .collect();
        assert!(made.len() <= 1, "80 MiB do not fit");
        for memory in &made {
            touch(memory);
            memory.unlink().expect("it has its name");
        }
        assert!(nothing_is_left());
    }

    // No room for another name.
    let mut all = Vec::new();
    let refused = loop {
        match SharedMemory::create_unnamed(1) {
            Ok(memory) => all.push(memory),
            refused => break refused,
        }
        assert!(all.len() < 32);
    };
    no_space(refused);
    for memory in all {
        memory.unlink().expect("it has its name");
    }
    assert!(nothing_is_left());
    println!("space was short");
}

#[test]
fn length_above_the_limit_of_the_process_is_an_error_and_no_signal() {
    let child = this_program_after("ulimit -f 100", "limit")
        .output()
        .expect("it starts");
    let told = String::from_utf8_lossy(&child.stdout);
    assert_eq!(child.status.code(), Some(0), "{told}");
    assert!(told.contains("the limit held"), "{told}");
    // Without the limit the same goes through.
    let child = this_program("limit").output().expect("it starts");
    assert_ne!(child.status.code(), Some(0));
}

/// In the child, whose files may have some 100 kB at most.
pub(crate) fn small_file_limit() {
    let name = crate::name("limit");
    let outcome = SharedMemory::create(&name, MEBI);
    if let Ok(memory) = &outcome {
        memory.unlink().expect("it has its name");
    }
    let refused = outcome.expect_err("above the limit");
    assert!(matches!(refused, CreateError::Os(_)), "{refused}");
    SharedMemory::create(&name, 10_000)
        .expect("below it")
        .unlink()
        .expect("it has its name");
    println!("the limit held");
}
