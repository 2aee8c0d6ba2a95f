//! Queues: many that put and many that get, in threads and in processes.
//!
//! The measure is a bare ring in shared memory that nobody may die beside: one word for each cell, or
//! none, no sleeping, and whoever waits looks and yields.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use manyhands_channel::Queue;
use manyhands_process::Process;
use manyhands_shm::{Shareable, Shared};
use manyhands_sync::{Barrier, Broken as BrokenBarrier};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::foreign::{IpcChannel, ManyShaq, Shaq};
#[cfg(feature = "peers")]
use super::iceoryx::Iceoryx;
use super::rings;
use super::streams::{Numbers, Pipe, Socket};
use crate::{Contender, Role, Scenario};

/// Places in a bare ring, and the bound of the queues; a power of two.
pub(super) const PLACES: usize = 1024;

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let scenario = |name, count, contenders| Scenario {
        name,
        count,
        rounds: 11,
        contenders,
        limit: None,
    };
    vec![
        scenario(
            "queue, put and get by turns, 8 B x 500k, 1 thread",
            500_000,
            vec![
                in_turn("Queue", Role::Ours, make_queue),
                in_turn("crossbeam bounded", Role::Peer, rings::make_crossbeam),
            ],
        ),
        scenario(
            "queue, one to one, 8 B x 200k, 2 threads",
            200_000,
            vec![
                rings::one_way("Queue", Role::Ours, make_queue),
                rings::one_way("crossbeam bounded", Role::Peer, rings::make_crossbeam),
            ],
        ),
        scenario(
            "queue, one to one, 8 B x 200k, 2 processes, each on its core",
            200_000,
            vec![
                between("Queue", Role::Ours, 1, queue),
                between("Queue, 50 at once", Role::Ours, 1, || Many(queue())),
                between("bare ring of one and one", Role::Peer, 1, Narrow::make),
                between("pipe", Role::Peer, 1, || Numbers(Pipe::make())),
                between("unix socket", Role::Peer, 1, || Numbers(Socket::make())),
                between("shaq, spinning", Role::Peer, 1, Shaq::make),
                between("shaq, 50 at once", Role::Peer, 1, || ManyShaq(Shaq::make())),
                between("ipc-channel", Role::Peer, 1, IpcChannel::<u64>::make),
                #[cfg(feature = "peers")]
                between(
                    "iceoryx2, looking and yielding",
                    Role::Peer,
                    1,
                    Iceoryx::<u64>::make,
                ),
            ],
        ),
        scenario(
            "queue, two to two, 8 B x 200k, 4 processes on 2 cores",
            200_000,
            vec![
                between("Queue", Role::Ours, 2, queue),
                between("Queue, 50 at once", Role::Ours, 2, || Many(queue())),
                between("bare Vyukov ring", Role::Peer, 2, Vyukov::make),
                between("pipe", Role::Peer, 2, || Numbers(Pipe::make())),
            ],
        ),
    ]
}

/// Ours for the row with CPython's `multiprocessing.Queue`.
pub(crate) fn by_processes() -> Contender {
    between("Queue", Role::Ours, 1, queue)
}

impl rings::Put for Queue<u64> {
    fn put(&mut self, number: u64) {
        Queue::put(self, &number).expect("it is open");
    }
}

impl rings::Receive for Queue<u64> {
    fn next(&mut self) -> u64 {
        self.get().expect("it is open")
    }
}

fn make_queue() -> (Queue<u64>, Queue<u64>) {
    let queue = queue();
    (queue.clone(), queue)
}

fn queue() -> Queue<u64> {
    Queue::bounded(PLACES).expect("the arena has room for a queue")
}

/// One thread puts a number and gets it back.
fn in_turn<P, T>(name: &'static str, role: Role, make: fn() -> (P, T)) -> Contender
where
    P: rings::Put + 'static,
    T: rings::Receive + 'static,
{
    let (mut put, mut take) = make();
    Contender::new(name, role, move |count| {
        let start = Instant::now();
        let is_right = (0..count).all(|number| {
            put.put(number);
            take.next() == number
        });
        rings::judged(start.elapsed(), is_right)
    })
}

/// What numbers go through from process to process.
pub(super) trait Way: Clone + Serialize + DeserializeOwned + 'static {
    /// The end that numbers go into; opened when all consumers have theirs.
    fn entry(&self) -> impl FnMut(u64);
    /// The end that they come out of, so many.
    fn exit(&self, count: u64) -> impl FnMut() -> u64;
}

/// As many processes that put as there are that get, the ones on one core, the others on another.
pub(super) fn between<W: Way>(
    name: &'static str,
    role: Role,
    pairs: u32,
    make: fn() -> W,
) -> Contender {
    Contender::new(name, role, move |count| {
        let way = make();
        let each = count / u64::from(pairs);
        let start = Barrier::new(2 * pairs + 1).map_err(|error| error.to_string())?;
        let start = Shared::new(start).map_err(|error| error.to_string())?;
        let mut putting = Vec::new();
        let mut getting = Vec::new();
        for pair in 0..u64::from(pairs) {
            let range = (pair * each, (pair + 1) * each);
            let arguments = (way.clone(), start.clone(), range);
            putting.push(Process::spawn(produce::<W>, arguments).map_err(|e| e.to_string())?);
            let arguments = (way.clone(), start.clone(), each);
            getting.push(Process::spawn(consume::<W>, arguments).map_err(|e| e.to_string())?);
        }
        let Ok(took) = time_between(&start) else {
            let mut said = Vec::new();
            putting.iter_mut().for_each(|who| said.extend(end(who)));
            getting.iter_mut().for_each(|who| said.extend(end(who)));
            return Err(said.join("; "));
        };
        let mut sum = 0;
        for process in &mut putting {
            process.join().map_err(|error| error.to_string())?;
        }
        for process in &mut getting {
            sum += process.join().map_err(|error| error.to_string())?;
        }
        let all = each * u64::from(pairs);
        rings::judged(took, sum == all * (all - 1) / 2)
    })
}

/// How long those who put and get may take to come to the next meeting.
const LIMIT: Duration = Duration::from_secs(30);

/// The time from the second meeting to the third.
fn time_between(start: &Barrier) -> Result<Duration, BrokenBarrier> {
    start.wait_timeout(LIMIT)?;
    start.wait_timeout(LIMIT)?;
    let begin = Instant::now();
    start.wait_timeout(LIMIT)?;
    Ok(begin.elapsed())
}

/// What a process has to say that did not do its part; one that waits for it is killed.
fn end<R: DeserializeOwned + 'static>(process: &mut Process<R>) -> Option<String> {
    match process.join_timeout(Duration::from_secs(1)) {
        Ok(Some(_)) => None,
        Ok(None) => {
            let killed = process.kill();
            Some(format!("one waits ({killed:?})"))
        }
        Err(error) => Some(error.to_string()),
    }
}

fn produce<W: Way>(way: W, start: Shared<Barrier>, (from, to): (u64, u64)) {
    pin(0);
    meet(&start);
    let mut put = way.entry();
    meet(&start);
    (from..to).for_each(&mut put);
    meet(&start);
}

/// The sum of what it got.
fn consume<W: Way>(way: W, start: Shared<Barrier>, count: u64) -> u64 {
    pin(1);
    let mut take = way.exit(count);
    meet(&start);
    meet(&start);
    let sum = (0..count).map(|_| take()).sum();
    meet(&start);
    sum
}

fn meet(barrier: &Barrier) {
    barrier.wait().expect("nobody dies here");
}

/// Keeps this thread on the core of this number among those it may use.
pub(super) fn pin(number: usize) {
    let allowed = sched_getaffinity(None).expect("a thread may ask where it may run");
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .collect();
    let mut chosen = CpuSet::new();
    chosen.set(cores[number % cores.len()]);
    sched_setaffinity(None, &chosen).expect("a thread may restrict itself");
}

impl Way for Queue<u64> {
    fn entry(&self) -> impl FnMut(u64) {
        |number| self.put(&number).expect("it is open")
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        || self.get().expect("it is open")
    }
}

/// A queue that numbers go through in batches.
#[derive(Clone, Serialize, Deserialize)]
struct Many(Queue<u64>);

/// How many at once; divides what each process puts.
pub(super) const AT_ONCE: usize = 50;

impl Way for Many {
    fn entry(&self) -> impl FnMut(u64) {
        let mut batch = Vec::with_capacity(AT_ONCE);
        move |number| {
            batch.push(number);
            if batch.len() == AT_ONCE {
                self.0.put_many(&batch).expect("it is open");
                batch.clear();
            }
        }
    }

    fn exit(&self, count: u64) -> impl FnMut() -> u64 {
        let (mut left, mut batch) = (count as usize, Vec::new().into_iter());
        move || {
            if let Some(number) = batch.next() {
                return number;
            }
            let some = self.0.get_many(left.min(AT_ONCE)).expect("it is open");
            left -= some.len();
            batch = some.into_iter();
            batch.next().expect("at least one")
        }
    }
}

/// Looks until `look` sees something, and lets others run now and then.
pub(super) fn await_some<R>(mut look: impl FnMut() -> Option<R>) -> R {
    loop {
        for _ in 0..128 {
            if let Some(seen) = look() {
                return seen;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}

/// Alone on its line, and on that which the processor fetches with it.
#[derive(Shareable)]
#[repr(C, align(128))]
pub(super) struct Line(pub(super) AtomicU64);

impl Line {
    pub(super) fn zero() -> Self {
        Self(AtomicU64::new(0))
    }
}

/// A ring for one and one, each of which remembers where it saw the other one.
#[derive(Shareable)]
pub(super) struct Narrow {
    tail: Line,
    head: Line,
    cells: [AtomicU64; PLACES],
}

impl Narrow {
    pub(super) fn make() -> Shared<Self> {
        let ring = Self {
            tail: Line::zero(),
            head: Line::zero(),
            cells: [const { AtomicU64::new(0) }; PLACES],
        };
        Shared::new(ring).expect("the arena has room for a ring")
    }
}

impl Way for Shared<Narrow> {
    fn entry(&self) -> impl FnMut(u64) {
        let (mut tail, mut seen_head) = (0, 0);
        move |number| {
            if tail - seen_head == PLACES as u64 {
                seen_head = await_some(|| {
                    // Acquire: partner is the Release of the exit.
                    let head = self.head.0.load(Acquire);
                    (tail - head < PLACES as u64).then_some(head)
                });
            }
            // Relaxed: published by the store below.
            self.cells[tail as usize % PLACES].store(number, Relaxed);
            tail += 1;
            // Release: partner is the Acquire of the exit.
            self.tail.0.store(tail, Release);
        }
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        let (mut head, mut seen_tail) = (0, 0);
        move || {
            if head == seen_tail {
                seen_tail = await_some(|| {
                    // Acquire: partner is the Release of the entry.
                    let tail = self.tail.0.load(Acquire);
                    (tail != head).then_some(tail)
                });
            }
            // Relaxed: published before the tail that was seen.
            let number = self.cells[head as usize % PLACES].load(Relaxed);
            head += 1;
            // Release: partner is the Acquire of the entry.
            self.head.0.store(head, Release);
            number
        }
    }
}

/// A ring for many and many: the sequence of a cell tells whose turn it is there. After Vyukov,
/// <https://www.1024cores.net/home/lock-free-algorithms/queues/bounded-mpmc-queue>.
#[derive(Shareable)]
struct Vyukov {
    tail: Line,
    head: Line,
    cells: [VyukovCell; PLACES],
}

/// The sequence is the position that may be written here, or one more when it may be read.
#[derive(Shareable)]
#[repr(C)]
struct VyukovCell {
    sequence: AtomicU64,
    value: AtomicU64,
}

impl Vyukov {
    fn make() -> Shared<Self> {
        let cell = |number| VyukovCell {
            sequence: AtomicU64::new(number as u64),
            value: AtomicU64::new(0),
        };
        let ring = Self {
            tail: Line::zero(),
            head: Line::zero(),
            cells: std::array::from_fn(cell),
        };
        Shared::new(ring).expect("the arena has room for a ring")
    }

    /// Claims the next position of a side whose cell has come to `ahead` of it.
    fn claim(&self, side: &AtomicU64, ahead: u64) -> (u64, &VyukovCell) {
        await_some(|| {
            // Relaxed: a position only; the cell's sequence orders what lies in it.
            let position = side.load(Relaxed);
            let cell = &self.cells[position as usize % PLACES];
            // Acquire: partner is the Release of the other side.
            let is_there = cell.sequence.load(Acquire) == position + ahead;
            let claim = || side.compare_exchange_weak(position, position + 1, Relaxed, Relaxed);
            (is_there && claim().is_ok()).then_some((position, cell))
        })
    }
}

impl Way for Shared<Vyukov> {
    fn entry(&self) -> impl FnMut(u64) {
        |number| {
            let (position, cell) = self.claim(&self.tail.0, 0);
            // Relaxed: published by the store below.
            cell.value.store(number, Relaxed);
            // Release: partner is the Acquire of `claim`.
            cell.sequence.store(position + 1, Release);
        }
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        || {
            let (position, cell) = self.claim(&self.head.0, 1);
            // Relaxed: published before the sequence that was seen.
            let number = cell.value.load(Relaxed);
            // Release: partner is the Acquire of `claim`.
            cell.sequence.store(position + PLACES as u64, Release);
            number
        }
    }
}
