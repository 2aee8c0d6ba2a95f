//! Permits that come back when their holders die, handed out in turn.

use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::Deadline;

use crate::life::WaitEnd;
use crate::member::{self, Member};
use crate::primitive::futex::{self, Scope, Watch};
use crate::primitive::{AtomicU32, AtomicU64, is_planted};
use crate::raw::ledger::{Ledger, Lives};
use crate::raw::{ShortGuard, ShortLock};
use crate::shareable::LastPlace;
use crate::spin::Spin;

/// A count of permits, with who has them, and who waits for one.
///
/// ```text
/// supply = free + the shares of the ledger + unnamed + tickets with a permit
/// ```
///
/// # Layout of a ticket
///
/// ```text
/// bits 0..7   flips: how often somebody has begun to hand a permit over
/// bit  7      GRANTED: a permit lies here
/// bits 8..32  number, counted up, never zero in use; the whole word is zero when free
/// ```
///
/// # Protocol
///
/// Everything changes inside the short section. Who finds no permit takes a ticket and sleeps on it.
/// A permit that comes free is put on the ticket of who came first, before anybody else can take
/// it: so nobody overtakes, and outside of the section a free permit means that nobody waits.
///
/// Handing over **flips** the word, so that who is just lying down does not; **wakes**; then
/// **commits** by setting GRANTED. Who is woken passes through the section before it believes the
/// ticket, moves the permit into its own share, and frees the ticket.
///
/// After a death inside of the section `free` is computed again, and what is free is handed over.
/// A permit on its way may be counted twice, never not at all: twice until the life of the dead has
/// ended, when its share and its tickets go. All who wait watch the lives of all who have a permit
/// or a ticket; who comes later has no permit before them.
#[repr(C)]
pub(crate) struct RawSemaphore {
    section: ShortLock,
    /// A cache.
    free: AtomicU32,
    /// All permits that there are.
    supply: AtomicU32,
    /// Permits of threads in private memory, and of processes that are no members.
    unnamed: AtomicU32,
    shared: AtomicU32,
    /// The number of the next ticket.
    next: AtomicU32,
    /// One more than the highest ticket that was ever used.
    used: AtomicU32,
    /// Moves on when one of all tickets comes free; who found none sleeps here.
    overflow: AtomicU32,
    spin: Spin,
    tickets: [AtomicU32; TICKETS],
    /// Whose ticket it is: `generation:32 | slot:16`, zero when that process is no member.
    owners: [AtomicU64; TICKETS],
    ledger: Ledger,
}

/// How many can wait in turn; more wait for a ticket, in no order.
const TICKETS: usize = if cfg!(loom) { 2 } else { 128 };
const GRANTED: u32 = 1 << 7;
const NUMBER_SHIFT: u32 = 8;
const NUMBERS: u32 = 1 << (32 - NUMBER_SHIFT);

/// No permit was taken: the deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut;

/// Where somebody waits.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The ticket of this index, with this number on it.
    Ticket { index: usize, number: u32 },
    /// All tickets are taken; the value of the overflow word then.
    Overflow { seen: u32 },
}

impl RawSemaphore {
    pub(crate) const fn new(permits: u32) -> Self {
        Self {
            section: ShortLock::new(),
            free: AtomicU32::new(permits),
            supply: AtomicU32::new(permits),
            unnamed: AtomicU32::new(0),
            shared: AtomicU32::new(0),
            next: AtomicU32::new(1),
            used: AtomicU32::new(0),
            overflow: AtomicU32::new(0),
            spin: Spin::new(),
            tickets: [const { AtomicU32::new(0) }; TICKETS],
            owners: [const { AtomicU64::new(0) }; TICKETS],
            ledger: Ledger::new(),
        }
    }

    pub(crate) fn placed(&self, _: LastPlace) {
        // Relaxed: before anybody else can see it.
        self.shared.store(1, Relaxed);
    }

    /// Takes a permit; waits for one behind those who wait already.
    pub(crate) fn acquire(&self, deadline: Deadline) -> Result<(), TimedOut> {
        let me = self.me();
        let inside = self.enter(deadline).ok_or(TimedOut)?;
        if inside.take(me) {
            return Ok(());
        }
        self.acquire_in_turn(inside, me, deadline)
    }

    /// Takes a permit if one is free, which it is only when nobody waits.
    pub(crate) fn try_acquire(&self) -> bool {
        let me = self.me();
        let Some(inside) = self.enter(Deadline::NEVER) else {
            return false;
        };
        if inside.take(me) {
            return true;
        }
        // Before "none" is believed, the dead are asked.
        inside.recover();
        inside.take(me)
    }

    #[cold]
    fn acquire_in_turn<'a>(
        &'a self,
        mut inside: Inside<'a>,
        me: Option<Member>,
        deadline: Deadline,
    ) -> Result<(), TimedOut> {
        inside.recover();
        if inside.take(me) {
            return Ok(());
        }
        let mut place = inside.enroll(me);
        loop {
            let (word, expected) = match place {
                Place::Ticket { index, .. } => {
                    let word = &self.tickets[index];
                    (word, word.load(Relaxed))
                }
                Place::Overflow { seen } => (&self.overflow, seen),
            };
            let lives = inside.lives(me);
            drop(inside);
            let object = Watch {
                word,
                expected,
                scope: Scope::Shared,
            };
            if lives.wait(&self.ledger, &self.spin, object, deadline) == WaitEnd::TimedOut {
                return self.withdraw(place, me);
            }
            // Behind the section nobody stands between its wake and its commit.
            inside = match self.enter(deadline) {
                Some(inside) => inside,
                None => return self.withdraw(place, me),
            };
            let claims = |inside: &Inside<'_>| match place {
                Place::Ticket { index, number } => inside.claim(index, number, me),
                Place::Overflow { .. } => inside.take(me),
            };
            if claims(&inside) {
                return Ok(());
            }
            inside.recover();
            if claims(&inside) {
                return Ok(());
            }
            if matches!(place, Place::Overflow { .. }) {
                place = inside.enroll(me);
            }
        }
    }

    /// Gives the place up at the deadline, unless there is a permit after all.
    fn withdraw(&self, place: Place, me: Option<Member>) -> Result<(), TimedOut> {
        let inside = self.enter(Deadline::NEVER).ok_or(TimedOut)?;
        match place {
            Place::Ticket { index, number } if inside.claim(index, number, me) => Ok(()),
            Place::Ticket { index, .. } => {
                inside.free_ticket(index);
                Err(TimedOut)
            }
            Place::Overflow { .. } => Err(TimedOut),
        }
    }

    /// Gives a permit back that this process has taken.
    pub(crate) fn give_back(&self) {
        let me = self.me();
        if let Some(inside) = self.enter(Deadline::NEVER) {
            if let Some(first) = inside.first() {
                // The permit is counted twice for a moment, so that it is never lost.
                inside.grant(first);
                inside.change_share(me, -1);
            } else {
                inside.change_share(me, -1);
                self.free
                    .store(self.free.load(Relaxed).saturating_add(1), Relaxed);
            }
        }
    }

    /// Lets a permit that this process has taken belong to nobody.
    pub(crate) fn forget(&self) {
        let me = self.me();
        if let Some(inside) = self.enter(Deadline::NEVER) {
            inside.change_share(me, -1);
            self.supply
                .store(self.supply.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// Adds permits unless there were more than `most` then; whether it did.
    pub(crate) fn add(&self, permits: u32, most: u32) -> bool {
        let Some(inside) = self.enter(Deadline::NEVER) else {
            return false;
        };
        let supply = self.supply.load(Relaxed).checked_add(permits);
        let Some(supply) = supply.filter(|supply| *supply <= most) else {
            return false;
        };
        // Before the permits are there: after a death from here on, who is woken hands them over.
        if let Some(first) = inside.first().filter(|_| permits > 0) {
            inside.rouse(first);
        }
        self.supply.store(supply, Relaxed);
        self.free
            .store(self.free.load(Relaxed).saturating_add(permits), Relaxed);
        inside.hand_over();
        true
    }

    /// The free permits, for information.
    pub(crate) fn free(&self) -> u32 {
        self.free.load(Relaxed)
    }

    /// All permits, for information.
    pub(crate) fn supply(&self) -> u32 {
        self.supply.load(Relaxed)
    }

    pub(crate) fn is_shared(&self) -> bool {
        // Relaxed: set before anybody else could see it.
        self.shared.load(Relaxed) != 0
    }

    /// How many wait in turn, for information.
    pub(crate) fn waiting(&self) -> u32 {
        let waiting = self.in_use().filter(|(_, ticket)| is_waiting(*ticket));
        waiting.count() as u32
    }

    /// This process in the ledger; in private memory there is none to keep.
    fn me(&self) -> Option<Member> {
        self.is_shared().then(member::current).flatten()
    }

    fn enter(&self, deadline: Deadline) -> Option<Inside<'_>> {
        let guard = self.section.lock_deadline(deadline)?;
        let mut inside = Inside {
            semaphore: self,
            guard,
        };
        if inside.guard.owner_died() {
            inside.recount();
            inside.hand_over();
            inside.guard.mark_consistent();
        }
        Some(inside)
    }

    /// The tickets that may be in use. Relaxed throughout: the section orders all of it.
    fn in_use(&self) -> impl Iterator<Item = (usize, u32)> + Clone {
        let used = (self.used.load(Relaxed) as usize).min(TICKETS);
        self.tickets[..used]
            .iter()
            .map(|ticket| ticket.load(Relaxed))
            .enumerate()
    }

    fn owner(&self, index: usize) -> Option<Member> {
        let owner = self.owners[index].load(Relaxed);
        Member::new(owner as u16, (owner >> 16) as u32)
    }
}

/// The short section of a semaphore. Relaxed throughout: the section orders all of it.
struct Inside<'a> {
    semaphore: &'a RawSemaphore,
    guard: ShortGuard<'a>,
}

impl Inside<'_> {
    /// Takes a permit if there is one.
    fn take(&self, me: Option<Member>) -> bool {
        let semaphore = self.semaphore;
        // Else the share of a dead one in the same slot would go with the change, uncounted.
        if me.is_some_and(|me| semaphore.ledger.has_predecessor(me)) {
            self.recover();
        }
        let free = semaphore.free.load(Relaxed);
        if free == 0 {
            return false;
        }
        self.change_share(me, 1);
        semaphore.free.store(free - 1, Relaxed);
        true
    }

    /// Takes a ticket, if there is one.
    fn enroll(&self, me: Option<Member>) -> Place {
        let semaphore = self.semaphore;
        let free = |ticket: &AtomicU32| ticket.load(Relaxed) == 0;
        let Some(index) = semaphore.tickets.iter().position(free) else {
            let seen = semaphore.overflow.load(Relaxed);
            return Place::Overflow { seen };
        };
        let number = semaphore.next.load(Relaxed);
        // Zero is left out.
        let next = if number + 1 == NUMBERS { 1 } else { number + 1 };
        semaphore.next.store(next, Relaxed);
        if semaphore.used.load(Relaxed) <= index as u32 {
            semaphore.used.store(index as u32 + 1, Relaxed);
        }
        let owner = me.map_or(0, |me| {
            u64::from(me.generation()) << 16 | u64::from(me.slot())
        });
        semaphore.owners[index].store(owner, Relaxed);
        semaphore.ledger.tell_joined();
        // Last: from now on the ticket is there.
        semaphore.tickets[index].store(number << NUMBER_SHIFT, Relaxed);
        Place::Ticket { index, number }
    }

    /// Takes the permit from the caller's ticket, if one lies there, and frees the ticket.
    fn claim(&self, index: usize, number: u32, me: Option<Member>) -> bool {
        let ticket = self.semaphore.tickets[index].load(Relaxed);
        if ticket >> NUMBER_SHIFT != number || ticket & GRANTED == 0 {
            return false;
        }
        self.change_share(me, 1);
        self.free_ticket(index);
        true
    }

    fn free_ticket(&self, index: usize) {
        let semaphore = self.semaphore;
        // Before the ticket is free. Without sleepers a wake costs a system call still, so ask
        // first whether there can be any.
        if semaphore.used.load(Relaxed) as usize == TICKETS {
            let moved = semaphore.overflow.load(Relaxed).wrapping_add(1);
            semaphore.overflow.store(moved, Relaxed);
            futex::wake_all(&semaphore.overflow, Scope::Shared);
        }
        semaphore.tickets[index].store(0, Relaxed);
    }

    /// The ticket of who came first and waits.
    fn first(&self) -> Option<usize> {
        let next = self.semaphore.next.load(Relaxed);
        let age = |ticket: u32| next.wrapping_sub(ticket >> NUMBER_SHIFT) & (NUMBERS - 1);
        let waiting = self.semaphore.in_use();
        waiting
            .filter(|(_, ticket)| is_waiting(*ticket))
            .max_by_key(|(_, ticket)| age(*ticket))
            .map(|(index, _)| index)
    }

    /// Wakes who has a ticket, who then waits for the section.
    fn rouse(&self, index: usize) {
        let word = &self.semaphore.tickets[index];
        let ticket = word.load(Relaxed);
        // The flips wrap within their bits.
        let flips = ticket.wrapping_add(1) & (GRANTED - 1);
        if !is_planted("semaphore") {
            word.store(ticket & !(GRANTED - 1) | flips, Relaxed);
        }
        futex::wake_all(word, Scope::Shared);
    }

    /// Puts a permit on a ticket.
    fn grant(&self, index: usize) {
        self.rouse(index);
        let word = &self.semaphore.tickets[index];
        word.store(word.load(Relaxed) | GRANTED, Relaxed);
    }

    /// Puts what is free on the tickets of those who wait, in turn.
    fn hand_over(&self) {
        let semaphore = self.semaphore;
        while semaphore.free.load(Relaxed) > 0 {
            let Some(first) = self.first() else { break };
            self.grant(first);
            semaphore
                .free
                .store(semaphore.free.load(Relaxed) - 1, Relaxed);
        }
    }

    /// Changes what the caller has, by one store: the commit.
    fn change_share(&self, me: Option<Member>, by: i32) {
        let semaphore = self.semaphore;
        match me {
            Some(me) => semaphore
                .ledger
                .change(me, |share| share.saturating_add_signed(by)),
            None => {
                let unnamed = semaphore.unnamed.load(Relaxed);
                semaphore
                    .unnamed
                    .store(unnamed.saturating_add_signed(by), Relaxed);
            }
        }
    }

    /// Takes back what the dead have, and hands it over.
    fn recover(&self) {
        let semaphore = self.semaphore;
        if !semaphore.is_shared() {
            return;
        }
        let mut found = semaphore.ledger.drop_dead();
        for (index, ticket) in semaphore.in_use() {
            if ticket != 0 && semaphore.owner(index).is_some_and(member::is_over) {
                self.free_ticket(index);
                found = true;
            }
        }
        if found {
            self.recount();
            self.hand_over();
        }
    }

    fn recount(&self) {
        let semaphore = self.semaphore;
        let supply = u64::from(semaphore.supply.load(Relaxed));
        let granted = semaphore
            .in_use()
            .filter(|(_, ticket)| ticket & GRANTED != 0)
            .count() as u64;
        let unnamed = u64::from(semaphore.unnamed.load(Relaxed));
        let taken = semaphore.ledger.total() + unnamed + granted;
        semaphore
            .free
            .store(supply.saturating_sub(taken) as u32, Relaxed);
    }

    /// The lives of all who have a permit or a ticket.
    fn lives(&self, me: Option<Member>) -> Lives {
        if me.is_none() {
            return Lives::NONE;
        }
        let semaphore = self.semaphore;
        let mut lives = semaphore.ledger.lives();
        let with_ticket = semaphore.in_use().filter(|(_, ticket)| *ticket != 0);
        let owners = with_ticket.filter_map(|(index, _)| semaphore.owner(index));
        for (nth, owner) in owners.clone().enumerate() {
            let is_there = Some(owner) == me
                || semaphore.ledger.share(owner) != 0
                || owners.clone().take(nth).any(|earlier| earlier == owner);
            if !is_there {
                lives.add(owner);
            }
        }
        lives
    }
}

fn is_waiting(ticket: u32) -> bool {
    ticket != 0 && ticket & GRANTED == 0
}
