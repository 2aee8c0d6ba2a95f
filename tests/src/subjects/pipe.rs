//! Handles in the pipe of `manyhands-channel`: what was sent arrives, though its sender is dead and all that he
//! had was taken back; and of what was not sent nothing is left.

use std::cell::RefCell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manyhands_channel::{Pipe, Receiver, RecvError, Sender};
use manyhands_shm::Shared;

use super::family::{self, Letter};
use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};

type Value = Shared<AtomicU64>;

/// What lies in the place beside the pipe.
#[repr(C)]
struct Table {
    sender: Letter,
    receiver: Letter,
    /// How many of the victim's calls have returned.
    returned: AtomicU64,
}

// SAFETY: atomics only; zero is empty; nothing to drop.
unsafe impl Placed for Table {}

thread_local! {
    static SENDER: RefCell<Option<Sender<Value>>> = const { RefCell::new(None) };
}

/// The victim sends handles; the peer receives to the end.
struct Send {
    name: &'static str,
    scenes: &'static [Scene],
    /// Much of it is encoding; to sleep takes long.
    stride: u32,
}

static SENDS: [Send; 2] = [
    Send {
        name: "send handles",
        scenes: &[Scene::Alone],
        stride: 3,
    },
    // The peer takes the first one while the second is sent.
    Send {
        name: "send handles, taken",
        scenes: &[Scene::Watched, Scene::Racing],
        stride: 61,
    },
];

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    SENDS.iter().map(|send| send as &dyn Subject).collect()
}

/// A value of its own for each message.
fn number(count: u64) -> u64 {
    41 + count
}

fn send_two(sender: &mut Sender<Value>, mut returned: impl FnMut(u64)) {
    for count in 0..2 {
        let value = Shared::new(AtomicU64::new(number(count))).expect("the arena is large");
        sender.send(&value).expect("the receiver lives");
        drop(value);
        returned(count + 1);
    }
}

/// Two handles there and back within this process.
fn warm() {
    let (mut sender, mut receiver) = Pipe::simplex_with_capacity(4096).expect("room");
    send_two(&mut sender, |_| drop(receiver.recv().expect("it was sent")));
}

impl Subject for Send {
    fn object(&self) -> &'static str {
        "Pipe"
    }

    fn operation(&self) -> &'static str {
        self.name
    }

    fn scenes(&self) -> &'static [Scene] {
        self.scenes
    }

    fn stride(&self) -> u32 {
        self.stride
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
        let pipe: (Sender<Value>, Receiver<Value>) =
            Pipe::simplex_with_capacity(4096).expect("the arena is large");
        family::send(&table.sender, &pipe.0);
        family::send(&table.receiver, &pipe.1);
    }

    fn audit(&self, _place: Place) -> Outcome {
        family::audit()
    }

    fn reset(&self, _place: Place) {
        family::open();
    }

    fn warm(&self, _spare: Place) {
        warm();
    }

    fn before(&self, place: Place) {
        SENDER.set(Some(family::receive(&place.at::<Table>().sender)));
    }

    fn act(&self, place: Place) {
        let returned = &place.at::<Table>().returned;
        SENDER.with_borrow_mut(|sender| {
            let sender = sender.as_mut().expect("made before");
            send_two(sender, |count| returned.store(count, Release));
        });
    }

    fn peer(&self, place: Place) -> Outcome {
        let table: &Table = place.at();
        let mut receiver: Receiver<Value> = family::receive(&table.receiver);
        // Nobody but the pipe has what the dead had sent.
        family::family().reap_dead();
        let mut count = 0;
        let end = loop {
            match receiver.recv() {
                Ok(value) if value.load(Relaxed) == number(count) => count += 1,
                Ok(_) => return Outcome::Unflagged,
                Err(end) => break end,
            }
        };
        // Acquire: pairs with the Release store of the victim, which is dead.
        let is_all = count >= table.returned.load(Acquire);
        match end {
            RecvError::PeerDied { .. } if is_all => Outcome::OwnerDied,
            RecvError::PeerDied { .. } => Outcome::Lost,
            _ => Outcome::Refused,
        }
    }

    fn settle(&self, _place: Place) -> Outcome {
        warm();
        Outcome::Fine
    }
}
