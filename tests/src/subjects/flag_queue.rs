//! Control: a queue whose sender clears the waiting flag before it wakes the waiter.
//!
//! The ring is guarded by a robust mutex, so nothing is torn; 30,000 random kills passed a queue of
//! this kind. Killed between the clearing and the wake, the sender leaves a sleeper that no later
//! sender knows of. The same queue with wake, commit, clear in this order is swept too, and passes.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::pthread_mutex::RobustMutex;
use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};
use crate::system;

const SLOTS: u64 = 8;

/// A message is never 0.
const MESSAGE: u64 = 7;

#[repr(C)]
struct Queue {
    mutex: RobustMutex,
    /// 1 while a receiver sleeps on this word.
    waiting: AtomicU32,
    head: AtomicU64,
    tail: AtomicU64,
    slots: [AtomicU64; SLOTS as usize],
}

// SAFETY: every field is `Placed` or an array of atomics.
unsafe impl Placed for Queue {}

impl Queue {
    fn send(&self, order: Order) {
        self.mutex.lock();
        let tail = self.tail.load(Relaxed);
        self.slots[(tail % SLOTS) as usize].store(MESSAGE, Relaxed);
        match order {
            Order::ClearThenWake => {
                self.tail.store(tail + 1, Release);
                if self.waiting.swap(0, Relaxed) == 1 {
                    system::futex_wake(&self.waiting, 1);
                }
            }
            Order::WakeThenClear => {
                // The receiver wakes and blocks on the mutex; if we die, it gets it.
                if self.waiting.load(Relaxed) == 1 {
                    system::futex_wake(&self.waiting, 1);
                }
                self.tail.store(tail + 1, Release);
                self.waiting.store(0, Relaxed);
            }
        }
        self.mutex.unlock();
    }

    fn receive(&self) -> Outcome {
        self.mutex.lock();
        loop {
            let head = self.head.load(Relaxed);
            if head != self.tail.load(Relaxed) {
                let message = self.slots[(head % SLOTS) as usize].swap(0, Relaxed);
                self.head.store(head + 1, Release);
                self.mutex.unlock();
                return if message == MESSAGE {
                    Outcome::Fine
                } else {
                    Outcome::Lost
                };
            }
            self.waiting.store(1, Relaxed);
            self.mutex.unlock();
            system::futex_wait(&self.waiting, 1, None);
            self.mutex.lock();
        }
    }

    fn is_empty(&self) -> bool {
        self.head.load(Acquire) == self.tail.load(Acquire)
    }
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Order {
    ClearThenWake,
    WakeThenClear,
}

struct Send(Order);

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![&Send(Order::ClearThenWake), &Send(Order::WakeThenClear)]
}

impl Subject for Send {
    fn object(&self) -> &'static str {
        "control: flag queue"
    }

    fn operation(&self) -> &'static str {
        match self.0 {
            Order::ClearThenWake => "send, flag then wake",
            Order::WakeThenClear => "send, wake then flag",
        }
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::Watched]
    }

    fn must_hang(&self) -> &'static [Scene] {
        match self.0 {
            Order::ClearThenWake => &[Scene::Watched],
            Order::WakeThenClear => &[],
        }
    }

    fn reset(&self, place: Place) {
        place.at::<Queue>().mutex.initialize();
    }

    fn warm(&self, spare: Place) {
        let queue: &Queue = spare.at();
        queue.send(self.0);
        queue.receive();
    }

    fn act(&self, place: Place) {
        place.at::<Queue>().send(self.0);
    }

    fn peer(&self, place: Place) -> Outcome {
        place.at::<Queue>().receive()
    }

    fn is_waiting_right(&self, place: Place) -> bool {
        place.at::<Queue>().is_empty()
    }

    fn settle(&self, place: Place) -> Outcome {
        place.at::<Queue>().send(self.0);
        Outcome::Fine
    }
}
