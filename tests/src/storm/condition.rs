//! Conditions: no notification is lost, whoever dies on its way.
//!
//! A box for one item. Half of the threads fill it, the others empty it, and each tells one of the
//! other side, which sleeps. So one notification that gets lost with a dead thread, or with one whose
//! time was up, is enough for everybody to stand still.
//!
//! Who dies with the lock may have changed the box and not said so; whoever is told of that tells
//! everybody. If all sleep, nobody takes the lock and is told; so the host takes it after each death.
//! It looks at nothing else, and the successors of the dead come later: they would make good for what
//! is lost.
//!
//! What this game has found: who waited watched the life of its own process too. The kernel wakes one
//! sleeper for a death, and chose a thread that was just dying with its process, while the one that
//! had been notified died as its sibling. Nobody handed the wake on, and all slept until the net.
//! And: whoever was woken by the reaper, just when it had cleared the life of the dead and not yet freed
//! the seat, took the dead for somebody who is just coming (four of these storms at once find it).

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use manyhands_sync::{Condition, Lock, LockError, LockGuard, Shareable, WaitError};

use super::section::{Fate, Room, Section};
use super::{Balance, Game, Player, THREADS};
use crate::place::Placed;
use crate::place::last_place;
use crate::system;

/// The kinds of rounds, which are also the kinds of threads and the indices of their conditions.
const FILL: usize = 0;
const EMPTY: usize = 1;

/// So many processes wait with a time-out, and come again only when all have got on: if one took a
/// notification with it, nobody makes good for that.
const IMPATIENT: usize = 2;

/// A box, and two conditions: it is empty, it is full.
#[repr(C)]
#[derive(Debug)]
pub struct OfCondition {
    /// How many items are in the box: none or one.
    items: Lock<u32>,
    conditions: [Condition; 2],
    /// What happens with the lock held.
    section: Section,
    /// At the door here: those who wait for the condition.
    waiting: Room,
    /// How often the box was filled and emptied; changed with the lock held.
    done: [AtomicU64; 2],
    /// Moves on when all have got on after a death.
    phase: AtomicU32,
    died_waiting: AtomicU64,
    gave_up: AtomicU64,
}

// SAFETY: locks, conditions and atomics; zero is an empty box; nothing to drop.
unsafe impl Placed for OfCondition {}

type Items<'a> = LockGuard<'a, u32>;

impl OfCondition {
    /// The lock was taken: by a call, or by the end of a wait.
    fn enter(&self, player: &Player<'_>, items: &mut Items<'_>, is_told: bool) {
        self.section.enter(player, is_told);
        let [filled, emptied] = [FILL, EMPTY].map(|kind| self.done[kind].load(SeqCst));
        let should_be = (filled - emptied) as u32;
        if is_told {
            **items = should_be;
            items.mark_consistent();
            // The dead may have changed the box, and not have come to say so.
            self.conditions.iter().for_each(Condition::notify_all);
        }
        player.demand(**items == should_be, "the box has what was put in");
        player.demand(should_be < 2, "the box has room for one item");
    }

    fn lock(&self, player: &Player<'_>) -> Items<'_> {
        self.section.room.approach(player.seat);
        let (mut items, is_told) = match self.items.lock() {
            Ok(items) => (items, false),
            Err(LockError::OwnerDied { guard, .. }) => (guard, true),
            Err(error) => panic!("{error}"),
        };
        self.enter(player, &mut items, is_told);
        items
    }

    /// Waits until told that the box has changed; false: the time was up.
    fn wait<'a>(&'a self, player: &mut Player<'_>, kind: usize, items: &mut Items<'a>) -> bool {
        let condition = &self.conditions[kind];
        let is_impatient = player.seat / THREADS < IMPATIENT;
        self.section.leave(player);
        self.waiting.approach(player.seat);
        let end = if is_impatient {
            let limit = Duration::from_micros(player.random.below(200));
            condition.wait_timeout(items, limit)
        } else {
            condition.wait(items).map(|()| true)
        };
        self.waiting.depart(player.seat);
        let is_told = matches!(end, Err(WaitError::OwnerDied { .. }));
        self.enter(player, items, is_told);
        end.unwrap_or(true)
    }

    fn leave(&self, player: &Player<'_>, items: Items<'_>) {
        self.section.leave(player);
        drop(items);
        self.section.room.depart(player.seat);
    }
}

impl Game for OfCondition {
    const IS_FAMILY: bool = true;
    const KINDS: usize = 2;

    fn set_up(&self) {
        self.items.placed(last_place());
        self.conditions
            .iter()
            .for_each(|value| value.placed(last_place()));
    }

    fn play(&self, player: &mut Player<'_>) {
        let kind = player.seat % 2;
        let phase = self.phase.load(SeqCst);
        let mut items = self.lock(player);
        let mut is_patient = true;
        while *items as usize != kind && is_patient && !player.is_over() {
            is_patient = self.wait(player, kind, &mut items);
        }
        // Whose time was up goes away, and does not even look: nobody has told it anything.
        let is_done = is_patient && *items as usize == kind;
        if is_done {
            self.section.change(player);
            self.done[kind].fetch_add(1, SeqCst);
            *items = 1 - *items;
            self.conditions[1 - kind].notify_one();
        }
        self.leave(player, items);
        if is_done {
            player.finish_round(kind);
            return;
        }
        self.gave_up.fetch_add(1, SeqCst);
        while self.phase.load(SeqCst) == phase && !player.is_over() {
            system::futex_wait(&self.phase, phase, None);
        }
    }

    fn condemn(&self, player: &Player<'_>) {
        self.section.room.condemn(player.seat);
    }

    fn bury(&self, player: &Player<'_>) {
        self.section.bury(player);
        if self.waiting.bury(player.seat) == Fate::Door {
            self.died_waiting.fetch_add(1, SeqCst);
        }
    }

    /// As a newcomer, who takes the lock and is told if somebody died with it.
    fn greet(&self, host: &mut Player<'_>) {
        let items = self.lock(host);
        self.leave(host, items);
    }

    fn refresh(&self) {
        self.phase.fetch_add(1, SeqCst);
        system::futex_wake(&self.phase, i32::MAX);
    }

    fn send_home(&self) {
        self.refresh();
        self.conditions.iter().for_each(Condition::notify_all);
    }

    fn settle(&self, driver: &mut Player<'_>) -> Balance {
        let items = self.lock(driver);
        self.leave(driver, items);
        let nobody = self.conditions.iter().all(|one| one.waiting() == 0);
        driver.demand(nobody, "nobody waits in the end");
        let sum = self.section.settle(driver);
        let waiting = self.died_waiting.load(SeqCst);
        Balance {
            recovered: sum.told + waiting,
            details: format!(
                ", {} inside, {waiting} while they waited, {} gave up",
                sum.inside,
                self.gave_up.load(SeqCst)
            ),
        }
    }
}
