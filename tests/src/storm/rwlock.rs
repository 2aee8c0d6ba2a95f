//! Reader-writer locks: many readers or one writer; a writer's death is told, a reader's is not.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use manyhands_sync::{
    LockError, LockTimeoutError, ReadGuard, RwLock, Shareable, TryLockError, WriteGuard,
};

use super::section::{Fate, Section};
use super::{Balance, Game, Player};
use crate::place::Placed;
use crate::place::last_place;

/// The kinds of rounds: some must be read and some be written after each death.
const READ: usize = 0;
const WRITTEN: usize = 1;

/// Time-outs that pass while others are inside.
const SHORT: Duration = Duration::from_micros(50);

/// A lock, and what happens inside of it.
#[repr(C)]
#[derive(Debug)]
pub struct OfRwLock {
    lock: RwLock<()>,
    section: Section,
    readers_died: AtomicU64,
    told_readers: AtomicU64,
}

// SAFETY: all fields are `Placed`.
unsafe impl Placed for OfRwLock {}

/// The guard, and whether a writer had died.
fn read(lock: &RwLock<()>, way: u64) -> Option<(ReadGuard<'_, ()>, bool)> {
    match way {
        0 => match lock.try_read() {
            Ok(guard) => Some((guard, false)),
            Err(TryLockError::OwnerDied { guard, .. }) => Some((guard, true)),
            Err(_) => None,
        },
        1 => match lock.read_timeout(SHORT) {
            Ok(guard) => Some((guard, false)),
            Err(LockTimeoutError::OwnerDied { guard, .. }) => Some((guard, true)),
            Err(_) => None,
        },
        _ => match lock.read() {
            Ok(guard) => Some((guard, false)),
            Err(LockError::OwnerDied { guard, .. }) => Some((guard, true)),
            Err(error) => panic!("{error}"),
        },
    }
}

fn write(lock: &RwLock<()>, way: u64) -> Option<(WriteGuard<'_, ()>, bool)> {
    match way {
        0 => match lock.try_write() {
            Ok(guard) => Some((guard, false)),
            Err(TryLockError::OwnerDied { guard, .. }) => Some((guard, true)),
            Err(_) => None,
        },
        1 => match lock.write_timeout(SHORT) {
            Ok(guard) => Some((guard, false)),
            Err(LockTimeoutError::OwnerDied { guard, .. }) => Some((guard, true)),
            Err(_) => None,
        },
        _ => match lock.write() {
            Ok(guard) => Some((guard, false)),
            Err(LockError::OwnerDied { guard, .. }) => Some((guard, true)),
            Err(error) => panic!("{error}"),
        },
    }
}

impl OfRwLock {
    fn read_once(&self, player: &Player<'_>, way: u64) {
        let Some((guard, is_told)) = read(&self.lock, way) else {
            return;
        };
        self.section.enter_beside(player, is_told);
        self.told_readers.fetch_add(u64::from(is_told), Relaxed);
        (0..40).for_each(|_| std::hint::spin_loop());
        let is_whole = is_told || self.section.are_equal();
        player.demand(is_whole, "nothing is written while one reads");
        self.section.room.leave(player.seat);
        drop(guard);
        player.finish_round(READ);
    }

    fn write_once(&self, player: &Player<'_>, way: u64) {
        let Some((mut guard, is_told)) = write(&self.lock, way) else {
            return;
        };
        self.section.enter(player, is_told);
        if is_told {
            guard.mark_consistent();
        }
        self.section.change(player);
        self.section.leave(player);
        drop(guard);
        player.finish_round(WRITTEN);
    }
}

impl Game for OfRwLock {
    const IS_FAMILY: bool = true;
    const KINDS: usize = 2;

    fn set_up(&self) {
        self.lock.placed(last_place());
    }

    fn play(&self, player: &mut Player<'_>) {
        let (is_writer, way) = (player.random.below(2) == 0, player.random.below(8));
        self.section.room.approach(player.seat);
        if is_writer {
            self.write_once(player, way);
        } else {
            self.read_once(player, way);
        }
        self.section.room.depart(player.seat);
    }

    fn condemn(&self, player: &Player<'_>) {
        self.section.room.condemn(player.seat);
    }

    fn bury(&self, player: &Player<'_>) {
        if self.section.bury(player) == Fate::Inside {
            self.readers_died.fetch_add(1, Relaxed);
        }
    }

    fn settle(&self, driver: &mut Player<'_>) -> Balance {
        self.section.room.approach(driver.seat);
        self.write_once(driver, 8);
        self.section.room.depart(driver.seat);
        let no_readers = self.lock.inspect().readers == 0;
        driver.demand(no_readers, "no share of a reader is left");
        let sum = self.section.settle(driver);
        let readers = self.readers_died.load(Relaxed);
        Balance {
            recovered: sum.told + readers,
            details: format!(
                ", {} writers and {readers} readers inside, {} at the door, {} told readers",
                sum.inside,
                sum.door,
                self.told_readers.load(Relaxed)
            ),
        }
    }
}
