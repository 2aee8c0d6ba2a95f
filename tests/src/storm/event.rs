//! Events: whoever is killed in `set`, the event is set and all wake, or it is not set.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;

use manyhands_sync::{Event, Shareable};
use nix::unistd::Pid;

use super::driver::{end, fork_process, wait_until};
use super::{PROCESSES, Random, SEATS, THREADS, Weather};
use crate::place::{Place, Placed, last_place};
use crate::system;

/// What every thread writes, each its own seat, and what the driver reads.
#[repr(C)]
struct Log {
    is_over: AtomicU32,
    /// The round that is to be played.
    round: AtomicU32,
    /// Which process sets the event; its number plus one.
    setter: AtomicU32,
    /// The last round whose `set` has returned.
    set: AtomicU32,
    /// 1: the thread is there, and plays the next round.
    is_ready: [AtomicU32; SEATS],
    rounds: [AtomicU64; SEATS],
}

// SAFETY: atomics only; zero is the beginning; nothing to drop.
unsafe impl Placed for Log {}

/// Starts a process whose threads each run `play` with their seat. The caller has one thread.
fn start(number: usize, play: impl Fn(usize) + Sync) -> Pid {
    fork_process(|| {
        let seats = number * THREADS..(number + 1) * THREADS;
        thread::scope(|threads| {
            for seat in seats {
                let play = &play;
                threads.spawn(move || play(seat));
            }
        });
    })
}

/// Kills processes that set an event for which all others wait. The caller has one thread.
///
/// Two events take turns. In each round one process sets, and is killed while it does so. If the
/// event is set then, all others must wake without any help; if it is not, another one sets it.
pub fn storm_of_sets(seed: u64, kills: u64) -> Weather {
    let mut random = Random::new(seed);
    let (place, log) = (
        Place::map(2 * size_of::<Event>()),
        Place::map(size_of::<Log>()),
    );
    let (events, log): (&Turns, &Log) = (place.at(), log.at());
    events.0.iter().for_each(|value| value.placed(last_place()));
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
    processes.into_iter().for_each(|process| _ = end(process));
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
    while log.is_over.load(Relaxed) == 0 {
        let round = log.round.load(Acquire);
        if round == seen {
            system::futex_wait(&log.round, seen, None);
            continue;
        }
        seen = round;
        let event = &events.0[round as usize % 2];
        let is_setter = log.setter.load(Relaxed) as usize == seat / THREADS + 1;
        if is_setter && seat.is_multiple_of(THREADS) {
            // Those whom it wakes take the processor from it, so it is likely to die in the middle.
            system::yield_to_others();
            // Begun is odd, finished is even.
            log.set.store((round << 1) | 1, Release);
            event.set();
            log.set.store((round + 1) << 1, Release);
        }
        event.wait();
        log.rounds[seat].store(u64::from(round), Release);
    }
}
