//! Storms: six processes of two threads use one object while one of them after the other is killed,
//! at a random moment, and replaced.
//!
//! A sweep ([`crate::step`]) covers one death at every instruction; a storm covers what needs many
//! processes at once. Seeds are printed, so that the pauses and victims of a run can be had again;
//! the kernel's scheduling cannot.
//!
//! A [`Game`] is an object, what its players do, and what must be so. None of its rules depends on
//! time: each player says in shared memory where it is (`section.rs`), and what a killed one said
//! last is what can be known of it.

pub mod barrier;
pub mod condition;
pub mod driver;
pub mod event;
pub mod household;
pub mod locks;
pub mod mixed;
pub mod objects;
pub mod once;
pub mod rwlock;
pub mod section;
pub mod semaphore;
mod treasure;

use std::fmt;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

pub use self::driver::run;
use self::driver::{DRIVER, Log};
use crate::place::Placed;

/// How many processes there are at any time.
pub const PROCESSES: usize = 6;
/// How many threads each of them has.
pub const THREADS: usize = 2;
/// How many threads there are in all. The driver plays on a seat of its own, after these.
pub const SEATS: usize = PROCESSES * THREADS;

/// The most kills of one storm.
pub const MOST_KILLS: usize = 20_000;
/// Room for one number for each thread that is ever started.
pub const MOST_TOKENS: usize = (MOST_KILLS + PROCESSES) * THREADS + DRIVER as usize + 1;
/// The most kinds of rounds that a game has.
const KINDS: usize = 2;

/// What a storm did, and what it found.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// The storm's random numbers come from it.
    pub seed: u64,
    /// Processes killed.
    pub kills: u64,
    /// Deaths inside of the object, that somebody was told of or recovered from.
    pub recovered: u64,
    /// Rounds of all threads together.
    pub rounds: u64,
    /// Broken promises; each is printed where it is found.
    pub damages: u64,
    /// Whether everybody stood still at last.
    pub is_stuck: bool,
    /// What else the game has counted.
    pub details: String,
}

impl Weather {
    /// Nothing is wrong, and the storm was one: at least one kill in a hundred hit the object.
    pub fn is_fair(&self) -> bool {
        self.damages == 0 && !self.is_stuck && self.recovered * 100 >= self.kills
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Weather {
            seed,
            kills,
            recovered,
            rounds,
            damages,
            is_stuck,
            details,
        } = self;
        write!(
            formatter,
            "seed {seed}: {kills} kills, {recovered} recovered, {rounds} rounds, \
             {damages} damages, stuck: {is_stuck}{details}"
        )
    }
}

/// Random numbers. Source: Steele, Lea and Flood, SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number, below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// One thread of a storm, while it plays or after it was killed; or the driver.
#[derive(Debug)]
pub struct Player<'a> {
    /// Its place among the threads, below [`SEATS`]; its successor has the same.
    pub seat: usize,
    /// Its number, which no other thread ever has; not zero.
    pub token: u32,
    /// Its process.
    pub process: u32,
    /// Its own random numbers.
    pub random: Random,
    log: &'a Log,
}

impl<'a> Player<'a> {
    /// One on the seat of its own: the driver, or the host of the family in its stead.
    fn extra(log: &'a Log, random: Random) -> Player<'a> {
        Player {
            seat: SEATS,
            token: DRIVER,
            process: std::process::id(),
            random,
            log,
        }
    }
    /// Whether the storm is over.
    pub fn is_over(&self) -> bool {
        self.log.is_over.load(SeqCst) != 0
    }

    /// Says that a round is finished: somebody has got on.
    pub fn finish_round(&self, kind: usize) {
        self.log.rounds[self.seat][kind].fetch_add(1, Relaxed);
    }

    /// Whether the process of a thread is about to be killed, or was.
    pub fn is_condemned(&self, token: u32) -> bool {
        self.log.condemned[token as usize].load(SeqCst) != 0
    }

    /// Says that a promise is broken, unless it is kept.
    #[allow(
        clippy::print_stderr,
        reason = "whoever finds it knows best what it is, and may be killed next"
    )]
    pub fn demand(&self, is_kept: bool, promise: &str) {
        if !is_kept && self.log.damages.fetch_add(1, Relaxed) < 20 {
            eprintln!(
                "thread {} on seat {}: not so: {promise}",
                self.token, self.seat
            );
        }
    }
}

/// What is counted when all have gone home.
#[derive(Clone, Debug, Default)]
pub struct Balance {
    /// See [`Weather::recovered`].
    pub recovered: u64,
    /// More, for the reader.
    pub details: String,
}

/// An object, what those who use it do, and what must be so.
///
/// It lies in memory that all share. The driver has one thread, is in no family, and is not killed.
pub trait Game: Placed + fmt::Debug {
    /// Whether the players must know each other.
    const IS_FAMILY: bool = false;

    /// Whether survivors need the successors of the dead to finish a round.
    const NEEDS_ALL: bool = false;

    /// How many kinds of rounds there are; there must be some of each after each death.
    const KINDS: usize = 1;

    /// Makes the object in zeroed memory.
    fn set_up(&self);

    /// What a thread does when it comes to life.
    fn begin(&self, _player: &mut Player<'_>) {}

    /// One round of a thread.
    fn play(&self, player: &mut Player<'_>);

    /// The driver is about to kill this thread.
    fn condemn(&self, player: &Player<'_>);

    /// The driver has killed this thread, and its successor has not come yet.
    fn bury(&self, player: &Player<'_>);

    /// The driver has buried all threads of the process, whose successor has not come yet. Whether
    /// the survivors do what they can do alone.
    fn go_on(&self) -> bool {
        true
    }

    /// In a family: the host, as a newcomer after each death, does what it must be told of.
    fn greet(&self, _host: &mut Player<'_>) {}

    /// All have got on; those who have given up may come again.
    fn refresh(&self) {}

    /// Nobody has got on for a second: false. True, when that was not our object's fault and is
    /// mended.
    fn mend(&self) -> bool {
        false
    }

    /// The storm is over: lets those go who wait for what will not come. Called again and again.
    fn send_home(&self) {}

    /// Looks at what is left; the driver's last deed.
    fn settle(&self, driver: &mut Player<'_>) -> Balance;
}
