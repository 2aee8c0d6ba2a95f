//! Waking each other: two processes by turns, with each object that processes wait for.
//!
//! The measure is what the kernel needs for it: one word for each direction, a wake and a wait.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Instant;

use manyhands_os::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_process::Process;
use manyhands_shm::{Shareable, Shared};
use manyhands_sync::{Barrier, Condition, Event, Lock, Semaphore};

use crate::{Contender, Role, Scenario};

const COUNT: u64 = 5_000;

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let names = [
        "there and back by Semaphore, x 5k, 2 processes",
        "there and back by Event, x 5k, 2 processes",
        "there and back by Barrier, x 5k, 2 processes",
        "there and back by Condition, x 5k, 2 processes",
    ];
    let ours = [
        by_turns("Semaphore", Role::Ours, Semaphores::new),
        by_turns("Event", Role::Ours, Events::new),
        by_turns("Barrier", Role::Ours, Meeting::new),
        by_turns("Condition", Role::Ours, Table::new),
    ];
    let each = names.into_iter().zip(ours);
    each.map(|(name, ours)| Scenario {
        name,
        count: COUNT,
        rounds: 15,
        contenders: vec![ours, by_turns("bare futex", Role::Peer, Words::new)],
        limit: Some(1.2),
    })
    .collect()
}

/// Something by which two processes wake each other, the first one first.
trait Turns: Shareable {
    /// The first one's turn ends, and the second one's too before this returns.
    fn ask(&self, round: u32);
    /// The first one's turn ends before this returns, and then the second one's.
    fn answer(&self, round: u32);
}

fn by_turns<T: Turns>(name: &'static str, role: Role, make: fn() -> T) -> Contender {
    Contender::new(name, role, move |count| {
        let turns = Shared::new(make()).map_err(|error| error.to_string())?;
        let count = count as u32;
        let mut process = Process::spawn(answer_all::<T>, (turns.clone(), count))
            .map_err(|error| error.to_string())?;
        // When this returns, the other one is there.
        turns.ask(0);
        let start = Instant::now();
        (1..=count).for_each(|round| turns.ask(round));
        let took = start.elapsed();
        let answered: u32 = process.join().map_err(|error| error.to_string())?;
        if answered == count {
            Ok(took)
        } else {
            Err(format!("answered {answered} of {count}"))
        }
    })
}

fn answer_all<T: Turns>(turns: Shared<T>, count: u32) -> u32 {
    (0..=count).for_each(|round| turns.answer(round));
    count
}

/// The last round in which each has ended its turn, plus one.
#[derive(Shareable)]
struct Words {
    asked: AtomicU32,
    answered: AtomicU32,
}

impl Words {
    fn new() -> Self {
        Self {
            asked: AtomicU32::new(0),
            answered: AtomicU32::new(0),
        }
    }
}

fn end_turn(word: &AtomicU32, round: u32) {
    word.store(round + 1, Release);
    futex::wake(word, 1, Scope::Shared);
}

fn await_turn(word: &AtomicU32, round: u32) {
    while word.load(Acquire) == round {
        let _ = futex::wait(word, round, Scope::Shared, Deadline::NEVER);
    }
}

impl Turns for Words {
    fn ask(&self, round: u32) {
        end_turn(&self.asked, round);
        await_turn(&self.answered, round);
    }

    fn answer(&self, round: u32) {
        await_turn(&self.asked, round);
        end_turn(&self.answered, round);
    }
}

#[derive(Shareable)]
struct Semaphores {
    asked: Semaphore,
    answered: Semaphore,
}

impl Semaphores {
    fn new() -> Self {
        Self {
            asked: Semaphore::new(0),
            answered: Semaphore::new(0),
        }
    }
}

fn release(semaphore: &Semaphore) {
    semaphore.release(1).expect("one at a time");
}

fn acquire(semaphore: &Semaphore) {
    semaphore.acquire().expect("few locks").forget();
}

impl Turns for Semaphores {
    fn ask(&self, _: u32) {
        release(&self.asked);
        acquire(&self.answered);
    }

    fn answer(&self, _: u32) {
        acquire(&self.asked);
        release(&self.answered);
    }
}

#[derive(Shareable)]
struct Events {
    asked: Event,
    answered: Event,
}

impl Events {
    fn new() -> Self {
        Self {
            asked: Event::new(),
            answered: Event::new(),
        }
    }
}

impl Turns for Events {
    fn ask(&self, _: u32) {
        self.asked.set();
        self.answered.wait();
        self.answered.clear();
    }

    fn answer(&self, _: u32) {
        self.asked.wait();
        self.asked.clear();
        self.answered.set();
    }
}

/// Both meet twice in each round.
#[derive(Shareable)]
struct Meeting(Barrier);

impl Meeting {
    fn new() -> Self {
        Self(Barrier::new(2).expect("two parties"))
    }

    fn meet(&self) {
        self.0.wait().expect("nobody dies here");
    }
}

impl Turns for Meeting {
    fn ask(&self, _: u32) {
        self.meet();
        self.meet();
    }

    fn answer(&self, _: u32) {
        self.meet();
        self.meet();
    }
}

/// Whose turn it is, and a condition for each of the two.
#[derive(Shareable)]
struct Table {
    is_asked: Lock<bool>,
    asked: Condition,
    answered: Condition,
}

impl Table {
    fn new() -> Self {
        Self {
            is_asked: Lock::new(false),
            asked: Condition::new(),
            answered: Condition::new(),
        }
    }
}

impl Turns for Table {
    fn ask(&self, _: u32) {
        let mut guard = self.is_asked.lock().expect("nobody dies here");
        *guard = true;
        self.asked.notify_one();
        let answered = self.answered.wait_for(&mut guard, |is_asked| !*is_asked);
        answered.expect("nobody dies here");
    }

    fn answer(&self, _: u32) {
        let mut guard = self.is_asked.lock().expect("nobody dies here");
        let asked = self.asked.wait_for(&mut guard, |is_asked| *is_asked);
        asked.expect("nobody dies here");
        *guard = false;
        self.answered.notify_one();
    }
}
