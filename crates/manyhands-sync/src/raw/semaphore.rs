//! Permits that come back when their holders die.

use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::Deadline;

use crate::life::WaitEnd;
use crate::member::{self, Member};
use crate::primitive::futex::{self, Scope, Watch};
use crate::primitive::{AtomicU32, is_planted};
use crate::raw::ledger::{Ledger, Lives};
use crate::raw::{RawLock, RefusedLock, ShortGuard, ShortLock};
use crate::spin::Spin;

/// A count of permits, with who has them.
///
/// ```text
/// supply = free + the shares of the ledger + unnamed
/// ```
///
/// # Protocol
///
/// All fields are changed inside the short section. Taking stores the share, then `free`; giving back
/// **wakes**, then stores the share, then `free`. The store of the share is the commit: after a
/// death inside, `free` is computed again from supply and ledger. Nobody but the holder of the
/// turnstile sleeps on `sequence`, so one wake is enough, and the death of the sleeper hands
/// its place to the next. It also watches the lives of all who have permits.
#[repr(C)]
pub(crate) struct RawSemaphore {
    section: ShortLock,
    /// Moves on whenever a permit comes back while somebody is in the turnstile.
    sequence: AtomicU32,
    /// A cache.
    free: AtomicU32,
    /// All permits that there are.
    supply: AtomicU32,
    /// Permits of threads in private memory, and of processes that are no members.
    unnamed: AtomicU32,
    shared: AtomicU32,
    spin: Spin,
    turnstile: RawLock,
    ledger: Ledger,
}

/// Why no permit was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    TimedOut,
    TooManyHeld,
}

impl RawSemaphore {
    pub(crate) const fn new(permits: u32) -> Self {
        Self {
            section: ShortLock::new(),
            sequence: AtomicU32::new(0),
            free: AtomicU32::new(permits),
            supply: AtomicU32::new(permits),
            unnamed: AtomicU32::new(0),
            shared: AtomicU32::new(0),
            spin: Spin::new(),
            turnstile: RawLock::new(),
            ledger: Ledger::new(),
        }
    }

    pub(crate) fn placed(&self) {
        // Relaxed: before anybody else can see it.
        self.shared.store(1, Relaxed);
        self.turnstile.placed();
    }

    /// Takes a permit; waits for one behind those who wait already.
    pub(crate) fn acquire(&self, deadline: Deadline) -> Result<(), Refused> {
        let me = self.me();
        let untaken = self.turnstile.holder().is_none();
        if untaken
            && self
                .enter(Deadline::NEVER)
                .is_some_and(|inside| inside.take(me))
        {
            return Ok(());
        }
        self.acquire_in_turn(me, deadline)
    }

    /// Takes a permit if one is free and nobody waits for it.
    pub(crate) fn try_acquire(&self) -> bool {
        let me = self.me();
        let took = |recover: bool| {
            self.enter(Deadline::NEVER).is_some_and(|inside| {
                if recover {
                    inside.recover();
                }
                inside.take(me)
            })
        };
        // Before "none" is believed, the dead are asked.
        took(false) || (me.is_some() && took(true))
    }

    #[cold]
    fn acquire_in_turn(&self, me: Option<Member>, deadline: Deadline) -> Result<(), Refused> {
        match self.turnstile.pass(deadline) {
            // It guards nothing but the place in front.
            Ok(_) => {}
            Err(RefusedLock::TimedOut) => return Err(Refused::TimedOut),
            Err(RefusedLock::TooManyHeld) => return Err(Refused::TooManyHeld),
        }
        let outcome = self.wait_in_front(me, deadline);
        // SAFETY: this thread took the turnstile above.
        unsafe { self.turnstile.unlock() };
        outcome
    }

    fn wait_in_front(&self, me: Option<Member>, deadline: Deadline) -> Result<(), Refused> {
        loop {
            let (expected, lives) = {
                let inside = self.enter(deadline).ok_or(Refused::TimedOut)?;
                inside.recover();
                if inside.take(me) {
                    return Ok(());
                }
                let lives = if me.is_some() {
                    self.ledger.lives()
                } else {
                    Lives::NONE
                };
                (self.sequence.load(Relaxed), lives)
            };
            let object = Watch {
                word: &self.sequence,
                expected,
                scope: Scope::Shared,
            };
            if lives.wait(&self.spin, object, deadline) == WaitEnd::TimedOut {
                return Err(Refused::TimedOut);
            }
        }
    }

    /// Gives a permit back that this process has taken.
    pub(crate) fn give_back(&self) {
        let me = self.me();
        if let Some(inside) = self.enter(Deadline::NEVER) {
            inside.wake(1);
            inside.change_share(me, -1);
            // Relaxed: the section orders it.
            self.free
                .store(self.free.load(Relaxed).saturating_add(1), Relaxed);
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
        inside.wake(permits);
        self.supply.store(supply, Relaxed);
        self.free
            .store(self.free.load(Relaxed).saturating_add(permits), Relaxed);
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

    pub(crate) fn has_waiters(&self) -> bool {
        self.turnstile.holder().is_some()
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
            inside.guard.mark_consistent();
        }
        Some(inside)
    }
}

/// The short section of a semaphore.
struct Inside<'a> {
    semaphore: &'a RawSemaphore,
    guard: ShortGuard<'a>,
}

impl Inside<'_> {
    /// Takes a permit if there is one. Relaxed throughout: the section orders all of it.
    fn take(&self, me: Option<Member>) -> bool {
        let semaphore = self.semaphore;
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

    /// Changes what the caller has, by one store: the commit.
    fn change_share(&self, me: Option<Member>, by: i32) {
        let unnamed = &self.semaphore.unnamed;
        match me {
            Some(me) => self
                .semaphore
                .ledger
                .change(me, |share| share.saturating_add_signed(by)),
            None => unnamed.store(unnamed.load(Relaxed).saturating_add_signed(by), Relaxed),
        }
    }

    /// Takes back what the dead have.
    fn recover(&self) {
        if self.semaphore.is_shared() && self.semaphore.ledger.drop_dead() {
            self.recount();
        }
    }

    fn recount(&self) {
        let semaphore = self.semaphore;
        let supply = u64::from(semaphore.supply.load(Relaxed));
        let taken = semaphore.ledger.total() + u64::from(semaphore.unnamed.load(Relaxed));
        let free = supply.saturating_sub(taken);
        semaphore.free.store(free as u32, Relaxed);
    }

    /// Wakes whoever is in front, before the permits are there: it waits for the section.
    fn wake(&self, permits: u32) {
        let semaphore = self.semaphore;
        if permits > 0 && semaphore.has_waiters() {
            if !is_planted("semaphore") {
                semaphore
                    .sequence
                    .store(semaphore.sequence.load(Relaxed).wrapping_add(1), Relaxed);
            }
            futex::wake_all(&semaphore.sequence, Scope::Shared);
        }
    }
}
