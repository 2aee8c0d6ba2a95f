//! What `/proc` says about one process, and which arena it maps.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

/// How the kernel shows a mapping of an arena.
const ARENA: &str = "/memfd:manyhands-arena";

/// A process that maps an arena.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Member {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) name: String,
    pub(crate) state: String,
    /// Bytes that go when the process goes.
    pub(crate) own: u64,
    /// Bytes that it has touched of memory that others may see.
    pub(crate) shared: u64,
    pub(crate) arena: Arena,
}

/// The memory that makes a family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Arena {
    pub(crate) inode: u64,
    /// Bytes that the kernel has given it; none when no member has its descriptor open.
    pub(crate) used: Option<u64>,
}

/// All that could be seen.
pub(crate) struct Seen {
    pub(crate) members: Vec<Member>,
    /// Processes of which we may not know whether they map an arena.
    pub(crate) unreadable: usize,
}

/// Looks at every process once. One that ends meanwhile is left out.
pub(crate) fn all() -> Seen {
    let mut seen = Seen {
        members: Vec::new(),
        unreadable: 0,
    };
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        match fs::read_to_string(format!("/proc/{pid}/maps")) {
            Ok(maps) => {
                if let Some(inode) = arena_inode(&maps) {
                    seen.members.extend(member(pid, inode));
                }
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => seen.unreadable += 1,
            Err(_) => {}
        }
    }
    seen.members.sort_by_key(|member| member.pid);
    seen
}

/// The inode of the arena among the mappings, if there is one.
fn arena_inode(maps: &str) -> Option<u64> {
    let line = maps.lines().find(|line| line.contains(ARENA))?;
    // address, rights, offset, device, inode, path
    line.split_whitespace().nth(4)?.parse().ok()
}

fn member(pid: u32, inode: u64) -> Option<Member> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let arena = Arena {
        inode,
        used: used_of(pid, inode),
    };
    parse(pid, &status, arena)
}

/// Reads the lines of `/proc/PID/status` that are of interest.
fn parse(pid: u32, status: &str, arena: Arena) -> Option<Member> {
    let value = |key: &str| {
        let line = status
            .lines()
            .find(|line| line.split(':').next() == Some(key))?;
        Some(line.split_once(':')?.1.trim())
    };
    let kilobytes = |key: &str| {
        let text = value(key).and_then(|text| text.split_whitespace().next());
        text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Some(Member {
        pid,
        parent: value("PPid")?.parse().ok()?,
        name: value("Name")?.to_owned(),
        state: state(value("State")?).to_owned(),
        own: kilobytes("RssAnon"),
        shared: kilobytes("RssShmem"),
        arena,
    })
}

/// The kernel's letter as a word.
fn state(text: &str) -> &'static str {
    match text.chars().next() {
        Some('R') => "running",
        Some('S') => "sleeping",
        Some('D') => "in the kernel",
        Some('T' | 't') => "stopped",
        Some('Z') => "zombie",
        Some('X') => "dead",
        _ => "other",
    }
}

/// How much memory the arena has, asked through a descriptor that the process has open.
fn used_of(pid: u32, inode: u64) -> Option<u64> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    descriptors.flatten().find_map(|entry| {
        let link = fs::read_link(entry.path()).ok()?;
        if !link.to_string_lossy().starts_with(ARENA) {
            return None;
        }
        let file = fs::metadata(entry.path()).ok()?;
        (file.ino() == inode).then(|| file.blocks() * 512)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arena_is_found_among_other_mappings() {
        let maps = "\
7f00-7f10 r--p 00000000 08:01 77 /usr/lib/libc.so.6
7f20-7f30 rw-s 00000000 00:01 4711 /memfd:manyhands-arena (deleted)
7f40-7f50 rw-p 00000000 00:00 0
";
        assert_eq!(arena_inode(maps), Some(4711));
        assert_eq!(arena_inode("7f40-7f50 rw-p 00000000 00:00 0\n"), None);
    }

    #[test]
    fn status_is_read_also_when_the_name_holds_a_colon() {
        let status =
            "Name:\ta: b\nState:\tS (sleeping)\nPPid:\t12\nRssAnon:\t 8 kB\nRssShmem:\t4 kB\n";
        let arena = Arena {
            inode: 1,
            used: None,
        };
        let member = parse(34, status, arena).unwrap();
        assert_eq!(
            (member.pid, member.parent, member.name.as_str()),
            (34, 12, "a: b")
        );
        assert_eq!(
            (member.state.as_str(), member.own, member.shared),
            ("sleeping", 8192, 4096)
        );
    }

    #[test]
    fn zombie_has_no_memory() {
        let status = "Name:\tx\nState:\tZ (zombie)\nPPid:\t1\n";
        let member = parse(
            34,
            status,
            Arena {
                inode: 1,
                used: None,
            },
        )
        .unwrap();
        assert_eq!((member.state.as_str(), member.own), ("zombie", 0));
    }
}
