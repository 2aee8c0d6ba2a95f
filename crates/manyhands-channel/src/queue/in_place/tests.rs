//! Messages that are blocks: where their memory is, and when it is free.

use super::*;
use crate::queue::tests::SOON;

/// What is longer than 512 bytes is a block of its own here.
fn queue(items: usize) -> Queue<Vec<u8>> {
    let queue = Queue::builder().items(items).bytes(4096).build();
    queue.expect("room")
}

fn put(queue: &Queue<Vec<u8>>, size: usize, byte: u8) {
    let mut slot = queue.reserve(size).expect("room");
    slot.fill(byte);
    slot.commit().expect("room");
}

fn has_blocks<T>(queue: &Queue<T>) -> bool {
    queue.raw.region().has_deposits()
}

#[test]
fn number_in_front_is_one_that_postcard_reads() {
    for number in [0, 1, 127, 128, 300, 1 << 30, (1 << 40) + 17, MOST - 1] {
        let bytes = long_varint(number);
        let read = postcard::take_from_bytes::<u64>(&bytes).expect("a number");
        assert_eq!(read, (number, &[][..]));
    }
}

#[test]
fn what_is_put_in_place_is_got_in_every_way() {
    let queue = queue(5);
    for size in [0, 1, 7, 511, 513, 100_000, 3 << 20] {
        for _ in 0..4 {
            put(&queue, size, size as u8);
        }
        let expected = vec![size as u8; size];
        assert_eq!(queue.get().expect("a value"), expected);
        let message = queue.get_ref().expect("a message");
        assert!(message.is_in_place() && *message == expected[..]);
        let lease = queue.lease().expect("a value");
        assert_eq!(*lease, expected);
        drop(lease);
        let lease = queue.lease().expect("it came back");
        assert!(lease.redeliveries() == 1 && lease.commit().expect("ours") == expected);
        assert_eq!(queue.get_many(5).expect("a value"), [expected]);
        assert!(queue.is_empty() && !has_blocks(&queue));
    }
}

#[test]
fn what_is_put_by_value_is_got_where_it_lies() {
    let queue = queue(5);
    for size in [0, 1, 300, 3000] {
        let value: Vec<u8> = (0..size).map(|index| index as u8).collect();
        queue.put(&value).expect("room");
        let message = queue.try_get_ref().expect("a message");
        assert!(message.is_in_place() == (size == 3000) && *message == value[..]);
    }
    assert!(matches!(queue.try_get_ref(), Err(GetError::Empty)));
    assert!(matches!(
        queue.get_ref_timeout(SOON),
        Err(GetError::TimedOut)
    ));
    let now = Instant::now();
    assert!(matches!(
        queue.get_ref_deadline(now),
        Err(GetError::TimedOut)
    ));
    queue.close();
    assert!(matches!(queue.get_ref(), Err(GetError::Closed)));
    assert!(matches!(queue.reserve(5), Err(PutError::Closed)));
}

#[test]
fn values_begin_where_eight_bytes_may() {
    let queue = queue(5);
    let mut slot = queue.reserve(24).expect("room");
    slot.values_mut::<u64>()
        .expect("three of them")
        .copy_from_slice(&[1, 2, 3]);
    assert!(slot.values_mut::<[u8; 5]>().is_err());
    slot.commit().expect("room");
    let message = queue.get_ref().expect("a message");
    assert_eq!(message.values::<u64>().expect("three of them"), [1, 2, 3]);
    assert!(message.values::<[u8; 5]>().is_err());
}

#[test]
fn slot_that_is_refused_can_be_committed_later() {
    let queue = queue(1);
    put(&queue, 10, 1);
    let mut slot = queue.reserve(600).expect("room");
    slot.fill(2);
    let refused = slot.try_commit().expect_err("it is full");
    assert!(matches!(refused.error, PutError::Full));
    let refused = refused.slot.commit_timeout(SOON).expect_err("it is full");
    assert!(matches!(refused.error, PutError::TimedOut));
    let deadline = Instant::now() + SOON;
    let refused = refused.slot.commit_deadline(deadline).expect_err("full");
    assert!(matches!(refused.error, PutError::TimedOut));
    assert_eq!(refused.slot.len(), 600);
    drop(queue.get());
    refused.slot.try_commit().expect("there is room now");
    assert_eq!(*queue.get_ref().expect("a message"), [2; 600]);
    let slot = queue.reserve(5).expect("room");
    queue.close();
    let refused = slot.commit().expect_err("it is closed");
    assert!(matches!(refused.error, PutError::Closed));
}

#[test]
fn message_outlives_its_queue_and_slots_may_be_dropped() {
    let message = {
        let queue = queue(5);
        drop(queue.reserve(1000).expect("room"));
        put(&queue, 1000, 3);
        queue.get_ref().expect("a message")
    };
    assert_eq!(*message, [3; 1000]);
}

#[test]
fn size_that_no_block_has_is_refused() {
    let queue = queue(5);
    for size in [2 << 30, 1 << 60, usize::MAX] {
        let error = queue.reserve(size).expect_err("too large");
        assert!(matches!(error, PutError::NoSpace(space) if space.asked == size));
    }
}

#[test]
fn shutdown_frees_what_is_dropped() {
    let queue = queue(9);
    for size in [10, 600, 5000] {
        put(&queue, size, 1);
        queue.put(&vec![1; size]).expect("room");
    }
    let (first, second) = (queue.lease().expect("one"), queue.lease().expect("one"));
    drop(first);
    let first = queue.lease().expect("it came back");
    assert_eq!(queue.shutdown(), 4);
    assert!(has_blocks(&queue), "one is leased still");
    drop(first);
    assert!(!has_blocks(&queue));
    assert_eq!(second.commit().expect("ours"), [1; 10]);
    assert!(matches!(queue.get_ref(), Err(GetError::Closed)));
}

/// As who dies between the two steps of a call leaves it.
#[test]
fn record_whose_block_is_gone_is_passed_over() {
    let queue = queue(5);
    for byte in 1..=4 {
        put(&queue, 600, byte);
    }
    let withdraw_first = |message: crate::queue::message::Front| {
        let handle = queue.raw.block_of(message).expect("a block");
        crate::queue::ground::withdraw(&queue.raw.memory, handle).expect("mapped")
    };
    let front = || {
        let _inside = queue.raw.enter_get(Deadline::NEVER).expect("no deadline");
        let first = queue.raw.first(false).expect("whole");
        first.expect("a message")
    };
    drop(withdraw_first(front()));
    assert_eq!(*queue.get_ref().expect("the second"), [2; 600]);
    // Of a lease that was about to be committed.
    let lease = queue.lease().expect("the third");
    drop(lease);
    drop(withdraw_first(front()));
    assert_eq!(*queue.lease().expect("the fourth"), vec![4; 600]);
    assert_eq!(queue.get().expect("it came back"), [4; 600]);
    assert!(queue.is_empty() && !has_blocks(&queue));
    let stats = queue.stats();
    assert!(stats.unfinished == 3 && stats.leased == 0, "{stats:?}");
}
