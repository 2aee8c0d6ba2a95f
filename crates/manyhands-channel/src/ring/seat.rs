//! Who owns an end of a ring: one word, changed by one compare-and-swap at a time.
//!
//! ```text
//!  63   62 61        48 47                      0
//! +-------+------------+-------------------------+
//! | state |   moves    |   participant (owner)   |
//! +-------+------------+-------------------------+
//! ```
//!
//! | from | to | by |
//! |---|---|---|
//! | open, A | in transit, A, moves + 1 | A, when it packs the end into a parcel |
//! | in transit, A | open, B | B, when it unpacks the parcel; no second one can |
//! | in transit, A | closed | A, when it drops the parcel's holds and nobody had unpacked it |
//! | in transit, A | abandoned | the other end, when A has died |
//! | open, A | closed | A |
//!
//! An end whose owner died stays open: that the owner is dead says enough. The number of moves
//! tells an old parcel from a later one of the same sender; it wraps after 16,384, and a parcel is
//! not kept over so many journeys of what was in it.

use manyhands_shm::arena::Participant;

const PARTICIPANT_BITS: u32 = 48;
const MOVE_BITS: u32 = 14;
const PARTICIPANT_MASK: u64 = (1 << PARTICIPANT_BITS) - 1;
const MOVE_MASK: u64 = (1 << MOVE_BITS) - 1;

/// What an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeatState {
    /// The owner has it.
    Open,
    /// The owner has packed it into a parcel that nobody has unpacked yet.
    InTransit,
    /// The last owner wants no more of it.
    Closed,
    /// The owner died while it was in transit.
    Abandoned,
}

/// The word of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeatWord(u64);

impl SeatWord {
    pub(crate) fn open(owner: Participant) -> Self {
        Self(owner.to_bits() & PARTICIPANT_MASK)
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn state(self) -> SeatState {
        match self.0 >> (PARTICIPANT_BITS + MOVE_BITS) {
            0 => SeatState::Open,
            1 => SeatState::InTransit,
            2 => SeatState::Closed,
            _ => SeatState::Abandoned,
        }
    }

    /// `None` for a word that was never written, or that nobody writes.
    #[inline]
    pub(crate) fn owner(self) -> Option<Participant> {
        Participant::from_bits(self.0 & PARTICIPANT_MASK)
    }

    /// The same end, packed into a parcel.
    pub(crate) fn departed(self) -> Self {
        let moves = (self.moves() + 1) & MOVE_MASK;
        Self(self.0 & PARTICIPANT_MASK | moves << PARTICIPANT_BITS).with(SeatState::InTransit)
    }

    /// The same end, unpacked by `owner`.
    pub(crate) fn arrived(self, owner: Participant) -> Self {
        Self(SeatWord::open(owner).0 | self.moves() << PARTICIPANT_BITS)
    }

    pub(crate) fn with(self, state: SeatState) -> Self {
        let bits: u64 = match state {
            SeatState::Open => 0,
            SeatState::InTransit => 1,
            SeatState::Closed => 2,
            SeatState::Abandoned => 3,
        };
        let rest = self.0 & (PARTICIPANT_MASK | MOVE_MASK << PARTICIPANT_BITS);
        Self(rest | bits << (PARTICIPANT_BITS + MOVE_BITS))
    }

    /// Which of the two identities beside the word is the owner's.
    pub(crate) fn identity_index(self) -> usize {
        let moves = match self.state() {
            SeatState::Open | SeatState::Closed => self.moves(),
            // Counted already, but the owner is still the one before the move.
            SeatState::InTransit | SeatState::Abandoned => self.moves() + 1,
        };
        (moves & 1) as usize
    }

    fn moves(self) -> u64 {
        self.0 >> PARTICIPANT_BITS & MOVE_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_keeps_its_owner_through_every_state_and_counts_its_moves() {
        let owner = Participant::from_bits(7 << 16 | 3).expect("a seat and a generation");
        let heir = Participant::from_bits(9 << 16 | 4).expect("a seat and a generation");
        let mut word = SeatWord::open(owner);
        assert_eq!((word.state(), word.owner()), (SeatState::Open, Some(owner)));
        for moves in 1..=MOVE_MASK + 2 {
            let before = word.identity_index();
            word = word.departed();
            assert_eq!(word.state(), SeatState::InTransit);
            assert_eq!(word.identity_index(), before);
            assert_eq!(word.moves(), moves & MOVE_MASK);
            word = word.arrived(heir);
            assert_ne!(word.identity_index(), before);
            assert_eq!((word.state(), word.owner()), (SeatState::Open, Some(heir)));
        }
        for state in [SeatState::Closed, SeatState::Abandoned] {
            assert_eq!(word.with(state).state(), state);
            assert_eq!(word.with(state).owner(), Some(heir));
        }
    }
}
