//! What values hold on their way, and when it is let go.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex};

use manyhands_shm::{Shared, handoff};

use super::*;
use crate::{Pipe, linger};

#[derive(manyhands_shm::Shareable)]
struct Flagged(AtomicU32);

#[test]
fn handles_are_kept_until_they_are_taken_and_not_longer() {
    let queue = Queue::<Shared<Flagged>>::new().expect("room");
    let value = Shared::new(Flagged(AtomicU32::new(3))).expect("room");
    queue.put(&value).expect("room");
    let name = Shared::handle(&value);
    drop(value);
    let mut value = queue.get().expect("it was kept");
    assert_eq!(Shared::handle(&value), name);
    assert!(
        Shared::get_mut(&mut value).is_none(),
        "the queue keeps it until its next call"
    );
    queue.put(&value).expect("room");
    drop(queue.get().expect("a value"));
    let other = Shared::new(Flagged(AtomicU32::new(4))).expect("room");
    queue.put(&other).expect("room");
    assert!(
        Shared::get_mut(&mut value).is_some(),
        "nobody has it any more"
    );
}

#[test]
fn handles_in_a_queue_that_is_dropped_are_let_go() {
    let value = Shared::new(Flagged(AtomicU32::new(3))).expect("room");
    let mut same = value.clone();
    let queue = Queue::<Shared<Flagged>>::new().expect("room");
    queue.put(&value).expect("room");
    drop(value);
    assert!(Shared::get_mut(&mut same).is_none());
    drop(queue);
    assert!(Shared::get_mut(&mut same).is_some());
}

static DROPPED: AtomicU32 = AtomicU32::new(0);

/// Counts its drops.
#[derive(manyhands_shm::Shareable)]
struct Counted(AtomicU32);

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, SeqCst);
    }
}

#[test]
fn values_that_nobody_gets_are_dropped_as_others_are() {
    let counted = || Shared::new(Counted(AtomicU32::new(1))).expect("room");
    let expected = std::cell::Cell::new(0);
    let one_more = |how: &str| {
        expected.set(expected.get() + 1);
        assert_eq!(DROPPED.load(SeqCst), expected.get(), "{how}");
    };
    let queue = || Queue::<Shared<Counted>>::new().expect("room");
    let (got, unread, shut) = (queue(), queue(), queue());
    got.put(&counted()).expect("room");
    drop(got.get());
    drop(got);
    one_more("a value that was got");
    unread.put(&counted()).expect("room");
    drop(unread);
    one_more("a queue that was dropped");
    shut.put(&counted()).expect("room");
    assert_eq!(shut.shutdown(), 1);
    drop(shut);
    one_more("a queue that was shut down");
    let refused = queue();
    refused.close();
    assert!(refused.put(&counted()).is_err());
    one_more("a value that was refused");

    let pipe = || Pipe::simplex::<Shared<Counted>>().expect("room");
    let (mut sender, mut receiver) = pipe();
    sender.send(&counted()).expect("room");
    drop(receiver.recv());
    drop(sender);
    one_more("a value that was received");
    let (mut sender, receiver) = pipe();
    sender.send(&counted()).expect("room");
    drop(receiver);
    drop(sender);
    one_more("a receiver that was dropped");
    let (mut sender, receiver) = pipe();
    sender.send(&counted()).expect("room");
    drop(sender);
    drop(receiver);
    linger::sweep(None);
    one_more("a receiver that was dropped behind its sender");
}

static FAREWELLS: Mutex<Option<Queue<Shared<AtomicU32>>>> = Mutex::new(None);

/// Puts a value when it is dropped.
#[derive(manyhands_shm::Shareable)]
struct Leaving(AtomicU32);

impl Drop for Leaving {
    fn drop(&mut self) {
        let queue = FAREWELLS.lock().expect("no panic").clone();
        let value = Shared::new(AtomicU32::new(9)).expect("room");
        queue.expect("it is set").put(&value).expect("it is open");
    }
}

/// The queue's own list was locked while the destructors of what had been taken ran.
#[test]
fn simpleq_08_destructor_of_what_was_taken_may_put() {
    let queue = Queue::<Shared<Leaving>>::new().expect("room");
    let parcel = handoff::pack(&queue).expect("in a parcel");
    let mut same: Queue<Shared<AtomicU32>> = handoff::unpack(&parcel.bytes).expect("it is alive");
    same.lingering = Arc::clone(&queue.lingering);
    *FAREWELLS.lock().expect("no panic") = Some(same.clone());
    let leaving = || Shared::new(Leaving(AtomicU32::new(1))).expect("room");
    queue.put(&leaving()).expect("room");
    drop(queue.get().expect("a value"));
    // The first one's destructor runs now.
    queue.put(&leaving()).expect("room");
    drop(queue.get().expect("a value"));
    assert_eq!(same.get().expect("the farewell").load(Relaxed), 9);
    *FAREWELLS.lock().expect("no panic") = None;
    // The second one has nowhere to put.
    std::mem::forget(queue);
}
