//! Control: the textbook lock of three states. Nobody knows whether its owner lives.
//!
//! Source: Drepper, "Futexes Are Tricky", mutex 2.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::data::Data;
use super::mutual::{Leaving, Mutual, Taking};
use crate::place::Placed;
use crate::step::{Scene, Subject};
use crate::system;

const FREE: u32 = 0;
const HELD: u32 = 1;
const HELD_WITH_SLEEPERS: u32 = 2;

/// The lock, with its data.
#[repr(C)]
#[derive(Debug)]
pub struct PlainFutex {
    word: AtomicU32,
    data: Data,
}

// SAFETY: atomics only; zero is free; nothing to drop.
unsafe impl Placed for PlainFutex {}

impl PlainFutex {
    fn lock(&self) {
        if self
            .word
            .compare_exchange(FREE, HELD, Acquire, Relaxed)
            .is_ok()
        {
            return;
        }
        while self.word.swap(HELD_WITH_SLEEPERS, Acquire) != FREE {
            system::futex_wait(&self.word, HELD_WITH_SLEEPERS, None);
        }
    }

    fn unlock(&self) {
        if self.word.swap(FREE, Release) == HELD_WITH_SLEEPERS {
            system::futex_wake(&self.word, 1);
        }
    }
}

impl Mutual for PlainFutex {
    const NAME: &'static str = "control: plain futex";
    const TAKING_SCENES: &'static [Scene] = &[Scene::Alone];
    const TAKING_MUST_HANG: &'static [Scene] = Self::TAKING_SCENES;
    const LEAVING_MUST_HANG: &'static [Scene] = Self::LEAVING_SCENES;

    fn take(&self) -> bool {
        self.lock();
        false
    }

    fn leave(&self) {
        self.unlock();
    }

    fn data(&self) -> &Data {
        &self.data
    }
}

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![Taking::<PlainFutex>::NEW, Leaving::<PlainFutex>::NEW]
}
