//! Waiting for many things of all kinds: connections, queues, events, sockets, processes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use manyhands_channel::{
    GetError, Pipe, Pollable, Queue, Receiver, RecvError, Select, Sender, Waitable, try_wait, wait,
    wait_timeout,
};
use manyhands_process::Process;
use manyhands_shm::Shared;
use manyhands_sync::Event;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};

use super::{LONG, SOON, until};

/// A pause, when senders are slow.
pub(super) fn pause(is_slow: bool) {
    if is_slow {
        assert_eq!(wait_timeout(&[], SOON).expect("nothing"), []);
    }
}

fn send_ten((number, is_slow): (u32, bool), mut sender: Sender<(u32, u32)>) {
    for count in 0..10 {
        pause(is_slow);
        sender
            .send_timeout(&(number, count), LONG)
            .expect("it is read");
    }
}

#[test]
fn wait_01_all_messages_of_four_children_come_and_then_their_ends() {
    for is_slow in [false, true] {
        let mut children = Vec::new();
        let mut receivers: Vec<Receiver<(u32, u32)>> = Vec::new();
        for number in 0..4 {
            let (sender, receiver) = Pipe::simplex().expect("room");
            let child = Process::spawn(send_ten, ((number, is_slow), sender));
            children.push(child.expect("a child"));
            receivers.push(receiver);
        }
        let mut messages = Vec::new();
        while !receivers.is_empty() {
            let things: Vec<&dyn Waitable> = receivers.iter().map(|one| one as _).collect();
            let ready = wait_timeout(&things, LONG).expect("words");
            assert!(!ready.is_empty(), "nothing came");
            for place in ready.into_iter().rev() {
                match receivers[place].recv() {
                    Ok(message) => messages.push(message),
                    Err(RecvError::Closed) => drop(receivers.remove(place)),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        messages.sort_unstable();
        let expected = (0..4).flat_map(|number| (0..10).map(move |count| (number, count)));
        assert_eq!(messages, expected.collect::<Vec<_>>());
    }
}

fn write_ten(address: SocketAddr, is_slow: bool) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    for count in 0..10_u8 {
        pause(is_slow);
        stream.write_all(&[count]).expect("it is read");
    }
}

#[test]
fn wait_02_sockets_are_waited_for_by_their_descriptors() {
    for is_slow in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let children = [(); 4].map(|()| Process::spawn(write_ten, (address, is_slow)));
        let mut streams: Vec<TcpStream> = Vec::new();
        let (mut accepted, mut bytes) = (0, Vec::new());
        while accepted < 4 || !streams.is_empty() {
            let door = listener.as_fd();
            let ends: Vec<_> = streams.iter().map(TcpStream::as_fd).collect();
            let mut things: Vec<&dyn Waitable> = vec![&door];
            things.extend(ends.iter().map(|end| end as &dyn Waitable));
            let ready = wait_timeout(&things, LONG).expect("a poll");
            assert!(!ready.is_empty(), "nothing came");
            for place in ready.into_iter().rev() {
                if place == 0 {
                    streams.push(listener.accept().expect("somebody").0);
                    accepted += 1;
                    continue;
                }
                let mut buffer = [0; 4];
                match streams[place - 1].read(&mut buffer).expect("it is there") {
                    0 => drop(streams.remove(place - 1)),
                    read => bytes.extend_from_slice(&buffer[..read]),
                }
            }
        }
        bytes.sort_unstable();
        let expected = (0..10_u8).flat_map(|count| [count; 4]);
        assert_eq!(bytes, expected.collect::<Vec<_>>());
        for child in children {
            child.expect("a child").join().expect("it returns");
        }
    }
}

fn return_when_told(go: Shared<Event>) {
    go.wait();
}

#[test]
fn wait_04_sentinels_mix_with_connections_and_all_that_is_ready_is_told() {
    let go = Shared::new(Event::new()).expect("room");
    let mut child = Process::spawn(return_when_told, (go.clone(),)).expect("a child");
    let [(mut a, b), (mut c, d)] = [(); 2].map(|()| Pipe::duplex::<u8, u8>().expect("room"));
    let expected = [b, d];
    let [b, d] = &expected;
    {
        let sentinel = child.sentinel();
        let things: [&dyn Waitable; 3] = [b, &sentinel, d];
        let start = Instant::now();
        assert_eq!(wait_timeout(&things, SOON).expect("a poll"), []);
        assert!(start.elapsed() >= SOON);
        a.send(&1).expect("room");
        assert_eq!(wait_timeout(&things, LONG).expect("a poll"), [0]);
        go.set();
        until(|| wait_timeout(&things, LONG).expect("a poll") == [0, 1]);
        c.send(&1).expect("room");
        assert_eq!(wait_timeout(&things, LONG).expect("a poll"), [0, 1, 2]);
    }
    child.join().expect("it returns");
}

/// Sends and puts until it is killed.
fn send_for_ever(mut sender: Sender<u64>, queue: Queue<u64>) {
    for count in 0.. {
        sender.send(&count).expect("somebody listens");
        queue.put(&count).expect("it is open");
        pause(count % 5 == 4);
    }
}

/// One that is killed while it sends, seen by one who waits for all that it does.
fn see_a_death(moment: u64, has_descriptor: bool) {
    let (sender, mut receiver) = Pipe::simplex().expect("room");
    let queue = Queue::bounded(8).expect("room");
    let child = Process::spawn(send_for_ever, (sender, queue.clone())).expect("a child");
    let unset = Shared::new(Event::new()).expect("room");
    let (mut select, mut sent, mut put) = (Select::new(), 0, 0);
    let sentinel = child.sentinel();
    loop {
        let mut things: Vec<&dyn Waitable> = vec![&queue, &unset, &receiver];
        if has_descriptor {
            things.push(&sentinel);
        }
        match select.ready_timeout(&things, LONG).expect("a poll") {
            Some(0) => match queue.try_get() {
                Ok(value) => {
                    assert_eq!(value, put);
                    put += 1;
                }
                Err(error) => assert!(matches!(error, GetError::Empty), "{error}"),
            },
            Some(2) => match receiver.try_recv() {
                Ok(value) => {
                    assert_eq!(value, sent);
                    sent += 1;
                    if sent == moment {
                        child.kill().expect("it lives");
                    }
                }
                Err(RecvError::Empty) => {}
                Err(RecvError::PeerDied { who }) => {
                    assert_eq!(who.map(|who| who.pid), Some(child.id()));
                    break;
                }
                Err(error) => panic!("{error}"),
            },
            Some(3) => assert!(sent >= moment),
            other => panic!("{other:?} after {sent} messages"),
        }
    }
    if has_descriptor {
        let things: [&dyn Waitable; 2] = [&unset, &sentinel];
        assert_eq!(wait_timeout(&things, LONG).expect("a poll"), [1]);
    }
    while queue.try_get().is_ok() {
        put += 1;
    }
    assert!(
        (sent - 1..=sent).contains(&put),
        "{put} were put, {sent} sent"
    );
}

#[test]
fn death_of_a_sender_is_seen_by_one_who_waits_for_many_things() {
    for moment in 1..=12 {
        see_a_death(moment, false);
        see_a_death(moment, true);
    }
}

/// Waits for the queue, and never takes anything.
fn wait_only(queue: Queue<u64>, other: Receiver<u8>, lies_down: Shared<Event>) {
    lies_down.set();
    while wait(&[&queue, &other]).is_ok() {
        // Another one took it, or is about to.
        std::thread::yield_now();
    }
}

#[test]
fn waiters_that_are_killed_leave_the_queue_to_the_others() {
    for _ in 0..10 {
        let queue = Queue::bounded(4).expect("room");
        let (_sender, receiver) = Pipe::simplex::<u8>().expect("room");
        let lies_down = Shared::new(Event::new()).expect("room");
        let arguments = (queue.clone(), receiver, lies_down.clone());
        let mut waiter = Process::spawn(wait_only, arguments).expect("a child");
        lies_down.wait();
        for value in 0..20 {
            queue.put_timeout(&value, LONG).expect("room");
            if value == 10 {
                waiter.kill().expect("it lives");
            }
            assert_eq!(wait_timeout(&[&queue], LONG).expect("words"), [0]);
            assert_eq!(queue.get_timeout(LONG).expect("it is there"), value);
        }
        assert!(waiter.join().is_err());
    }
}

/// Leases a value and keeps it.
fn lease_one(queue: Queue<u64>, has_it: Shared<Event>) {
    let _lease = queue.lease().expect("it is open");
    has_it.set();
    let _ = wait(&[]);
}

#[test]
fn value_whose_holder_was_killed_makes_its_queue_ready_again() {
    for is_asleep in [false, true] {
        let queue = Queue::bounded(4).expect("room");
        let has_it = Shared::new(Event::new()).expect("room");
        queue.put(&7).expect("room");
        let mut child =
            Process::spawn(lease_one, (queue.clone(), has_it.clone())).expect("a child");
        has_it.wait();
        assert_eq!(wait_timeout(&[&queue], Duration::ZERO).expect("words"), []);
        std::thread::scope(|threads| {
            let waiter = is_asleep.then(|| threads.spawn(|| wait_timeout(&[&queue], LONG)));
            child.kill().expect("it lives");
            assert!(child.join().is_err());
            if let Some(waiter) = waiter {
                assert_eq!(waiter.join().expect("no panic").expect("words"), [0]);
            }
        });
        assert_eq!(try_wait(&[&queue]).expect("words"), [0]);
        assert_eq!(queue.try_get().expect("it came back"), 7);
    }
}

pub(super) fn runtime() -> Runtime {
    let built = Builder::new_current_thread().enable_io().build();
    built.expect("a runtime")
}

/// Sends until it is killed, and puts what was sent.
fn send_and_put(mut sender: Sender<u64>, queue: Queue<u64>) {
    for count in 0.. {
        sender.send(&count).expect("somebody listens");
        queue.put(&count).expect("it is open");
        pause(count % 5 == 4);
    }
}

#[test]
fn tasks_await_values_and_the_death_of_who_sends_them() {
    for moment in 1..=8 {
        let (sender, mut receiver) = Pipe::simplex().expect("room");
        let queue = Queue::<u64>::new().expect("room");
        let child = Process::spawn(send_and_put, (sender, queue.clone())).expect("a child");
        runtime().block_on(async {
            let values = async {
                for expected in 0.. {
                    match receiver.recv_async().await {
                        Ok(value) => assert_eq!(value, expected),
                        Err(RecvError::PeerDied { who }) => {
                            assert_eq!(who.map(|who| who.pid), Some(child.id()));
                            return expected;
                        }
                        Err(error) => panic!("{error}"),
                    }
                    if expected == moment {
                        child.kill().expect("it lives");
                    }
                }
                unreachable!("it is killed")
            };
            let other = queue.clone();
            let first = tokio::task::LocalSet::new();
            let numbers = first.run_until(async move {
                let numbers = tokio::task::spawn_local(async move {
                    let mut count = 0;
                    while other.get_async().await.is_ok() {
                        count += 1;
                    }
                    count
                });
                let sent = values.await;
                queue.close();
                (sent, numbers.await.expect("no panic"))
            });
            let (sent, put) = numbers.await;
            assert!(
                (sent - 1..=sent).contains(&put),
                "{put} were put, {sent} sent"
            );
        });
    }
}

#[test]
fn pollable_of_a_pipe_serves_a_runtime_until_its_sender_is_killed() {
    for moment in [1, 7, 40] {
        let (sender, mut receiver) = Pipe::simplex().expect("room");
        let queue = Queue::<u64>::new().expect("room");
        let child = Process::spawn(send_and_put, (sender, queue.clone())).expect("a child");
        runtime().block_on(async {
            let pollable = Pollable::new(&receiver).expect("a descriptor");
            // SAFETY: `register` needs a descriptor that stays open and the same. It is the
            // pollable's own, which `AsyncFd` owns, and nothing here takes it out.
            let pollable = unsafe { AsyncFd::register(pollable) };
            let pollable = pollable.expect("it can be polled");
            let mut expected = 0;
            loop {
                let mut guard = pollable.readable().await.expect("it is open");
                guard.clear_ready();
                let end = loop {
                    match receiver.try_recv() {
                        Ok(value) => assert_eq!(value, expected),
                        Err(end) => break end,
                    }
                    expected += 1;
                    if expected == moment {
                        child.kill().expect("it lives");
                    }
                };
                match end {
                    RecvError::Empty => pollable.get_ref().arm().expect("a thread"),
                    RecvError::PeerDied { .. } => break,
                    end => panic!("{end}"),
                }
            }
            assert!(expected >= moment);
        });
    }
}

#[test]
fn receiver_that_moves_to_a_child_is_not_hidden_by_its_pollable_here() {
    fn sum(mut receiver: Receiver<u64>) -> u64 {
        let pollable = Pollable::new(&receiver).expect("a descriptor");
        let mut sum = 0;
        loop {
            let end = loop {
                match receiver.recv_timeout(Duration::from_micros(50)) {
                    Ok(value) => sum += value,
                    Err(end) => break end,
                }
            };
            match end {
                RecvError::TimedOut => {}
                RecvError::Closed => return sum,
                end => panic!("{end}"),
            }
            pollable.arm().expect("a thread");
            let fd = pollable.as_fd();
            assert_eq!(wait_timeout(&[&fd], LONG).expect("a poll"), [0]);
        }
    }
    let (mut sender, receiver) = Pipe::simplex().expect("room");
    let left_here = Pollable::new(&receiver).expect("a descriptor");
    let mut child = Process::spawn(sum, (receiver,)).expect("a child");
    for value in 1..=2_000 {
        left_here.arm().expect("a thread");
        sender.send_timeout(&value, LONG).expect("it is taken");
        if value % 3 == 0 {
            std::thread::yield_now();
        }
    }
    drop(sender);
    let total = child.join_timeout(LONG).expect("it returns");
    assert_eq!(total, Some(2_000 * 2_001 / 2));
}
