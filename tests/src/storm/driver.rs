//! The driver of a storm: it starts the processes, kills one after the other, and looks whether the
//! others get on.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use manyhands_shm::Seat;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::household::Household;
use super::{
    Balance, Game, KINDS, MOST_KILLS, MOST_TOKENS, PROCESSES, Player, Random, SEATS, THREADS,
    Weather,
};
use crate::place::{Place, Placed};
use crate::subjects::family;
use crate::system;

/// The driver's own number as a player. Zero is nobody.
pub(super) const DRIVER: u32 = 1;

/// Nobody gets on for so long: the survivors hang.
const STANDSTILL: Duration = Duration::from_secs(10);

/// Nobody gets on for so long: see [`Game::mend`].
const MENDING: Duration = Duration::from_secs(1);

/// What all threads and the driver write and read.
#[repr(C)]
pub(super) struct Log {
    pub(super) is_over: AtomicU32,
    pub(super) damages: AtomicU64,
    pub(super) rounds: [[AtomicU64; KINDS]; SEATS + 1],
    /// 1 at a thread's number: its process is about to be killed, or was.
    pub(super) condemned: [AtomicU32; MOST_TOKENS],
}

// SAFETY: atomics only; zero is the beginning; nothing to drop.
unsafe impl Placed for Log {}

impl Log {
    pub(super) fn rounds(&self) -> [u64; KINDS] {
        std::array::from_fn(|kind| {
            self.rounds
                .iter()
                .map(|seat| seat[kind].load(Relaxed))
                .sum()
        })
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Log").finish_non_exhaustive()
    }
}

/// Where a process of the storm belongs.
#[derive(Copy, Clone)]
struct Spot {
    number: usize,
    /// How many processes were started before.
    start: usize,
    /// Its seat in the family, if there is one.
    seat: Option<Seat>,
}

/// A process of the storm.
struct Crew {
    process: Pid,
    spot: Spot,
}

/// Everything that the driver has.
struct Storm<G: 'static> {
    game: &'static G,
    log: &'static Log,
    seed: u64,
    random: Random,
    household: Option<Household>,
    crews: Vec<Crew>,
    starts: usize,
}

/// Runs a storm over a game. The caller has one thread.
///
/// # Panics
///
/// Panics with more than [`MOST_KILLS`] kills, or when the kernel refuses to fork.
pub fn run<G: Game>(seed: u64, kills: u64) -> Weather {
    assert!(kills <= MOST_KILLS as u64, "at most {MOST_KILLS} kills");
    let (place, log) = (Place::map(size_of::<G>()), Place::map(size_of::<Log>()));
    let mut storm: Storm<G> = Storm {
        game: place.at(),
        log: log.at(),
        seed,
        random: Random::new(seed),
        household: None,
        crews: Vec::new(),
        starts: 0,
    };
    storm.game.set_up();
    let (game, log) = (storm.game, storm.log);
    storm.household = G::IS_FAMILY.then(|| {
        Household::found(Box::new(move || {
            game.greet(&mut Player::extra(log, Random::new(seed)));
        }))
    });
    for number in 0..PROCESSES {
        let crew = storm.start(number);
        storm.crews.push(crew);
    }
    let mut weather = Weather {
        seed,
        ..Weather::default()
    };
    while weather.kills < kills && !weather.is_stuck {
        weather.kills += 1;
        weather.is_stuck = !storm.strike();
    }
    storm.end(&mut weather);
    weather
}

impl<G: Game> Storm<G> {
    fn start(&mut self, number: usize) -> Crew {
        let spot = Spot {
            number,
            start: self.starts,
            seat: self
                .household
                .as_mut()
                .map(|household| household.invite(number)),
        };
        self.starts += 1;
        Crew::start(self.game, self.log, self.seed, spot)
    }

    /// Kills and replaces one process; whether the others get on.
    fn strike(&mut self) -> bool {
        pause(Duration::from_micros(self.random.below(1500)));
        let number = self.random.below(PROCESSES as u64) as usize;
        let crew = &self.crews[number];
        if self.random.below(8) == 0 {
            let _ = kill(crew.process, Signal::SIGSTOP);
            pause(Duration::from_micros(self.random.below(3000)));
        }
        let dead = crew.players(self.log, self.seed);
        for player in &dead {
            self.log.condemned[player.token as usize].store(1, SeqCst);
            self.game.condemn(player);
        }
        let was_killed = end(crew.process);
        dead[0].demand(was_killed, "nobody ends by itself");
        let before = self.log.rounds();
        dead.iter().for_each(|player| self.game.bury(player));
        let mut do_get_on = self.game.go_on();
        if let Some(household) = &mut self.household {
            household.bury(number, self.random.below(4) == 0);
            do_get_on &= household.greet();
        }
        if !G::NEEDS_ALL {
            do_get_on &= self.gets_on(before);
        }
        self.crews[number] = self.start(number);
        if G::NEEDS_ALL {
            do_get_on &= self.gets_on(before);
        }
        self.game.refresh();
        do_get_on
    }

    /// Whether somebody finishes a round, of each kind, before it counts as a standstill.
    fn gets_on(&self, before: [u64; KINDS]) -> bool {
        let gets_on = || {
            let now = self.log.rounds();
            (0..G::KINDS).all(|kind| now[kind] != before[kind])
        };
        while !wait_until_within(MENDING, gets_on) {
            if !self.game.mend() {
                return wait_until(gets_on);
            }
        }
        true
    }

    /// Lets all go home, and looks at what is left.
    fn end(self, weather: &mut Weather) {
        let log = self.log;
        log.is_over.store(1, SeqCst);
        weather.is_stuck = weather.is_stuck || !self.have_left();
        if weather.is_stuck {
            self.crews.iter().for_each(|crew| _ = end(crew.process));
        } else {
            let balance = self.settle();
            (weather.recovered, weather.details) = (balance.recovered, balance.details);
        }
        weather.rounds = log.rounds().iter().sum();
        weather.damages = log.damages.load(Relaxed);
    }

    fn settle(mut self) -> Balance {
        let household = self.household.take();
        let mut driver = Player::extra(self.log, self.random.clone());
        let balance = self.game.settle(&mut driver);
        if let Some(household) = household {
            let is_whole = household.close();
            driver.demand(is_whole, "all seats of the dead are given back");
        }
        balance
    }

    /// Whether all end by themselves, before it counts as a standstill.
    fn have_left(&self) -> bool {
        let mut left: Vec<Pid> = self.crews.iter().map(|crew| crew.process).collect();
        let deadline = Instant::now() + STANDSTILL;
        while !left.is_empty() && Instant::now() < deadline {
            self.game.send_home();
            pause(Duration::from_micros(500));
            let has_not_ended = |process: &Pid| {
                waitpid(*process, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive)
            };
            left.retain(has_not_ended);
        }
        left.is_empty()
    }
}

impl Crew {
    /// Forks it. The caller has one thread.
    fn start<G: Game>(game: &G, log: &Log, seed: u64, spot: Spot) -> Crew {
        let crew = |process| Crew { process, spot };
        let process = fork_process(|| {
            if let Some(seat) = spot.seat {
                family::arrive_on(seat);
            }
            thread::scope(|threads| {
                for player in crew(Pid::this()).players(log, seed) {
                    threads.spawn(move || play(game, player));
                }
            });
        });
        crew(process)
    }

    fn players<'a>(&self, log: &'a Log, seed: u64) -> [Player<'a>; THREADS] {
        std::array::from_fn(|thread| {
            let token = DRIVER + 1 + (self.spot.start * THREADS + thread) as u32;
            Player {
                seat: self.spot.number * THREADS + thread,
                token,
                process: self.process.as_raw().cast_unsigned(),
                random: Random::new(seed ^ u64::from(token) << 32),
                log,
            }
        })
    }
}

fn play<G: Game>(game: &G, mut player: Player<'_>) {
    game.begin(&mut player);
    while !player.is_over() {
        game.play(&mut player);
        // Were all busy all the time, the dead would wait for a processor to die on.
        if player.random.below(400) == 0 {
            pause(Duration::from_micros(player.random.below(200)));
        }
    }
}

/// Forks a process that does something and ends. The caller has one thread.
pub(super) fn fork_process(body: impl FnOnce()) -> Pid {
    // SAFETY: the caller has one thread, so the child may run any Rust code.
    match unsafe { fork() }.expect("fork a process") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            system::die_with_parent();
            let end = panic::catch_unwind(AssertUnwindSafe(body));
            // SAFETY: ends the process without running what the driver registered.
            unsafe { libc::_exit(if end.is_ok() { 0 } else { 101 }) }
        }
    }
}

/// Kills it; whether that ended it.
pub(super) fn end(process: Pid) -> bool {
    // It is our child and not reaped, so the id is still its own.
    let _ = kill(process, Signal::SIGKILL);
    matches!(
        waitpid(process, None),
        Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _))
    )
}

/// Waits without a thread being woken for it: storms are random, not timed.
pub(super) fn pause(length: Duration) {
    let nobody = AtomicU32::new(0);
    system::futex_wait(&nobody, 0, Some(length));
}

/// Whether it comes to be so before it counts as a standstill.
pub(super) fn wait_until(is_so: impl Fn() -> bool) -> bool {
    wait_until_within(STANDSTILL, is_so)
}

fn wait_until_within(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
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
