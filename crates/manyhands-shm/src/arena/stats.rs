//! A look at what is in the arena.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use manyhands_os::process::Identity;

use super::layout::{LAST_SMALL_CLASS, PAGE, SEATS, class_size};
use super::word::{BlockState, BlockWord, SeatState};
use super::{Arena, Participant};

/// What is in the arena; each number was true at some moment of the look, not all at one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The arena's length in bytes, nearly all without memory behind.
    pub len: u64,
    /// The bytes that are backed by memory now.
    pub resident_bytes: u64,
    /// The size classes that have been used, smallest first.
    pub classes: Vec<ClassStats>,
    /// The processes of the family, and the seats that are kept for some.
    pub holders: Vec<HolderStats>,
}

/// The blocks of one size.
#[derive(Debug, Copy, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ClassStats {
    /// The bytes of each block.
    pub block_size: u64,
    /// How many there can be.
    pub capacity: u64,
    /// Nobody's, and backed by memory.
    pub free_warm: u64,
    /// Nobody's, and not backed by memory.
    pub free_cold: u64,
    /// Used by one process.
    pub owned: u64,
    /// Given to a process that has not accepted them yet.
    pub given: u64,
    /// Held by any number of processes.
    pub shared: u64,
}

/// What one process has.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HolderStats {
    /// Who it is.
    pub participant: Participant,
    /// The process, unless it has not come yet.
    pub identity: Option<Identity>,
    /// Whether it is alive.
    pub is_alive: bool,
    /// The blocks that it owns, or that were given to it.
    pub owned: u64,
    /// Their bytes, as asked for.
    pub owned_bytes: u64,
    /// The shared blocks that it holds.
    pub shared: u64,
    /// Their bytes, as asked for.
    pub shared_bytes: u64,
}

impl Stats {
    /// The blocks in use, of all sizes.
    pub fn used_blocks(&self) -> u64 {
        self.classes
            .iter()
            .map(|class| class.owned + class.given + class.shared)
            .sum()
    }
}

impl Arena {
    /// Looks at every block and every seat.
    pub fn stats(&self) -> Stats {
        let seats: Vec<Option<HolderStats>> =
            (0..SEATS).map(|slot| self.seat_stats(slot)).collect();
        let mut look = Look { arena: self, seats };
        let classes = self
            .memory
            .classes()
            .filter(|class| self.memory.ready(*class) > 0);
        let classes = classes.map(|class| look.class(class)).collect();
        Stats {
            len: self.len(),
            resident_bytes: self.memory.file.resident().unwrap_or(0),
            classes,
            holders: look.seats.into_iter().flatten().collect(),
        }
    }

    fn seat_stats(&self, slot: u16) -> Option<HolderStats> {
        let word = self.seat_word(slot);
        let participant = Participant::new(slot, word.generation());
        (word.state() != SeatState::Free).then(|| HolderStats {
            participant,
            identity: self.identity(participant),
            is_alive: self.is_alive(participant),
            owned: 0,
            owned_bytes: 0,
            shared: 0,
            shared_bytes: 0,
        })
    }
}

struct Look<'a> {
    arena: &'a Arena,
    seats: Vec<Option<HolderStats>>,
}

impl Look<'_> {
    fn class(&mut self, class: usize) -> ClassStats {
        let capacity = self.arena.memory.layout.classes[class].capacity;
        let (block_size, capacity) = (class_size(class), u64::from(capacity));
        let mut stats = ClassStats {
            block_size,
            capacity,
            ..ClassStats::default()
        };
        for index in 0..self.arena.memory.ready(class) {
            self.block(class, index, &mut stats);
        }
        stats
    }

    fn block(&mut self, class: usize, index: u32, stats: &mut ClassStats) {
        let entry = self.arena.memory.entry(class, index);
        // Acquire: what was written before the word shows. Relaxed for the rest: a look.
        let word = BlockWord::from_bits(entry.word.load(Acquire));
        let bytes = u64::from(entry.length.load(Relaxed));
        match word.state() {
            BlockState::Free => {
                let whole = u64::from(entry.warm.load(Relaxed)) * PAGE >= class_size(class);
                let warm = class <= LAST_SMALL_CLASS || whole;
                *if warm {
                    &mut stats.free_warm
                } else {
                    &mut stats.free_cold
                } += 1;
                return;
            }
            BlockState::Owned => stats.owned += 1,
            BlockState::Inbox => stats.given += 1,
            BlockState::Single => {
                stats.shared += 1;
                if let Some(Some(seat)) = self.seats.get_mut(usize::from(word.who().slot())) {
                    seat.shared += 1;
                    seat.shared_bytes += bytes;
                }
                return;
            }
            BlockState::Shared => {
                stats.shared += 1;
                let holders = self.arena.memory.holders(class, index);
                for seat in self.seats.iter_mut().flatten() {
                    if holders.contains(seat.participant.slot()) {
                        seat.shared += 1;
                        seat.shared_bytes += bytes;
                    }
                }
                return;
            }
        }
        if let Some(Some(seat)) = self.seats.get_mut(usize::from(word.who().slot())) {
            seat.owned += 1;
            seat.owned_bytes += bytes;
        }
    }
}
