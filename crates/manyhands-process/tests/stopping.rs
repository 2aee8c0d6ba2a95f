//! How processes are stopped: one, one with all that it has started, and all at an exit.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_os::descriptor::poll_readable;
use manyhands_os::signals;
use manyhands_process::{
    Exit, OnParentDeath, Process, ProcessBuilder, StartMethod, Stdio, active_children, cpu_count,
};
use manyhands_shm::Shared;
use manyhands_sync::Event;

use common::{alone, wait_for_ever};

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];
const LONG: Duration = Duration::from_secs(60);

/// Runs a test with a builder of each method.
fn each(test: impl Fn(ProcessBuilder)) {
    for method in METHODS {
        test(Process::builder().start_method(method));
    }
}

fn our_signal(number: i32) -> Exit {
    Exit::Signaled {
        signal: number,
        code: None,
        address: None,
        core_dumped: false,
        by_us: true,
    }
}

#[test]
fn process_10_interrupt_ends_a_process_that_does_nothing_against() {
    each(|builder| {
        let mut process = builder.spawn(wait_for_ever, ()).expect("it starts");
        process.interrupt().expect("it is sent");
        let error = process.join().expect_err("it was ended");
        assert_eq!(error.exit(), Some(&our_signal(2)));
    });
}

#[test]
fn stop_asks_and_kills_only_who_does_not_end() {
    fn ignore(ready: Shared<Event>) {
        signals::blocked(|| {
            ready.set();
            wait_for_ever();
        });
    }
    each(|builder| {
        let willing = builder.spawn(wait_for_ever, ()).expect("it starts");
        assert_eq!(
            willing.stop(LONG).expect("it is told"),
            Some(our_signal(15))
        );
        let ready = Shared::new(Event::new()).expect("space");
        let stubborn = builder.spawn(ignore, (ready.clone(),)).expect("it starts");
        assert!(ready.wait_timeout(LONG));
        let grace = Duration::from_millis(5);
        let begin = Instant::now();
        assert_eq!(
            stubborn.stop(grace).expect("it is told"),
            Some(our_signal(9))
        );
        assert!(begin.elapsed() >= grace);
        let mut finished = builder.spawn(|| 7, ()).expect("it starts");
        let ended = poll_readable(&[finished.sentinel()], Deadline::after(LONG));
        assert_eq!(ended.expect("poll"), [true]);
        assert_eq!(
            finished.stop(LONG).expect("it is told"),
            Some(Exit::Finished)
        );
        assert_eq!(finished.join().expect("a value"), 7);
    });
}

/// Starts a child, and a program with a child, and says so.
fn plant(by_exec: bool) {
    let builder = Process::builder().start_method(METHODS[usize::from(!by_exec)]);
    let _child = builder.spawn(wait_for_ever, ()).expect("it starts");
    let script = "sleep 600 & echo ready; wait";
    let status = Command::new("sh").args(["-c", script]).status();
    unreachable!("{status:?}");
}

fn first_line(output: &mut BufReader<PipeReader>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("it is open");
    line
}

#[test]
fn tree_is_killed_with_programs_that_know_nothing_of_us() {
    each(|builder| {
        for by_exec in [true, false] {
            let builder = builder.clone().stdout(Stdio::Captured);
            let mut process = builder.spawn(plant, (by_exec,)).expect("it starts");
            let mut output = BufReader::new(process.take_stdout().expect("captured"));
            assert_eq!(first_line(&mut output), "ready\n");
            process.kill_tree().expect("all are ours");
            // All of them have the writing end, so there is an end only when they are gone.
            assert_eq!(first_line(&mut output), "");
            let error = process.join().expect_err("it was killed");
            assert_eq!(error.exit(), Some(&our_signal(9)));
            process.kill_tree().expect("nothing happens to the dead");
        }
    });
}

#[test]
fn active_children_are_those_that_run_and_no_others() {
    fn names() -> Vec<Option<String>> {
        active_children()
            .into_iter()
            .map(|child| child.name)
            .collect()
    }
    fn body() {
        for method in METHODS {
            let builder = Process::builder().start_method(method);
            let named = |name: &str| {
                let builder = builder.clone().name(name);
                builder.spawn(wait_for_ever, ()).expect("it starts")
            };
            let (first, second) = (named("first"), named("second"));
            let nameless = builder.spawn(wait_for_ever, ()).expect("it starts");
            let list = active_children();
            let ids: Vec<u32> = list.iter().map(|child| child.id).collect();
            assert_eq!(ids, [first.id(), second.id(), nameless.id()]);
            assert!(list.iter().all(|child| child.is_daemon));
            // Who is dropped goes on; who is killed is no child any more, joined or not.
            drop(first);
            assert_eq!(names(), [Some("first".into()), Some("second".into()), None]);
            second.kill().expect("it is sent");
            let ended = poll_readable(&[second.sentinel()], Deadline::after(LONG));
            assert_eq!(ended.expect("poll"), [true]);
            assert_eq!(names(), [Some("first".into()), None]);
            drop(second);
            let list = active_children();
            let pidfd = manyhands_os::process::Pidfd::open(list[0].id).expect("it runs");
            pidfd.signal(9).expect("it is sent");
            assert!(nameless.stop(LONG).expect("it is told").is_some());
            assert!(
                poll_readable(&[std::os::fd::AsFd::as_fd(&pidfd)], Deadline::after(LONG))
                    .expect("poll")[0]
            );
            assert_eq!(active_children(), []);
            let refused = builder
                .clone()
                .current_dir("/nowhere/at/all")
                .spawn(|| (), ());
            assert!(refused.is_err());
            assert_eq!(active_children(), []);
        }
    }
    alone(body);
}

/// How the middle process of a family of three ends.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum End {
    Returns,
    Exits,
    IsKilled,
}

/// One is set when the youngest runs, the other lets it go on.
type Gates = (Shared<Event>, Shared<Event>);

fn gates() -> Gates {
    let event = || Shared::new(Event::new()).expect("space");
    (event(), event())
}

/// The middle one: its child waits for a gate, and prints a line.
fn middle(by_exec: bool, is_daemon: bool, end: End, gates: Gates) {
    let print = |(runs, gate): Gates| {
        runs.set();
        gate.wait();
        writeln!(std::io::stdout(), "late").expect("it is open");
    };
    let builder = Process::builder().start_method(METHODS[usize::from(!by_exec)]);
    let builder = builder.daemon(is_daemon);
    drop(builder.spawn(print, (gates,)).expect("it starts"));
    match end {
        End::Returns => {}
        End::Exits => std::process::exit(3),
        End::IsKilled => wait_for_ever(),
    }
}

#[test]
fn exit_waits_for_children_that_are_no_daemons() {
    each(|builder| {
        for (by_exec, end) in [
            (true, End::Returns),
            (false, End::Returns),
            (false, End::Exits),
        ] {
            let (runs, gate) = gates();
            let builder = builder.clone().stdout(Stdio::Captured);
            let shared = (runs.clone(), gate.clone());
            let process = builder.spawn(middle, (by_exec, false, end, shared));
            let mut process = process.expect("it starts");
            let mut output = BufReader::new(process.take_stdout().expect("captured"));
            if end == End::Returns {
                // It has a value before its exit, which takes longer than the join cares to wait.
                process.join().expect("a value");
            }
            assert!(runs.wait_timeout(LONG) && process.is_alive());
            gate.set();
            assert_eq!(first_line(&mut output), "late\n");
            let ended = poll_readable(&[process.sentinel()], Deadline::after(LONG));
            assert_eq!(ended.expect("poll"), [true]);
            let exit = process.exit().expect("it has ended");
            let expected = [Exit::Finished, Exit::Exited(3)];
            assert_eq!(exit, expected[usize::from(end == End::Exits)]);
        }
    });
}

#[test]
fn daemons_end_with_their_parent_and_all_end_with_a_killed_one() {
    each(|builder| {
        for (is_daemon, end) in [
            (true, End::Returns),
            (true, End::Exits),
            (false, End::IsKilled),
        ] {
            for by_exec in [true, false] {
                let (runs, gate) = gates();
                let builder = builder.clone().stdout(Stdio::Captured);
                let shared = (runs.clone(), gate.clone());
                let process = builder.spawn(middle, (by_exec, is_daemon, end, shared));
                let mut process = process.expect("it starts");
                let mut output = process.take_stdout().expect("captured");
                if end == End::IsKilled {
                    assert!(runs.wait_timeout(LONG));
                    process.kill().expect("it is sent");
                }
                // Nobody opens the gate, so there is an end because everybody is gone.
                let mut text = String::new();
                output.read_to_string(&mut text).expect("until the end");
                assert_eq!(text, "");
                assert_eq!(process.join().is_ok(), end == End::Returns);
            }
        }
    });
}

/// Waits until it is asked to end, which it blocks, and says so; then ends, or does not.
fn be_asked(runs: Shared<Event>, obeys: bool) {
    signals::blocked(|| {
        runs.set();
        let is_pending = |line: &str| {
            let set = line.strip_prefix("ShdPnd:")?;
            Some(u64::from_str_radix(set.trim(), 16).expect("a set") & 1 << 14 != 0)
        };
        let is_asked = || {
            let status = fs::read_to_string("/proc/self/status").expect("/proc is there");
            status.lines().find_map(is_pending).expect("it is told")
        };
        while !is_asked() {
            std::thread::yield_now();
        }
        writeln!(std::io::stdout(), "asked").expect("it is open");
        if !obeys {
            wait_for_ever();
        }
    });
}

/// The middle one, which is to be killed.
fn leave_orphan(by_exec: bool, choice: OnParentDeath, runs: Shared<Event>, obeys: bool) {
    let builder = Process::builder().start_method(METHODS[usize::from(!by_exec)]);
    let builder = builder.on_parent_death(choice);
    let _child = builder.spawn(be_asked, (runs, obeys)).expect("it starts");
    wait_for_ever();
}

#[test]
fn orphan_is_asked_to_end_if_so_chosen_and_ends_in_any_case() {
    let soon = OnParentDeath::Terminate {
        grace: Duration::from_millis(300),
    };
    let late = OnParentDeath::Terminate {
        grace: Duration::from_secs(3600),
    };
    each(|builder| {
        for by_exec in [true, false] {
            // One that ends when asked has all the time; one that does not is killed.
            for (choice, obeys) in [(late, true), (soon, false), (OnParentDeath::Kill, false)] {
                let runs = Shared::new(Event::new()).expect("space");
                let builder = builder.clone().stdout(Stdio::Captured);
                let arguments = (by_exec, choice, runs.clone(), obeys);
                let mut process = builder.spawn(leave_orphan, arguments).expect("it starts");
                let mut output = BufReader::new(process.take_stdout().expect("captured"));
                assert!(runs.wait_timeout(LONG));
                process.kill().expect("it is sent");
                if choice == late {
                    assert_eq!(first_line(&mut output), "asked\n");
                }
                // Whatever came before, the end comes when the orphan is gone.
                let mut rest = String::new();
                output.read_to_string(&mut rest).expect("until the end");
                assert!(choice != OnParentDeath::Kill || rest.is_empty(), "{rest}");
                assert!(process.join().is_err());
            }
        }
    });
}

#[test]
fn process_11_processors_are_those_that_may_be_used() {
    assert!(cpu_count() >= 1);
    each(|builder| {
        let mut process = builder.clone().spawn(cpu_count, ()).expect("it starts");
        assert_eq!(process.join().expect("a value"), cpu_count());
        let status = fs::read_to_string("/proc/self/status").expect("/proc is there");
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let list = list.expect("it is told").trim();
        let first = list.split([',', '-']).next().expect("there is one");
        let first: u32 = first.parse().expect("a number");
        let mut pinned = builder
            .processors([first])
            .spawn(cpu_count, ())
            .expect("it starts");
        assert_eq!(pinned.join().expect("a value"), 1);
    });
}

/// A control group that is removed again.
struct Group(std::path::PathBuf);

impl Group {
    /// One of a single processor, where the system lets us make one.
    fn of_one_processor() -> Option<Self> {
        let name = format!("manyhands-{}", std::process::id());
        let unified = "/sys/fs/cgroup/cgroup.controllers";
        let is_unified = fs::read_to_string(unified).is_ok_and(|list| list.contains("cpu"));
        let (root, file, text) = if is_unified {
            ("/sys/fs/cgroup", "cpu.max", "100000 100000")
        } else {
            ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "100000")
        };
        let group = Self(std::path::Path::new(root).join(name));
        fs::create_dir(&group.0).ok()?;
        fs::write(group.0.join(file), text).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It can be removed when its last process is gone.
        fs::remove_dir(&self.0).expect("nobody is in it");
    }
}

#[test]
fn processors_are_no_more_than_the_quota_of_the_control_group() {
    fn count_in(group: String) -> (usize, usize) {
        let before = cpu_count();
        fs::write(group, std::process::id().to_string()).expect("a process may be moved");
        (before, cpu_count())
    }
    if cpu_count() < 2 {
        return eprintln!("skipped: there is one processor only");
    }
    let Some(group) = Group::of_one_processor() else {
        return eprintln!("skipped: no control group for processors can be made here");
    };
    let file = group.0.join("cgroup.procs").display().to_string();
    let mut process = Process::spawn(count_in, (file,)).expect("it starts");
    let (before, after) = process.join().expect("a value");
    assert!(!process.is_alive());
    assert!(before >= 2 && after == 1, "{before} {after}");
    drop(group);
}
