//! Our locks and glibc's robust mutexes inside each other, left in any order.
//!
//! Both are on the same list of the thread, which the kernel walks when it dies. A thread takes
//! three of four in a row, ours and theirs in turn: so one of theirs lies between two of ours, or
//! one of ours between two of theirs. All of them are taken in one order, so nobody waits in a
//! circle.
//!
//! glibc's mutex can lose its sleepers when the one it woke is killed (the control of scene e shows
//! it). When nobody gets on, the driver wakes those who sleep in one of theirs, and counts that. It
//! heals nothing of ours.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::section::Section;
use super::{Balance, Game, Player};
use crate::place::Placed;
use crate::subjects::lock::Raw;
use crate::subjects::mutual::Mutual;
use crate::subjects::pthread_mutex::RobustMutex;

/// Four locks in the order in which they are taken, and what happens in each.
#[repr(C)]
#[derive(Debug)]
pub struct Mixed {
    ours: [Raw; 2],
    theirs: [RobustMutex; 2],
    sections: [Section; LOCKS],
    mended: AtomicU64,
}

/// Even are ours, odd are theirs.
const LOCKS: usize = 4;
/// How many a thread takes.
const NESTED: usize = 3;

// SAFETY: all fields are `Placed`; the mutexes are initialized before anybody comes.
unsafe impl Placed for Mixed {}

impl Mixed {
    fn take(&self, lock: usize) -> bool {
        match lock % 2 {
            0 => self.ours[lock / 2].take(),
            _ => self.theirs[lock / 2].lock(),
        }
    }

    fn leave(&self, lock: usize) {
        match lock % 2 {
            0 => self.ours[lock / 2].leave(),
            _ => self.theirs[lock / 2].unlock(),
        }
    }

    fn wake_theirs(&self) -> u64 {
        self.theirs.iter().map(RobustMutex::wake_all).sum()
    }

    fn take_from(&self, player: &mut Player<'_>, first: usize) {
        let mut held: [usize; NESTED] = std::array::from_fn(|nested| first + nested);
        for lock in held {
            self.sections[lock].room.approach(player.seat);
            let is_told = self.take(lock);
            self.sections[lock].enter(player, is_told);
            self.sections[lock].change(player);
        }
        // In any order. Source: Fisher and Yates.
        for last in (1..NESTED).rev() {
            held.swap(last, player.random.below(last as u64 + 1) as usize);
        }
        for lock in held {
            self.sections[lock].leave(player);
            self.leave(lock);
            self.sections[lock].room.depart(player.seat);
        }
    }
}

impl Game for Mixed {
    const KINDS: usize = 2;

    fn set_up(&self) {
        self.ours.iter().for_each(Mutual::prepare);
        self.theirs.iter().for_each(RobustMutex::initialize);
    }

    fn play(&self, player: &mut Player<'_>) {
        let first = player.random.below((LOCKS - NESTED) as u64 + 1) as usize;
        self.take_from(player, first);
        player.finish_round(first);
    }

    fn condemn(&self, player: &Player<'_>) {
        for section in &self.sections {
            section.room.condemn(player.seat);
        }
    }

    fn bury(&self, player: &Player<'_>) {
        for section in &self.sections {
            section.bury(player);
        }
    }

    fn mend(&self) -> bool {
        let found = self.wake_theirs();
        self.mended.fetch_add(found, Relaxed);
        found > 0
    }

    fn send_home(&self) {
        self.wake_theirs();
    }

    fn settle(&self, driver: &mut Player<'_>) -> Balance {
        for first in 0..=LOCKS - NESTED {
            self.take_from(driver, first);
        }
        let sums = self
            .sections
            .each_ref()
            .map(|section| section.settle(driver));
        let told = |parity: usize| -> u64 {
            let sums = sums.iter().skip(parity).step_by(2);
            sums.map(|sum| sum.told).sum()
        };
        let (ours, theirs) = (told(0), told(1));
        driver.demand(ours > 0 && theirs > 0, "deaths in both kinds are told");
        Balance {
            recovered: ours.min(theirs),
            details: format!(
                ", {ours} told by ours, {theirs} by theirs, {} of theirs mended",
                self.mended.load(Relaxed)
            ),
        }
    }
}
