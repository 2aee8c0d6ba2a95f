//! Kills a whole job, a program and all that it has started, at random points, and looks what is
//! left: `job KILLS [SEED]`; exit code 1 when something is.
//!
//! The killer sees `/tmp` and `/dev/shm` alone, so that other programs do not disturb; where the
//! system does not let it, it says so and looks at descriptors only. And it adopts those whose
//! parent has died, so that it knows when all are gone.

#![allow(
    unsafe_code,
    reason = "asks the kernel for mounts of its own, and to be the parent of orphans"
)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing the result is its job"
)]

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use manyhands_channel::{Connection, Pipe};
use manyhands_process::Process;
use manyhands_shm::{Region, Shared};
use manyhands_sync::Lock;
use manyhands_tests::storm::Random;
use manyhands_tests::system;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What goes to a worker and back.
type Luggage = (Region, Shared<[u64]>);

/// The first argument of the program that is killed.
const ROOT: &str = "root";
const WORKERS: usize = 3;
/// So many steps of the job come before the latest kill.
const STEPS: u64 = 100;
/// Whoever is alive so long after the kill hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where things with names would be.
const FOLDERS: [&CStr; 2] = [c"/tmp", c"/dev/shm"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == ROOT) {
        work_for_ever();
    }
    let number = |index: usize| arguments.get(index)?.parse::<u64>().ok();
    let Some(kills) = number(0) else {
        eprintln!("usage: job KILLS [SEED]");
        return ExitCode::from(2);
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = number(1).unwrap_or(now.unwrap_or_default().as_nanos() as u64);
    // Whatever happens, somebody hears of it.
    system::end_after(60 + kills as u32);
    let is_alone = see_alone();
    adopt_orphans();
    let (started, mut random) = (Instant::now(), Random::new(seed));
    let before = left(is_alone);
    let mut damages = 0;
    let mut seen = 0;
    for _ in 0..kills {
        let mut job = Job::start();
        seen += job.follow(random.below(STEPS));
        // Not always at the beginning of a step.
        pause(Duration::from_micros(random.below(1000)));
        damages += u64::from(!job.kill(random.below(2) == 0));
        let after = left(is_alone);
        if after != before {
            damages += 1;
            let new: Vec<_> = after.difference(&before).collect();
            eprintln!("left behind: {new:?}");
        }
    }
    let place = if is_alone { "own" } else { "skipped" };
    println!(
        "seed {seed}: {kills} jobs killed after {seen} steps, {place} folders, {damages} damages, \
         {:.1} s",
        started.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(damages > 0 || seen == 0))
}

/// The program that is killed, and its process group.
struct Job {
    root: Child,
    steps: ChildStdout,
}

impl Job {
    fn start() -> Job {
        let mut root = Command::new("/proc/self/exe")
            .arg(ROOT)
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let steps = root.stdout.take().expect("a pipe");
        Job { root, steps }
    }

    /// Waits until the job has made so many steps; how many it was seen to make.
    fn follow(&mut self, steps: u64) -> u64 {
        let mut bytes = vec![0; steps as usize];
        self.steps
            .read_exact(&mut bytes)
            .expect("it works for ever");
        steps
    }

    /// Kills all of it at once, or only the root, whom the others follow; whether all are gone.
    fn kill(self, all: bool) -> bool {
        let root = Pid::from_raw(self.root.id().cast_signed());
        let killed = if all {
            killpg(root, Signal::SIGKILL)
        } else {
            kill(root, Signal::SIGKILL)
        };
        killed.expect("it is ours");
        let deadline = Instant::now() + PATIENCE;
        let mut length = Duration::from_micros(100);
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return true,
                Ok(WaitStatus::StillAlive) if Instant::now() > deadline => {
                    eprintln!("somebody lives longer than the job");
                    let _ = killpg(root, Signal::SIGKILL);
                    return false;
                }
                Ok(WaitStatus::StillAlive) => {
                    pause(length);
                    length = (2 * length).min(Duration::from_millis(2));
                }
                _ => {}
            }
        }
    }
}

fn pause(length: Duration) {
    system::futex_wait(&0.into(), 0, Some(length));
}

/// The descriptors of this process, and the names in the folders. Not those in the folders of all,
/// which change at any time.
fn left(is_alone: bool) -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    let folders: &[&str] = if is_alone { &["/tmp", "/dev/shm"] } else { &[] };
    for folder in folders.iter().chain(&["/proc/self/fd"]) {
        let names = std::fs::read_dir(folder).expect("a folder");
        // One of the descriptors is that of the look itself.
        left.extend(
            names
                .flatten()
                .map(|entry| entry.path().display().to_string()),
        );
    }
    left
}

/// Gets folders of its own, if the system allows it. The caller has one thread.
fn see_alone() -> bool {
    // SAFETY: `unshare` takes flags; what it changes is this process's view of the mounts.
    let has_left = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0
        // SAFETY: as above; a user namespace lets anybody mount, where that is not forbidden.
        || unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } == 0;
    has_left
        && mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE)
        && FOLDERS
            .iter()
            .all(|folder| mount(c"none", folder, Some(c"tmpfs"), 0))
}

fn mount(source: &CStr, target: &CStr, kind: Option<&CStr>, flags: libc::c_ulong) -> bool {
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: `mount` reads texts, which live during the call, or nothing where null is given.
    let outcome = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind,
            flags,
            std::ptr::null(),
        )
    };
    outcome == 0
}

fn adopt_orphans() {
    // SAFETY: `prctl(PR_SET_CHILD_SUBREAPER)` takes one integer and touches no memory.
    let outcome = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
}

/// What the job does: processes that come and are killed, and objects that go to and fro.
fn work_for_ever() -> ! {
    let mut random = Random::new(u64::from(std::process::id()));
    let total = Shared::new(Lock::new(0)).expect("room");
    step();
    let mut workers: Vec<_> = (0..WORKERS).map(|_| Worker::start(&total)).collect();
    loop {
        let which = random.below(WORKERS as u64) as usize;
        if random.below(20) == 0 {
            workers[which].child.kill().expect("it is ours");
            workers[which] = Worker::start(&total);
        }
        let words = 1 + random.below(100_000) as usize;
        let items = Shared::<[u64]>::from_fn(words, |index| index as u64).expect("room");
        let luggage = (Region::new(words).expect("room"), items);
        let connection = &mut workers[which].connection;
        connection.send(&luggage).expect("it lives");
        step();
        let (_, items) = connection.recv().expect("it lives");
        assert!(Shared::ptr_eq(&items, &luggage.1));
        step();
    }
}

struct Worker {
    child: Process<()>,
    connection: Connection<Luggage, Luggage>,
}

impl Worker {
    fn start(total: &Shared<Lock<u64>>) -> Worker {
        let (connection, there) = Pipe::duplex().expect("room");
        let child = Process::spawn(send_back, (there, total.clone())).expect("a child");
        step();
        Worker { child, connection }
    }
}

fn send_back(mut connection: Connection<Luggage, Luggage>, total: Shared<Lock<u64>>) {
    while let Ok(luggage) = connection.recv() {
        if let Ok(mut guard) = total.lock() {
            *guard += 1;
        }
        connection.send(&luggage).expect("the root lives longer");
    }
}

/// Tells the killer that the job gets on.
fn step() {
    let mut out = io::stdout();
    let told = out.write_all(b".").and_then(|()| out.flush());
    told.expect("the killer listens");
}
