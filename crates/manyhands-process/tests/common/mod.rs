//! What several test programs do with processes.

#![allow(dead_code, reason = "no test program uses all")]

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_os::descriptor::poll_readable;
use manyhands_os::process::Pidfd;
use manyhands_process::{Callable, Process, StartMethod, Zygote};

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
        assert!(begin.elapsed() < Duration::from_secs(60), "none came");
        std::thread::yield_now();
    }
}

/// As [`zygote_and_spare`], of a new zygote: the former may have been killed, and does not know yet.
pub(crate) fn renewed_zygote_and_spare() -> [u32; 2] {
    if let Some(zygote) = Zygote::id().and_then(|pid| Pidfd::open(pid).ok()) {
        let _ = zygote.signal(9);
        let ended = poll_readable(&[zygote.as_fd()], Deadline::after(Duration::from_secs(60)));
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
