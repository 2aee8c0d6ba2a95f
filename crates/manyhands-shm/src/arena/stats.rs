//! A look at what is in the arena.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use manyhands_os::process::Identity;

use super::layout::{LAST_SMALL_CLASS, PAGE, SEATS, class_size};
use super::word::{BlockState, BlockWord, SeatState};
use super::{Arena, Participant, joined};

/// What is in this family's arena; `None` while this process has no arena.
///
/// It looks at every block that was ever used, so it is for once a second, not for every task. The
/// numbers are there for metrics, the text for people.
///
/// # Examples
///
/// ```
/// use manyhands_shm::{Region, arena};
///
/// let region = Region::new(1000)?;
/// let stats = arena::stats().expect("the region lies in it");
/// assert!(stats.used_blocks() >= 1 && stats.used_bytes() >= 1000);
/// assert!(stats.resident_bytes >= stats.used_bytes());
///
/// let me = arena::family()?.me();
/// let mine = stats.holders.iter().find(|holder| holder.participant == me);
/// assert!(mine.is_some_and(|mine| mine.shared >= 1 && mine.shared_bytes >= 1000));
/// println!("{stats}");
/// # Ok::<(), manyhands_shm::NoSpace>(())
/// ```
///
/// ```text
/// arena of 64.0 GiB: 392.0 KiB backed by memory; 2 blocks in use, 1.1 KiB of them; 254.9 KiB free and backed
///   block size     owned     given    shared deposited   free, backed   free
///        128 B         1         0         0         0            511      0
///       1.0 KiB        0         0         1         0            191      0
///   participant 0/1, process 4711: owns 1 (100 B), shares 1 (1000 B)
/// ```
pub fn stats() -> Option<Stats> {
    joined().map(Arena::stats)
}

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
    /// Held by a shared block: messages of a queue, say.
    pub deposited: u64,
    /// The bytes of the blocks that are in use, as asked for.
    pub used_bytes: u64,
}

/// What one process has.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HolderStats {
    /// Who it is.
    pub participant: Participant,
    /// The process, unless it has not come yet.
    pub identity: Option<Identity>,
    /// Whether it is alive. One that is not has its blocks until all its threads are gone, and
    /// somebody reaps it.
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
            .map(|class| class.owned + class.given + class.shared + class.deposited)
            .sum()
    }

    /// The bytes of the blocks in use, as asked for; those of a shared block once.
    pub fn used_bytes(&self) -> u64 {
        self.classes.iter().map(|class| class.used_bytes).sum()
    }

    /// The bytes of the unused blocks that are backed by memory; [`Arena::trim`] gives those of more
    /// than a page back.
    pub fn free_warm_bytes(&self) -> u64 {
        self.classes
            .iter()
            .map(|class| class.free_warm * class.block_size)
            .sum()
    }
}

/// For people; the numbers are in the fields.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "arena of {}: {} backed by memory; {} blocks in use, {} of them; {} free and backed",
            Bytes(self.len),
            Bytes(self.resident_bytes),
            self.used_blocks(),
            Bytes(self.used_bytes()),
            Bytes(self.free_warm_bytes()),
        )?;
        write!(
            f,
            "{:>12} {:>9} {:>9} {:>9} {:>9} {:>14} {:>6}",
            "block size", "owned", "given", "shared", "deposited", "free, backed", "free"
        )?;
        for class in &self.classes {
            let size = Bytes(class.block_size).to_string();
            write!(
                f,
                "\n{size:>12} {:>9} {:>9} {:>9} {:>9} {:>14} {:>6}",
                class.owned,
                class.given,
                class.shared,
                class.deposited,
                class.free_warm,
                class.free_cold
            )?;
        }
        self.holders
            .iter()
            .try_for_each(|holder| write!(f, "\n  {holder}"))
    }
}

impl fmt::Display for HolderStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", self.participant)?;
        match (self.identity, self.is_alive) {
            (Some(identity), true) => write!(f, "{identity}"),
            (None, true) => write!(f, "not here yet"),
            (_, false) => write!(f, "dead"),
        }?;
        write!(
            f,
            ": owns {} ({}), shares {} ({})",
            self.owned,
            Bytes(self.owned_bytes),
            self.shared,
            Bytes(self.shared_bytes),
        )
    }
}

/// A number of bytes for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match UNITS.iter().find(|(shift, _)| self.0 >> shift > 0) {
            Some((shift, unit)) => {
                write!(f, "{:.1} {unit}", self.0 as f64 / (1_u64 << shift) as f64)
            }
            None => write!(f, "{} B", self.0),
        }
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
            .filter(|class| self.blocks(*class).next().is_some());
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
        let memory = &self.arena.memory;
        let mut stats = ClassStats {
            block_size: class_size(class),
            capacity: u64::from(memory.capacity(class)) * u64::from(memory.windows()),
            ..ClassStats::default()
        };
        for index in self.arena.blocks(class) {
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
            BlockState::Single | BlockState::Shared => stats.shared += 1,
            BlockState::Deposited => stats.deposited += 1,
        }
        stats.used_bytes += bytes;
        if word.state() == BlockState::Shared {
            let holders = self.arena.memory.holders(class, index);
            for seat in self.seats.iter_mut().flatten() {
                if holders.contains(seat.participant.slot()) {
                    seat.shared += 1;
                    seat.shared_bytes += bytes;
                }
            }
        } else if word.state() != BlockState::Deposited
            && let Some(Some(seat)) = self.seats.get_mut(usize::from(word.who().slot()))
        {
            let (count, sum) = match word.state() {
                BlockState::Single => (&mut seat.shared, &mut seat.shared_bytes),
                _ => (&mut seat.owned, &mut seat.owned_bytes),
            };
            *count += 1;
            *sum += bytes;
        }
    }
}
