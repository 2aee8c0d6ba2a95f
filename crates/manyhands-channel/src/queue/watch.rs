//! Waiting for a queue among other things.

use manyhands_os::Deadline;
use manyhands_os::futex::Scope;
use manyhands_shm::arena::Participant;

use super::layout::SEALED;
use super::raw::RawQueue;
use crate::primitive::AtomicU32;
use crate::ring::record_size;
use crate::select::bed::{self, Bed, Place};
use crate::select::source::InMemory;

impl RawQueue {
    /// What consumers sleep on.
    pub(crate) fn items_word(&self) -> &AtomicU32 {
        &self.head().items.0.notice.0.sequence
    }

    /// What producers sleep on.
    pub(crate) fn room_word(&self) -> &AtomicU32 {
        &self.head().room.0.notice.0.sequence
    }

    /// Gives back what the dead have leased.
    fn recall(&self) {
        if let Some(_inside) = self.enter_get(Deadline::NEVER) {
            self.give_back_for_the_dead(|_| ());
        }
    }
}

/// Room in a queue for a record.
#[derive(Clone, Debug)]
pub(crate) struct QueueRoom {
    queue: RawQueue,
    /// The bytes of the record.
    pub(crate) size: u64,
}

impl QueueRoom {
    /// Room for any one message.
    pub(crate) fn for_any(queue: &RawQueue) -> Self {
        Self {
            queue: queue.clone(),
            size: record_size(queue.longest()),
        }
    }
}

impl InMemory for QueueRoom {
    fn is_ready(&self) -> bool {
        self.queue.looks_roomy(self.size) || self.queue.is_closing()
    }

    /// As for a message: this takes nobody's turn.
    fn lie_down(&self, deadline: Deadline) -> Option<Bed> {
        if self.queue.is_closing() {
            self.queue.seal(SEALED);
            return None;
        }
        Some(Bed {
            place: Place::Room(self.queue.clone()),
            expected: self.queue.lie_down_for_room(self.size, deadline)?,
            scope: Scope::Shared,
            lives: Vec::new(),
        })
    }

    fn remote(&self) -> Box<dyn InMemory + Send> {
        Box::new(self.clone())
    }
}

impl InMemory for RawQueue {
    fn is_ready(&self) -> bool {
        if !self.has_news() && self.leased() > 0 {
            self.recall();
        }
        self.has_news()
    }

    /// Whoever wakes one consumer wakes all who sleep on the word, so this takes nobody's turn.
    fn lie_down(&self, deadline: Deadline) -> Option<Bed> {
        let bed = self.lie_down_for_items(deadline)?;
        let holders = bed.holders.as_slice().iter();
        let lives = holders.map(|who| Participant::from_bits(*who).and_then(bed::seen));
        Some(Bed {
            place: Place::Queue(self.clone()),
            expected: bed.expected,
            scope: Scope::Shared,
            lives: lives.collect::<Option<_>>()?,
        })
    }

    fn remote(&self) -> Box<dyn InMemory + Send> {
        Box::new(self.clone())
    }
}
