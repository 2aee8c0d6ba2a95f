//! Processes that die in many ways, of what only unsafe code can do, and what their parents learn.

use manyhands_os::process::Pidfd;
use manyhands_process::{Exit, Limits, Process, StartMethod};
use manyhands_shm::Shared;
use manyhands_sync::Event;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::LONG;

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];

fn no_core() -> Limits {
    Limits {
        core: Some(0),
        ..Limits::default()
    }
}

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("second");
    }
}

/// Has a fork of this process die, then waits.
fn fork_dies(by_panic: bool, ready: Shared<Event>) {
    // SAFETY: the fork calls what it is to die of: a panic that this process begins with its lock
    // for output free, or an abort.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child if by_panic => {
            let _bomb = PanicsInDrop;
            panic!("first");
        }
        ForkResult::Child => std::process::abort(),
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("its status");
            assert!(matches!(status, WaitStatus::Signaled(..)), "{status:?}");
        }
    }
    ready.set();
    wait_for_ever();
}

/// The handlers and the shared page are the fork's too, so its last note was taken for that of the
/// process: who was killed later, from outside, had panicked.
#[test]
fn death_of_a_raw_fork_does_not_explain_a_later_kill() {
    for method in METHODS {
        for by_panic in [true, false] {
            let ready = Shared::new(Event::new()).expect("space");
            let builder = Process::builder().start_method(method).limits(no_core());
            let mut process = builder
                .spawn(fork_dies, (by_panic, ready.clone()))
                .expect("it starts");
            assert!(ready.wait_timeout(LONG), "the fork does not die");
            let pidfd = Pidfd::open(process.id()).expect("it runs");
            pidfd.signal(9).expect("it is sent");
            let error = process.join().expect_err("it was killed");
            let exit = error.exit().expect("it ended");
            assert!(
                matches!(exit, Exit::Signaled { signal: 9, .. }),
                "{method:?}: {exit}"
            );
        }
    }
}
