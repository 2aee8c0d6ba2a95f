//! Participants: the processes of a family, and the seats that they sit on.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manyhands_os::process::Identity;
use manyhands_sync::life::LifeWord;
use serde::{Deserialize, Serialize};

use super::layout::{SEATS, SeatRecord};
use super::memory::Memory;
use super::word::{SeatState, SeatWord, Who};
use super::{Arena, joined};
use crate::error::{NoSpace, ShortOf};

/// One process of the family, never to be mistaken for a later one on the same seat.
///
/// # Examples
///
/// ```
/// use manyhands_shm::arena::{self, Participant};
///
/// let me = arena::family()?.me();
/// assert!(me.is_alive());
/// assert_eq!(Participant::from_bits(me.to_bits()), Some(me));
/// assert_eq!(me.identity().map(|identity| identity.pid), Some(std::process::id()));
/// # Ok::<(), manyhands_shm::ArenaError>(())
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Participant {
    slot: u16,
    generation: u32,
}

impl Participant {
    pub(crate) const fn new(slot: u16, generation: u32) -> Participant {
        Participant { slot, generation }
    }

    /// The participant behind a word, `None` when it is none.
    #[inline]
    pub fn from_bits(bits: u64) -> Option<Participant> {
        let slot = bits as u16;
        let generation = u32::try_from(bits >> 16)
            .ok()
            .filter(|generation| *generation != 0)?;
        (slot < SEATS).then_some(Participant { slot, generation })
    }

    /// The participant in one word, which is never zero: `generation:32 | slot:16`.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 16 | u64::from(self.slot)
    }

    /// The number of the seat, below 512.
    pub fn slot(self) -> u16 {
        self.slot
    }

    /// Which incarnation of the seat this is.
    pub fn generation(self) -> u32 {
        self.generation
    }

    /// Whether the process lives, as far as shared memory tells: one load, no system call.
    ///
    /// A child that has not come yet counts as alive. When nobody here has joined a family,
    /// nobody is alive.
    #[inline]
    pub fn is_alive(self) -> bool {
        joined().is_some_and(|arena| arena.is_alive(self))
    }

    /// The word that the process holds for its whole life, `None` when it is over and cleaned up.
    ///
    /// The word of a child that has not come yet is vacant.
    pub fn life(self) -> Option<&'static LifeWord> {
        joined()?.life(self)
    }

    /// Which process it is, `None` before it came and after it was cleaned up.
    pub fn identity(self) -> Option<Identity> {
        joined()?.identity(self)
    }

    pub(crate) fn who(self) -> Who {
        Who::new(self.slot, self.generation)
    }
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Participant({}/{})", self.slot, self.generation)
    }
}

impl fmt::Display for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "participant {}/{}", self.slot, self.generation)
    }
}

/// A seat that a parent keeps for a child: what the child needs to [`join`](super::join).
#[derive(Debug, Copy, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    slot: u16,
    generation: u32,
    parent: Participant,
}

impl Seat {
    /// Who the child will be.
    pub fn participant(self) -> Participant {
        Participant::new(self.slot, self.generation)
    }

    /// Who reserved it.
    pub fn parent(self) -> Participant {
        self.parent
    }
}

impl Arena {
    /// Keeps a seat for a child; it is released when this process dies before the child came.
    ///
    /// # Errors
    ///
    /// [`NoSpace`] when as many processes as a family can have are in it.
    pub fn reserve_seat(&self) -> Result<Seat, NoSpace> {
        if let Some(seat) = self.try_reserve_seat() {
            return Ok(seat);
        }
        // Seats of the dead count too.
        self.reap_dead();
        let full = || NoSpace {
            asked: size_of::<SeatRecord>(),
            free: 0,
            short_of: ShortOf::Seats,
        };
        self.try_reserve_seat().ok_or_else(full)
    }

    /// Gives a seat back whose child never came, and everything that was handed to it.
    ///
    /// Does nothing when the child has taken the seat: it is then reaped as others are.
    pub fn release_seat(&self, seat: Seat) {
        if seat.slot >= SEATS {
            return;
        }
        let reserved = SeatWord::new(seat.generation, seat.parent.who(), SeatState::Reserved);
        if self.seat_word(seat.slot) == reserved {
            self.end_seat(seat.slot, reserved);
            self.sweep();
        }
    }

    #[inline]
    pub(crate) fn seat_word(&self, slot: u16) -> SeatWord {
        self.memory.seat_word(slot)
    }

    /// Changes a seat's word from exactly this to that.
    pub(crate) fn change_seat(&self, slot: u16, from: SeatWord, to: SeatWord) -> bool {
        let word = &self.memory.seat(slot).word;
        // Release: pairs with the Acquire in `seat_word`.
        word.compare_exchange(from.to_bits(), to.to_bits(), Release, Relaxed)
            .is_ok()
    }

    #[inline]
    pub(crate) fn seat_of(&self, participant: Participant) -> Option<SeatWord> {
        self.memory.seat_of(participant)
    }

    /// See [`Participant::is_alive`].
    #[inline]
    pub(crate) fn is_alive(&self, participant: Participant) -> bool {
        match self.seat_of(participant).map(SeatWord::state) {
            Some(SeatState::Reserved) => true,
            Some(SeatState::Taken) => !self.memory.seat(participant.slot).life.is_dead(),
            _ => false,
        }
    }

    /// See [`Participant::life`].
    pub(crate) fn life(&self, participant: Participant) -> Option<&'static LifeWord> {
        self.memory.life(participant)
    }

    pub(crate) fn identity(&self, participant: Participant) -> Option<Identity> {
        self.memory.identity(participant)
    }

    /// Sits down: the caller is the process that the seat was reserved for.
    pub(crate) fn take_seat(&self, seat: Seat) -> bool {
        if seat.slot >= SEATS {
            return false;
        }
        let reserved = SeatWord::new(seat.generation, seat.parent.who(), SeatState::Reserved);
        let taken = self.change_seat(seat.slot, reserved, reserved.with(SeatState::Taken));
        if taken {
            // After the seat is ours: a child that comes too late must not write into a seat that
            // has passed to another. Release: pairs with the Acquire in `identity`.
            let identity = Identity::current().pack();
            self.memory
                .seat(seat.slot)
                .identity
                .store(identity, Release);
        }
        taken
    }

    fn try_reserve_seat(&self) -> Option<Seat> {
        let parent = self.me();
        for slot in 0..SEATS {
            let free = self.seat_word(slot);
            if free.state() == SeatState::Free {
                let reserved = free.reserved_next(parent.who());
                if self.change_seat(slot, free, reserved) {
                    return Some(Seat {
                        slot,
                        generation: reserved.generation(),
                        parent,
                    });
                }
            }
        }
        None
    }
}

/// What is known of seats without having one.
impl Memory {
    #[inline]
    pub(crate) fn seat_word(&self, slot: u16) -> SeatWord {
        // Acquire: pairs with the Release of whoever changed the seat, so that what it wrote
        // beside the word (the identity) shows.
        SeatWord::from_bits(self.seat(slot).word.load(Acquire))
    }

    /// The word of a participant's seat, `None` when its incarnation is over.
    #[inline]
    pub(crate) fn seat_of(&self, participant: Participant) -> Option<SeatWord> {
        let slot = Some(participant.slot).filter(|slot| *slot < SEATS)?;
        let word = self.seat_word(slot);
        let current = word.generation() == participant.generation;
        (current && word.state() != SeatState::Free).then_some(word)
    }

    /// See [`Participant::life`].
    ///
    /// A vacant word is that of one who has not come yet, or one that a reaper has cleared and whose
    /// seat it has not freed yet: that one is over. Were it shown, those whom the clearing wakes
    /// would take the dead for somebody who is just coming, and lie down again for ever.
    #[inline]
    pub(crate) fn life(&self, participant: Participant) -> Option<&'static LifeWord> {
        let slot = Some(participant.slot).filter(|slot| *slot < SEATS)?;
        let life = &self.seat(slot).life;
        // Before the look at the seat, which is ending before the word is cleared.
        let is_vacant = life.is_vacant();
        let is_ending = self.seat_of(participant)?.state() == SeatState::Ending;
        (!is_vacant || !is_ending).then_some(life)
    }

    pub(crate) fn identity(&self, participant: Participant) -> Option<Identity> {
        let taken = self.seat_of(participant)?.state() == SeatState::Taken;
        // Acquire: pairs with the Release in `take_seat`, and keeps the look below after it.
        let word = self.seat(participant.slot).identity.load(Acquire);
        // Looked at once more: the seat may have changed hands between the two loads.
        let unchanged = taken && self.seat_of(participant).is_some();
        unchanged.then(|| Identity::unpack(word)).flatten()
    }
}
