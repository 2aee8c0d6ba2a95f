//! Waiting between threads; between processes it is tested in the workspace's test package.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use manyhands_shm::Shared;
use manyhands_sync::Event;

use super::*;
use crate::socket::{AuthKey, Client};
use crate::{Listener, Pipe, Queue};

mod awaiting;
mod local;
mod sending;

const LONG: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(3);

fn queue() -> Queue<u64> {
    Queue::new().expect("room")
}

#[test]
fn wait_05_time_that_is_over_is_not_waited_for() {
    let (queue, event) = (queue(), Arc::new(Event::new()));
    let start = Instant::now();
    assert!(
        wait_timeout(&[&queue, &event], Duration::ZERO)
            .expect("words")
            .is_empty()
    );
    assert!(
        wait_deadline(&[&queue, &event], start)
            .expect("words")
            .is_empty()
    );
    assert!(try_wait(&[&queue, &event]).expect("words").is_empty());
    assert!(try_wait(&[]).expect("nothing").is_empty());
    assert!(start.elapsed() < LONG);
}

#[test]
fn wait_for_nothing_lasts_as_long_as_it_may() {
    let deadline = Instant::now() + SOON;
    assert!(wait_deadline(&[], deadline).expect("nothing").is_empty());
    assert!(Instant::now() >= deadline);
    let deadline = Instant::now() + SOON;
    assert!(
        wait_deadline(&[&queue()], deadline)
            .expect("words")
            .is_empty()
    );
    assert!(Instant::now() >= deadline);
}

#[test]
fn all_that_is_ready_is_told_at_once_and_the_same_thing_may_be_there_twice() {
    let (queue, event) = (queue(), Shared::new(Event::new()).expect("room"));
    let (mut sender, receiver) = Pipe::simplex::<u8>().expect("room");
    let (other, mut stream) = UnixStream::pair().expect("a pair");
    let other = OwnedFd::from(other);
    let things: [&dyn Waitable; 5] = [&queue, &receiver, &event, &other, &queue];
    assert_eq!(wait_timeout(&things, SOON).expect("words"), []);
    queue.put(&1).expect("room");
    assert_eq!(wait(&things).expect("words"), [0, 4]);
    sender.send(&1).expect("room");
    stream.write_all(b"x").expect("room");
    event.set();
    assert_eq!(wait(&things).expect("words"), [0, 1, 2, 3, 4]);
    queue.get().expect("a value");
    event.clear();
    assert_eq!(wait(&things).expect("words"), [1, 3]);
}

#[test]
fn end_of_anything_makes_it_ready() {
    let (queue, (sender, receiver)) = (queue(), Pipe::simplex::<u8>().expect("room"));
    let (there, here) = UnixStream::pair().expect("a pair");
    let here = OwnedFd::from(here);
    let things: [&dyn Waitable; 3] = [&queue, &receiver, &here];
    let at_its_end = |place: usize, end: &mut dyn FnMut()| {
        assert!(!try_wait(&things).expect("a descriptor").contains(&place));
        end();
        assert!(wait(&things).expect("a descriptor").contains(&place));
    };
    at_its_end(0, &mut || queue.close());
    let (mut sender, mut there) = (Some(sender), Some(there));
    at_its_end(1, &mut || drop(sender.take()));
    at_its_end(2, &mut || drop(there.take()));
}

/// Wakes a thread that waits for `things`, after it probably lies down.
fn wakes(things: &[&(dyn Waitable + Sync)], expected: usize, change: impl FnOnce()) {
    thread::scope(|threads| {
        let (begun, begins) = std::sync::mpsc::sync_channel(0);
        let waiter = threads.spawn(move || {
            let things: Vec<&dyn Waitable> = things.iter().map(|thing| *thing as _).collect();
            assert!(try_wait(&things).expect("descriptors").is_empty());
            begun.send(()).expect("the test waits");
            wait_timeout(&things, LONG)
        });
        begins.recv().expect("it begins");
        thread::yield_now();
        change();
        let ready = waiter.join().expect("no panic").expect("descriptors");
        assert_eq!(ready, [expected]);
    });
}

#[test]
fn sleeper_is_woken_by_each_kind_with_and_without_descriptors() {
    static EVENT: Event = Event::new();
    let everlasting = &EVENT;
    for has_descriptor in [false, true] {
        let (queue, closed) = (queue(), queue());
        let (local, shared) = (Arc::new(Event::new()), Event::new());
        let shared = Shared::new(shared).expect("room");
        let (there, here) = UnixStream::pair().expect("a pair");
        let here = OwnedFd::from(here);
        let never = Instant::now() + 2 * LONG;
        let mut things: Vec<&(dyn Waitable + Sync)> =
            vec![&queue, &closed, &local, &shared, &everlasting, &never];
        if has_descriptor {
            things.push(&here);
        }
        wakes(&things, 0, || queue.put(&1).expect("room"));
        queue.get().expect("it is there");
        wakes(&things, 1, || closed.close());
        things[1] = &never;
        wakes(&things, 2, || local.set());
        local.clear();
        wakes(&things, 3, || shared.set());
        shared.clear();
        wakes(&things, 4, || EVENT.set());
        EVENT.clear();
        if has_descriptor {
            wakes(&things, 6, || drop(there));
        }
    }
}

#[test]
fn receiver_is_woken_by_messages_of_all_sizes_and_by_the_end() {
    for has_descriptor in [false, true] {
        let (there, here) = UnixStream::pair().expect("a pair");
        let here = OwnedFd::from(here);
        let (mut sender, mut receiver) = Pipe::simplex_with_capacity::<Vec<u8>>(256).expect("room");
        let lengths = [0, 10, 3_000, 1, 900];
        thread::scope(|threads| {
            threads.spawn(move || {
                for length in lengths {
                    sender.send(&vec![7; length]).expect("it is taken");
                }
            });
            let mut expected = lengths.into_iter();
            let mut select = Select::new();
            loop {
                let mut things: Vec<&dyn Waitable> = vec![&receiver];
                if has_descriptor {
                    things.push(&here);
                }
                assert_eq!(
                    select.ready_timeout(&things, LONG).expect("a poll"),
                    Some(0)
                );
                match receiver.try_recv() {
                    Ok(bytes) => assert_eq!(Some(bytes.len()), expected.next()),
                    Err(crate::RecvError::Empty) => {}
                    Err(crate::RecvError::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(expected.next(), None);
        });
        drop(there);
    }
}

#[test]
fn those_who_are_always_ready_are_chosen_in_turn() {
    let (left, right) = (queue(), queue());
    let (_there, here) = UnixStream::pair().expect("a pair");
    let here = OwnedFd::from(here);
    left.put(&1).expect("room");
    right.put(&1).expect("room");
    let past = Instant::now();
    let mut select = Select::new();
    let mut counts = [0; 4];
    for _ in 0..300 {
        let place = select.try_ready(&[&left, &here, &right, &past]);
        counts[place.expect("a poll").expect("most are ready")] += 1;
    }
    assert_eq!(counts, [100, 0, 100, 100]);
    assert_eq!(select.try_ready(&[&here]).expect("a poll"), None);
}

#[test]
fn getters_and_a_waiter_of_the_same_queue_do_not_take_wakes_from_each_other() {
    let queue = queue();
    let got = AtomicU32::new(0);
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while queue.get().is_ok() {
                    got.fetch_add(1, Relaxed);
                }
            });
            threads.spawn(|| {
                while wait(&[&queue]).expect("words") == [0] {
                    match queue.try_get() {
                        Ok(_) => drop(got.fetch_add(1, Relaxed)),
                        Err(crate::GetError::Empty) => {}
                        Err(_) => return,
                    }
                }
            });
        }
        for value in 0..3_000 {
            queue.put(&value).expect("room");
            if value % 7 == 0 {
                thread::yield_now();
            }
        }
        queue.close();
    });
    assert_eq!(got.load(Relaxed), 3_000);
}

#[test]
fn more_words_than_the_kernel_takes_are_waited_for_too() {
    let events: Vec<Arc<Event>> = (0..300).map(|_| Arc::new(Event::new())).collect();
    for chosen in [0, 127, 128, 299] {
        let things: Vec<&(dyn Waitable + Sync)> = events.iter().map(|event| event as _).collect();
        wakes(&things, chosen, || events[chosen].set());
        events[chosen].clear();
    }
}

#[test]
fn listener_and_connection_are_waited_for_like_anything_else() {
    let key = AuthKey::random().expect("random bytes");
    let mut listener =
        Listener::bind(&"127.0.0.1:0".parse().expect("an address"), &key).expect("free");
    let address = listener.address().clone();
    let queue = queue();
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut client = Client::connect(&address, &key).expect("it listens");
            client.send_bytes(b"one").expect("it is open");
            client.send_bytes(b"two").expect("it is open");
        });
        let mut connection = loop {
            assert_eq!(
                wait_timeout(&[&queue, &listener], LONG).expect("a poll"),
                [1]
            );
            if let Ok(connection) = listener.try_accept() {
                break connection;
            }
        };
        let mut messages = Vec::new();
        loop {
            assert_eq!(
                wait_timeout(&[&queue, &connection], LONG).expect("a poll"),
                [1]
            );
            match connection.try_recv_bytes() {
                Ok(message) => messages.push(message),
                Err(crate::socket::RecvError::WouldBlock) => {}
                Err(_) => break,
            }
        }
        assert_eq!(messages, [b"one", b"two"]);
    });
}
#[test]
fn message_that_was_read_ahead_is_ready_and_half_a_message_is_not() {
    let key = AuthKey::random().expect("random bytes");
    let address = format!("@manyhands-select-{}", std::process::id());
    let mut listener = Listener::bind(&address.parse().expect("an address"), &key).expect("free");
    let address = listener.address().clone();
    thread::scope(|threads| {
        let client = threads.spawn(|| Client::connect(&address, &key).expect("it listens"));
        let mut connection = listener.accept().expect("somebody comes");
        let mut client = client.join().expect("no panic");
        client.send_bytes(b"one").expect("room");
        client.send_bytes(b"two").expect("room");
        assert_eq!(connection.recv_bytes().expect("it came"), b"one");
        assert_eq!(try_wait(&[&connection]).expect("a poll"), [0]);
        assert_eq!(connection.recv_bytes().expect("it came"), b"two");
        assert_eq!(try_wait(&[&connection]).expect("a poll"), []);
        let long = vec![7; 8 << 20];
        assert!(client.send_bytes_timeout(&long, SOON).is_err());
        while !try_wait(&[&connection]).expect("a poll").is_empty() {
            let half = connection.try_recv_bytes();
            assert!(
                matches!(half, Err(crate::socket::RecvError::WouldBlock)),
                "{half:?}"
            );
        }
    });
}
