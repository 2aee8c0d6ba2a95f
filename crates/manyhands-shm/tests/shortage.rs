//! Shortage is an error: in an arena that is full, and under limits of the process.
//!
//! This program starts itself again, under a limit that the shell sets. A signal would be the child's
//! end, and the test's failure.

mod common;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use manyhands_os::Deadline;
use manyhands_shm::{Block, NoSpace, Region, Shared, ShortOf, arena, handoff};

use common::{hex, variable};

/// Names the process as a child.
const CHILD: &str = "MANYHANDS_TEST_SHORTAGE";
/// What a member of a child's family gets.
const SEAT: &str = "MANYHANDS_TEST_SEAT";
const PARCEL: &str = "MANYHANDS_TEST_PARCEL";

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
        println!("arena of {} MiB;", arena.len() >> 20);
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

/// The entry of a child that needs more than the part of the arena which its limits let it map at
/// once; does nothing when run as a test.
#[test]
fn child_with_windows() {
    if is_child() {
        let arena = arena::family().expect("a small one is allowed");
        let (window, mut regions) = (arena.len(), Vec::new());
        let largest = (window / 64) as usize;
        let full = loop {
            match Region::new(largest) {
                Ok(region) => regions.push(region),
                Err(refused) => break refused,
            }
        };
        assert!(matches!(full.short_of, ShortOf::Memory(_)), "{full}");
        let windows = arena.len() / window;
        assert_eq!(regions.len() as u64, windows * 4, "all of each");
        // One that can map the first window only.
        let last = regions.last().expect("many");
        for (region, outcome) in [(&regions[0], "found;"), (last, "refused;")] {
            let text = member_shown(arena, region);
            assert!(text.contains(outcome), "{text}");
        }
        println!("{windows} windows;");
    }
}

/// What a member of the family prints whose addresses are limited to 1.5 GiB.
fn member_shown(arena: &arena::Arena, region: &Region) -> String {
    let fd = arena.as_fd().try_clone_to_owned().expect("a descriptor");
    let seat = arena.reserve_seat().expect("a seat");
    let parcel = handoff::pack(region).expect("packable");
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 1500000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "member_with_little_room", "--nocapture"])
        .env(SEAT, hex(&handoff::pack(&seat).expect("packable").bytes))
        .env(PARCEL, hex(&parcel.bytes))
        .stdin(fd)
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}{errors}", output.status);
    text
}

/// The entry of a member that is shown a region; does nothing when run as a test.
#[test]
fn member_with_little_room() {
    let (Some(seat), Some(parcel)) = (variable(SEAT), variable(PARCEL)) else {
        return;
    };
    let seat = handoff::unpack(&seat).expect("a seat");
    let fd = std::io::stdin().as_fd().try_clone_to_owned();
    arena::join(fd.expect("a descriptor"), seat).expect("the first window has room");
    match handoff::unpack::<Region>(&parcel) {
        Ok(region) => println!("found; {}", region.len()),
        Err(error) => {
            assert!(error.to_string().contains("cannot be mapped"), "{error}");
            println!("refused;");
        }
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

/// The entry of a child in a memory cgroup that is nearly full; does nothing when run as a test.
#[test]
fn child_in_a_full_group() {
    if is_child() {
        let refused = Region::new(16 << 20).expect_err("the group has no room");
        assert!(matches!(refused.short_of, ShortOf::Memory(_)), "{refused}");
        assert_eq!(refused.asked, 16 << 20);
        assert!(refused.to_string().contains("cgroup"), "{refused}");
        drop(Region::new(64 << 10).expect("room for a small one"));
        println!("refused;");
    }
}

/// The entry of a child that takes what its memory cgroup has; does nothing when run as a test.
#[test]
fn child_that_fills_its_group() {
    if is_child() {
        let mut regions: Vec<Region> = Vec::new();
        let full = loop {
            match Region::new(64 << 10) {
                Ok(region) => regions.push(region),
                Err(refused) => break refused,
            }
        };
        assert!(matches!(full.short_of, ShortOf::Memory(_)), "{full}");
        println!("{} regions;", regions.len());
    }
}

#[test]
fn arena_is_as_long_as_the_limits_allow() {
    if !is_child() {
        let length = |limits| under(limits, "child_with_an_arena");
        assert!(length("true").contains("arena of 65536 MiB;"));
        // In KiB of addresses, and in blocks of 512 bytes of a file.
        assert!(length("ulimit -v 25000000").contains("arena of 16384 MiB;"));
        assert!(length("ulimit -v 8000000").contains("arena of 4096 MiB;"));
        assert!(length("ulimit -v 900000").contains("arena of 256 MiB;"));
        assert!(length("ulimit -f 40000000").contains("arena of 16384 MiB;"));
        assert!(length("ulimit -f 3000000").contains("arena of 1024 MiB;"));
    }
}

#[test]
fn no_arena_is_no_space() {
    if !is_child() {
        for limits in ["ulimit -v 250000", "ulimit -f 400000"] {
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

#[test]
fn limited_addresses_are_used_to_the_end() {
    if !is_child() {
        // Windows of 1 GiB.
        let text = under("ulimit -v 4000000", "child_with_windows");
        assert!(text.contains("3 windows;"), "{text}");
    }
}

/// Files as those of a memory cgroup, in place of the real ones, in a mount namespace of the child.
#[test]
fn nearly_full_memory_cgroup_is_no_space() {
    if is_child() {
        return;
    }
    let probe = Command::new("unshare").args(["-m", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("skipped: no right to mount");
        return;
    }
    let group = std::env::temp_dir().join(format!("manyhands-shortage-{}", std::process::id()));
    std::fs::create_dir_all(&group).expect("a directory");
    // 48 MiB, of which 38 are used.
    std::fs::write(group.join("memory.max"), "50331648\n").expect("a file");
    std::fs::write(group.join("memory.stat"), "anon 39845888\nfile 0\n").expect("a file");
    std::fs::write(group.join("memory.swap.max"), "0\n").expect("a file");
    // The shell of the namespace mounts, then becomes the child.
    let mount = format!(
        "[ -n \"$HERE\" ] || HERE=1 exec unshare -m sh -c \
         'mount --bind {} /sys/fs/cgroup && exec \"$0\" \"$@\"' \"$0\" \"$@\"",
        group.display()
    );
    let text = under(&mount, "child_in_a_full_group");
    assert!(text.contains("refused;"), "{text}");
    std::fs::remove_dir_all(&group).expect("it is ours");
}

/// A memory cgroup of 48 MiB without swap, below that of this process; removed when it is dropped.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Self, String> {
        let own = std::fs::read_to_string("/proc/self/cgroup").map_err(|e| e.to_string())?;
        let find = |is_it: fn(&str) -> bool| {
            let mut lines = own
                .lines()
                .filter_map(|line| line.split_once(':')?.1.split_once(':'));
            lines.find(|(controllers, _)| is_it(controllers))
        };
        let first = find(|controllers| controllers.split(',').any(|name| name == "memory"));
        let second = find(str::is_empty);
        let (root, limits, path) = match (first, second) {
            (Some((_, path)), _) => {
                let limits = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
                ("/sys/fs/cgroup/memory", limits, path)
            }
            (None, Some((_, path))) => ("/sys/fs/cgroup", ["memory.max", "memory.swap.max"], path),
            (None, None) => return Err("no memory cgroup".to_owned()),
        };
        let name = format!("manyhands-shortage-{}", std::process::id());
        let group = Self(
            Path::new(root)
                .join(path.trim_start_matches('/'))
                .join(name),
        );
        std::fs::create_dir(&group.0).map_err(|e| format!("{}: {e}", group.0.display()))?;
        for (limit, bytes) in limits.iter().zip(["50331648", "0"]) {
            let is_of_both = limit.contains("memsw");
            let bytes = if is_of_both { "50331648" } else { bytes };
            let written = std::fs::write(group.0.join(limit), bytes);
            // A kernel without swap has no second file.
            if *limit == limits[0] {
                written.map_err(|e| format!("{limit}: {e}"))?;
            }
        }
        Ok(group)
    }

    /// What the shell does before it becomes the child.
    fn join(&self) -> String {
        format!("echo $$ > '{}/cgroup.procs'", self.0.display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Deadline::after(Duration::from_secs(10));
        // Its last processes may be leaving still.
        while self.0.exists() && std::fs::remove_dir(&self.0).is_err() && !deadline.has_passed() {
            std::thread::yield_now();
        }
    }
}

/// At its limit a group has its processes killed: none of these may be.
#[test]
fn full_memory_cgroup_kills_nobody() {
    if is_child() {
        return;
    }
    let group = match Group::new() {
        Ok(group) => group,
        Err(reason) => return println!("skipped: no right to make a memory cgroup ({reason})"),
    };
    let fill = || under(&group.join(), "child_that_fills_its_group");
    let alone = fill();
    assert!(alone.contains(" regions;"), "{alone}");
    // Three that do not know each other, at once.
    std::thread::scope(|threads| {
        let filling = [(); 3].map(|()| threads.spawn(fill));
        for thread in filling {
            let text = thread.join().expect("no panic");
            assert!(text.contains(" regions;"), "{text}");
        }
    });
}
