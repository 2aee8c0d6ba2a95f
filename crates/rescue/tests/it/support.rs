//! Running `rescue`, waiting with a deadline, looking at what it left.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// No run of a test takes so long on the slowest machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(240);

/// `rescue` in a process group of its own, and a folder for its temporary files.
pub(crate) fn rescue(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rescue"));
    command
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::null());
    command
}

/// A copy of the program for somebody who may not enter the folder where it was built.
///
/// Another process copies it: a child that a test beside this one starts meanwhile would inherit
/// the open copy from us, and what is open for writing cannot be run.
pub(crate) fn program_in(folder: &Path) -> PathBuf {
    let program = folder.join("rescue");
    let mut copy = Command::new("cp");
    let copied = copy
        .arg(env!("CARGO_BIN_EXE_rescue"))
        .arg(&program)
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    program
}

/// The samples in the tree.
pub(crate) fn samples() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/samples"))
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// Runs to the end.
pub(crate) fn run(command: &mut Command) -> Output {
    finish(start(command))
}

/// Starts it, its output to be read by [`finish`].
pub(crate) fn start(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rescue starts")
}

/// Waits for the end of `child`; kills its whole group, and fails, after [`DEADLINE`].
pub(crate) fn finish(child: Child) -> Output {
    let group = child.id();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(output) => output.expect("rescue can be waited for"),
        Err(error) => {
            kill_group(group);
            panic!("rescue did not end in {DEADLINE:?}: {error}");
        }
    }
}

/// The JSON document of a run that ended well.
pub(crate) fn document(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    serde_json::from_slice(&output.stdout).expect("standard output is one JSON document")
}

/// File to verdict, of a JSON document; fails when a file has two.
pub(crate) fn verdicts(document: &Value) -> BTreeMap<String, Value> {
    let mut verdicts = BTreeMap::new();
    for file in document["files"].as_array().expect("a list") {
        let name = file["file"].as_str().expect("a name").to_owned();
        assert_eq!(
            verdicts.insert(name, file.clone()),
            None,
            "two verdicts for {file}"
        );
    }
    verdicts
}

/// The verdict of each sample, as `tests/expected.txt` says.
pub(crate) fn expected() -> BTreeMap<String, String> {
    let table = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/expected.txt"));
    let table = table.expect("the table is in the tree");
    let lines = table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || words.next().expect("two words a line").to_owned();
            (word(), word())
        })
        .collect()
}

/// Every file below `folder` with its content, the journal left out.
pub(crate) fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = files(folder)
        .into_iter()
        .filter(|path| !path.ends_with("rescue.journal"));
    paths
        .map(|path| {
            let content = fs::read(&path).expect("an output can be read");
            (
                path.strip_prefix(folder).expect("below it").to_owned(),
                content,
            )
        })
        .collect()
}

/// Inode and time of change: differ when a file was written again.
pub(crate) fn identity(path: &Path) -> (u64, i64, i64) {
    let metadata = fs::metadata(path).expect("an output is there");
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

/// All regular files below `folder`.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder can be read") {
        let entry = entry.expect("an entry can be read");
        if entry.file_type().expect("a type").is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Fails unless every process of the group ends soon: no orphan goes on.
pub(crate) fn assert_group_ends(group: u32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = group_members(group);
        if left.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            kill_group(group);
            panic!("processes of the group {group} went on: {left:?}");
        }
        pause(Duration::from_millis(2));
    }
}

/// Processes of the group, zombies too, as (id, name).
pub(crate) fn group_members(group: u32) -> Vec<(u32, String)> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(Result::ok)
    {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The name stands in parentheses and may hold any character; then state, parent, group.
        let Some((name, rest)) = stat.rsplit_once(')') else {
            continue;
        };
        let name = name.split_once('(').map_or("", |(_, name)| name).to_owned();
        if rest.split_whitespace().nth(2) == Some(&group.to_string()) {
            members.push((id, name));
        }
    }
    members
}

/// Waits that long; nothing else is waited for.
pub(crate) fn pause(time: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    assert_eq!(receiver.recv_timeout(time), Err(RecvTimeoutError::Timeout));
}

/// Sends a signal; that the process is gone already is no failure.
pub(crate) fn signal(process: u32, signal: nix::sys::signal::Signal) {
    let process = nix::unistd::Pid::from_raw(process.try_into().expect("a process id"));
    let _ = nix::sys::signal::kill(process, signal);
}

/// Whether this process may become somebody else, and mount.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn kill_group(group: u32) {
    let group = nix::unistd::Pid::from_raw(group.try_into().expect("a process id"));
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
}

/// Numbers that differ from run to run; the seed is printed for a failing test.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Random {
        let time = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("after 1970");
        let seed = u64::from(time.subsec_nanos()) | 1;
        println!("seed {seed}");
        Random(seed)
    }

    /// A number below `end`. Source: Marsaglia's xorshift64.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
