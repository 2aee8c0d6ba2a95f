//! Moving small messages: one way as fast as it goes, and there and back.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::process::Command;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::{Duration, Instant};

use manyhands_channel::ring::{Consumer, Producer, ring};
use manyhands_process::Process;
use manyhands_shm::Shared;

use super::pipes;
use super::queues::{Line, await_some, pin};
use crate::{Broken, Contender, Role, Scenario};

/// Bytes in a ring; of messages with their heads, about as many as the channel has places.
const CAPACITY: usize = 64 << 10;
const PLACES: usize = 1024;

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "message one way, 8 B x 500k, 2 threads",
            count: 500_000,
            rounds: 15,
            contenders: vec![
                one_way("ring", Role::Ours, make_ring),
                one_way("Pipe of values", Role::Ours, pipes::make_pipe),
                one_way("crossbeam bounded", Role::Peer, make_crossbeam),
                one_way("pipe", Role::Peer, make_pipe),
            ],
            limit: None,
        },
        Scenario {
            name: "message there and back, 8 B x 20k, 2 threads",
            count: 20_000,
            rounds: 15,
            contenders: vec![
                there_and_back("ring", Role::Ours, make_ring),
                there_and_back("crossbeam bounded", Role::Peer, make_crossbeam),
                there_and_back("pipe", Role::Peer, make_pipe),
            ],
            limit: None,
        },
        Scenario {
            name: "message there and back, 8 B x 20k, 2 processes, each on its core",
            count: 20_000,
            rounds: 15,
            contenders: vec![by_process("ring", true), by_line(), by_cat()],
            limit: None,
        },
    ]
}

/// The end that numbers go into.
pub(crate) trait Put: Send {
    fn put(&mut self, number: u64);
}

/// The end that they come out of, in order.
pub(crate) trait Receive: Send {
    fn next(&mut self) -> u64;
}

impl Put for Producer {
    #[inline]
    fn put(&mut self, number: u64) {
        self.send(&number.to_ne_bytes())
            .expect("the other end lives");
    }
}

impl Receive for Consumer {
    #[inline]
    fn next(&mut self) -> u64 {
        let read = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes);
        let number = self.recv_with(read).expect("the other end lives");
        number.expect("eight bytes were sent")
    }
}

impl Put for crossbeam_channel::Sender<u64> {
    fn put(&mut self, number: u64) {
        self.send(number).expect("the other end lives");
    }
}

impl Receive for crossbeam_channel::Receiver<u64> {
    fn next(&mut self) -> u64 {
        self.recv().expect("the other end lives")
    }
}

impl Put for PipeWriter {
    fn put(&mut self, number: u64) {
        self.write_all(&number.to_ne_bytes())
            .expect("the other end lives");
    }
}

impl Receive for PipeReader {
    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.read_exact(&mut bytes).expect("the other end lives");
        u64::from_ne_bytes(bytes)
    }
}

fn make_ring() -> (Producer, Consumer) {
    ring(CAPACITY).expect("the arena has room for a ring")
}

pub(crate) fn make_crossbeam() -> (
    crossbeam_channel::Sender<u64>,
    crossbeam_channel::Receiver<u64>,
) {
    crossbeam_channel::bounded(PLACES)
}

fn make_pipe() -> (PipeWriter, PipeReader) {
    let (reader, writer) = std::io::pipe().expect("there are descriptors left");
    (writer, reader)
}

/// One thread puts 0, 1, 2, ...; the other must take just that.
pub(crate) fn one_way<P, T>(name: &'static str, role: Role, make: fn() -> (P, T)) -> Contender
where
    P: Put + 'static,
    T: Receive + 'static,
{
    let (mut put, mut take) = make();
    Contender::new(name, role, move |count| {
        let start = Instant::now();
        let in_order = thread::scope(|scope| {
            scope.spawn(|| (0..count).for_each(|number| put.put(number)));
            (0..count).all(|number| take.next() == number)
        });
        judged(start.elapsed(), in_order)
    })
}

/// One thread puts and waits for the answer, which must be its own number and one.
fn there_and_back<P, T>(name: &'static str, role: Role, make: fn() -> (P, T)) -> Contender
where
    P: Put + 'static,
    T: Receive + 'static,
{
    let (mut put_there, mut take_there) = make();
    let (mut put_back, mut take_back) = make();
    Contender::new(name, role, move |count| {
        let start = Instant::now();
        let answered = thread::scope(|scope| {
            scope.spawn(|| (0..count).for_each(|_| put_back.put(take_there.next() + 1)));
            (0..count).all(|number| {
                put_there.put(number);
                take_back.next() == number + 1
            })
        });
        judged(start.elapsed(), answered)
    })
}

/// The same with the other end in a process of its own; each on its core, or where the system likes.
pub(crate) fn by_process(name: &'static str, is_apart: bool) -> Contender {
    Contender::new(name, Role::Ours, move |count| {
        let (mut put, take_there) = make_ring();
        let (put_back, mut take) = make_ring();
        let arguments = (take_there, put_back, count + 1, is_apart);
        let mut process = Process::spawn(answer, arguments).map_err(|error| error.to_string())?;
        let took = elsewhere(is_apart, || {
            time_asking(count, |number| {
                put.put(number);
                take.next() == number + 1
            })
        });
        process.join().map_err(|error| error.to_string())?;
        took
    })
}

fn answer(mut take: Consumer, mut put: Producer, count: u64, is_apart: bool) {
    if is_apart {
        pin(1);
    }
    (0..count).for_each(|_| put.put(take.next() + 1));
}

/// A cache line each way: what the machine allows.
fn by_line() -> Contender {
    Contender::new("a cache line, looking", Role::Peer, |count| {
        let lines = [Line::zero(), Line::zero()];
        let lines = Shared::new(lines).map_err(|error| error.to_string())?;
        let arguments = (lines.clone(), count + 1);
        let mut process = Process::spawn(reflect, arguments).map_err(|error| error.to_string())?;
        let took = elsewhere(true, || {
            let [there, back] = &*lines;
            time_asking(count, |number| {
                // Release: partner is the Acquire of the other process.
                there.0.store(number + 1, Release);
                await_some(|| (back.0.load(Acquire) == number + 1).then_some(true))
            })
        });
        process.join().map_err(|error| error.to_string())?;
        took
    })
}

fn reflect(lines: Shared<[Line; 2]>, count: u64) {
    pin(1);
    let [there, back] = &*lines;
    for number in 1..=count {
        // Acquire and Release: partners are those of `by_line`.
        await_some(|| (there.0.load(Acquire) == number).then_some(()));
        back.0.store(number, Release);
    }
}

/// Two pipes, and a process that only copies from one to the other.
fn by_cat() -> Contender {
    Contender::new("pipe, to `cat`", Role::Peer, |count| {
        let (there, mut put) = std::io::pipe().map_err(|error| error.to_string())?;
        let (mut take, back) = std::io::pipe().map_err(|error| error.to_string())?;
        let mut command = Command::new("cat");
        command.stdin(there).stdout(back);
        let mut cat = thread::scope(|scope| {
            // It runs where the thread does that started it.
            let start = || {
                pin(1);
                command.spawn().map_err(|error| error.to_string())
            };
            scope.spawn(start).join().expect("no panic")
        })?;
        // It holds our copies of the far ends.
        drop(command);
        let took = elsewhere(true, || {
            time_asking(count, |number| {
                put.put(number);
                take.next() == number
            })
        });
        drop(put);
        cat.wait().map_err(|error| error.to_string())?;
        took
    })
}

/// Runs `f` in a thread of its own on the first core, if that is wished: this thread stays as it is.
fn elsewhere<R: Send>(is_apart: bool, f: impl FnOnce() -> R + Send) -> R {
    let run = || {
        if is_apart {
            pin(0);
        }
        f()
    };
    thread::scope(|scope| scope.spawn(run).join().expect("no panic"))
}

/// The time of so many questions, behind a first one for whoever has to come.
fn time_asking(count: u64, mut ask: impl FnMut(u64) -> bool) -> Result<Duration, Broken> {
    let mut answered = ask(0);
    let start = Instant::now();
    answered &= (1..=count).all(&mut ask);
    judged(start.elapsed(), answered)
}

pub(crate) fn judged(took: Duration, is_right: bool) -> Result<Duration, Broken> {
    if is_right {
        Ok(took)
    } else {
        Err("did not deliver every message in order".to_owned())
    }
}
