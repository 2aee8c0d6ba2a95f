//! Who is where, in one word, and what a death inside must and may be told.
//!
//! A thread that is killed cannot be asked how far it came. So each says where it is: *outside*; *at
//! the door*, from before it calls the object until after that has returned, and again from before
//! it gives back what it has; or *inside*, in between. A thread killed outside has nothing, inside
//! it surely has what it took, and at the door either is right. All of it is one atomic word, so
//! every look is a look at one moment. The *condemned* are those whom the driver is about to kill;
//! what they say of themselves is not held against the living.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::{MOST_TOKENS, Player};
use crate::place::Placed;

/// Where everybody is: four sets of seats.
#[repr(C)]
#[derive(Debug)]
pub struct Room(AtomicU64);

// SAFETY: an atomic; zero is an empty room; nothing to drop.
unsafe impl Placed for Room {}

const INSIDE: u32 = 0;
const INSIDE_ALONE: u32 = 16;
const DOOR: u32 = 32;
const CONDEMNED: u32 = 48;

/// Where a killed thread was.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Fate {
    /// It had nothing.
    Outside = 1,
    /// It had something, or not.
    Door = 2,
    /// It surely had what it took.
    Inside = 3,
    /// As `Inside`, and it had to be alone there.
    InsideAlone = 4,
}

fn bit(seat: usize, set: u32) -> u64 {
    1 << (seat as u32 + set)
}

fn set(word: u64, set: u32) -> u64 {
    word >> set & 0xffff
}

impl Room {
    /// The thread is about to ask for something.
    pub fn approach(&self, seat: usize) {
        self.0.fetch_or(bit(seat, DOOR), SeqCst);
    }

    /// The thread has it. How many others, not condemned, have it too.
    pub fn enter(&self, seat: usize) -> u32 {
        let moved = bit(seat, DOOR) | bit(seat, INSIDE);
        let word = self.0.fetch_xor(moved, SeqCst);
        ((set(word, INSIDE) | set(word, INSIDE_ALONE)) & !set(word, CONDEMNED)).count_ones()
    }

    /// As [`Room::enter`] of one beside whom others of its kind may be; how many are there, not
    /// condemned, who have to be alone.
    pub fn enter_beside(&self, seat: usize) -> u32 {
        let moved = bit(seat, DOOR) | bit(seat, INSIDE);
        let word = self.0.fetch_xor(moved, SeqCst);
        (set(word, INSIDE_ALONE) & !set(word, CONDEMNED)).count_ones()
    }

    /// As [`Room::enter`] of one who has to be alone.
    pub fn enter_alone(&self, seat: usize) -> u32 {
        let moved = bit(seat, DOOR) | bit(seat, INSIDE_ALONE);
        let word = self.0.fetch_xor(moved, SeqCst);
        ((set(word, INSIDE) | set(word, INSIDE_ALONE)) & !set(word, CONDEMNED)).count_ones()
    }

    /// The thread is about to give it back.
    pub fn leave(&self, seat: usize) {
        let inside = bit(seat, INSIDE) | bit(seat, INSIDE_ALONE);
        let move_out = |word: u64| Some(word & !inside | bit(seat, DOOR));
        // It cannot fail: the closure always answers.
        let _ = self.0.fetch_update(SeqCst, SeqCst, move_out);
    }

    /// The thread has given it back, or got nothing.
    pub fn depart(&self, seat: usize) {
        self.0.fetch_and(!bit(seat, DOOR), SeqCst);
    }

    /// How many are at the door.
    pub fn at_door(&self) -> u32 {
        set(self.0.load(SeqCst), DOOR).count_ones()
    }

    /// The driver is about to kill the thread.
    pub fn condemn(&self, seat: usize) {
        self.0.fetch_or(bit(seat, CONDEMNED), SeqCst);
    }

    /// The driver has killed the thread: where it was. The seat is free again.
    pub fn bury(&self, seat: usize) -> Fate {
        let all = [INSIDE, INSIDE_ALONE, DOOR, CONDEMNED].map(|set| bit(seat, set));
        let word = self.0.fetch_and(!all.iter().sum::<u64>(), SeqCst);
        let is_in = |set| word & bit(seat, set) != 0;
        match [INSIDE_ALONE, INSIDE, DOOR].map(is_in) {
            [true, ..] => Fate::InsideAlone,
            [_, true, _] => Fate::Inside,
            [.., true] => Fate::Door,
            _ => Fate::Outside,
        }
    }
}

/// A room for one at a time, with data that only who is inside may touch, and with a record of what
/// was told of whom.
#[repr(C)]
#[derive(Debug)]
pub struct Section {
    /// Who is where.
    pub room: Room,
    /// The number of the thread that is inside; written inside only.
    inside: AtomicU32,
    /// Two numbers that are equal but in the middle of a change.
    numbers: [AtomicU64; 2],
    /// How often it was told that this thread died; at zero, deaths with nobody's name inside.
    told: [AtomicU32; MOST_TOKENS],
    fates: [AtomicU32; MOST_TOKENS],
}

// SAFETY: atomics only; zero is the beginning; nothing to drop.
unsafe impl Placed for Section {}

/// What was told, in figures.
#[derive(Copy, Clone, Debug)]
pub struct Told {
    /// Deaths that had to be told.
    pub inside: u64,
    /// Deaths that may have been told.
    pub door: u64,
    /// What was told.
    pub told: u64,
}

impl Section {
    /// The object has let the thread in, and said whether somebody had died inside.
    pub fn enter(&self, player: &Player<'_>, is_told: bool) {
        let former = self.inside.load(SeqCst);
        if is_told {
            // Noted before the name is replaced: whoever is killed in between leaves the name to
            // the next one, who is told again.
            self.told[former as usize].fetch_add(1, SeqCst);
            let is_dead = former == 0 || player.is_condemned(former);
            player.demand(is_dead, "only the dead are called dead");
        } else {
            player.demand(former == 0, "a death inside is told");
        }
        self.inside.store(player.token, SeqCst);
        // The name is there before it says that it is inside: the next one will find it.
        let others = self.room.enter_alone(player.seat);
        player.demand(others == 0, "one is inside at a time");
        let [first, second] = &self.numbers;
        let value = first.load(SeqCst);
        let is_whole = second.swap(value, SeqCst) == value;
        player.demand(is_whole || is_told, "data is whole, or a death was told");
    }

    /// As a reader comes in beside other readers; it repairs nothing.
    pub fn enter_beside(&self, player: &Player<'_>, is_told: bool) {
        let writers = self.room.enter_beside(player.seat);
        player.demand(writers == 0, "no writer is beside a reader");
        if !is_told {
            let is_whole = self.inside.load(SeqCst) == 0 && self.are_equal();
            player.demand(is_whole, "a reader reads whole data, or is told of a death");
        }
    }

    /// Whether the data is whole, as a reader sees it.
    pub fn are_equal(&self) -> bool {
        let [first, second] = &self.numbers;
        first.load(SeqCst) == second.load(SeqCst)
    }

    /// Changes the data; the thread is inside, alone.
    pub fn change(&self, player: &Player<'_>) {
        let [first, second] = &self.numbers;
        let next = first.load(SeqCst) + 1;
        first.store(next, SeqCst);
        (0..20).for_each(|_| std::hint::spin_loop());
        second.store(next, SeqCst);
        let is_alone = self.inside.load(SeqCst) == player.token;
        player.demand(is_alone, "nobody comes in while one is inside");
    }

    /// The thread, which was alone inside, is about to leave.
    pub fn leave(&self, player: &Player<'_>) {
        self.room.leave(player.seat);
        self.inside.store(0, SeqCst);
    }

    /// The driver has killed the thread; returns where it was.
    pub fn bury(&self, player: &Player<'_>) -> Fate {
        let fate = self.room.bury(player.seat);
        self.fates[player.token as usize].store(fate as u32, SeqCst);
        fate
    }

    /// What was told must have happened, and what happened must have been told.
    ///
    /// The driver has been inside since the last death. A death is told once, but again when who
    /// was told has died in turn before it could note that; that one died at the door.
    pub fn settle(&self, driver: &Player<'_>) -> Told {
        let mut sum = Told {
            inside: 0,
            door: 0,
            told: u64::from(self.told[0].load(SeqCst)),
        };
        driver.demand(self.are_equal(), "data is whole in the end");
        for (told, fate) in self.told.iter().zip(&self.fates).skip(1) {
            let (told, fate) = (told.load(SeqCst), fate.load(SeqCst));
            sum.told += u64::from(told);
            if fate == Fate::InsideAlone as u32 {
                sum.inside += 1;
                driver.demand(told > 0, "each death inside was told");
            } else if fate == Fate::Door as u32 {
                sum.door += 1;
            } else {
                driver.demand(told == 0, "no death outside was told");
            }
        }
        let in_range = (sum.inside..=sum.inside + sum.door).contains(&sum.told);
        driver.demand(in_range, "as many deaths are told as there were");
        sum
    }
}
