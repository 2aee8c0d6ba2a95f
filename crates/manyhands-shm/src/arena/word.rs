//! The 64-bit words that name who is responsible for a block or a seat.
//!
//! ```text
//!  63            32 31        16 15        0
//! +----------------+------------+-----------+
//! |   generation   |    who     |   state   |   a block: `who` owns it or is to receive it
//! +----------------+------------+-----------+
//! |   generation   |   parent   |   state   |   a seat: `parent` reserved it
//! +----------------+------------+-----------+
//! ```
//!
//! All zero is a valid word: a block that nobody ever used, a seat that nobody ever took. So fresh
//! pages need no initialization.

/// Which incarnation of which seat: `slot:9 | tag:7`, the tag being the low bits of the seat's
/// generation.
///
/// The tag lets a block word that was written a moment too late, for a process that was already
/// cleaned up, be told from a word of the seat's next user. It wraps after 128 incarnations, and
/// each of them ends with a sweep over all blocks, so an old word is gone long before.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub(crate) struct Who(u16);

const SLOT_BITS: u32 = 9;

impl Who {
    pub(crate) const NOBODY: Who = Who(0);

    pub(crate) const fn new(slot: u16, generation: u32) -> Who {
        // The cast keeps the low 16 bits of the generation; the shift leaves 7 of them.
        Who((generation as u16) << SLOT_BITS | slot & ((1 << SLOT_BITS) - 1))
    }

    pub(crate) const fn slot(self) -> u16 {
        self.0 & ((1 << SLOT_BITS) - 1)
    }

    /// Whether this names the incarnation `generation` of its seat.
    pub(crate) const fn is_incarnation(self, generation: u32) -> bool {
        Who::new(self.slot(), generation).0 == self.0
    }
}

/// What a block is.
#[derive(Debug, Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BlockState {
    /// Nobody's; anyone may claim it.
    Free,
    /// `who` alone may touch it.
    Owned,
    /// Given to `who`, who has not accepted it yet.
    Inbox,
    /// Alive while its holder set has a bit; `who` is nobody.
    Shared,
    /// Shared, but `who` is the only holder yet; the holder set means nothing.
    Single,
    /// Lies in the shared block that its entry names, and lives as long; `who` is nobody.
    Deposited,
}

/// The word of a block.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub(crate) struct BlockWord(u64);

/// Said by a block word in the upper bit of its state: the block holds those that it lists.
const HOLDING: u64 = 1 << 15;

impl BlockWord {
    pub(crate) const fn from_bits(bits: u64) -> BlockWord {
        BlockWord(bits)
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) const fn who(self) -> Who {
        Who((self.0 >> 16) as u16)
    }

    pub(crate) const fn state(self) -> BlockState {
        match (self.0 & (HOLDING - 1)) as u16 {
            1 => BlockState::Owned,
            2 => BlockState::Inbox,
            3 => BlockState::Shared,
            4 => BlockState::Single,
            5 => BlockState::Deposited,
            // No other value is ever written.
            _ => BlockState::Free,
        }
    }

    /// The same incarnation of the block in another state.
    pub(crate) const fn with(self, state: BlockState, who: Who) -> BlockWord {
        let state = match state {
            BlockState::Free => 0,
            BlockState::Owned => 1,
            BlockState::Inbox => 2,
            BlockState::Shared => 3,
            BlockState::Single => 4,
            BlockState::Deposited => 5,
        };
        let rest = self.0 & (!0xffff_ffff | HOLDING);
        BlockWord(rest | (who.0 as u64) << 16 | state)
    }

    /// Whether the block holds others; it does until it is free.
    pub(crate) const fn is_holding(self) -> bool {
        self.0 & HOLDING != 0
    }

    /// The same, of a block that holds others.
    pub(crate) const fn holding(self) -> BlockWord {
        BlockWord(self.0 | HOLDING)
    }

    /// Free again: handles of the former incarnation no longer fit.
    pub(crate) const fn freed(self) -> BlockWord {
        BlockWord((next(self.generation()) as u64) << 32)
    }

    /// The next incarnation, in the same state: handles of the former one no longer fit.
    pub(crate) const fn renewed(self) -> BlockWord {
        BlockWord(self.0 & 0xffff_ffff | (next(self.generation()) as u64) << 32)
    }
}

/// Generation 0 does not come again: a block of it has never been written into.
const fn next(generation: u32) -> u32 {
    match generation.wrapping_add(1) {
        0 => 1,
        next => next,
    }
}

/// What a seat is.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub(crate) enum SeatState {
    /// Nobody's.
    Free,
    /// Kept by its parent for a child that has not joined yet.
    Reserved,
    /// A process sits here.
    Taken,
    /// Its process has ended, or will never come; its things are being taken back.
    Ending,
}

/// The word of a seat.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub(crate) struct SeatWord(u64);

impl SeatWord {
    pub(crate) const fn from_bits(bits: u64) -> SeatWord {
        SeatWord(bits)
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn new(generation: u32, parent: Who, state: SeatState) -> SeatWord {
        let state = match state {
            SeatState::Free => 0,
            SeatState::Reserved => 1,
            SeatState::Taken => 2,
            SeatState::Ending => 3,
        };
        SeatWord((generation as u64) << 32 | (parent.0 as u64) << 16 | state)
    }

    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) const fn parent(self) -> Who {
        Who((self.0 >> 16) as u16)
    }

    pub(crate) const fn state(self) -> SeatState {
        match self.0 as u16 {
            1 => SeatState::Reserved,
            2 => SeatState::Taken,
            3 => SeatState::Ending,
            _ => SeatState::Free,
        }
    }

    /// The same incarnation of the seat in another state.
    pub(crate) const fn with(self, state: SeatState) -> SeatWord {
        SeatWord::new(self.generation(), self.parent(), state)
    }

    /// The next incarnation, kept for a child of `parent`. Generation 0 is skipped: a participant
    /// is never all zero.
    pub(crate) const fn reserved_next(self, parent: Who) -> SeatWord {
        SeatWord::new(next(self.generation()), parent, SeatState::Reserved)
    }
}

#[cfg(test)]
mod tests;
