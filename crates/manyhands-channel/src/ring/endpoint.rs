//! What both ends of a ring have in common: an owner, a peer, a place to sleep, a way to move.

use std::cell::Cell;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use manyhands_os::Deadline;
use manyhands_os::futex::{Scope, Watch};
use manyhands_os::process::Identity;
use manyhands_shm::arena::{self, Participant};
use manyhands_shm::{ArenaError, Region, handoff};
use manyhands_sync::life::{self, WaitEnd};
use manyhands_sync::spin::Spin;
use serde::ser::SerializeTuple;
use serde::{Serialize, Serializer};

use crate::doorbell::Doorbell;
use crate::primitive::AtomicU32;
use crate::ring::cursor::Memory;
use crate::ring::memory::Mapped;
use crate::ring::seat::{SeatState, SeatWord};
use crate::ring::view::{Peer, Side, View};

/// One end of a ring, without its cursor.
#[derive(Debug)]
pub(crate) struct Endpoint {
    view: View,
    /// Our own word while the end is ours. In a cell because serializing moves the end away.
    own: Cell<Option<SeatWord>>,
    spin: Spin,
}

impl Endpoint {
    /// The end `side` of a ring that this process has just made and initialized.
    pub(crate) fn first(memory: Mapped, side: Side) -> Result<Self, ArenaError> {
        let me = arena::family()?.me();
        let own = SeatWord::open(me);
        sign(&memory, side, own);
        // Release, by AcqRel: nobody else knows the ring yet, but the rule is kept simple.
        side.seat(&memory).word.swap(own.to_bits(), AcqRel);
        Ok(Self::new(memory, side, me, own))
    }

    fn new(memory: Mapped, side: Side, me: Participant, own: SeatWord) -> Self {
        Self {
            view: View { memory, side, me },
            own: Cell::new(Some(own)),
            spin: Spin::new(),
        }
    }

    #[inline]
    pub(crate) fn memory(&self) -> &Mapped {
        &self.view.memory
    }

    /// What can be seen from this end.
    #[inline]
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Whether this end is still ours.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.own.get().is_some()
    }

    /// Looks at the other end.
    #[inline]
    pub(crate) fn peer(&self) -> Peer {
        self.view.peer()
    }

    /// Who has the other end, or had it last.
    pub(crate) fn peer_owner(&self) -> Option<Participant> {
        self.view.peer_owner()
    }

    /// Waits until `ready`, until something happened to the peer, or until the deadline.
    ///
    /// May return early; the caller looks again. `word` is the peer's as [`peer`](Self::peer) saw
    /// it: its owner's death ends the wait.
    pub(crate) fn wait(&mut self, ready: impl Fn() -> bool, word: SeatWord, deadline: Deadline) {
        let Self { view, spin, .. } = self;
        let changed = || ready() || view.peer_word() != word;
        let parking = view.parking();
        spin.wait(deadline, changed, || {
            parking.sleep(
                || !changed(),
                |futex, expected| {
                    let owner = word.owner().filter(|owner| *owner != view.me);
                    sleep(futex, expected, owner, deadline);
                },
            )
        });
    }

    /// Takes back that whoever has this end lies down.
    pub(crate) fn get_up(&self) {
        // Where it went, somebody else lies now.
        if self.is_ours() {
            self.view.parking().get_up();
        }
    }

    /// Says that nothing more will be done with this end.
    pub(crate) fn close(&mut self) {
        if let Some(own) = self.own.take() {
            settle(
                &self.view.memory,
                self.view.side,
                own,
                own.with(SeatState::Closed),
            );
        }
    }

    /// Packs this end: it belongs to nobody until the parcel is unpacked.
    ///
    /// Called only once the region went into the same parcel, so surely inside one.
    fn depart<E: serde::ser::Error>(&self, bell: Option<&Doorbell>) -> Result<u64, E> {
        let refused = |reason: &str| {
            handoff::refuse(reason.to_owned());
            E::custom(reason)
        };
        let own = self
            .own
            .get()
            .ok_or_else(|| refused("the end of a ring was moved or closed"))?;
        let departed = own.departed();
        // A guard before the word, so that the end is closed even when the parcel refuses it.
        let guard = InTransit {
            memory: self.view.memory.clone(),
            side: self.view.side,
            departed,
            bell: bell.cloned(),
        };
        self.own.set(None);
        settle(&self.view.memory, self.view.side, own, departed);
        handoff::hold(guard).map_err(E::custom)?;
        Ok(departed.to_bits())
    }

    /// Takes an end out of a parcel.
    pub(crate) fn arrive<E: serde::de::Error>(
        region: Region,
        ticket: u64,
        side: Side,
    ) -> Result<Self, E> {
        let refused = |reason: &str| {
            handoff::refuse(reason.to_owned());
            E::custom(reason)
        };
        let departed = SeatWord::from_bits(ticket);
        let memory = Mapped::new(region).map_err(|_| refused("the region is no ring"))?;
        let me = arena::family().map_err(E::custom)?.me();
        let own = departed.arrived(me);
        let now = side.seat(&memory).word.load(Acquire);
        let is_ticket = departed.state() == SeatState::InTransit && now == departed.to_bits();
        if is_ticket {
            // Not by a late comer: the name beside the seat may be another's by now.
            sign(&memory, side, own);
        }
        if !is_ticket || !settle(&memory, side, departed, own) {
            return Err(refused(
                "the end of a ring was unpacked before, or given up",
            ));
        }
        Ok(Self::new(memory, side, me, own))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.close();
    }
}

/// How far the consumer of a ring has come, also when the producer is gone.
#[derive(Clone, Debug)]
pub(crate) struct Progression {
    memory: Mapped,
}

impl Progression {
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        Self {
            memory: endpoint.memory().clone(),
        }
    }

    /// Whether the consumer is done with what lies before `position`, or will never come there.
    pub(crate) fn has_passed(&self, position: u64) -> bool {
        // Acquire: partner is `Reader::release`; the consumer has unpacked what lies before.
        let head = self.memory.header().head.0.load(Acquire);
        let taken = head.wrapping_sub(position) as i64 >= 0;
        // Acquire: as in `Endpoint::peer_word`.
        let word = SeatWord::from_bits(Side::Consumer.seat(&self.memory).word.load(Acquire));
        let comes = match word.state() {
            SeatState::Open | SeatState::InTransit => {
                word.owner().is_some_and(|who| who.is_alive())
            }
            SeatState::Closed | SeatState::Abandoned => false,
        };
        taken || !comes
    }
}

/// Packs an end, with what else its side needs on arrival.
pub(crate) fn serialize<S: Serializer, X: Serialize>(
    endpoint: &Endpoint,
    bell: Option<&Doorbell>,
    extra: &X,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(4)?;
    // The region first: outside a parcel it fails, and the end stays where it is.
    tuple.serialize_element(endpoint.memory().region())?;
    tuple.serialize_element(&endpoint.depart::<S::Error>(bell)?)?;
    tuple.serialize_element(&bell)?;
    tuple.serialize_element(extra)?;
    tuple.end()
}

/// Kept with a parcel: closes the end that is in it, if nobody has unpacked it when this drops.
struct InTransit {
    memory: Mapped,
    side: Side,
    departed: SeatWord,
    bell: Option<Doorbell>,
}

impl Drop for InTransit {
    fn drop(&mut self) {
        let closed = self.departed.with(SeatState::Closed);
        if settle(&self.memory, self.side, self.departed, closed) {
            // As a close by hand does.
            if let Some(bell) = &self.bell {
                bell.ring();
            }
        } else {
            // Somebody has it. Should they have died before they woke our peer, it still sleeps
            // on our life, and has to look anew.
            rouse_other(&self.memory, self.side);
        }
    }
}

/// Says which process the owner is that `own` names, before `own` becomes the word.
fn sign(memory: &Mapped, side: Side, own: SeatWord) {
    let identity = own.owner().and_then(Participant::identity);
    // Kept in the arena for a member; asked of the system otherwise.
    let identity = identity.unwrap_or_else(Identity::current).pack();
    // Relaxed: published by the change of the word that follows.
    side.seat(memory).identities[own.identity_index()].store(identity, Relaxed);
}

/// Changes the word of an end and wakes the other one, which may sleep on the life of the owner.
fn settle(memory: &Mapped, side: Side, from: SeatWord, to: SeatWord) -> bool {
    let seat = &side.seat(memory).word;
    // AcqRel: everything that this owner did is seen by who reads the word, or follows us on it.
    let changed = seat
        .compare_exchange(from.to_bits(), to.to_bits(), AcqRel, Acquire)
        .is_ok();
    if changed {
        rouse_other(memory, side);
    }
    changed
}

fn rouse_other(memory: &Mapped, side: Side) {
    side.other().parking(memory).rouse(|word| memory.wake(word));
}

/// Sleeps on the parking word, and on the life of the peer if it is another process.
fn sleep(word: &AtomicU32, expected: u32, peer: Option<Participant>, deadline: Deadline) {
    let object = Watch {
        word,
        expected,
        scope: Scope::Shared,
    };
    // Nothing to watch when the peer was cleaned up meanwhile: not sleeping is right, the caller
    // looks. How the sleep ended does not matter for the same reason.
    let _: WaitEnd = match peer {
        None => life::wait(object, &[], deadline),
        Some(peer) => match peer.life() {
            Some(life) => life::wait(object, &[life], deadline),
            None => return,
        },
    };
}
