//! Locks: one inside at a time, and a death told exactly when the section had begun.

use std::fmt::Debug;

use super::section::Section;
use super::{Balance, Game, Player};
use crate::place::Placed;
use crate::subjects::mutual::Mutual;

/// A lock, and what happens inside of it.
#[repr(C)]
#[derive(Debug)]
pub struct OfLock<M> {
    lock: M,
    section: Section,
}

// SAFETY: both fields are `Placed`.
unsafe impl<M: Mutual> Placed for OfLock<M> {}

impl<M: Mutual + Debug> Game for OfLock<M> {
    fn set_up(&self) {
        self.lock.prepare();
    }

    fn play(&self, player: &mut Player<'_>) {
        self.section.room.approach(player.seat);
        let is_told = self.lock.take();
        self.section.enter(player, is_told);
        self.section.change(player);
        self.section.leave(player);
        self.lock.leave();
        self.section.room.depart(player.seat);
        player.finish_round(0);
    }

    fn condemn(&self, player: &Player<'_>) {
        self.section.room.condemn(player.seat);
    }

    fn bury(&self, player: &Player<'_>) {
        self.section.bury(player);
    }

    fn settle(&self, driver: &mut Player<'_>) -> Balance {
        self.play(driver);
        let sum = self.section.settle(driver);
        Balance {
            recovered: sum.told,
            details: format!(", {} inside, {} at the door", sum.inside, sum.door),
        }
    }
}
