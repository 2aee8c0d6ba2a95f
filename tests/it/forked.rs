//! A process that starts others, and has forked by itself, as C code does.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::time::Instant;

use manyhands_os::Deadline;
use manyhands_os::process::Pidfd;
use manyhands_process::{Process, StartMethod, Stdio, Zygote};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pause};

use crate::LONG;

/// The process that the zygote has forked ahead, when it has its seat and sleeps until its order comes.
fn spare() -> Pidfd {
    let begin = Instant::now();
    loop {
        if let Some(pid) = Zygote::spare()
            && fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| stat.contains(") S "))
        {
            return Pidfd::open(pid).expect("it runs");
        }
        assert!(begin.elapsed() < LONG, "none came");
        std::thread::yield_now();
    }
}

/// What C code leaves that forks.
fn copy() -> Pid {
    // SAFETY: the child of this process of several threads calls the system only, until it is killed.
    match unsafe { fork() }.expect("it is allowed") {
        ForkResult::Child => loop {
            pause();
        },
        ForkResult::Parent { child } => child,
    }
}

fn body() {
    std::env::set_current_dir("/proc").expect("it is there");
    drop(Process::spawn(|| (), ()).expect("it starts").join());
    let spare = spare();
    let forked = copy();
    // Another zygote starts there, and what the former has forked is not needed.
    std::env::set_current_dir("/").expect("it is there");
    drop(Process::spawn(|| (), ()).expect("it starts").join());
    let has_ended = spare.wait_end(Deadline::after(LONG)).expect("poll");
    kill(forked, Signal::SIGKILL).expect("it is sent");
    waitpid(forked, None).expect("it is a child");
    assert!(has_ended, "it waits on");
}

/// What is forked so has a copy of this end of each socket, so the other end is not at its end when this
/// process closes it.
#[test]
fn process_that_is_not_needed_ends_though_c_code_has_forked() {
    let builder = Process::builder().start_method(StartMethod::Exec);
    let mut process = builder.spawn(body, ()).expect("it starts");
    if let Err(error) = process.join() {
        panic!("{error}");
    }
}

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

fn leave() {
    let child = Process::spawn(wait_for_ever, ()).expect("it starts");
    let line = format!("{} {}\n", child.id(), copy());
    std::io::stdout()
        .write_all(line.as_bytes())
        .expect("it is open");
    wait_for_ever();
}

/// The copy has all files of the process that dies, so it is the zygote that ends the child, and not the system.
#[test]
fn child_ends_with_its_parent_though_c_code_has_forked() {
    let builder = Process::builder().start_method(StartMethod::Exec);
    let builder = builder.stdout(Stdio::Captured);
    let mut process = builder.spawn(leave, ()).expect("it starts");
    let mut line = String::new();
    let output = process.take_stdout().expect("captured");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("it is open");
    let (child, copy) = line.trim().split_once(' ').expect("both");
    let child = Pidfd::open(child.parse().expect("a number")).expect("it runs");
    process.kill().expect("it is sent");
    let has_ended = child.wait_end(Deadline::after(LONG)).expect("poll");
    let copy = Pid::from_raw(copy.parse().expect("a number"));
    kill(copy, Signal::SIGKILL).expect("it is sent");
    assert!(has_ended, "it lives on");
}
