//! Rings between threads, against a reference, and with contents that no producer wrote.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use manyhands_shm::handoff;
use proptest::prelude::*;

use super::cursor::Memory;
use super::*;
mod in_place;

use crate::{Doorbell, Rung};
use manyhands_os::Deadline;

/// Long enough for any machine; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(60);

fn received(consumer: &mut Consumer) -> Vec<u8> {
    let mut message = Vec::new();
    consumer
        .recv_timeout(&mut message, LONG)
        .expect("a message comes");
    message
}

#[test]
fn messages_of_all_sizes_arrive_whole_and_in_order() {
    let (mut producer, mut consumer) = ring(256).expect("there is room");
    let sizes = || (0..600).chain([4096, 10_000, 100_000, 1, 0]);
    thread::scope(|threads| {
        threads.spawn(move || {
            for (index, size) in sizes().enumerate() {
                producer
                    .send_timeout(&vec![index as u8; size], LONG)
                    .expect("it is taken");
            }
        });
        for (index, size) in sizes().enumerate() {
            assert_eq!(received(&mut consumer), vec![index as u8; size]);
        }
        let closed = consumer.recv_timeout(&mut Vec::new(), LONG);
        assert_eq!(closed, Err(RecvError::Closed));
    });
}

#[test]
fn small_messages_ping_and_pong_without_a_lost_wakeup() {
    let (mut there, mut echo_in) = ring(64).expect("there is room");
    let (mut echo_out, mut back) = ring(64).expect("there is room");
    thread::scope(|threads| {
        threads.spawn(move || {
            let mut message = Vec::new();
            while echo_in.recv_timeout(&mut message, LONG).is_ok() {
                echo_out.send_timeout(&message, LONG).expect("it is taken");
            }
        });
        for round in 0..20_000_u64 {
            there
                .send_timeout(&round.to_ne_bytes(), LONG)
                .expect("it is taken");
            assert_eq!(received(&mut back), round.to_ne_bytes());
        }
        drop(there);
    });
}

#[test]
fn sender_is_told_that_the_ring_is_full_and_goes_on_when_it_is_not() {
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    producer.try_send(&[1; 40]).expect("48 of 64 bytes");
    assert_eq!(producer.try_send(&[2; 16]), Err(SendError::Full));
    let short = Duration::from_millis(1);
    assert_eq!(
        producer.send_timeout(&[2; 16], short),
        Err(SendError::TimedOut)
    );
    producer.try_send(&[3; 8]).expect("16 bytes are left");
    assert_eq!(received(&mut consumer), [1; 40]);
    producer.try_send(&[4; 16]).expect("there is room again");
    assert_eq!(received(&mut consumer), [3; 8]);
    assert_eq!(received(&mut consumer), [4; 16]);
    let too_large = SendError::TooLarge {
        size: 57,
        capacity: 64,
    };
    assert_eq!(producer.try_send(&[0; 57]), Err(too_large));
}

#[test]
fn receiver_is_told_that_the_ring_is_empty() {
    let (_producer, mut consumer) = ring(64).expect("there is room");
    let mut message = Vec::new();
    assert_eq!(consumer.try_recv(&mut message), Err(RecvError::Empty));
    let short = Duration::from_millis(1);
    assert_eq!(
        consumer.recv_timeout(&mut message, short),
        Err(RecvError::TimedOut)
    );
    assert_eq!(consumer.poll_timeout(short), Ok(false));
}

#[test]
fn polled_message_is_still_there() {
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    producer.send(b"here").expect("there is room");
    assert_eq!(consumer.poll_timeout(LONG), Ok(true));
    assert_eq!(consumer.poll_timeout(LONG), Ok(true));
    assert_eq!(received(&mut consumer), b"here");
    drop(producer);
    assert_eq!(consumer.poll_timeout(LONG), Ok(true));
    assert_eq!(consumer.try_recv(&mut Vec::new()), Err(RecvError::Closed));
}

#[test]
fn large_message_that_was_given_up_never_existed() {
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    let short = Duration::from_millis(1);
    assert_eq!(
        producer.send_timeout(&[1; 200], short),
        Err(SendError::TimedOut)
    );
    let mut message = Vec::new();
    assert_eq!(consumer.try_recv(&mut message), Err(RecvError::Empty));
    producer.send(b"next").expect("there is room");
    assert_eq!(received(&mut consumer), b"next");
}

#[test]
fn sender_learns_that_the_receiver_has_closed_also_while_it_waits() {
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    thread::scope(|threads| {
        threads.spawn(move || {
            assert_eq!(received(&mut consumer), b"first");
            // Takes some parts of the large one, and goes.
            consumer
                .poll_timeout(Duration::from_millis(1))
                .expect("the ring is whole");
        });
        producer.send_timeout(b"first", LONG).expect("it is taken");
        assert_eq!(
            producer.send_timeout(&[0; 64 << 20], LONG),
            Err(SendError::Closed)
        );
        assert_eq!(producer.try_send(b"late"), Err(SendError::Closed));
    });
}

#[test]
fn end_moves_with_what_is_in_the_ring() {
    let (mut producer, mut consumer) = ring(256).expect("there is room");
    producer.send(b"one").expect("there is room");
    let parcel = handoff::pack(&(&producer, &consumer)).expect("both are ours");
    assert_eq!(producer.send(b"two"), Err(SendError::Moved));
    assert_eq!(consumer.try_recv(&mut Vec::new()), Err(RecvError::Moved));
    drop((producer, consumer));

    let unpacked = handoff::unpack::<(Producer, Consumer)>(&parcel.bytes);
    let (mut producer, mut consumer) = unpacked.expect("nobody else has them");
    drop(parcel.holds);
    producer.send(b"two").expect("there is room");
    assert_eq!(received(&mut consumer), b"one");
    assert_eq!(received(&mut consumer), b"two");
}

#[test]
fn consumer_moves_in_the_middle_of_a_large_message() {
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    let message: Vec<u8> = (0..=255).collect();
    let mut progress = Progress::default();
    assert_eq!(producer.push(&message, &mut progress), Ok(false));
    assert_eq!(consumer.try_recv(&mut Vec::new()), Err(RecvError::Empty));
    let parcel = handoff::pack(&consumer).expect("it is ours");
    let mut consumer: Consumer = handoff::unpack(&parcel.bytes).expect("nobody else has it");
    while producer.push(&message, &mut progress) == Ok(false) {
        let part = consumer.poll_timeout(Duration::ZERO);
        assert!(part.is_ok(), "the parts are taken as they come");
    }
    // Polled, so that the last part is read and not given back, and then moved once more.
    assert_eq!(consumer.poll_timeout(LONG), Ok(true));
    let parcel = handoff::pack(&consumer).expect("it is ours");
    let mut consumer: Consumer = handoff::unpack(&parcel.bytes).expect("nobody else has it");
    assert_eq!(received(&mut consumer), message);
}

#[test]
fn parcel_gives_its_end_to_one_receiver_and_closes_it_when_there_is_none() {
    let (producer, mut consumer) = ring(64).expect("there is room");
    let parcel = handoff::pack(&producer).expect("it is ours");
    let moved: Producer = handoff::unpack(&parcel.bytes).expect("nobody else has it");
    assert!(handoff::unpack::<Producer>(&parcel.bytes).is_err());
    let again = handoff::pack(&moved).expect("it is ours");
    drop(parcel.holds);
    let mut message = Vec::new();
    assert_eq!(consumer.try_recv(&mut message), Err(RecvError::Empty));
    drop(again.holds);
    assert_eq!(
        consumer.recv_timeout(&mut message, LONG),
        Err(RecvError::Closed)
    );
    assert!(handoff::unpack::<Producer>(&again.bytes).is_err());
}

#[test]
fn sleeping_receiver_learns_that_a_parcel_was_dropped() {
    let (producer, mut consumer) = ring(64).expect("there is room");
    thread::scope(|threads| {
        let sleeper = threads.spawn(move || consumer.recv_timeout(&mut Vec::new(), LONG));
        drop(handoff::pack(&producer).expect("it is ours").holds);
        assert_eq!(sleeper.join().expect("no panic"), Err(RecvError::Closed));
    });
}

#[test]
fn claimed_slots_fit_in_one_piece_wherever_the_ring_ends() {
    let (mut producer, mut consumer) = ring(128).expect("there is room");
    for round in 0..100_usize {
        let size = round % 57;
        let mut slot = producer.reserve(size).expect("at most half of the ring");
        slot.fill(round as u8);
        slot.commit();
        let _never_committed = producer.reserve(7).expect("there is room");
        assert_eq!(received(&mut consumer), vec![round as u8; size]);
    }
    assert!(matches!(
        producer.reserve(57),
        Err(SendError::TooLarge { .. })
    ));
}

#[test]
fn doorbell_tells_of_any_ring_and_of_its_end() {
    let bell = Doorbell::new().expect("there is room");
    let mut rings: Vec<_> = (0..3).map(|_| ring(64).expect("there is room")).collect();
    for (producer, _) in &mut rings {
        producer.attach_doorbell(&bell);
    }
    let (mut producers, mut consumers): (Vec<_>, Vec<_>) = rings.into_iter().unzip();
    thread::scope(|threads| {
        threads.spawn(move || {
            for round in 0..3_000_usize {
                let producer = &mut producers[round % 3];
                producer
                    .send_timeout(&round.to_ne_bytes(), LONG)
                    .expect("it is taken");
            }
        });
        let mut open = [true; 3];
        let mut count = 0;
        let mut message = Vec::new();
        while open.contains(&true) {
            let seen = bell.seen();
            let before = count;
            for (consumer, open) in consumers.iter_mut().zip(&mut open) {
                match consumer.try_recv(&mut message) {
                    Ok(()) => count += 1,
                    Err(RecvError::Empty) => {}
                    Err(error) => {
                        assert_eq!(error, RecvError::Closed);
                        *open = false;
                    }
                }
            }
            if before == count && open.contains(&true) {
                assert_eq!(bell.wait(seen, &[], Deadline::after(LONG)), Rung::Rang);
            }
        }
        assert_eq!(count, 3_000);
    });
    assert_eq!(bell.wait(bell.seen(), &[], Deadline::now()), Rung::TimedOut);
}

#[test]
fn doorbell_tells_that_a_parcel_with_its_ring_was_dropped() {
    let bell = Doorbell::new().expect("there is room");
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    producer.attach_doorbell(&bell);
    let seen = bell.seen();
    drop(handoff::pack(&producer).expect("it is ours").holds);
    assert_eq!(bell.wait(seen, &[], Deadline::after(LONG)), Rung::Rang);
    assert_eq!(consumer.try_recv(&mut Vec::new()), Err(RecvError::Closed));
}

#[test]
fn contents_that_no_producer_wrote_are_an_error_and_no_more() {
    let spoil: [fn(&memory::Mapped); 5] = [
        |ring| ring.header().tail.0.store(u64::MAX, Relaxed),
        |ring| ring.header().tail.0.store(8, Relaxed),
        |ring| {
            ring.store_head(0, 1 << 32 | 1000);
            ring.header().tail.0.store(16, Relaxed);
        },
        |ring| {
            ring.store_head(0, 3 << 32);
            ring.header().tail.0.store(8, Relaxed);
        },
        |ring| ring.header().tail.0.store(1 << 20, Relaxed),
    ];
    for (index, spoil) in spoil.iter().enumerate() {
        let (producer, mut consumer) = ring(64).expect("there is room");
        spoil(producer.memory());
        let mut message = Vec::new();
        for _ in 0..2 {
            assert_eq!(
                consumer.try_recv(&mut message),
                Err(RecvError::Corrupt),
                "{index}"
            );
        }
    }
    let (mut producer, consumer) = ring(64).expect("there is room");
    producer.try_send(&[0; 40]).expect("the ring is empty");
    producer.memory().header().head.0.store(1 << 40, Relaxed);
    assert_eq!(producer.try_send(&[0; 40]), Err(SendError::Corrupt));
    producer
        .memory()
        .header()
        .capacity
        .0
        .store(1 << 40, Relaxed);
    let parcel = handoff::pack(&consumer).expect("it is ours");
    assert!(handoff::unpack::<Consumer>(&parcel.bytes).is_err());
}

/// What is done to a ring, and to the queue that it is compared with.
#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Claim(u8),
    Receive,
    ReceiveInPlace,
    MoveProducer,
    MoveConsumer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..150).prop_map(Step::Send),
        2 => any::<u8>().prop_map(Step::Claim),
        3 => Just(Step::Receive),
        3 => Just(Step::ReceiveInPlace),
        1 => Just(Step::MoveProducer),
        1 => Just(Step::MoveConsumer),
    ]
}

fn moved<T: serde::Serialize + serde::de::DeserializeOwned>(end: &T) -> T {
    let parcel = handoff::pack(end).expect("it is ours");
    handoff::unpack(&parcel.bytes).expect("nobody else has it")
}

proptest! {
    #[test]
    fn ring_behaves_as_a_queue_of_messages(steps in prop::collection::vec(step(), 0..200)) {
        let (mut producer, mut consumer) = ring(128).expect("there is room");
        let mut reference = VecDeque::new();
        let mut used = 0;
        for step in steps {
            match step {
                Step::Send(message) => match producer.try_send(&message) {
                    Ok(()) => {
                        used += layout::record_size(message.len() as u64);
                        reference.push_back(message);
                    }
                    Err(SendError::Full) => prop_assert!(!reference.is_empty()),
                    Err(error) => {
                        let expected = SendError::TooLarge { size: message.len(), capacity: 128 };
                        prop_assert_eq!(error, expected);
                        prop_assert!(message.len() > 120);
                    }
                },
                Step::Claim(byte) if reference.is_empty() => {
                    let size = usize::from(byte % 57);
                    let mut slot = producer.reserve(size).expect("the ring is empty");
                    slot.fill(byte);
                    slot.commit();
                    reference.push_back(vec![byte; size]);
                }
                Step::Claim(_) => {}
                Step::Receive => {
                    let mut message = Vec::new();
                    match reference.pop_front() {
                        Some(expected) => {
                            prop_assert_eq!(consumer.try_recv(&mut message), Ok(()));
                            prop_assert_eq!(message, expected);
                        }
                        None => {
                            let outcome = consumer.try_recv(&mut message);
                            prop_assert_eq!(outcome, Err(RecvError::Empty));
                        }
                    }
                }
                Step::ReceiveInPlace => match (reference.pop_front(), consumer.try_recv_ref()) {
                    (Some(expected), Ok(message)) => prop_assert_eq!(&*message, &expected[..]),
                    (None, Err(error)) => prop_assert_eq!(error, RecvError::Empty),
                    (expected, outcome) => prop_assert!(false, "{expected:?}: {outcome:?}"),
                },
                Step::MoveProducer => producer = moved(&producer),
                Step::MoveConsumer => consumer = moved(&consumer),
            }
        }
        prop_assert!(producer.is_taken(producer.position()) == reference.is_empty());
        prop_assert!(used <= producer.position());
    }
}
