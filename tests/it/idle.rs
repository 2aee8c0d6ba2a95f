//! What waiting costs: nothing, however long it takes.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use manyhands_channel::{Connection, Pipe, Queue, Select, Waitable};
use manyhands_process::Process;
use manyhands_shm::Shared;
use manyhands_sync::{Barrier, Condition, Event, Lock, RwLock, Semaphore};

use super::{LONG, until};

/// How long the waiters are looked at.
fn a_while() -> Duration {
    let is_long = std::env::var_os("MANYHANDS_LONG").is_some_and(|value| value == "1");
    Duration::from_secs(if is_long { 10 } else { 3 })
}

/// One tick of the clock that `ps` counts in, for all of them together.
const MOST: Duration = Duration::from_millis(10);

/// All that the processes wait for, none of which comes.
type Never = (
    Queue<u64>,
    Shared<Event>,
    Shared<Semaphore>,
    Shared<Barrier>,
    Shared<Lock<u32>>,
    Shared<RwLock<u32>>,
    Shared<Condition>,
);

/// Waits for one of them, by its number.
fn wait_for(number: usize, never: Never) {
    let (queue, event, semaphore, barrier, lock, shares, condition) = never;
    match number {
        0 => drop(queue.get()),
        1 => event.wait(),
        2 => drop(semaphore.acquire()),
        3 => drop(barrier.wait()),
        4 => drop(lock.lock()),
        5 => drop(shares.read()),
        _ => {
            let own = Shared::new(Lock::new(0)).expect("room");
            let mut guard = own.lock().expect("it is free");
            condition.wait(&mut guard).expect("nobody dies");
        }
    }
}

/// Waits for all of them together, and for a descriptor if there is one.
fn wait_for_all(connections: Vec<Connection<u64, u64>>, never: Never, has_descriptor: bool) {
    let (queue, event, ..) = never;
    let queues = [(); 3].map(|()| Queue::<u64>::new().expect("room"));
    let (reader, _writer) = std::io::pipe().expect("descriptors");
    let (far, reader) = (Instant::now() + 1_000 * LONG, reader.as_fd());
    let mut things: Vec<&dyn Waitable> = vec![&queue, &event, &far];
    things.extend(
        connections
            .iter()
            .map(|connection| connection as &dyn Waitable),
    );
    things.extend(queues.iter().map(|queue| queue as &dyn Waitable));
    if has_descriptor {
        things.push(&reader);
    }
    drop(Select::new().ready(&things));
}

fn receive(mut connection: Connection<u64, u64>) {
    drop(connection.recv());
}

/// Each thread of a process: its state, and the time that it has run.
fn threads(pid: u32) -> Vec<(char, Duration)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    let read = |path: PathBuf| fs::read_to_string(path).expect("the kernel counts");
    tasks
        .flatten()
        .map(|task| {
            let stat = read(task.path().join("stat"));
            let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
            let ran = read(task.path().join("schedstat"));
            let ran = ran.split(' ').next().and_then(|ran| ran.parse().ok());
            let state = fields.chars().next().expect("a state");
            (state, Duration::from_nanos(ran.expect("nanoseconds")))
        })
        .collect()
}

#[test]
fn processes_that_wait_take_no_time_of_the_processor() {
    let lock = Shared::new(Lock::new(0)).expect("room");
    let shares = Shared::new(RwLock::new(0)).expect("room");
    let never: Never = (
        Queue::bounded(1).expect("room"),
        Shared::new(Event::new()).expect("room"),
        Shared::new(Semaphore::new(0)).expect("room"),
        Shared::new(Barrier::new(2).expect("two")).expect("room"),
        lock.clone(),
        shares.clone(),
        Shared::new(Condition::new()).expect("room"),
    );
    let _held = lock.lock().expect("it is free");
    let _owned = shares.write().expect("it is free");
    let (_here, there) = Pipe::duplex().expect("room");
    let mut waiting: Vec<Process<()>> = (0..7)
        .map(|number| Process::spawn(wait_for, (number, never.clone())).expect("a child"))
        .collect();
    waiting.push(Process::spawn(receive, (there,)).expect("a child"));
    let mut ends = Vec::new();
    for has_descriptor in [false, true] {
        let [one, two] = [(); 2].map(|()| Pipe::duplex::<u64, u64>().expect("room"));
        ends.extend([one.0, two.0]);
        let arguments = (vec![one.1, two.1], never.clone(), has_descriptor);
        waiting.push(Process::spawn(wait_for_all, arguments).expect("a child"));
    }
    let is_asleep =
        |process: &Process<()>| threads(process.id()).iter().all(|(state, _)| *state == 'S');
    until(|| waiting.iter().all(is_asleep));
    let time = |waiting: &[Process<()>]| -> Duration {
        let all = waiting.iter().flat_map(|process| threads(process.id()));
        all.map(|(_, ran)| ran).sum()
    };
    let before = time(&waiting);
    // Nobody returns, so this takes all of the while.
    let returned = waiting[0].join_timeout(a_while());
    assert!(matches!(returned, Ok(None)), "{returned:?}");
    let ran = time(&waiting) - before;
    // A net is under the waits of some kernels: one look a second.
    println!(
        "{} waiters ran for {ran:?} in {:?}",
        waiting.len(),
        a_while()
    );
    assert!(ran <= MOST, "{ran:?} for {} waiters", waiting.len());
    for process in &waiting {
        assert!(process.is_alive());
        process.kill().expect("ours");
    }
}
