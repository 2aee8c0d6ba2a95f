//! Control: Vyukov's bounded queue of many writers. A writer that dies between its claim and its
//! publication leaves a slot that no reader can pass.
//!
//! Source: Vyukov's bounded queue, <https://www.1024cores.net/home/lock-free-algorithms/queues>.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};
use crate::system;

const SLOTS: u64 = 4;

#[repr(C)]
struct Slot {
    /// The position that may be written next, or, plus one, read next; minus the slot's index.
    turn: AtomicU64,
    message: AtomicU64,
}

#[repr(C)]
struct Ring {
    head: AtomicU64,
    tail: AtomicU64,
    /// Counts publications; a reader that finds nothing sleeps on it.
    published: AtomicU32,
    slots: [Slot; SLOTS as usize],
}

// SAFETY: atomics only; zero is an empty ring; nothing to drop.
unsafe impl Placed for Ring {}

impl Ring {
    fn push(&self) {
        let mut position = self.tail.load(Relaxed);
        loop {
            let index = position % SLOTS;
            let turn = self.slots[index as usize].turn.load(Acquire) + index;
            if turn == position
                && self
                    .tail
                    .compare_exchange_weak(position, position + 1, Relaxed, Relaxed)
                    .is_ok()
            {
                break;
            }
            position = self.tail.load(Relaxed);
        }
        let index = position % SLOTS;
        let slot = &self.slots[index as usize];
        slot.message.store(1, Relaxed);
        slot.turn.store(position + 1 - index, Release);
        self.published.fetch_add(1, Release);
        system::futex_wake(&self.published, i32::MAX);
    }

    /// Takes one message; only one reader at a time in this test.
    fn pop(&self) {
        loop {
            let published = self.published.load(Acquire);
            let position = self.head.load(Relaxed);
            let index = position % SLOTS;
            let slot = &self.slots[index as usize];
            if slot.turn.load(Acquire) + index == position + 1 {
                self.head.store(position + 1, Relaxed);
                slot.turn.store(position + SLOTS - index, Release);
                return;
            }
            system::futex_wait(&self.published, published, None);
        }
    }
}

struct Push;

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![&Push]
}

impl Subject for Push {
    fn object(&self) -> &'static str {
        "control: slot ring"
    }

    fn operation(&self) -> &'static str {
        "push"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::Watched]
    }

    fn must_hang(&self) -> &'static [Scene] {
        self.scenes()
    }

    fn reset(&self, _place: Place) {}

    fn warm(&self, spare: Place) {
        let ring: &Ring = spare.at();
        ring.push();
        ring.pop();
    }

    fn act(&self, place: Place) {
        place.at::<Ring>().push();
    }

    fn peer(&self, place: Place) -> Outcome {
        place.at::<Ring>().pop();
        Outcome::Fine
    }

    fn is_waiting_right(&self, place: Place) -> bool {
        let ring: &Ring = place.at();
        ring.tail.load(Acquire) == ring.head.load(Acquire)
    }

    fn settle(&self, place: Place) -> Outcome {
        place.at::<Ring>().push();
        Outcome::Fine
    }
}
