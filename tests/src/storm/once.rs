//! Onces: whoever dies in the function, it is done once, and the next one is told of the beginning.
//!
//! There is a new one after each death, as soon as the survivors are done with the one before.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use manyhands_sync::{Once, OnceState, Shareable};

use super::driver::{pause, wait_until};
use super::section::Section;
use super::{Balance, Game, MOST_KILLS, Player};
use crate::place::Placed;
use crate::place::last_place;
use crate::system;

/// A new one for each death, and what is done.
#[repr(C)]
#[derive(Debug)]
pub struct OfOnce {
    onces: [Once; MOST_KILLS + 1],
    /// How often each is done.
    effects: [AtomicU32; MOST_KILLS + 1],
    /// Which of them is called now.
    turn: AtomicU32,
    /// Inside is who runs the function of the present one.
    section: Section,
}

// SAFETY: made of atomics; zero is not yet done; nothing to drop.
unsafe impl Placed for OfOnce {}

impl OfOnce {
    fn run(&self, player: &mut Player<'_>, turn: usize, state: OnceState) {
        self.section.enter(player, state.interrupted);
        // Long enough to be killed in.
        pause(Duration::from_micros(player.random.below(1000)));
        let effect = self.effects[turn].load(SeqCst);
        // Its end may have come, and not been noted.
        let is_new = effect == 0 || state.interrupted;
        player.demand(is_new, "what is done is not done again");
        self.effects[turn].store(1, SeqCst);
        self.section.change(player);
        self.section.leave(player);
    }

    fn call(&self, player: &mut Player<'_>, turn: usize) {
        self.section.room.approach(player.seat);
        let result = self.onces[turn].call(|state| self.run(player, turn, state));
        self.section.room.depart(player.seat);
        player.demand(result.is_ok(), "one lock is not too many");
        let is_done = self.effects[turn].load(SeqCst) == 1 && self.onces[turn].is_done();
        player.demand(is_done, "nobody goes on before it is done");
    }
}

impl Game for OfOnce {
    /// That the survivors get on, `go_on` sees; the next kill comes while they are at the new one.
    const KINDS: usize = 0;

    fn set_up(&self) {
        self.onces
            .iter()
            .for_each(|value| value.placed(last_place()));
    }

    fn play(&self, player: &mut Player<'_>) {
        let turn = self.turn.load(SeqCst);
        self.call(player, turn as usize);
        player.finish_round(0);
        while self.turn.load(SeqCst) == turn && !player.is_over() {
            system::futex_wait(&self.turn, turn, None);
        }
    }

    fn condemn(&self, player: &Player<'_>) {
        self.section.room.condemn(player.seat);
    }

    fn bury(&self, player: &Player<'_>) {
        self.section.bury(player);
    }

    fn go_on(&self) -> bool {
        let turn = self.turn.load(SeqCst) as usize;
        let is_done = wait_until(|| self.onces[turn].is_done());
        self.turn.store(turn as u32 + 1, SeqCst);
        system::futex_wake(&self.turn, i32::MAX);
        is_done
    }

    fn send_home(&self) {
        system::futex_wake(&self.turn, i32::MAX);
    }

    fn settle(&self, driver: &mut Player<'_>) -> Balance {
        let turn = self.turn.load(SeqCst) as usize;
        self.call(driver, turn);
        let are_done = self.effects[..=turn]
            .iter()
            .all(|effect| effect.load(SeqCst) == 1);
        driver.demand(are_done, "each is done once");
        let sum = self.section.settle(driver);
        Balance {
            recovered: sum.told,
            details: format!(", {} inside, {} at the door", sum.inside, sum.door),
        }
    }
}
