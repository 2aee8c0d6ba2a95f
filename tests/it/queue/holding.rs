//! What messages hold, when those who put them are killed.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use manyhands_channel::{GetError, Pipe, Queue, RecvError, Sender};
use manyhands_process::Process;
use manyhands_shm::{Shared, arena};
use manyhands_tests::storm::Random;

use crate::{LONG, until};

fn put_and_wait(queue: Queue<Shared<AtomicU64>>, more: Queue<u64>) -> u64 {
    let value = Shared::new(AtomicU64::new(41)).expect("room");
    queue.put(&value).expect("it is open");
    more.get().expect("it is told to go on")
}

#[test]
fn handle_that_a_child_puts_arrives_while_it_lives() {
    let (queue, more) = (Queue::new().expect("room"), Queue::new().expect("room"));
    let arguments = (queue.clone(), more.clone());
    let mut child = Process::spawn(put_and_wait, arguments).expect("a child");
    let value = queue.get_timeout(LONG).expect("a value");
    more.put(&3).expect("it is open");
    assert_eq!(child.join().expect("it returns"), 3);
    assert_eq!(value.load(Relaxed), 41);
}

#[test]
fn handle_that_a_killed_child_had_put_arrives() {
    let (queue, more) = (Queue::new().expect("room"), Queue::new().expect("room"));
    let arguments = (queue.clone(), more.clone());
    let mut child = Process::spawn(put_and_wait, arguments).expect("a child");
    until(|| queue.len() == 1);
    child.kill().expect("it lives");
    assert!(child.join().is_err());
    // What the dead one had goes; the message holds the value.
    until(is_reaped);
    let mut value = queue.get().expect("a value");
    assert_eq!(value.load(Relaxed), 41);
    assert!(Shared::get_mut(&mut value).is_some(), "nobody else has it");
}

fn send_and_wait(mut sender: Sender<Shared<AtomicU64>>, more: Queue<u64>) {
    let value = Shared::new(AtomicU64::new(43)).expect("room");
    sender.send(&value).expect("somebody receives");
    drop(value);
    drop(more.get());
}

#[test]
fn handle_that_a_killed_child_had_sent_through_a_pipe_arrives() {
    let (sender, mut receiver) = Pipe::simplex().expect("room");
    let arguments = (sender, Queue::new().expect("room"));
    let mut child = Process::spawn(send_and_wait, arguments).expect("a child");
    assert!(receiver.poll_timeout(LONG).expect("it lives"));
    child.kill().expect("it lives");
    assert!(child.join().is_err());
    until(is_reaped);
    let mut value = receiver.recv().expect("a value");
    assert_eq!(value.load(Relaxed), 43);
    assert!(matches!(receiver.recv(), Err(RecvError::PeerDied { .. })));
    drop(receiver);
    assert!(Shared::get_mut(&mut value).is_some(), "nobody else has it");
}

#[test]
fn handle_that_was_received_through_a_pipe_is_let_go() {
    let (mut sender, mut receiver) = Pipe::simplex().expect("room");
    let value = Shared::new(AtomicU64::new(1)).expect("room");
    sender.send(&value).expect("somebody receives");
    drop(value);
    let mut value: Shared<AtomicU64> = receiver.recv().expect("a value");
    assert!(
        Shared::get_mut(&mut value).is_none(),
        "the sender has it still"
    );
    let other = Shared::new(AtomicU64::new(2)).expect("room");
    sender.send(&other).expect("somebody receives");
    assert!(Shared::get_mut(&mut value).is_some(), "it has looked");
}

fn put_an_end_and_wait(queue: Queue<Sender<u8>>, more: Queue<u64>) {
    let (sender, _receiver) = Pipe::simplex().expect("room");
    queue.put(&sender).expect("it is open");
    drop(more.get());
}

#[test]
fn end_of_a_pipe_whose_child_was_killed_is_told_as_gone_and_the_queue_goes_on() {
    let (queue, more) = (Queue::new().expect("room"), Queue::new().expect("room"));
    let arguments = (queue.clone(), more.clone());
    let mut child = Process::spawn(put_an_end_and_wait, arguments).expect("a child");
    until(|| queue.len() == 1);
    child.kill().expect("it lives");
    assert!(child.join().is_err());
    // The dead one's blocks go when somebody has noticed; until then the end is there.
    match queue.get() {
        Ok(mut sender) => assert!(sender.send(&1).is_err(), "the other end was dropped"),
        Err(error) => assert!(matches!(error, GetError::Undecodable(_)), "{error}"),
    }
    let (sender, mut receiver) = Pipe::simplex().expect("room");
    queue.put(&sender).expect("it is open");
    let sent = queue.get().expect("an end").send(&7);
    assert_eq!((sent.ok(), receiver.recv().ok()), (Some(()), Some(7)));
}

fn put_in_place_and_wait(queue: Queue<Vec<u8>>, more: Queue<u64>) {
    queue.put(&vec![1; 3 << 20]).expect("it is open");
    let mut slot = queue.reserve(5 << 20).expect("room");
    slot.fill(2);
    assert!(slot.commit().is_ok());
    let _never_committed = queue.reserve(7 << 20);
    drop(more.get());
}

fn drop_and_wait(_queue: Queue<Vec<u8>>, more: Queue<u64>) {
    drop(more.get());
}

/// How many blocks of this size lie in queues. No other test has any that are so large.
fn deposited(block_size: u64) -> u64 {
    let stats = arena::stats().expect("an arena");
    let mut classes = stats.classes.iter();
    let class = classes.find(|class| class.block_size == block_size);
    class.map_or(0, |class| class.deposited)
}

/// Takes back what the dead had; whether nothing of them is left.
fn is_reaped() -> bool {
    let arena = arena::family().expect("an arena");
    arena.reap_dead();
    !arena.stats().holders.iter().any(|holder| !holder.is_alive)
}

#[test]
fn large_values_outlive_whoever_put_them_and_are_freed_with_their_queue() {
    let more = Queue::new().expect("room");
    let queue = Queue::<Vec<u8>>::new().expect("room");
    let arguments = (queue.clone(), more.clone());
    let mut child = Process::spawn(put_in_place_and_wait, arguments).expect("a child");
    until(|| queue.len() == 2);
    child.kill().expect("it lives");
    assert!(child.join().is_err());
    until(is_reaped);
    assert_eq!((deposited(4 << 20), deposited(8 << 20)), (1, 1));
    assert_eq!(queue.get().expect("it is there"), vec![1; 3 << 20]);
    assert_eq!(*queue.get_ref().expect("it is there"), vec![2; 5 << 20]);
    assert_eq!((deposited(4 << 20), deposited(8 << 20)), (0, 0));

    // Whoever has it last may be killed, too.
    queue.put(&vec![3; 9 << 20]).expect("it is open");
    let mut child = Process::spawn(drop_and_wait, (queue, more)).expect("a child");
    assert_eq!(deposited(16 << 20), 1);
    child.kill().expect("it lives");
    assert!(child.join().is_err());
    until(|| is_reaped() && deposited(16 << 20) == 0);
}

/// So many numbers take a block of a size that no other test uses.
const NUMBERS: usize = 20_000;
const THEIR_BLOCK: u64 = 256 << 10;

type Numbers = Shared<[AtomicU64]>;

fn numbers(number: u64) -> Numbers {
    Numbers::from_fn(NUMBERS, |_| AtomicU64::new(number)).expect("room")
}

/// The number, if the value is whole.
fn number(numbers: &Numbers) -> u64 {
    let first = numbers[0].load(Relaxed);
    assert!(numbers.iter().all(|number| number.load(Relaxed) == first));
    first
}

fn put_for_ever(queue: Queue<Numbers>) {
    for number in 0.. {
        queue.put(&numbers(number)).expect("it is open");
    }
}

fn send_for_ever(mut sender: Sender<Numbers>) {
    for number in 0.. {
        sender.send(&numbers(number)).expect("somebody receives");
    }
}

/// Kills who puts or sends after some values, and some moments.
fn kill_soon(child: &mut Process<()>, random: &mut Random, mut take: impl FnMut()) {
    (0..random.below(4)).for_each(|_| take());
    (0..random.below(20_000)).for_each(|_| std::hint::spin_loop());
    child.kill().expect("it lives");
    assert!(child.join().is_err());
}

fn no_numbers_are_left() -> bool {
    let stats = arena::stats().expect("an arena");
    let mut classes = stats.classes.iter();
    let class = classes.find(|class| class.block_size == THEIR_BLOCK);
    class.is_none_or(|class| class.owned + class.shared + class.deposited == 0)
}

/// Whenever the sender is killed: each value comes whole, in its order, and what did not come is freed.
#[test]
fn handles_of_those_who_are_killed_at_any_moment_arrive_or_leave_nothing() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let queue = Queue::bounded(3).expect("room");
    for _ in 0..60 {
        let mut next = 0;
        let mut expect = |value: Numbers| {
            assert_eq!(number(&value), next);
            next += 1;
        };
        let mut child = Process::spawn(put_for_ever, (queue.clone(),)).expect("a child");
        kill_soon(&mut child, &mut random, || {
            expect(queue.get_timeout(LONG).expect("a value"));
        });
        until(is_reaped);
        loop {
            match queue.try_get() {
                Ok(value) => expect(value),
                Err(GetError::Empty) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    for _ in 0..60 {
        let mut next = 0;
        let mut expect = |value: Numbers| {
            assert_eq!(number(&value), next);
            next += 1;
        };
        let (sender, mut receiver) = Pipe::simplex_with_capacity(256).expect("room");
        let mut child = Process::spawn(send_for_ever, (sender,)).expect("a child");
        kill_soon(&mut child, &mut random, || {
            expect(receiver.recv_timeout(LONG).expect("a value"));
        });
        until(is_reaped);
        loop {
            match receiver.recv() {
                Ok(value) => expect(value),
                Err(RecvError::PeerDied { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    until(|| is_reaped() && no_numbers_are_left());
}
