//! Shortage is an error: in an arena that is full, and under limits of the process.
//!
//! This program starts itself again, under a limit that the shell sets. A signal would be the child's
//! end, and the test's failure.

use std::process::Command;

use manyhands_shm::arena;
use manyhands_shm::{Block, NoSpace, Region, Shared, ShortOf};

/// Names the process as a child.
const CHILD: &str = "MANYHANDS_TEST_SHORTAGE";

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs one of the entries below under limits; what it printed.
fn under(limits: &str, entry: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", entry, "--nocapture"])
        .env(CHILD, "")
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The entry of a child that says how long its arena is; does nothing when run as a test.
#[test]
fn child_with_an_arena() {
    if is_child() {
        let arena = arena::family().expect("a small one is allowed");
        drop(arena.allocate(100_000).expect("room"));
        assert_eq!(*Shared::new(7).expect("room"), 7);
        println!("arena of {} GiB;", arena.len() >> 30);
    }
}

/// The entry of a child that can have no arena at all; does nothing when run as a test.
#[test]
fn child_without_arena() {
    if is_child() {
        let without = |refused: NoSpace, asked| {
            assert!(matches!(refused.short_of, ShortOf::Arena(_)), "{refused}");
            assert_eq!((refused.asked, refused.free), (asked, 0));
        };
        without(Region::new(4000).expect_err("no room"), 4000);
        without(Shared::new(7_u64).expect_err("no room"), 8);
        let slice = Shared::<[u16]>::zeroed(50).expect_err("no room");
        without(slice, 100);
        println!("refused;");
    }
}

/// The entry of a child that fills its arena; does nothing when run as a test.
#[test]
fn child_that_takes_all() {
    if is_child() {
        let arena = arena::family().expect("a small one is allowed");
        let largest = (arena.len() / 64) as usize;
        let mut blocks: Vec<Block> = Vec::new();
        let full = loop {
            match arena.allocate(largest) {
                Ok(block) => blocks.push(block),
                Err(refused) => break refused,
            }
        };
        assert!(matches!(full.short_of, ShortOf::Blocks), "{full}");
        assert_eq!((full.asked, full.free), (largest, 0));
        assert!(Region::new(largest).is_err());
        // Smaller ones are there still, and so is what is given back.
        drop(Region::new(1000).expect("room"));
        blocks.pop();
        drop(Region::new(largest).expect("room again"));
        let above = arena
            .allocate(largest + 1)
            .expect_err("no class is so large");
        assert_eq!((above.asked, above.free), (largest + 1, 0));
        println!("{} blocks;", blocks.len() + 1);
    }
}

#[test]
fn arena_is_as_long_as_the_limits_allow() {
    if !is_child() {
        let length = |limits| under(limits, "child_with_an_arena");
        assert!(length("true").contains("arena of 64 GiB;"));
        // In KiB of addresses, and in blocks of 512 bytes of a file.
        assert!(length("ulimit -v 25000000").contains("arena of 16 GiB;"));
        assert!(length("ulimit -v 8000000").contains("arena of 4 GiB;"));
        assert!(length("ulimit -f 40000000").contains("arena of 16 GiB;"));
        assert!(length("ulimit -f 3000000").contains("arena of 1 GiB;"));
    }
}

#[test]
fn no_arena_is_no_space() {
    if !is_child() {
        for limits in ["ulimit -v 900000", "ulimit -f 2000000"] {
            assert!(under(limits, "child_without_arena").contains("refused;"));
        }
    }
}

#[test]
fn full_arena_is_no_space() {
    if !is_child() {
        // A sixteenth of a GiB, in blocks of a sixty-fourth.
        let text = under("ulimit -f 3000000", "child_that_takes_all");
        assert!(text.contains("4 blocks;"), "{text}");
    }
}
