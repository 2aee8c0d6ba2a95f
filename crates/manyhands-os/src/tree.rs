//! Ending a process with all that it has started, whoever wrote those programs.
//!
//! A process that is killed loses its children to another parent, and with that the trace of them.
//! So the tree is stopped first, from its root down, until a look through `/proc` finds nobody new;
//! then it is killed from its leaves up. A parent thus never dies before its children, which the
//! kernel would make run again if it had stopped them alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use crate::clock::Deadline;
use crate::error::OsError;
use crate::process::{Pidfd, Stat};

/// How long a signal to stop may take until it has stopped all threads of a process. One that waits
/// in the kernel beyond signals cannot start anybody either.
const STOP_TIME: Duration = Duration::from_millis(200);

/// Stops a process, and kills its descendants; the process itself stays stopped, to be killed by
/// whoever counts its signals. Returns how many were killed.
///
/// What has left the tree, by losing its parent before, is not found.
///
/// # Errors
///
/// The first refusal, which is about a process of another user. Everything else was killed all the
/// same.
///
/// # Examples
///
/// ```
/// use std::process::Command;
///
/// use manyhands_os::Deadline;
/// use manyhands_os::process::Pidfd;
/// use manyhands_os::tree::kill_descendants;
///
/// let child = Command::new("sh").args(["-c", "sleep 600"]).spawn().expect("it starts");
/// let pidfd = Pidfd::open(child.id())?;
/// kill_descendants(&pidfd, child.id())?;
/// pidfd.signal(9)?;
/// assert!(pidfd.wait(Deadline::NEVER)?.is_some());
/// # Ok::<(), manyhands_os::OsError>(())
/// ```
pub fn kill_descendants(root: &Pidfd, pid: u32) -> Result<usize, OsError> {
    root.signal(libc::SIGSTOP)?;
    let mut tree = Tree {
        known: BTreeSet::from([pid]),
        found: Vec::new(),
        refusal: None,
    };
    loop {
        wait_stopped(&tree.known);
        if !tree.stop_new() {
            break;
        }
    }
    let mut refusal = tree.refusal;
    for descendant in tree.found.iter().rev() {
        if let Err(error) = descendant.signal(libc::SIGKILL) {
            refusal.get_or_insert(error);
        }
    }
    refusal.map_or(Ok(tree.found.len()), Err)
}

struct Tree {
    known: BTreeSet<u32>,
    /// Without the root; parents come before their children.
    found: Vec<Pidfd>,
    refusal: Option<OsError>,
}

impl Tree {
    /// Stops everybody whose parent is known, and theirs; returns whether there was anybody new.
    fn stop_new(&mut self) -> bool {
        let parents = parents();
        let before = self.known.len();
        loop {
            let is_new = |(pid, stat): &(&u32, &Stat)| {
                self.known.contains(&stat.parent) && !self.known.contains(pid)
            };
            let new: Vec<(&u32, &Stat)> = parents.iter().filter(is_new).collect();
            if new.is_empty() {
                return self.known.len() > before;
            }
            for (pid, stat) in new {
                self.known.insert(*pid);
                self.stop(*pid, stat);
            }
        }
    }

    fn stop(&mut self, pid: u32, seen: &Stat) {
        // It may have ended since, and its number may be another's.
        let Ok(pidfd) = Pidfd::open(pid) else {
            return;
        };
        let is_same = Stat::of(pid).is_some_and(|now| {
            now.start_time == seen.start_time && self.known.contains(&now.parent)
        });
        if !is_same {
            return;
        }
        match pidfd.signal(libc::SIGSTOP) {
            Ok(()) => self.found.push(pidfd),
            Err(error) => {
                self.refusal.get_or_insert(error);
            }
        }
    }
}

/// All processes that can be seen.
fn parents() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect()
}

/// Waits until no thread of these processes runs, so that none is about to start another process.
fn wait_stopped(pids: &BTreeSet<u32>) {
    let deadline = Deadline::after(STOP_TIME);
    while !pids.iter().all(|pid| is_stopped(*pid)) && !deadline.has_passed() {
        std::thread::yield_now();
    }
}

fn is_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let stats = tasks.filter_map(|task| Stat::at(task.ok()?.path().join("stat")));
    stats
        .into_iter()
        .all(|stat| matches!(stat.state, b'T' | b't' | b'Z' | b'X'))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    /// The middle shell has a child of its own, and none of them ends by itself.
    const SCRIPT: &str = "sh -c 'sleep 600 & echo $!; echo $$; wait' & wait";

    #[test]
    fn children_of_children_are_killed_and_the_root_is_left_stopped() {
        let mut root = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let output = BufReader::new(root.stdout.take().expect("a pipe"));
        let mut lines = output.lines().map(|line| line.expect("it is open"));
        let mut next = || {
            let pid: u32 = lines.next().expect("a line").parse().expect("a number");
            Pidfd::open(pid).expect("it runs")
        };
        let descendants = [next(), next()];
        let pidfd = Pidfd::open(root.id()).expect("our child");
        assert_eq!(
            kill_descendants(&pidfd, root.id()).expect("all are ours"),
            2
        );
        for descendant in &descendants {
            assert!(descendant.wait(Deadline::NEVER).expect("wait").is_some());
        }
        assert!(!pidfd.has_ended() && is_stopped(root.id()));
        root.kill().expect("it is there");
        root.wait().expect("its status");
        assert_eq!(kill_descendants(&pidfd, root.id()).expect("nobody"), 0);
    }

    #[test]
    fn process_that_starts_others_all_the_time_is_caught_with_all_of_them() {
        // Each starts another one and stays, sixty deep, so that the tree grows while it is stopped.
        let script = "f() { [ $1 -gt 60 ] && sleep 600; sleep 600 & f $(($1 + 1)) & wait; }
            f 1 & echo; wait";
        let mut root = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let mut output = BufReader::new(root.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it is open");
        let pidfd = Pidfd::open(root.id()).expect("our child");
        kill_descendants(&pidfd, root.id()).expect("all are ours");
        root.kill().expect("it is there");
        root.wait().expect("its status");
        // Every one of them has the pipe, so this ends only when the last one has.
        assert_eq!(output.read_line(&mut line).expect("the end"), 0);
    }
}
