//! Pipes, rings and doorbells between processes, and what they say when one of them is killed.

use std::time::Duration;

use manyhands_channel::ring::{self, Consumer, Producer};
use manyhands_channel::{Connection, Doorbell, Pipe, Receiver, RecvError, Rung, SendError, Sender};
use manyhands_os::Deadline;
use manyhands_process::Process;

/// Long enough for any machine; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(60);

/// Answers until the asker hangs up; returns how often.
fn echo(mut connection: Connection<String, Vec<u8>>) -> u64 {
    for count in 0.. {
        match connection.recv_timeout(LONG) {
            Ok(bytes) => {
                let text = format!("{} bytes", bytes.len());
                connection
                    .send_timeout(&text, LONG)
                    .expect("the asker waits");
            }
            Err(RecvError::Closed) => return count,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("nobody asks so often");
}

/// Says that it is there, and then waits for what never comes.
fn wait_for_ever(mut connection: Connection<u32, ()>) {
    connection
        .send(&std::process::id())
        .expect("somebody listens");
    let never = connection.recv();
    panic!("{never:?}");
}

#[test]
fn child_answers_over_a_duplex_pipe() {
    let (mut here, there) = Pipe::duplex_with_capacity::<Vec<u8>, String>(4096).expect("room");
    let mut child = Process::spawn(echo, (there,)).expect("a child");
    for size in (0..200).chain([5_000, 100_000, 1_000_000]) {
        here.send_timeout(&vec![1; size], LONG)
            .expect("it is taken");
        assert_eq!(
            here.recv_timeout(LONG).expect("an answer"),
            format!("{size} bytes")
        );
    }
    drop(here);
    assert_eq!(child.join_timeout(LONG).expect("it returns"), Some(203));
}

#[test]
fn receiver_that_sleeps_learns_that_the_child_was_killed() {
    for _ in 0..20 {
        let (mut here, there) = Pipe::duplex::<(), u32>().expect("room");
        let child = Process::spawn(wait_for_ever, (there,)).expect("a child");
        let pid = here.recv_timeout(LONG).expect("it says who it is");
        assert_eq!(pid, child.id());
        std::thread::scope(|threads| {
            let sleeper = threads.spawn(|| here.recv_timeout(LONG));
            child.kill().expect("it lives");
            match sleeper.join().expect("no panic") {
                Err(RecvError::PeerDied { who }) => {
                    assert_eq!(who.map(|who| who.pid), Some(pid));
                }
                other => panic!("{other:?}"),
            }
        });
        assert!(matches!(here.send(&()), Err(SendError::PeerDied { .. })));
        assert!(matches!(here.recv(), Err(RecvError::PeerDied { .. })));
    }
}

#[test]
fn sender_that_waits_for_room_learns_that_the_child_was_killed() {
    let (mut here, there) = Pipe::duplex_with_capacity::<(), u32>(64).expect("room");
    let (mut full, takes_none) = Pipe::simplex_with_capacity::<Vec<u8>>(64).expect("room");
    let keeping = |connection: Connection<u32, ()>, receiver: Receiver<Vec<u8>>| {
        wait_for_ever(connection);
        drop(receiver);
    };
    let child = Process::spawn(keeping, (there, takes_none)).expect("a child");
    here.recv_timeout(LONG).expect("it is there");
    std::thread::scope(|threads| {
        let sleeper = threads.spawn(|| full.send_timeout(&vec![0; 1000], LONG));
        child.kill().expect("it lives");
        let outcome = sleeper.join().expect("no panic");
        assert!(
            matches!(outcome, Err(SendError::PeerDied { .. })),
            "{outcome:?}"
        );
    });
}

#[test]
fn large_message_of_a_child_killed_in_its_middle_never_existed() {
    let send = |mut sender: Sender<Vec<u8>>| {
        sender.send(&b"small".to_vec()).expect("it is taken");
        sender.send(&vec![7; 64 << 20]).expect("never all of it");
    };
    let (sender, mut receiver) = Pipe::simplex_with_capacity::<Vec<u8>>(1024).expect("room");
    let child = Process::spawn(send, (sender,)).expect("a child");
    assert_eq!(receiver.recv_timeout(LONG).expect("it comes"), b"small");
    // Some parts are taken; the rest cannot be there, since the ring is so much smaller.
    assert!(
        !receiver
            .poll_timeout(Duration::from_millis(1))
            .expect("the ring is whole")
    );
    child.kill().expect("it waits for us");
    match receiver.recv_timeout(LONG) {
        Err(RecvError::PeerDied { who }) => {
            assert_eq!(who.map(|who| who.pid), Some(child.id()));
        }
        other => panic!("{:?}", other.map(|message| message.len())),
    }
}

#[test]
fn connection_is_moved_to_a_child_that_runs_already() {
    let serve = |mut letterbox: Receiver<Connection<String, Vec<u8>>>| {
        let connection = letterbox.recv_timeout(LONG).expect("one comes");
        echo(connection)
    };
    let (mut post, letterbox) = Pipe::simplex().expect("room");
    let mut child = Process::spawn(serve, (letterbox,)).expect("a child");
    let (mut here, there) = Pipe::duplex::<Vec<u8>, String>().expect("room");
    here.send(&vec![0; 3])
        .expect("there is room before anybody is there");
    post.send(&there).expect("it is taken");
    drop(there);
    assert_eq!(here.recv_timeout(LONG).expect("an answer"), "3 bytes");
    drop(here);
    assert_eq!(child.join_timeout(LONG).expect("it returns"), Some(1));
}

#[test]
fn child_learns_that_its_sibling_was_killed() {
    let watch = |mut connection: Connection<(), u32>| match connection.recv_timeout(LONG) {
        Ok(pid) => match connection.recv_timeout(LONG) {
            Err(RecvError::PeerDied { who }) => who.map(|who| who.pid) == Some(pid),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    for _ in 0..20 {
        let (one, other) = Pipe::duplex::<u32, ()>().expect("room");
        // The watcher sleeps on our life first, and then on that of the sibling.
        let mut watcher = Process::spawn(watch, (other,)).expect("a child");
        let victim = Process::spawn(wait_for_ever, (one,)).expect("a child");
        std::thread::scope(|threads| {
            threads.spawn(move || {
                // Killed as early or late as it happens; the watcher may see the first message
                // or only the death, which is then an error of the first receive.
                let _ = victim.is_alive();
                victim.kill().expect("nobody else has ended it");
                drop(victim);
            });
        });
        match watcher.join_timeout(LONG) {
            Ok(Some(known)) => assert!(known),
            Err(error) => {
                let panic = error.panic().expect("it panics or returns").message.clone();
                assert!(panic.contains("PeerDied"), "{panic}");
            }
            Ok(None) => panic!("it hangs"),
        }
    }
}

#[test]
fn doorbell_tells_which_of_many_children_was_killed() {
    let work = |bell: Doorbell, mut producer: Producer, mut orders: Consumer| {
        let mut order = Vec::new();
        while orders.recv_timeout(&mut order, LONG).is_ok() {
            producer.send_timeout(&order, LONG).expect("it is taken");
        }
        drop(bell);
    };
    let bell = Doorbell::new().expect("room");
    let mut workers: Vec<_> = (0..4_u64)
        .map(|_| {
            let (orders, there) = ring::ring(1024).expect("room");
            let (mut back, results) = ring::ring(1024).expect("room");
            back.attach_doorbell(&bell);
            let child = Process::spawn(work, (bell.clone(), back, there)).expect("a child");
            (child, orders, results)
        })
        .collect();
    for round in 0..500_u64 {
        for (_, orders, _) in &mut workers {
            orders
                .send_timeout(&round.to_ne_bytes(), LONG)
                .expect("it is taken");
        }
        let mut waiting: Vec<_> = (0..workers.len()).collect();
        while !waiting.is_empty() {
            let seen = bell.seen();
            let mut message = Vec::new();
            waiting.retain(|worker| workers[*worker].2.try_recv(&mut message).is_err());
            if !waiting.is_empty() {
                let lives: Vec<_> = workers
                    .iter()
                    .map(|(child, ..)| child.participant())
                    .collect();
                assert_eq!(bell.wait(seen, &lives, Deadline::after(LONG)), Rung::Rang);
            }
        }
    }
    let lives: Vec<_> = workers
        .iter()
        .map(|(child, ..)| child.participant())
        .collect();
    let seen = bell.seen();
    workers[2].0.kill().expect("it lives");
    assert_eq!(
        bell.wait(seen, &lives, Deadline::after(LONG)),
        Rung::Death(2)
    );
}

/// Fills a slot, does not commit it, and waits for what never comes.
fn reserve_and_wait(mut producer: Producer, mut says: Producer, mut never: Consumer) {
    producer.send(b"committed").expect("there is room");
    let mut slot = producer.reserve(1000).expect("there is room");
    slot.fill(1);
    says.send(b"it is filled").expect("somebody listens");
    let never = never.recv(&mut Vec::new());
    panic!("{never:?} {slot:?}");
}

/// Takes a message in place, does not drop it, and waits for what never comes.
fn look_and_wait(mut consumer: Consumer, mut says: Producer, mut never: Consumer) {
    let message = consumer.recv_ref().expect("it was sent");
    says.send(&message).expect("somebody listens");
    let never = never.recv(&mut Vec::new());
    panic!("{never:?} {message:?}");
}

#[test]
fn slot_of_a_killed_sender_never_existed_and_room_of_a_killed_receiver_is_not_waited_for() {
    for _ in 0..20 {
        let (says, mut hears) = ring::ring(64).expect("room");
        let (_keeps, never) = ring::ring(64).expect("room");
        let (producer, mut consumer) = ring::ring(4096).expect("room");
        let child = Process::spawn(reserve_and_wait, (producer, says, never)).expect("a child");
        let mut word = Vec::new();
        hears.recv_timeout(&mut word, LONG).expect("it is filled");
        child.kill().expect("it waits");
        let message = consumer.recv_ref_timeout(LONG).expect("it was committed");
        assert_eq!(*message, *b"committed");
        drop(message);
        let end = consumer.recv_ref_timeout(LONG).err();
        assert!(
            matches!(end, Some(ring::RecvError::PeerDied { .. })),
            "{end:?}"
        );

        let (says, mut hears) = ring::ring(64).expect("room");
        let (_keeps, never) = ring::ring(64).expect("room");
        let (mut producer, consumer) = ring::ring(64).expect("room");
        producer.send(b"to be held").expect("there is room");
        let child = Process::spawn(look_and_wait, (consumer, says, never)).expect("a child");
        hears.recv_timeout(&mut word, LONG).expect("it has it");
        assert_eq!(word, b"to be held");
        producer
            .try_reserve(24)
            .expect("there is room for one")
            .commit();
        std::thread::scope(|threads| {
            // Only the killed receiver could make more room.
            let sleeper = threads.spawn(|| producer.reserve_timeout(24, LONG).err());
            child.kill().expect("it waits");
            let end = sleeper.join().expect("no panic");
            assert!(
                matches!(end, Some(ring::SendError::PeerDied { .. })),
                "{end:?}"
            );
        });
    }
}

/// Sends 0, 1, 2, .. in messages of changing sizes, until it is killed.
fn count_for_ever(mut producer: Producer) {
    let mut message = Vec::new();
    for number in 0_u64.. {
        message.clear();
        message.resize(8 + (number as usize * 7) % 3000, number as u8);
        message[..8].copy_from_slice(&number.to_ne_bytes());
        producer.send(&message).expect("the receiver lives longer");
    }
}

#[test]
fn what_500_killed_senders_sent_is_a_prefix_and_then_their_death() {
    let mut total = 0;
    for kill in 0..500_u64 {
        let (producer, mut consumer) = ring::ring(2048).expect("room");
        let child = Process::spawn(count_for_ever, (producer,)).expect("a child");
        let mut message = Vec::new();
        let mut expected = 0_u64;
        // Another number of messages before each kill, so that it strikes elsewhere.
        let before_kill = kill * 37 % 200;
        let end = loop {
            if expected == before_kill {
                child.kill().expect("it is never done");
            }
            if let Err(end) = consumer.recv_timeout(&mut message, LONG) {
                break end;
            }
            let (number, rest) = message.split_at(8);
            assert_eq!(number, expected.to_ne_bytes());
            assert_eq!(rest.len(), (expected as usize * 7) % 3000);
            assert!(rest.iter().all(|byte| *byte == expected as u8));
            expected += 1;
        };
        assert!(matches!(end, ring::RecvError::PeerDied { .. }), "{end:?}");
        assert!(expected >= before_kill);
        total += expected;
    }
    assert!(total > 0);
}
