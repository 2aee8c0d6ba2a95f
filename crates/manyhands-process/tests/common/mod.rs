//! What several test programs do with processes.

#![allow(dead_code, reason = "no test program uses all")]

use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_os::descriptor::poll_readable;
use manyhands_os::process::Pidfd;
use manyhands_process::{Callable, Process, StartMethod, Zygote};

const LONG: Duration = Duration::from_secs(60);

/// Runs a test's body in a process that has started nothing yet.
pub(crate) fn alone(body: impl Callable<(), Output = ()>) {
    let builder = Process::builder().start_method(StartMethod::Exec);
    if let Err(error) = builder.spawn(body, ()).expect("it starts").join() {
        panic!("{error}");
    }
}

/// The zygote and the process that it forks ahead, which is waited for: it is asked for after each
/// start. No other process is on its way then.
pub(crate) fn zygote_and_spare() -> [u32; 2] {
    let begin = Instant::now();
    loop {
        if let (Some(zygote), Some(spare)) = (Zygote::id(), Zygote::spare()) {
            return [zygote, spare];
        }
        assert!(begin.elapsed() < LONG, "none came");
        std::thread::yield_now();
    }
}

/// As [`zygote_and_spare`], of a new zygote: the former may have been killed, and does not know yet.
pub(crate) fn renewed_zygote_and_spare() -> [u32; 2] {
    if let Some(zygote) = Zygote::id().and_then(|pid| Pidfd::open(pid).ok()) {
        let _ = zygote.signal(9);
        let ended = poll_readable(&[zygote.as_fd()], Deadline::after(LONG));
        assert!(ended.expect("poll")[0], "it goes on");
    }
    drop(Process::spawn(|| (), ()).expect("it starts").join());
    zygote_and_spare()
}

/// Until it is killed.
pub(crate) fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

/// The state letters of this process's children, by id.
pub(crate) fn children() -> Vec<(u32, char)> {
    let me = std::process::id().to_string();
    let pids = fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat[stat.rfind(')')? + 2..].split(' ');
        let state = fields.next()?.chars().next()?;
        (fields.next()? == me).then_some((pid, state))
    })
    .collect()
}

/// After zygotes were killed. What they had forked ends by itself, and is cleaned up after by whoever
/// comes later.
pub(crate) fn only_zygote_and_spare_are_left() {
    let kept = renewed_zygote_and_spare();
    let others: Vec<Pidfd> = children()
        .into_iter()
        .filter(|(pid, _)| !kept.contains(pid))
        .filter_map(|(pid, _)| Pidfd::open(pid).ok())
        .collect();
    wait_ends(others.iter());
    drop(Process::spawn(|| (), ()).expect("it starts").join());
    let (kept, left) = (zygote_and_spare(), children());
    assert_eq!(left.len(), 2, "{left:?} for {kept:?}");
    assert!(left.iter().all(|(pid, _)| kept.contains(pid)), "{left:?}");
}

/// Waits until processes have ended, but leaves their status to whom it belongs.
pub(crate) fn wait_ends<'a>(processes: impl Iterator<Item = &'a Pidfd>) {
    for process in processes {
        let ended = poll_readable(&[process.as_fd()], Deadline::after(LONG));
        assert!(ended.expect("poll")[0], "it goes on");
    }
}

/// Waits until a child is in this state: `S` sleeps, `T` is stopped.
pub(crate) fn wait_state(pid: u32, state: char) {
    let deadline = Deadline::after(LONG);
    while !children().contains(&(pid, state)) {
        assert!(!deadline.has_passed(), "it never comes to {state}");
        std::thread::yield_now();
    }
}
