//! A process that starts others, and has forked by itself, as C code does.

use std::fs;
use std::time::Instant;

use manyhands_os::Deadline;
use manyhands_os::process::Pidfd;
use manyhands_process::{Process, StartMethod, Zygote};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pause};

use crate::LONG;

/// The process that the zygote has forked ahead, when it has its seat and its keeper.
fn spare() -> Pidfd {
    let begin = Instant::now();
    loop {
        if let Some(pid) = Zygote::spare()
            && fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|threads| threads.count() == 2)
        {
            return Pidfd::open(pid).expect("it runs");
        }
        assert!(begin.elapsed() < LONG, "none came");
        std::thread::yield_now();
    }
}

fn body() {
    std::env::set_current_dir("/proc").expect("it is there");
    drop(Process::spawn(|| (), ()).expect("it starts").join());
    let spare = spare();
    // SAFETY: the child of this process of several threads calls the system only, until it is killed.
    let forked = match unsafe { fork() }.expect("it is allowed") {
        ForkResult::Child => loop {
            pause();
        },
        ForkResult::Parent { child } => child,
    };
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
