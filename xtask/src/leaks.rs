//! What a run must not leave behind: processes, names in shared memory, temporary files.
//!
//! Every program of a run carries a word in its environment that its descendants inherit, and
//! gets a folder for temporary files of its own. So a leftover is told from what other programs
//! (or another run of the same tests) do at the same time on the same machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The variable that marks every process of a run.
const MARK: &str = "MANYHANDS_XTASK_RUN";

/// How the folder for a run's temporary files begins; its process and the time follow.
const FOLDER: &str = "manyhands-xtask-";

/// Where the kernel keeps named shared memory.
const SHARED_NAMES: &str = "/dev/shm";

/// Processes that end because their parent did need a moment.
const GRACE: Duration = Duration::from_secs(3);

/// One run of the tests, by which its processes and files are known.
pub(crate) struct Run {
    mark: String,
    temporary: PathBuf,
    names_before: BTreeSet<String>,
}

impl Run {
    /// Makes the folder for temporary files and notes what is there already.
    pub(crate) fn begin() -> std::io::Result<Self> {
        let mark = format!("{}-{}", std::process::id(), nanoseconds());
        let all = std::env::temp_dir();
        remove_abandoned(&all);
        let temporary = all.join(format!("{FOLDER}{mark}"));
        std::fs::create_dir_all(&temporary)?;
        Ok(Self {
            mark,
            temporary,
            names_before: names_in(Path::new(SHARED_NAMES)),
        })
    }

    /// Marks a program, so that it and all its descendants belong to this run.
    pub(crate) fn mark(&self, command: &mut Command) {
        command.env(MARK, &self.mark).env("TMPDIR", &self.temporary);
    }

    /// A folder for the files of a step, empty at first; [`Run::leftovers`] finds it if it stays.
    pub(crate) fn folder(&self, name: &str) -> std::io::Result<PathBuf> {
        let folder = self.temporary.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// What the programs that have run so far left behind. What is found is also removed, so that
    /// one step's fault is not told again after the next.
    pub(crate) fn leftovers(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        for stray in self.strays_after_grace() {
            faults.push(format!("left a process: {}", describe(stray)));
            kill_tree(stray);
        }
        let names = names_in(Path::new(SHARED_NAMES));
        for name in names.difference(&self.names_before) {
            if is_ours(name) && !is_held(&Path::new(SHARED_NAMES).join(name)) {
                faults.push(format!("left a name: {SHARED_NAMES}/{name}"));
            }
        }
        self.names_before = names;
        for name in names_in(&self.temporary) {
            faults.push(format!("left a temporary file: {name}"));
            let path = self.temporary.join(name);
            // A folder or a file: one of the two works.
            drop(std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path)));
        }
        faults
    }

    fn strays_after_grace(&self) -> Vec<u32> {
        let until = Instant::now() + GRACE;
        // Nothing is ever sent: the time-out is the pause between two looks.
        let (_keep, pause) = mpsc::channel::<()>();
        loop {
            let strays = self.strays();
            if strays.is_empty() || Instant::now() >= until {
                return strays;
            }
            let _ = pause.recv_timeout(Duration::from_millis(20));
        }
    }

    /// Living processes of this run. Asked between steps, when there should be none.
    fn strays(&self) -> Vec<u32> {
        let marked = format!("{MARK}={}", self.mark);
        let own = std::process::id();
        processes()
            .filter(|pid| *pid != own)
            .filter(|pid| {
                let words = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                words
                    .split(|byte| *byte == 0)
                    .any(|word| word == marked.as_bytes())
            })
            .collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Empty unless a program left something in it, which has been told by then.
        drop(std::fs::remove_dir_all(&self.temporary));
    }
}

/// Removes the folders of runs that were killed, and so could not.
fn remove_abandoned(all: &Path) {
    for name in names_in(all) {
        let pid = name
            .strip_prefix(FOLDER)
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another run may be removing it too.
            drop(std::fs::remove_dir_all(all.join(name)));
        }
    }
}

/// Kills a process that this task started, with all its descendants.
pub(crate) fn kill_tree(pid: u32) {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(processes().filter(|child| parent_of(*child) == Some(parent)));
        next += 1;
    }
    let words: Vec<String> = family.iter().map(u32::to_string).collect();
    // Some may have ended in between; that they are gone is all that matters.
    drop(
        Command::new("sh")
            .args(["-c", &format!("kill -KILL {}", words.join(" "))])
            .status(),
    );
}

/// Names that this project, or a crate it uses, gives to what it puts into shared memory.
fn is_ours(name: &str) -> bool {
    ["manyhands", "mh-", "mh_", "psm_", "shmem", "sem."]
        .iter()
        .any(|start| name.starts_with(start))
}

/// Whether a living process maps or holds open the file, which then is no leftover of ours.
fn is_held(path: &Path) -> bool {
    let text = path.display().to_string();
    processes().any(|pid| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        maps.lines().any(|line| line.ends_with(&text))
    })
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn processes() -> impl Iterator<Item = u32> {
    names_in(Path::new("/proc"))
        .into_iter()
        .filter_map(|name| name.parse().ok())
}

/// The parent, read from the fields behind the name, which may hold anything.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

fn describe(pid: u32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .map_or("?", |(_, rest)| rest.trim_start());
    format!(
        "{pid} ({}), {}",
        state.chars().next().unwrap_or('?'),
        words.trim()
    )
}

/// The time, fine enough that no two runs have the same.
fn nanoseconds() -> u128 {
    std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time| time.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn run_that_left_nothing_has_no_leftovers() {
        let mut run = Run::begin().unwrap();
        let mut command = Command::new("true");
        run.mark(&mut command);
        assert!(command.status().unwrap().success());
        assert_eq!(run.leftovers(), Vec::<String>::new());
        let folder = run.temporary.clone();
        drop(run);
        assert!(!folder.exists());
    }

    #[test]
    fn process_and_file_that_stay_are_found_and_removed() {
        let mut run = Run::begin().unwrap();
        // Reads from a pipe that this test keeps open, so it lives until it is killed.
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo x > \"$TMPDIR/left\"; echo; read -r line"]);
        run.mark(&mut command);
        let mut child = command
            .stdin(reader)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answer = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut answer).unwrap();
        let faults = run.leftovers();
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("left a process: "), "{faults:?}");
        assert_eq!(faults[1], "left a temporary file: left");
        assert!(!child.wait().unwrap().success());
        assert_eq!(run.leftovers(), Vec::<String>::new());
        drop(writer);
    }
}
