//! Waiting for a notification, in turn.

use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::Deadline;

use crate::life::WaitEnd;
use crate::member::{self, Member};
use crate::primitive::futex::{self, Scope, Watch};
use crate::primitive::{AtomicU32, is_planted};
use crate::raw::ledger::{Ledger, Lives};
use crate::raw::{ShortGuard, ShortLock};
use crate::shareable::LastPlace;
use crate::spin::Spin;

/// Who waits, in the order of coming.
///
/// # Layout of a ticket
///
/// ```text
/// bits 0..8   flips: how often a notifier has begun to serve it
/// bits 8..32  number, counted up, never zero in use; the whole word is zero when free
/// ```
///
/// # Protocol
///
/// Everything changes inside the short section. Who waits has a ticket, and a share in the ledger
/// that says: somebody of this process waits. It sleeps on its ticket for as long as the number on
/// it is its own.
///
/// Notifying serves the lowest number: it **flips** the word, so that who is just lying down does
/// not; **wakes**; then **commits** by freeing the ticket. Who is woken passes through the section
/// before it believes the ticket. A notifier that dies before the commit has not notified.
///
/// A notification must not die with whoever got it. So a waiter gives its share back only when it
/// has had the user's lock again and left it, and all who wait watch the lives of all who came before them: when one
/// of those dies with a share, everybody is served, which is a wake without a reason for most of
/// them.
#[repr(C)]
pub(crate) struct RawCondition {
    section: ShortLock,
    next: AtomicU32,
    /// One more than the highest ticket that was ever used.
    used: AtomicU32,
    /// Moves on with every notification; who found no free ticket sleeps here.
    overflow: AtomicU32,
    shared: AtomicU32,
    spin: Spin,
    tickets: [AtomicU32; TICKETS],
    ledger: Ledger,
}

/// How many can wait in turn; more are woken by every notification.
const TICKETS: usize = if cfg!(loom) { 2 } else { 256 };
const NUMBER_SHIFT: u32 = 8;
const NUMBERS: u32 = 1 << (32 - NUMBER_SHIFT);

/// Somebody who waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Enrolled {
    /// The ticket's index and number, or the overflow word's value.
    place: Place,
    /// Who has a share in the ledger until it [leaves](RawCondition::leave).
    pub(crate) me: Option<Member>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Ticket { index: usize, number: u32 },
    Overflow { seen: u32 },
}

impl RawCondition {
    pub(crate) const fn new() -> Self {
        Self {
            section: ShortLock::new(),
            next: AtomicU32::new(1),
            used: AtomicU32::new(0),
            overflow: AtomicU32::new(0),
            shared: AtomicU32::new(0),
            spin: Spin::new(),
            tickets: [const { AtomicU32::new(0) }; TICKETS],
            ledger: Ledger::new(),
        }
    }

    pub(crate) fn placed(&self, _: LastPlace) {
        // Relaxed: before anybody else can see it.
        self.shared.store(1, Relaxed);
    }

    /// Takes a place in the order; the caller holds the user's lock still.
    pub(crate) fn enroll(&self) -> Enrolled {
        let _inside = self.enter(Deadline::NEVER);
        let me = self.me();
        // Before the ticket: a share without a ticket only wakes others without a reason.
        if let Some(me) = me {
            self.ledger.change(me, |share| share.saturating_add(1));
        }
        let place = match self
            .tickets
            .iter()
            .position(|ticket| ticket.load(Relaxed) == 0)
        {
            Some(index) => {
                let number = self.next.load(Relaxed);
                // Zero is left out.
                self.next
                    .store(if number + 1 == NUMBERS { 1 } else { number + 1 }, Relaxed);
                if self.used.load(Relaxed) <= index as u32 {
                    self.used.store(index as u32 + 1, Relaxed);
                }
                self.tickets[index].store(number << NUMBER_SHIFT, Relaxed);
                Place::Ticket { index, number }
            }
            None => Place::Overflow {
                seen: self.overflow.load(Relaxed),
            },
        };
        Enrolled { place, me }
    }

    /// Waits to be served; false when the deadline passed first.
    pub(crate) fn wait(&self, enrolled: Enrolled, deadline: Deadline) -> bool {
        loop {
            let (watch, lives) = {
                // Behind the section no notifier stands between its wake and its commit.
                let Some(_inside) = self.enter(deadline) else {
                    return self.withdraw(enrolled);
                };
                self.look_for_dead();
                let Some(watch) = self.unserved(enrolled) else {
                    return true;
                };
                let lives = if enrolled.me.is_some() {
                    self.ledger.lives()
                } else {
                    Lives::NONE
                };
                (watch, lives)
            };
            if lives.wait(&self.ledger, &self.spin, watch, deadline) == WaitEnd::TimedOut {
                return self.withdraw(enrolled);
            }
        }
    }

    /// Ends the waiting of one who has had the user's lock since.
    #[cold]
    pub(crate) fn leave(&self, me: Member) {
        let _inside = self.enter(Deadline::NEVER);
        self.ledger.change(me, |share| share.saturating_sub(1));
    }

    /// Serves up to `count` of those who wait, first come first.
    pub(crate) fn notify(&self, count: u32) {
        let _inside = self.enter(Deadline::NEVER);
        self.look_for_dead();
        for _ in 0..count {
            match self.first() {
                Some(index) => self.serve(index),
                None => break,
            }
        }
        self.serve_overflow();
    }

    /// How many wait in turn, for information.
    pub(crate) fn waiting(&self) -> u32 {
        self.in_use().filter(|(_, ticket)| *ticket != 0).count() as u32
    }

    pub(crate) fn is_shared(&self) -> bool {
        // Relaxed: set before anybody else could see it.
        self.shared.load(Relaxed) != 0
    }

    /// The word to sleep on; `None` when served.
    fn unserved(&self, enrolled: Enrolled) -> Option<Watch<'_>> {
        let (word, expected) = match enrolled.place {
            Place::Ticket { index, number } => {
                let ticket = self.tickets[index].load(Relaxed);
                if ticket >> NUMBER_SHIFT != number {
                    return None;
                }
                (&self.tickets[index], ticket)
            }
            Place::Overflow { seen } if self.overflow.load(Relaxed) != seen => return None,
            Place::Overflow { seen } => (&self.overflow, seen),
        };
        Some(Watch {
            word,
            expected,
            scope: Scope::Shared,
        })
    }

    /// Gives the place up at the deadline; true when it was served after all.
    fn withdraw(&self, enrolled: Enrolled) -> bool {
        let _inside = self.enter(Deadline::NEVER);
        if self.unserved(enrolled).is_none() {
            return true;
        }
        if let Place::Ticket { index, .. } = enrolled.place {
            self.tickets[index].store(0, Relaxed);
        }
        false
    }

    /// When somebody died who waited, or was served and had not the lock yet, serves everybody:
    /// what the dead was told must not be lost.
    fn look_for_dead(&self) {
        if self.is_shared() && self.ledger.first_dead().is_some() {
            for index in 0..self.used.load(Relaxed) as usize {
                if self.tickets[index].load(Relaxed) != 0 {
                    self.serve(index);
                }
            }
            self.serve_overflow();
            // Last: until then the next one begins again.
            self.ledger.drop_dead();
        }
    }

    /// The ticket of who came first.
    fn first(&self) -> Option<usize> {
        let next = self.next.load(Relaxed);
        let age = |ticket: u32| next.wrapping_sub(ticket >> NUMBER_SHIFT) & (NUMBERS - 1);
        let oldest = self.in_use().filter(|(_, ticket)| *ticket != 0);
        oldest
            .max_by_key(|(_, ticket)| age(*ticket))
            .map(|(index, _)| index)
    }

    fn serve(&self, index: usize) {
        let word = &self.tickets[index];
        let ticket = word.load(Relaxed);
        // The number stays, the flips wrap within their bits.
        let flipped = ticket & !0xff | ticket.wrapping_add(1) & 0xff;
        if !is_planted("condition") {
            word.store(flipped, Relaxed);
        }
        futex::wake_all(word, Scope::Shared);
        word.store(0, Relaxed);
    }

    fn serve_overflow(&self) {
        self.overflow
            .store(self.overflow.load(Relaxed).wrapping_add(1), Relaxed);
        // Rare: a wake without sleepers costs a system call, so ask first who could be there.
        if self.used.load(Relaxed) as usize == TICKETS {
            futex::wake_all(&self.overflow, Scope::Shared);
        }
    }

    fn in_use(&self) -> impl Iterator<Item = (usize, u32)> {
        let used = (self.used.load(Relaxed) as usize).min(TICKETS);
        self.tickets[..used]
            .iter()
            .map(|ticket| ticket.load(Relaxed))
            .enumerate()
    }

    fn me(&self) -> Option<Member> {
        self.is_shared().then(member::current).flatten()
    }

    fn enter(&self, deadline: Deadline) -> Option<ShortGuard<'_>> {
        self.section.lock_whole(deadline)
    }
}
