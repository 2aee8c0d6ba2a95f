//! Semaphores: never more inside than there are permits, and all permits back in the end.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use manyhands_sync::{BoundedSemaphore, Permit, Semaphore, Shareable};

use super::section::{Fate, Room};
use super::{Balance, Game, Player, THREADS};
use crate::place::{Late, Placed, last_place};
use crate::system;

/// Fewer than processes, so that the dead can have all of them.
const PERMITS: u32 = 2;

/// The ways to take a permit. The last is as if for ever, but the driver must not hang.
const TRY: u64 = 0;
const SHORTLY: u64 = 1;
const FOR_EVER: u64 = 2;
const PATIENTLY: u64 = 3;

/// So many processes do not wait for ever. Whoever of them got no permit comes again only when the
/// others have got on: they must do so without its help, since it looks after the dead too.
const IMPATIENT: usize = 2;

/// The kinds of semaphores.
pub trait Permits: Placed + Shareable + std::fmt::Debug {
    /// A new one with two permits.
    fn make() -> Self;

    /// Takes a permit, now one way and now the other; not all ways wait until there is one.
    fn take(&self, way: u64) -> Option<Permit<'_>>;

    /// The free permits, and all of them.
    fn count(&self) -> (u32, u32);
}

// SAFETY: made of atomics; the driver writes a whole one before anybody comes; nothing to drop.
unsafe impl Placed for BoundedSemaphore {}

macro_rules! permits {
    ($semaphore:ty) => {
        impl Permits for $semaphore {
            fn make() -> Self {
                <$semaphore>::new(PERMITS)
            }

            fn take(&self, way: u64) -> Option<Permit<'_>> {
                match way {
                    TRY => self.try_acquire().ok(),
                    SHORTLY => self.acquire_timeout(Duration::from_micros(50)).ok(),
                    PATIENTLY => self.acquire_timeout(Duration::from_secs(10)).ok(),
                    _ => Some(self.acquire().expect("few locks")),
                }
            }

            fn count(&self) -> (u32, u32) {
                let state = self.inspect();
                (state.free, state.supply)
            }
        }
    };
}

permits!(Semaphore);
permits!(BoundedSemaphore);

/// A semaphore, and who has its permits.
#[repr(C)]
#[derive(Debug)]
pub struct OfPermits<S> {
    semaphore: Late<S>,
    room: Room,
    /// Moves on when all have got on after a death.
    phase: AtomicU32,
    died_inside: AtomicU64,
    died_at_door: AtomicU64,
}

// SAFETY: all fields are `Placed`.
unsafe impl<S: Permits> Placed for OfPermits<S> {}

impl<S: Permits> OfPermits<S> {
    fn semaphore(&self) -> &S {
        // SAFETY: `set_up` filled it.
        unsafe { self.semaphore.get() }
    }
}

impl<S: Permits> Game for OfPermits<S> {
    const IS_FAMILY: bool = true;

    fn set_up(&self) {
        // SAFETY: the driver forks the players later.
        unsafe { self.semaphore.fill(S::make()) };
        self.semaphore().placed(last_place());
    }

    fn play(&self, player: &mut Player<'_>) {
        let phase = self.phase.load(SeqCst);
        let way = match player.seat / THREADS < IMPATIENT {
            true => player.random.below(FOR_EVER),
            false => FOR_EVER,
        };
        self.room.approach(player.seat);
        let permit = self.semaphore().take(way);
        let has_one = permit.is_some();
        if let Some(permit) = permit {
            let others = self.room.enter(player.seat);
            player.demand(
                others < PERMITS,
                "no more are inside than there are permits",
            );
            // Long beside the handing over, so that many die inside.
            (0..10_000).for_each(|_| std::hint::spin_loop());
            self.room.leave(player.seat);
            drop(permit);
            player.finish_round(0);
        }
        self.room.depart(player.seat);
        while !has_one && self.phase.load(SeqCst) == phase && !player.is_over() {
            system::futex_wait(&self.phase, phase, None);
        }
    }

    fn condemn(&self, player: &Player<'_>) {
        self.room.condemn(player.seat);
    }

    fn bury(&self, player: &Player<'_>) {
        match self.room.bury(player.seat) {
            Fate::Inside | Fate::InsideAlone => self.died_inside.fetch_add(1, Relaxed),
            Fate::Door => self.died_at_door.fetch_add(1, Relaxed),
            Fate::Outside => 0,
        };
    }

    fn refresh(&self) {
        self.phase.fetch_add(1, SeqCst);
        system::futex_wake(&self.phase, i32::MAX);
    }

    fn send_home(&self) {
        self.refresh();
    }

    fn settle(&self, driver: &mut Player<'_>) -> Balance {
        // Waiting for a permit takes back those of the dead; nobody else is there.
        let all: Vec<_> = (0..PERMITS)
            .map(|_| self.semaphore().take(PATIENTLY))
            .collect();
        let are_back = all.iter().all(Option::is_some);
        driver.demand(are_back, "the dead have no permits in the end");
        driver.demand(
            self.semaphore().take(TRY).is_none(),
            "there are no more permits",
        );
        drop(all);
        let is_whole = self.semaphore().count() == (PERMITS, PERMITS);
        driver.demand(is_whole, "all permits are back in the end");
        Balance {
            recovered: self.died_inside.load(Relaxed),
            details: format!(", {} at the door", self.died_at_door.load(Relaxed)),
        }
    }
}
