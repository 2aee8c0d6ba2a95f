//! The ring of `manyhands-channel`: a message is there as a whole or not at all, and the other end
//! always gets on.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use manyhands_channel::ring::{Consumer, Producer, RecvError, SendError, ring};
use manyhands_channel::wait;
use manyhands_sync::Event;

use super::family::{self, Letter};
use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};

/// Bytes in a ring that is never full here.
const ROOMY: usize = 4096;

/// Bytes in a ring that holds one message.
const NARROW: usize = 64;

/// What lies in the place beside the ring.
#[repr(C)]
struct Table {
    producer: Letter,
    consumer: Letter,
    /// How many messages the victim's calls have returned for.
    returned: AtomicU64,
}

// SAFETY: atomics only; zero is empty; nothing to drop.
unsafe impl Placed for Table {}

thread_local! {
    static PRODUCER: RefCell<Option<Producer>> = const { RefCell::new(None) };
    static CONSUMER: RefCell<Option<Consumer>> = const { RefCell::new(None) };
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The victim sends a message of this size, after one that arrives for certain.
struct Send {
    name: &'static str,
    size: usize,
    /// The size of the one before.
    first: usize,
    capacity: usize,
    /// Whether it is written in the ring itself.
    is_in_place: bool,
    /// Whether the peer waits for the ring among other things.
    is_selected: bool,
}

/// The victim takes a message; the peer sends until it is told of the death.
struct Receive {
    name: &'static str,
    /// Whether it is read in the ring itself.
    is_in_place: bool,
}

const SEND: Send = Send {
    name: "send",
    size: 40,
    first: 8,
    capacity: ROOMY,
    is_in_place: false,
    is_selected: false,
};

const IN_PARTS: Send = Send {
    name: "send in parts",
    size: 150,
    capacity: NARROW,
    ..SEND
};

static SENDS: [Send; 6] = [
    SEND,
    IN_PARTS,
    Send {
        name: "send, selected",
        is_selected: true,
        ..SEND
    },
    Send {
        name: "send in parts, selected",
        is_selected: true,
        ..IN_PARTS
    },
    Send {
        name: "reserve and commit",
        is_in_place: true,
        ..SEND
    },
    // It does not fit behind the first one: the end of the ring is skipped, once there is room.
    Send {
        name: "reserve at the end",
        size: 24,
        first: 40,
        capacity: NARROW,
        is_in_place: true,
        ..SEND
    },
];

static RECEIVES: [Receive; 2] = [
    Receive {
        name: "recv",
        is_in_place: false,
    },
    Receive {
        name: "recv_ref",
        is_in_place: true,
    },
];

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    let sends = SENDS.iter().map(|send| send as &dyn Subject);
    let receives = RECEIVES.iter().map(|receive| receive as &dyn Subject);
    sends.chain(receives).collect()
}

/// The bytes of a message tell which it is and how long.
fn message(number: u64, size: usize) -> Vec<u8> {
    (0..size)
        .map(|index| (number as usize * 31 + index) as u8)
        .collect()
}

fn set_up(place: Place, capacity: usize) {
    family::count();
    let table: &Table = place.at();
    let (producer, consumer) = ring(capacity).expect("the arena is large");
    family::send(&table.producer, &producer);
    family::send(&table.consumer, &consumer);
}

/// Receives as who waits for other things too.
fn select(consumer: &mut Consumer, received: &mut Vec<u8>) -> Result<(), RecvError> {
    let other = Arc::new(Event::new());
    loop {
        assert_eq!(wait(&[&other, consumer]).expect("words only"), [1]);
        match consumer.try_recv(received) {
            Err(RecvError::Empty) => {}
            outcome => return outcome,
        }
    }
}

/// One message there and back within this process, in both ways.
fn warm(size: usize) {
    let (mut producer, mut consumer) = ring(ROOMY).expect("the arena is large");
    producer.reserve(size).expect("there is room").commit();
    drop(consumer.recv_ref().expect("it was sent"));
    producer.send(&message(1, size)).expect("there is room");
    consumer
        .recv(&mut Vec::with_capacity(size))
        .expect("it was sent");
}

impl Subject for Send {
    fn object(&self) -> &'static str {
        "Ring"
    }

    fn operation(&self) -> &'static str {
        self.name
    }

    fn scenes(&self) -> &'static [Scene] {
        match self.capacity {
            // The victim waits for room, so there must be somebody who makes it.
            NARROW => &[Scene::Watched],
            _ => &[Scene::Alone, Scene::Watched, Scene::Racing],
        }
    }

    fn has_host(&self) -> bool {
        true
    }

    fn invite(&self) {
        family::invite();
    }

    fn arrive(&self) {
        family::arrive();
    }

    fn set_up(&self, place: Place) {
        set_up(place, self.capacity);
    }

    fn audit(&self, _place: Place) -> Outcome {
        family::audit()
    }

    fn reset(&self, _place: Place) {
        family::open();
    }

    fn warm(&self, _spare: Place) {
        warm(self.size);
    }

    fn before(&self, place: Place) {
        let mut producer: Producer = family::receive(&place.at::<Table>().producer);
        let first = message(1, self.first);
        producer.send(&first).expect("there is room");
        PRODUCER.set(Some(producer));
        BYTES.set(message(2, self.size));
    }

    fn act(&self, place: Place) {
        BYTES.with_borrow(|bytes| {
            PRODUCER.with_borrow_mut(|producer| {
                let producer = producer.as_mut().expect("made before");
                if self.is_in_place {
                    let mut slot = producer.reserve(self.size).expect("the consumer lives");
                    slot.copy_from_slice(bytes);
                    slot.commit();
                } else {
                    producer.send(bytes).expect("the consumer lives");
                }
            });
        });
        place.at::<Table>().returned.store(2, Release);
    }

    fn peer(&self, place: Place) -> Outcome {
        let table: &Table = place.at();
        let mut consumer: Consumer = family::receive(&table.consumer);
        let mut received = Vec::new();
        let mut count = 0;
        let end = loop {
            let outcome = match self.is_selected {
                true => select(&mut consumer, &mut received),
                false => consumer.recv(&mut received),
            };
            match outcome {
                Ok(()) => count += 1,
                Err(end) => break end,
            }
            let size = if count == 1 { self.first } else { self.size };
            if count > 2 || received != message(count, size) {
                return Outcome::Unflagged;
            }
        };
        // Acquire: pairs with the Release store of the victim, which is dead.
        let is_all = count >= table.returned.load(Acquire).max(1);
        match end {
            RecvError::PeerDied { .. } if is_all => Outcome::OwnerDied,
            RecvError::PeerDied { .. } => Outcome::Lost,
            _ => Outcome::Refused,
        }
    }

    fn settle(&self, _place: Place) -> Outcome {
        warm(self.size);
        Outcome::Fine
    }
}

impl Subject for Receive {
    fn object(&self) -> &'static str {
        "Ring"
    }

    fn operation(&self) -> &'static str {
        self.name
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::Watched, Scene::Racing]
    }

    fn has_host(&self) -> bool {
        true
    }

    fn invite(&self) {
        family::invite();
    }

    fn arrive(&self) {
        family::arrive();
    }

    fn set_up(&self, place: Place) {
        family::count();
        let table: &Table = place.at();
        let (mut producer, consumer) = ring(NARROW).expect("the arena is large");
        producer.send(&message(1, 40)).expect("there is room");
        family::send(&table.producer, &producer);
        family::send(&table.consumer, &consumer);
    }

    fn audit(&self, _place: Place) -> Outcome {
        family::audit()
    }

    fn reset(&self, _place: Place) {
        family::open();
    }

    fn warm(&self, _spare: Place) {
        warm(40);
    }

    fn before(&self, place: Place) {
        CONSUMER.set(Some(family::receive(&place.at::<Table>().consumer)));
        BYTES.set(Vec::with_capacity(64));
    }

    fn act(&self, _place: Place) {
        BYTES.with_borrow_mut(|bytes| {
            CONSUMER.with_borrow_mut(|consumer| {
                let consumer = consumer.as_mut().expect("made before");
                if self.is_in_place {
                    let message = consumer.recv_ref().expect("one is there");
                    bytes.extend_from_slice(&message);
                } else {
                    consumer.recv(bytes).expect("one is there");
                }
            });
        });
    }

    fn peer(&self, place: Place) -> Outcome {
        let mut producer: Producer = family::receive(&place.at::<Table>().producer);
        loop {
            match producer.send(&message(1, 40)) {
                Ok(()) => {}
                Err(SendError::PeerDied { .. }) => return Outcome::OwnerDied,
                Err(_) => return Outcome::Refused,
            }
        }
    }

    fn settle(&self, _place: Place) -> Outcome {
        warm(40);
        Outcome::Fine
    }
}
