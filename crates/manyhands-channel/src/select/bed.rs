//! What one sleeps on.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::futex::{Scope, Watch};
use manyhands_shm::Shared;
use manyhands_shm::arena::Participant;
use manyhands_sync::Event;
use manyhands_sync::life::Seen;

use crate::queue::RawQueue;
use crate::ring::View;

/// A word, what it must hold, and the lives that must last. It keeps its memory.
#[derive(Debug)]
pub struct Bed {
    pub(crate) place: Place,
    pub(crate) expected: u32,
    pub(crate) scope: Scope,
    pub(crate) lives: Vec<Seen<'static>>,
}

/// Where the word lies.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Ring(View),
    Queue(RawQueue),
    /// That of those who wait for room in it.
    Room(RawQueue),
    Shared(Shared<Event>),
    Local(Arc<Event>),
    Static(&'static Event),
}

impl Place {
    fn word(&self) -> &AtomicU32 {
        match self {
            Self::Ring(view) => view.parking().word(),
            Self::Queue(queue) => queue.items_word(),
            Self::Room(queue) => queue.room_word(),
            Self::Shared(event) => event.word(),
            Self::Local(event) => event.word(),
            Self::Static(event) => event.word(),
        }
    }
}

impl Bed {
    pub(crate) fn watch(&self) -> Watch<'_> {
        Watch {
            word: self.place.word(),
            expected: self.expected,
            scope: self.scope,
        }
    }

    /// Of how many words the kernel is told.
    pub(crate) fn size(&self) -> usize {
        1 + self.lives.len()
    }

    /// Whether somebody has woken who sleeps on it. Everybody changes the word before.
    pub(crate) fn is_disturbed(&self) -> bool {
        // Relaxed: whoever is told looks again.
        let word = self.place.word().load(Relaxed);
        word != self.expected || self.lives.iter().any(Seen::has_ended)
    }
}

/// The life of a process as it is now; `None` when it is over and cleaned up.
pub(crate) fn seen(who: Participant) -> Option<Seen<'static>> {
    let seen = Seen::new(who.life()?);
    // Asked again: what was seen is this process's only if it is there still.
    who.life().map(|_| seen)
}
