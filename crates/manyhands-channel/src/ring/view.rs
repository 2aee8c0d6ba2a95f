//! What can be seen of the other end of a ring, and how one sleeps until that changes.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use manyhands_os::Deadline;
use manyhands_os::futex::Scope;
use manyhands_os::process::Identity;
use manyhands_shm::arena::Participant;

use crate::ring::error::End;
use crate::ring::layout::Seat;
use crate::ring::memory::Mapped;
use crate::ring::parking::{Bunk, Parking};
use crate::ring::seat::{SeatState, SeatWord};
use crate::select::bed::{self, Bed, Place};
use crate::select::source::InMemory;

/// Which end of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Producer,
    Consumer,
}

impl Side {
    #[inline]
    pub(crate) fn other(self) -> Self {
        match self {
            Side::Producer => Side::Consumer,
            Side::Consumer => Side::Producer,
        }
    }

    #[inline]
    pub(crate) fn seat(self, memory: &Mapped) -> &Seat {
        let [producer, consumer] = &memory.head().seats.0;
        match self {
            Side::Producer => producer,
            Side::Consumer => consumer,
        }
    }

    #[inline]
    pub(crate) fn parking(self, memory: &Mapped) -> &Parking {
        match self {
            Side::Producer => &memory.head().producer_parking.0.parking,
            Side::Consumer => &memory.head().consumer_parking.0,
        }
    }
}

/// What the other end is doing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// It, or the process that is sending it somewhere, lives.
    Lives(SeatWord),
    /// No more will come from it.
    Ended(End),
}

/// A look at a ring from one of its ends. It may outlive the end, and be in another thread.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) memory: Mapped,
    pub(crate) side: Side,
    pub(crate) me: Participant,
}

impl View {
    /// Looks at the other end.
    #[inline]
    pub(crate) fn peer(&self) -> Peer {
        loop {
            let word = self.peer_word();
            match word.state() {
                SeatState::Closed => return Peer::Ended(End::Closed),
                SeatState::Abandoned => return Peer::Ended(self.death_of(word)),
                SeatState::Open | SeatState::InTransit => {}
            }
            let Some(owner) = word.owner() else {
                return Peer::Ended(End::Corrupt);
            };
            if owner == self.me || owner.is_alive() {
                return Peer::Lives(word);
            }
            if let Some(life) = owner.life() {
                life.pass_on();
            }
            if self.has_died(word) {
                return Peer::Ended(self.death_of(word));
            }
        }
    }

    /// Who has the other end, or had it last.
    pub(crate) fn peer_owner(&self) -> Option<Participant> {
        self.peer_word().owner()
    }

    /// Whether what this end waits for has come, or never will: for who has not its cursor.
    pub(crate) fn has_news(&self) -> bool {
        let header = self.memory.head();
        // Relaxed, all: whoever acts on it looks again.
        let head = header.head.0.load(Relaxed);
        let has_come = match self.side {
            // What the consumer has read and not given back yet counts.
            Side::Consumer => head != header.tail.0.load(Relaxed),
            // The room that the producer was refused last.
            Side::Producer => {
                let wanted = header.producer_parking.0.wanted.load(Relaxed);
                head.wrapping_sub(wanted) as i64 >= 0
            }
        };
        has_come || matches!(self.peer(), Peer::Ended(_))
    }

    /// Lies down until the other end has done something, or something happens to it; `None` when `ready`, or when the
    /// caller has to look again for another reason.
    pub(crate) fn lie_down_at(&self, bunk: Bunk, ready: impl Fn() -> bool) -> Option<Bed> {
        let Peer::Lives(word) = self.peer() else {
            return None;
        };
        let parking = self.side.parking(&self.memory);
        let expected = parking.lie_down(bunk, || !ready() && self.peer_word() == word)?;
        let owner = word.owner().filter(|owner| *owner != self.me);
        Some(Bed {
            place: Place::Ring(self.clone()),
            expected,
            scope: Scope::Shared,
            lives: owner.map(bed::seen).into_iter().collect::<Option<_>>()?,
        })
    }

    #[inline]
    pub(crate) fn parking(&self) -> &Parking {
        self.side.parking(&self.memory)
    }

    #[inline]
    pub(crate) fn peer_word(&self) -> SeatWord {
        // Acquire: partner is the AcqRel in `settle`; what the peer did before it closed is seen.
        SeatWord::from_bits(self.side.other().seat(&self.memory).word.load(Acquire))
    }

    /// The death of the owner that `word` names, with its name.
    fn death_of(&self, word: SeatWord) -> End {
        let seat = self.side.other().seat(&self.memory);
        // Relaxed: written before the word said that it is the owner, which was read with Acquire.
        let bits = seat.identities[word.identity_index()].load(Relaxed);
        End::PeerDied {
            who: Identity::unpack(bits),
        }
    }

    /// Whether the peer that `word` names is dead for good, and not gone elsewhere before.
    fn has_died(&self, word: SeatWord) -> bool {
        if word.state() == SeatState::Open {
            // Only its owner could have changed it, and before it died.
            return self.peer_word() == word;
        }
        let seat = &self.side.other().seat(&self.memory).word;
        let abandoned = word.with(SeatState::Abandoned).to_bits();
        // Acquire: when it failed, the word is looked at again anyway.
        seat.compare_exchange(word.to_bits(), abandoned, AcqRel, Acquire)
            .is_ok()
    }
}

/// For those who sleep on behalf of an end.
impl InMemory for View {
    fn is_ready(&self) -> bool {
        self.has_news()
    }

    fn lie_down(&self, _: Deadline) -> Option<Bed> {
        self.lie_down_at(Bunk::Behalf, || self.has_news())
    }

    fn remote(&self) -> Box<dyn InMemory + Send> {
        Box::new(self.clone())
    }
}
