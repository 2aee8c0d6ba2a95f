//! Messages that are written and read in the ring itself.

use super::*;

#[test]
fn slots_come_through_in_place_wherever_the_ring_ends() {
    let (mut producer, mut consumer) = ring(256).expect("there is room");
    for round in 0..500_usize {
        let size = round % 121;
        let mut slot = producer
            .try_reserve(size)
            .expect("at most half of the ring");
        slot.fill(round as u8);
        slot.commit();
        let _never_committed = producer.try_reserve(7).expect("there is room");
        let message = consumer.try_recv_ref().expect("it was committed");
        assert!(message.is_in_place());
        assert_eq!(*message, vec![round as u8; size]);
    }
    assert_eq!(consumer.try_recv_ref().err(), Some(RecvError::Empty));
}

#[test]
fn room_of_a_message_is_the_senders_when_it_is_dropped_and_not_before() {
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    let soon = Duration::from_millis(1);
    for _ in 0..100 {
        producer.try_reserve(24).expect("half of the ring").commit();
        producer.try_reserve(24).expect("the other half").commit();
        let message = consumer.try_recv_ref().expect("it was committed");
        assert_eq!(producer.try_reserve(0).err(), Some(SendError::Full));
        let late = producer.reserve_timeout(0, soon).err();
        assert_eq!(late, Some(SendError::TimedOut));
        let late = producer
            .reserve_deadline(0, std::time::Instant::now())
            .err();
        assert_eq!(late, Some(SendError::TimedOut));
        drop(message);
        drop(producer.try_reserve(24).expect("there is room"));
        drop(consumer.recv_ref_timeout(LONG).expect("the other one"));
        let empty = consumer.recv_ref_timeout(soon).err();
        assert_eq!(empty, Some(RecvError::TimedOut));
    }
}

#[test]
fn who_waits_for_room_is_woken_by_the_drop_of_a_message() {
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    thread::scope(|threads| {
        threads.spawn(move || {
            for round in 0..20_000_u64 {
                let mut slot = producer.reserve_timeout(24, LONG).expect("it is taken");
                let values = slot.values_mut::<u64>().expect("three of them");
                values.fill(round);
                slot.commit();
            }
        });
        for round in 0..20_000_u64 {
            let message = consumer.recv_ref_timeout(LONG).expect("it comes");
            let values = message
                .values::<u64>()
                .expect("in place they lie as they should");
            assert_eq!(values, [round; 3]);
        }
        let end = consumer.recv_ref().err();
        assert_eq!(end, Some(RecvError::Closed));
    });
}

#[test]
fn message_that_comes_in_parts_or_goes_round_the_end_is_copied() {
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    thread::scope(|threads| {
        threads.spawn(move || {
            for size in [1000, 20, 40, 0, 1000] {
                producer
                    .send_timeout(&vec![size as u8; size], LONG)
                    .expect("it is taken");
            }
        });
        let mut copied = 0;
        for size in [1000, 20, 40, 0, 1000] {
            let message = consumer.recv_ref_timeout(LONG).expect("it comes");
            assert_eq!(*message, vec![size as u8; size]);
            copied += u32::from(!message.is_in_place());
        }
        assert!((3..=4).contains(&copied), "{copied}");
    });
}

#[test]
fn message_that_was_leaked_or_polled_for_comes_again() {
    let (mut producer, mut consumer) = ring(128).expect("there is room");
    for number in 0..20 {
        producer.send(&[number; 20]).expect("there is room");
        std::mem::forget(consumer.recv_ref().expect("it is there"));
        if number % 3 == 0 {
            assert!(consumer.poll_timeout(LONG).expect("it is still there"));
        }
        if number % 3 == 1 {
            consumer = moved(&consumer);
        }
        match number % 2 {
            0 => assert_eq!(received(&mut consumer), [number; 20]),
            _ => assert_eq!(*consumer.recv_ref().expect("it is there"), [number; 20]),
        }
    }
    assert_eq!(consumer.try_recv_ref().err(), Some(RecvError::Empty));
    // Polled for, so copied; and then taken in place.
    producer.send(b"polled").expect("there is room");
    assert!(consumer.poll_timeout(LONG).expect("it is there"));
    assert_eq!(*consumer.recv_ref().expect("it is there"), *b"polled");
}

#[test]
fn message_that_was_given_up_is_forgotten_for_one_in_place() {
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    let soon = Duration::from_millis(1);
    let late = producer.send_timeout(&[1; 200], soon);
    assert_eq!(late, Err(SendError::TimedOut));
    assert_eq!(consumer.try_recv_ref().err(), Some(RecvError::Empty));
    let mut slot = producer.try_reserve(8).expect("the part was taken");
    slot.copy_from_slice(b"in place");
    slot.commit();
    assert_eq!(*consumer.recv_ref().expect("it is there"), *b"in place");
}

#[test]
fn ends_that_are_closed_or_moved_say_so() {
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    producer.reserve(8).expect("there is room").commit();
    drop(moved(&producer));
    assert_eq!(producer.reserve(8).err(), Some(SendError::Moved));
    assert_eq!(producer.reserve(1000).err(), Some(SendError::Moved));
    assert_eq!(consumer.recv_ref().expect("it is there").len(), 8);
    assert_eq!(consumer.recv_ref().err(), Some(RecvError::Closed));
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    assert!(matches!(
        producer.reserve(25),
        Err(SendError::TooLarge { size: 25, .. })
    ));
    drop(moved(&consumer));
    assert_eq!(consumer.recv_ref().err(), Some(RecvError::Moved));
    assert_eq!(producer.reserve(8).err(), Some(SendError::Closed));
}

#[test]
fn values_are_refused_where_they_do_not_fit() {
    let (mut producer, mut consumer) = ring(64).expect("there is room");
    let mut slot = producer.reserve(12).expect("there is room");
    assert_eq!(slot.values_mut::<u32>().expect("three of them").len(), 3);
    assert!(slot.values_mut::<u64>().is_err());
    slot.commit();
    let message = consumer.recv_ref().expect("it is there");
    assert_eq!(message.values::<u32>().expect("three of them").len(), 3);
    assert!(message.values::<u64>().is_err());
}
