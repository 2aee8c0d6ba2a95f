//! Interrupts from a keyboard: a real terminal, a family in front of it, and who ends when.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use manyhands_os::process::Pidfd;
use manyhands_os::{Deadline, signals};
use manyhands_process::{Exit, OnInterrupt, Process, StartMethod, Stdio};
use manyhands_shm::Shared;
use manyhands_sync::{Barrier, Event};
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, setsid};

const LONG: Duration = Duration::from_secs(60);
const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];
const CTRL_C: &[u8] = &[3];

/// Whether this process can be interrupted. One that `nohup` or a script with `&` started ignores
/// interrupts from its start, and so do all that it starts: the test then runs in a fresh program
/// that ignores none, as a terminal would start it, and is over here.
fn can_be_interrupted(test: &str) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is there");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.expect("a line").trim(), 16).expect("a number");
    if ignored & 1 << (Signal::SIGINT as u64 - 1) == 0 {
        return true;
    }
    let mut fresh = std::process::Command::new("env");
    fresh.arg("--default-signal=INT");
    fresh.arg(std::env::current_exe().expect("it has a file"));
    let output = fresh.args(["--exact", test]).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// A terminal and the name of its other side.
fn terminal() -> (PtyMaster, PathBuf) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).expect("terminals are there");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it is ours");
    let name = ptsname_r(&master).expect("it has one");
    (master, name.into())
}

/// Makes the terminal that of this process, the leader of a new session.
fn sit_at(terminal: &str) -> File {
    setsid().expect("it leads no group yet");
    let open = File::options().read(true).write(true).open(terminal);
    open.expect("the first one that a leader opens is his")
}

/// What the tests tell the family, and it tells them.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Signs {
    ready: Shared<Event>,
    /// Each child meets its parent here before and after the interrupt.
    meeting: Shared<Barrier>,
}

impl Signs {
    fn new(parties: u32) -> Self {
        Self {
            ready: Shared::new(Event::new()).expect("space"),
            meeting: Shared::new(Barrier::new(parties).expect("some")).expect("space"),
        }
    }

    fn meet(&self) {
        self.meeting.wait_timeout(LONG).expect("all are alive");
    }
}

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

/// A child with a child; both live through an interrupt that is not their parent's.
fn elder(by_exec: bool, signs: Signs) {
    let builder = Process::builder().start_method(METHODS[usize::from(!by_exec)]);
    let _younger = builder.spawn(younger, (signs.clone(),)).expect("it starts");
    younger(signs);
}

fn younger(signs: Signs) {
    signs.meet();
    signs.meet();
    wait_for_ever();
}

/// The parent before the terminal, which waits for the interrupt and then stops its child.
fn lead(terminal: String, by_exec: bool, signs: Signs) -> Option<Exit> {
    let _terminal = sit_at(&terminal);
    let interrupt = SigSet::from(Signal::SIGINT);
    interrupt.thread_block().expect("it is a signal");
    let builder = Process::builder().start_method(METHODS[usize::from(!by_exec)]);
    let child = builder
        .spawn(elder, (by_exec, signs.clone()))
        .expect("it starts");
    signs.meet();
    signs.ready.set();
    assert_eq!(interrupt.wait(), Ok(Signal::SIGINT));
    // Nobody else was ended by it.
    signs.meet();
    child.stop(LONG).expect("it is told")
}

/// Has an interrupt come from the keyboard, or from a stranger to the whole group.
fn interrupt(master: &mut PtyMaster, leader: u32, by_keyboard: bool) {
    if by_keyboard {
        master.write_all(CTRL_C).expect("the terminal takes it");
    } else {
        killpg(Pid::from_raw(leader as i32), Signal::SIGINT).expect("they are ours");
    }
}

fn is_nobody_left(output: &mut impl Read) -> bool {
    let mut text = String::new();
    // All processes have the writing end, so there is an end when all are gone.
    output.read_to_string(&mut text).expect("until the end");
    assert_eq!(text, "", "a wall of traces");
    true
}

#[test]
fn children_leave_an_interrupt_to_their_parent_who_stops_them() {
    if !can_be_interrupted("children_leave_an_interrupt_to_their_parent_who_stops_them") {
        return;
    }
    for method in METHODS {
        for by_keyboard in [true, false] {
            let (mut master, name) = terminal();
            let signs = Signs::new(3);
            let by_exec = method == StartMethod::Exec;
            let arguments = (name.display().to_string(), by_exec, signs.clone());
            let builder = Process::builder().start_method(method);
            let builder = builder.stderr(Stdio::Captured);
            let mut leader = builder.spawn(lead, arguments).expect("it starts");
            let mut errors = leader.take_stderr().expect("captured");
            assert!(signs.ready.wait_timeout(LONG), "{:?}", leader.exit());
            interrupt(&mut master, leader.id(), by_keyboard);
            let exit = leader.join().expect("a value").expect("its child ended");
            let Exit::Signaled { signal, by_us, .. } = exit else {
                panic!("{exit}");
            };
            assert_eq!((signal, by_us), (15, true));
            assert!(is_nobody_left(&mut errors));
        }
    }
}

/// A parent before the terminal that does nothing about interrupts.
fn lead_and_end(terminal: String, by_exec: bool, signs: Signs) {
    let _terminal = sit_at(&terminal);
    let builder = Process::builder().start_method(METHODS[usize::from(!by_exec)]);
    let _child = builder
        .spawn(elder, (by_exec, signs.clone()))
        .expect("it starts");
    signs.meet();
    signs.ready.set();
    wait_for_ever();
}

#[test]
fn parent_that_ends_by_an_interrupt_takes_its_children_along_without_a_word() {
    if !can_be_interrupted(
        "parent_that_ends_by_an_interrupt_takes_its_children_along_without_a_word",
    ) {
        return;
    }
    for method in METHODS {
        let (mut master, name) = terminal();
        let signs = Signs::new(3);
        let by_exec = method == StartMethod::Exec;
        let arguments = (name.display().to_string(), by_exec, signs.clone());
        let builder = Process::builder().start_method(method);
        let builder = builder.on_interrupt(OnInterrupt::End);
        let builder = builder.stderr(Stdio::Captured);
        let mut leader = builder.spawn(lead_and_end, arguments).expect("it starts");
        let mut errors = leader.take_stderr().expect("captured");
        assert!(signs.ready.wait_timeout(LONG), "{:?}", leader.exit());
        interrupt(&mut master, leader.id(), true);
        let error = leader.join().expect_err("it ends by the signal");
        let exit = error.exit();
        assert!(
            matches!(
                exit,
                Some(Exit::Signaled {
                    signal: 2,
                    by_us: false,
                    ..
                })
            ),
            "{error}"
        );
        assert!(is_nobody_left(&mut errors));
    }
}

/// Blocks what its parent sends until the parent looks, as a handler of the function's own would.
fn count_interrupts(ready: Shared<Event>) -> bool {
    let interrupt = SigSet::from(Signal::SIGINT);
    signals::blocked(|| {
        ready.set();
        interrupt.wait() == Ok(Signal::SIGINT)
    })
}

/// The child first asked the system who had sent the signal. Of two that come before it runs, the
/// system keeps the first, a stranger's, and so its parent's was lost: it went on for ever.
#[test]
fn interrupt_of_the_parent_ends_a_child_or_is_what_the_child_makes_of_it() {
    if !can_be_interrupted("interrupt_of_the_parent_ends_a_child_or_is_what_the_child_makes_of_it")
    {
        return;
    }
    for method in METHODS {
        let builder = Process::builder().start_method(method);
        let process = builder.spawn(wait_for_ever, ()).expect("it starts");
        // A stranger's, which does nothing.
        let stranger = Pidfd::open(process.id()).expect("it runs");
        let script = format!("kill -INT {}", process.id());
        let status = std::process::Command::new("sh")
            .args(["-c", &script])
            .status();
        assert!(status.expect("it runs").success() && process.is_alive());
        process.interrupt().expect("it is sent");
        assert!(
            stranger
                .wait_end(Deadline::after(LONG))
                .expect("it is told")
        );
        let exit = process.exit();
        assert!(
            matches!(
                exit,
                Some(Exit::Signaled {
                    signal: 2,
                    by_us: true,
                    ..
                })
            ),
            "{exit:?}"
        );

        let ready = Shared::new(Event::new()).expect("space");
        let mut process = builder
            .spawn(count_interrupts, (ready.clone(),))
            .expect("it starts");
        assert!(ready.wait_timeout(LONG));
        process.interrupt().expect("it is sent");
        assert!(process.join().expect("it lives"));
    }
}
