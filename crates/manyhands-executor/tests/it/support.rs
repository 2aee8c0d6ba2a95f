//! What several test modules need.

use std::fs;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use manyhands_executor::{Builder, Death, Executor, ProcessPoolExecutor, Task, TaskError};
use manyhands_process::Process;
use manyhands_shm::Shared;
use manyhands_sync::Event;
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;

/// Longer than anything here takes; a wait that lasts so long is a hang.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn pool(workers: usize) -> ProcessPoolExecutor {
    builder(workers).build().unwrap()
}

pub(crate) fn builder(workers: usize) -> Builder {
    ProcessPoolExecutor::builder().workers(workers)
}

pub(crate) fn result<T>(task: &Task<T>) -> Result<T, TaskError> {
    task.result_timeout(LONG)
        .expect("an outcome within a minute")
}

pub(crate) fn spin_until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "not within a minute");
        thread::yield_now();
    }
}

pub(crate) fn event() -> Shared<Event> {
    Shared::new(Event::new()).unwrap()
}

pub(crate) fn counter() -> Shared<AtomicU64> {
    Shared::new(AtomicU64::new(0)).unwrap()
}

pub(crate) fn kill_hard(pid: u32) {
    // The worker may have ended by itself.
    let _ = kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL);
}

pub(crate) fn ready_workers(pool: &ProcessPoolExecutor, count: usize) -> Vec<u32> {
    spin_until(|| pool.stats().idle == count);
    pool.worker_ids()
}

pub(crate) fn add(a: u32, b: u32) -> u32 {
    a + b
}

pub(crate) fn works(pool: &ProcessPoolExecutor) {
    assert_eq!(result(&pool.submit(add, (40, 2)).unwrap()), Ok(42));
}

pub(crate) fn death(error: TaskError) -> Death {
    match error {
        TaskError::Died(death) => death,
        error => panic!("not a death: {error}"),
    }
}

pub(crate) fn spin(started: Shared<Event>) -> u32 {
    started.set();
    loop {
        std::hint::spin_loop();
    }
}

pub(crate) fn hold(started: Shared<Event>, gate: Shared<Event>) -> u32 {
    started.set();
    assert!(gate.wait_timeout(LONG));
    7
}

pub(crate) fn die_by(how: u32) -> u32 {
    match how {
        0 => raise(Signal::SIGSEGV).unwrap(),
        1 => std::process::abort(),
        2 => std::process::exit(0),
        3 => std::process::exit(3),
        4 => raise(Signal::SIGKILL).unwrap(),
        5 => raise(Signal::SIGTERM).unwrap(),
        n => return n,
    }
    unreachable!("the signal does not let it come back")
}

/// Runs `f` in a process where nothing else happens.
pub(crate) fn alone(f: impl Fn() + Copy + Send + 'static) {
    Process::spawn(f, ()).unwrap().join().unwrap();
}

/// Whether a process is gone, without asking the pool.
pub(crate) fn has_ended(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // A zombie has ended; whoever inherited it may take its time.
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(_) => true,
    }
}
