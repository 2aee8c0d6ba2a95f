//! Pipes between threads; between processes they are tested in the workspace's test package.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use manyhands_shm::{Shared, handoff};

use super::*;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn connection_carries_different_types_each_way() {
    let (mut here, mut there) = Pipe::duplex::<Vec<u32>, String>().expect("there is room");
    thread::scope(|threads| {
        threads.spawn(move || {
            while let Ok(numbers) = there.recv_timeout(LONG) {
                there
                    .send_timeout(&format!("{numbers:?}"), LONG)
                    .expect("it is taken");
            }
        });
        for length in [0, 1, 100, 200_000] {
            let numbers: Vec<u32> = (0..length).collect();
            here.send_timeout(&numbers, LONG).expect("it is taken");
            assert_eq!(
                here.recv_timeout(LONG).expect("an answer"),
                format!("{numbers:?}")
            );
        }
        here.close();
        assert!(matches!(here.send(&Vec::new()), Err(SendError::Moved)));
    });
}

#[test]
fn message_of_another_type_is_an_error_and_the_next_one_is_not() {
    let (mut sender, receiver) = Pipe::simplex::<(u8, Vec<u8>)>().expect("there is room");
    sender.send(&(1, vec![2; 200])).expect("there is room");
    sender.send(&(3, vec![])).expect("there is room");
    // In a parcel the type of a receiver is not checked, so this is how one gets it wrong.
    let parcel = handoff::pack(&receiver).expect("it is ours");
    let mut wrong: Receiver<String> = handoff::unpack(&parcel.bytes).expect("an end of a ring");
    assert!(matches!(wrong.recv(), Err(RecvError::Undecodable(_))));
    let parcel = handoff::pack(&wrong).expect("it is ours");
    let mut right: Receiver<(u8, Vec<u8>)> =
        handoff::unpack(&parcel.bytes).expect("an end of a ring");
    assert_eq!(right.recv().expect("it is right"), (3, vec![]));
}

#[test]
fn value_that_cannot_be_encoded_fails_at_the_call() {
    struct Refusing;
    impl Serialize for Refusing {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let (mut sender, mut receiver) = Pipe::simplex::<Refusing>().expect("there is room");
    assert!(matches!(
        sender.send(&Refusing),
        Err(SendError::Unencodable(_))
    ));
    assert!(
        !receiver
            .poll_timeout(Duration::ZERO)
            .expect("the ring is whole")
    );
}

#[test]
fn shared_object_lives_while_it_is_on_the_way_and_no_longer() {
    let (mut sender, mut receiver) = Pipe::simplex::<Shared<AtomicU64>>().expect("there is room");
    let handles: Vec<_> = (0..3)
        .map(|number| {
            let number = Shared::new(AtomicU64::new(number)).expect("there is room");
            sender.send(&number).expect("there is room");
            Shared::handle(&number)
        })
        .collect();
    assert_eq!(receiver.recv().expect("one is there").load(SeqCst), 0);
    // The sender goes, with two messages on the way; the objects do not.
    drop(sender);
    for (number, handle) in (1..).zip(&handles[1..]) {
        let object = receiver.recv().expect("one is there");
        assert_eq!(object.load(SeqCst), number);
        assert_eq!(Shared::handle(&object), *handle);
    }
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    // The next sender of handles that goes looks through what is left; all was received.
    let (mut sender, receiver) = Pipe::simplex::<Shared<AtomicU64>>().expect("there is room");
    sender
        .send(&Shared::new(AtomicU64::new(9)).expect("there is room"))
        .expect("there is room");
    drop(receiver);
    drop(sender);
}

#[test]
fn connection_travels_through_a_connection_with_what_was_sent_into_it() {
    let (mut post, mut letterbox) =
        Pipe::simplex::<Connection<u8, String>>().expect("there is room");
    let (mut here, mut there) = Pipe::duplex::<String, u8>().expect("there is room");
    here.send(&"before".to_owned()).expect("there is room");
    post.send(&there).expect("there is room");
    assert!(matches!(there.recv(), Err(RecvError::Moved)));
    drop(there);
    let mut there = letterbox.recv().expect("one is there");
    here.send(&"after".to_owned()).expect("there is room");
    assert_eq!(there.recv().expect("one is there"), "before");
    assert_eq!(there.recv().expect("one is there"), "after");
    there.send(&1).expect("there is room");
    assert_eq!(here.recv().expect("one is there"), 1);
}

#[test]
fn connection_in_a_letter_that_nobody_reads_is_closed() {
    let (mut post, letterbox) = Pipe::simplex::<Receiver<u8>>().expect("there is room");
    let (mut sender, receiver) = Pipe::simplex::<u8>().expect("there is room");
    post.send(&receiver).expect("there is room");
    drop(letterbox);
    drop(post);
    assert!(matches!(sender.send(&1), Err(SendError::Closed)));
    // What is not even sent is closed too.
    let (mut post, letterbox) = Pipe::simplex::<Receiver<u8>>().expect("there is room");
    let (mut sender, receiver) = Pipe::simplex::<u8>().expect("there is room");
    drop(letterbox);
    assert!(matches!(post.send(&receiver), Err(SendError::Closed)));
    sender
        .send(&1)
        .expect("a call that failed before encoding has moved nothing");
}

#[test]
fn bytes_in_place_and_bytes_as_values_are_the_same_messages() {
    let (mut sender, mut receiver) = Pipe::simplex_with_capacity::<Vec<u8>>(1 << 18).expect("room");
    for size in [0, 1, 127, 128, 16_383, 16_384, 50_000] {
        let mut slot = sender.reserve(size).expect("there is room");
        slot.fill(3);
        slot.commit();
        sender.send(&vec![4; size]).expect("there is room");
        assert_eq!(receiver.recv().expect("it was sent"), vec![3; size]);
        assert_eq!(*receiver.recv_ref().expect("it was sent"), vec![4; size]);
        let mut slot = sender.try_reserve(size).expect("there is room");
        slot.fill(5);
        slot.commit();
        let message = receiver.try_recv_ref().expect("it was sent");
        assert!(message.is_in_place() && *message == vec![5; size]);
    }
    assert!(matches!(receiver.try_recv_ref(), Err(RecvError::Empty)));
    assert!(matches!(
        sender.reserve(usize::MAX),
        Err(SendError::TooLarge { .. })
    ));
    sender.reserve(9).expect("there is room").fill(1);
    drop(sender);
    assert!(matches!(receiver.recv_ref(), Err(RecvError::Closed)));
}

#[test]
fn connections_of_bytes_work_in_place_both_ways() {
    let (mut here, mut there) = Pipe::duplex::<Vec<u8>, Vec<u8>>().expect("room");
    let long = Duration::from_secs(60);
    let mut slot = here.reserve_timeout(5, long).expect("there is room");
    slot.copy_from_slice(b"there");
    slot.commit();
    assert_eq!(
        *there.recv_ref_timeout(long).expect("it was sent"),
        *b"there"
    );
    let deadline = std::time::Instant::now() + long;
    let mut slot = there.reserve_deadline(4, deadline).expect("there is room");
    slot.copy_from_slice(b"back");
    slot.commit();
    assert_eq!(
        *here.recv_ref_deadline(deadline).expect("it was sent"),
        *b"back"
    );
    assert!(matches!(here.try_recv_ref(), Err(RecvError::Empty)));
}
