//! What the memory cgroup of this process leaves, asked before memory is reserved.
//!
//! At the limit of a memory cgroup the kernel does not refuse: it kills a process of the group, often
//! the one that asked. So [`Memfd::reserve`](crate::memory::Memfd::reserve) looks here first, and
//! refuses what would not fit. What other processes take in between can still lead to a kill.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The bytes that may still be reserved before the next look; most processes need no more than the
/// first ones.
static CREDIT: AtomicU64 = AtomicU64::new(256 << 10);
/// The most that is reserved without a look, however much there is.
const MOST_CREDIT: u64 = 1 << 30;
/// A look leaves this part of what there is to others of the group.
const SHARE: u64 = 8;

/// Whether `len` bytes more fit into the memory cgroup, as far as its files tell.
pub(crate) fn allows(len: u64) -> bool {
    // Relaxed: an estimate; two threads may count one look twice.
    let credit = CREDIT.load(Relaxed);
    if let Some(rest) = credit.checked_sub(len) {
        CREDIT.store(rest, Relaxed);
        return true;
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let room = room_of(Path::new("/sys/fs/cgroup"), &own, swap_free());
    let Some(rest) = room.checked_sub(len) else {
        return false;
    };
    CREDIT.store((rest / SHARE).min(MOST_CREDIT), Relaxed);
    true
}

/// What the kernel cannot take back: anonymous and shared pages, and its own. What can be read from
/// files again is not there. The first version tells of all below a group in numbers with `total`.
const USED: [&str; 9] = [
    "anon",
    "shmem",
    "slab_unreclaimable",
    "kernel_stack",
    "pagetables",
    "percpu",
    "sock",
    "total_rss",
    "total_shmem",
];

/// The room in all groups that a process is in, whose `/proc/self/cgroup` is `own`; without a limit,
/// all the room there can be.
fn room_of(root: &Path, own: &str, swap: u64) -> u64 {
    let rooms = own.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_first_version = controllers.split(',').any(|name| name == "memory");
        match (controllers.is_empty(), is_first_version) {
            (true, _) => Some(room_above(root.to_owned(), path, "memory.max", swap)),
            (_, true) => {
                let root = root.join("memory");
                Some(room_above(root, path, "memory.limit_in_bytes", swap))
            }
            _ => None,
        }
    });
    rooms.min().unwrap_or(u64::MAX)
}

/// The least room of a group and those that it is in.
fn room_above(root: PathBuf, path: &str, limit: &str, swap: u64) -> u64 {
    let mut group = root.clone();
    let mut least = room_in(&group, limit, swap);
    for name in path.split('/').filter(|name| !name.is_empty()) {
        // In a namespace of groups a path may lead out of what is mounted.
        if name == ".." {
            return least;
        }
        group.push(name);
        least = least.min(room_in(&group, limit, swap));
    }
    least
}

/// The room in one group: its limit, minus what the kernel cannot take back.
fn room_in(group: &Path, limit: &str, swap: u64) -> u64 {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let number = |name: &str| read(name).and_then(|text| text.trim().parse::<u64>().ok());
    // No file, or the word `max`: no limit.
    let Some(limit) = number(limit) else {
        return u64::MAX;
    };
    if limit >= 1 << 60 {
        return u64::MAX;
    }
    let Some(stat) = read("memory.stat") else {
        return u64::MAX;
    };
    let is_first_version = stat.contains("\ntotal_rss ");
    let used: u64 = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| USED.contains(name) && name.starts_with("total_") == is_first_version)
        .filter_map(|(_, number)| number.trim().parse::<u64>().ok())
        .sum();
    // The first version counts the kernel's own pages apart.
    let used = used + number("memory.kmem.usage_in_bytes").unwrap_or(0);
    // For what the processes take without asking here (page tables, stacks, the heap, the start of
    // another one), and because the kernel adds its numbers up now and then only.
    let margin = (limit / 8).min(8 << 20);
    // The first version limits memory and swap together.
    let most_swap = number("memory.swap.max").or_else(|| {
        let both = number("memory.memsw.limit_in_bytes")?;
        Some(both.saturating_sub(limit))
    });
    let swap = swap.min(most_swap.unwrap_or(u64::MAX));
    limit
        .saturating_add(swap)
        .saturating_sub(used)
        .saturating_sub(margin)
}

/// The swap space of the machine that is free.
fn swap_free() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("SwapFree:"));
    let kibibytes =
        line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of groups in a directory of its own, removed at the end.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let place = format!("manyhands-headroom-{}-{name}", std::process::id());
            let tree = Tree(std::env::temp_dir().join(place));
            fs::create_dir_all(&tree.0).expect("a directory");
            tree
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().expect("in the tree")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn tightest_group_of_all_above_decides() {
        let tree = Tree::new("second");
        tree.write("memory.stat", "anon 5\n");
        tree.write("a/memory.max", "50331648\n");
        tree.write(
            "a/memory.stat",
            "anon 1048576\nfile 99999999\nshmem 2097152\ntotal_rss_x 1\n",
        );
        tree.write("a/b/memory.max", "max\n");
        tree.write("a/b/memory.stat", "anon 1\n");
        let room = |swap| room_of(&tree.0, "0::/a/b\n", swap);
        assert_eq!(room(0), (48 - 3 - 6) * MIB);
        assert_eq!(room(MIB), (48 - 3 - 6 + 1) * MIB);
        tree.write("a/memory.swap.max", "0\n");
        assert_eq!(room(MIB), (48 - 3 - 6) * MIB);
        tree.write("a/b/memory.max", "16777216\n");
        assert_eq!(room(0), 14 * MIB - 1);
        tree.write("a/memory.stat", "anon 99999999\n");
        assert_eq!(room(0), 0);
    }

    #[test]
    fn groups_of_the_first_version_tell_too() {
        let tree = Tree::new("first");
        tree.write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        tree.write("memory/a/memory.limit_in_bytes", "50331648\n");
        let stat =
            "cache 9\nrss 9\nshmem 9\ntotal_cache 9\ntotal_rss 1048576\ntotal_shmem 1048576\n";
        tree.write("memory/a/memory.stat", stat);
        let own = "9:name=systemd:/\n4:memory:/a\n2:cpu,cpuacct:/\n0::/\n";
        assert_eq!(room_of(&tree.0, own, 0), (48 - 2 - 6) * MIB);
        tree.write("memory/a/memory.kmem.usage_in_bytes", "1048576\n");
        assert_eq!(room_of(&tree.0, own, 0), (48 - 2 - 6 - 1) * MIB);
        tree.write("memory/a/memory.memsw.limit_in_bytes", "51380224\n");
        assert_eq!(room_of(&tree.0, own, 9 * MIB), (48 - 2 - 6) * MIB);
        assert_eq!(room_of(&tree.0, "4:memory:/\n", 0), u64::MAX);
    }

    #[test]
    fn machine_without_groups_has_all_the_room() {
        let tree = Tree::new("none");
        for own in ["", "0::/\n", "4:memory:/../x\n", "nonsense\n"] {
            assert_eq!(room_of(&tree.0, own, 0), u64::MAX);
        }
    }
}
