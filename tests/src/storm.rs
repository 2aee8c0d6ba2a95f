//! Storms: six processes of two threads use one object while one of them after the other is killed,
//! at a random moment, and replaced.
//!
//! A sweep ([`crate::step`]) covers one death at every instruction; a storm covers what needs many
//! processes at once. Seeds are printed, so that the pauses and victims of a run can be had again;
//! the kernel's scheduling cannot.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use manyhands_sync::{Event, Shareable};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use crate::place::{Place, Placed};
use crate::step::Outcome;
use crate::subjects::mutual::Mutual;
use crate::system;

const PROCESSES: usize = 6;
const THREADS: usize = 2;
const SEATS: usize = PROCESSES * THREADS;

/// Nobody gets on for so long: the survivors hang.
const STANDSTILL: Duration = Duration::from_secs(10);

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
    /// Broken promises.
    pub damages: u64,
    /// Whether everybody stood still at last.
    pub is_stuck: bool,
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
        } = self;
        write!(
            formatter,
            "seed {seed}: {kills} kills, {recovered} recovered, {rounds} rounds, \
             {damages} damages, stuck: {is_stuck}"
        )
    }
}

/// Random numbers. Source: Steele, Lea and Flood, SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// What every thread writes, each its own seat, and what the driver reads.
#[repr(C)]
struct Log {
    is_over: AtomicU32,
    /// The round that is to be played; [`storm_of_sets`] only.
    round: AtomicU32,
    /// Which process sets the event; its number plus one.
    setter: AtomicU32,
    /// The last round whose `set` has returned.
    set: AtomicU32,
    /// 1: the thread is there, and plays the next round; [`storm_of_sets`] only.
    is_ready: [AtomicU32; SEATS],
    rounds: [AtomicU64; SEATS],
    told: [AtomicU64; SEATS],
    damages: [AtomicU64; SEATS],
}

// SAFETY: atomics only; zero is the beginning; nothing to drop.
unsafe impl Placed for Log {}

impl Log {
    fn sum(counts: &[AtomicU64; SEATS]) -> u64 {
        counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    fn note(&self, seat: usize, outcome: Outcome) {
        self.rounds[seat].fetch_add(1, Relaxed);
        match outcome {
            Outcome::Fine => {}
            Outcome::OwnerDied => _ = self.told[seat].fetch_add(1, Relaxed),
            _ => _ = self.damages[seat].fetch_add(1, Relaxed),
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Relaxed) != 0
    }
}

/// Starts a process whose threads each run `play` with their seat. The caller has one thread.
fn start(number: usize, play: impl Fn(usize) + Sync) -> Pid {
    // SAFETY: the caller has one thread, so the child may run any Rust code.
    match unsafe { fork() }.expect("fork a process") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            system::die_with_parent();
            let seats = number * THREADS..(number + 1) * THREADS;
            thread::scope(|threads| {
                for seat in seats {
                    let play = &play;
                    threads.spawn(move || play(seat));
                }
            });
            // SAFETY: ends the process without running what the driver registered.
            unsafe { libc::_exit(0) }
        }
    }
}

fn end(process: Pid) {
    // It is our child and not reaped, so the id is still its own.
    let _ = kill(process, Signal::SIGKILL);
    let _ = waitpid(process, None);
}

/// Waits without a thread being woken for it: storms are random, not timed.
fn pause(length: Duration) {
    let nobody = AtomicU32::new(0);
    system::futex_wait(&nobody, 0, Some(length));
}

/// Kills processes that take and leave a lock. The caller has one thread.
pub fn storm_of_locks<M: Mutual>(seed: u64, kills: u64) -> Weather {
    let mut random = Random(seed);
    let (place, log) = (Place::map(size_of::<M>()), Place::map(size_of::<Log>()));
    let (lock, log): (&M, &Log) = (place.at(), log.at());
    lock.prepare();
    let play = |seat: usize| {
        while !log.is_over() {
            let is_flagged = lock.take();
            let outcome = lock.data().enter(is_flagged);
            (0..20).for_each(|_| std::hint::spin_loop());
            lock.data().change();
            lock.data().leave();
            lock.leave();
            log.note(seat, outcome);
        }
    };
    let mut processes: Vec<Pid> = (0..PROCESSES).map(|number| start(number, play)).collect();
    let mut weather = Weather {
        seed,
        ..Weather::default()
    };
    while weather.kills < kills && !weather.is_stuck {
        pause(Duration::from_micros(random.below(1500)));
        let number = random.below(PROCESSES as u64) as usize;
        if random.below(8) == 0 {
            let _ = kill(processes[number], Signal::SIGSTOP);
            pause(Duration::from_micros(random.below(3000)));
        }
        end(processes[number]);
        weather.kills += 1;
        weather.is_stuck = !gets_on(log);
        processes[number] = start(number, play);
    }
    log.is_over.store(1, Relaxed);
    if weather.is_stuck {
        processes.into_iter().for_each(end);
    } else {
        for process in processes {
            let _ = waitpid(process, None);
        }
    }
    weather.recovered = Log::sum(&log.told);
    weather.rounds = Log::sum(&log.rounds);
    weather.damages = Log::sum(&log.damages);
    weather
}

/// Whether anybody finishes a round before it counts as a standstill.
fn gets_on(log: &Log) -> bool {
    let before = Log::sum(&log.rounds);
    wait_until(|| Log::sum(&log.rounds) != before)
}

fn wait_until(is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + STANDSTILL;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        pause(Duration::from_micros(50));
    }
}

/// Kills processes that set an event for which all others wait. The caller has one thread.
///
/// Two events take turns. In each round one process sets, and is killed while it does so. If the
/// event is set then, all others must wake without any help; if it is not, another one sets it.
pub fn storm_of_sets(seed: u64, kills: u64) -> Weather {
    let mut random = Random(seed);
    let (place, log) = (
        Place::map(2 * size_of::<Event>()),
        Place::map(size_of::<Log>()),
    );
    let (events, log): (&Turns, &Log) = (place.at(), log.at());
    events.0.iter().for_each(Shareable::placed);
    let play = |seat: usize| play_round_after_round(events, log, seat);
    let mut processes: Vec<Pid> = (0..PROCESSES).map(|number| start(number, play)).collect();
    let mut weather = Weather {
        seed,
        ..Weather::default()
    };
    while weather.kills < kills && !weather.is_stuck {
        weather.is_stuck = !wait_until(|| log.is_ready.iter().all(|seat| seat.load(Acquire) == 1));
        let round = log.round.load(Relaxed) + 1;
        let event = &events.0[round as usize % 2];
        events.0[(round + 1) as usize % 2].clear();
        let number = random.below(PROCESSES as u64) as usize;
        log.setter.store(number as u32 + 1, Relaxed);
        log.round.store(round, Release);
        system::futex_wake(&log.round, i32::MAX);
        // Between "has not begun" and "has long finished".
        if random.below(4) > 0 {
            let setting = (round << 1) | 1;
            wait_until(|| log.set.load(Acquire) >= setting);
            (0..random.below(400)).for_each(|_| std::hint::spin_loop());
        }
        end(processes[number]);
        weather.kills += 1;
        let is_cut_short = log.set.load(Acquire) == (round << 1) | 1;
        weather.recovered += u64::from(is_cut_short);
        if !event.is_set() {
            event.set();
        }
        let has_arrived = |seat: usize| log.rounds[seat].load(Acquire) >= u64::from(round);
        let others = (0..SEATS).filter(|seat| seat / THREADS != number);
        let its = number * THREADS..(number + 1) * THREADS;
        its.for_each(|seat| log.is_ready[seat].store(0, Relaxed));
        weather.is_stuck |= !wait_until(|| others.clone().all(has_arrived));
        processes[number] = start(number, play);
    }
    log.is_over.store(1, Relaxed);
    processes.into_iter().for_each(end);
    weather.rounds = u64::from(log.round.load(Relaxed));
    weather
}

/// Two events.
#[repr(C)]
struct Turns([Event; 2]);

// SAFETY: as for `Event`.
unsafe impl Placed for Turns {}

fn play_round_after_round(events: &Turns, log: &Log, seat: usize) {
    let mut seen = log.round.load(Acquire);
    // Whoever is new in the middle of a round begins with the next.
    log.rounds[seat].store(u64::from(seen), Release);
    log.is_ready[seat].store(1, Release);
    while !log.is_over() {
        let round = log.round.load(Acquire);
        if round == seen {
            system::futex_wait(&log.round, seen, None);
            continue;
        }
        seen = round;
        let event = &events.0[round as usize % 2];
        let is_setter = log.setter.load(Relaxed) as usize == seat / THREADS + 1;
        if is_setter && seat.is_multiple_of(THREADS) {
            // Begun is odd, finished is even.
            log.set.store((round << 1) | 1, Release);
            event.set();
            log.set.store((round + 1) << 1, Release);
        }
        event.wait();
        log.rounds[seat].store(u64::from(round), Release);
    }
}
