//! One suite for every lock: private, in shared memory, the C library's, and raw_sync's.
//!
//! Each case is written once. The table says which lock keeps it and how the others break it, and
//! both are looked at: a lock that begins to keep what the table denies fails the suite as well.
//! The table in the documentation of the module `posix` is this one.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use subjects::{End, Kind, Memory, Outcome, Subject, Wait};

use crate::{LONG, SOON, until};

pub(crate) mod subjects;

/// `Ok` when the promise is kept, else how it is broken.
type Verdict = Result<(), String>;

/// What the table says of a lock and a promise.
#[derive(Clone, Copy)]
enum Says {
    Kept,
    Broken(&'static str),
    /// The promise is about processes, and the lock is for threads.
    Apart,
}

use Says::{Apart, Broken, Kept};

const FOR_EVER: Says = Broken("waits for ever");
const INVALID: Says = Broken("`EINVAL` at once");

/// A promise, the case that looks at it, and what is said of each [`Kind`] in their order.
type Row = (&'static str, fn(&Ground) -> Verdict, [Says; 4]);

#[rustfmt::skip]
const TABLE: [Row; 10] = [
    ("one holder at a time", exclusion, [Kept, Kept, Kept, Kept]),
    ("a try of a held lock fails at once", try_of_held, [Kept, Kept, Kept, Kept]),
    ("a panic of the holder leaves the lock", panic_inside, [Kept, Kept, Kept, Kept]),
    ("a time-out within a second of the wall clock", within_a_second, [Kept, Kept, Kept, Kept]),
    ("a time-out past the end of that second", past_a_second, [Kept, Kept, Kept, INVALID]),
    ("`Duration::MAX` waits", longest, [Kept, Kept, Kept, INVALID]),
    ("the next locker is told of a death", next_is_told, [FOR_EVER, Kept, Kept, FOR_EVER]),
    ("who sleeps already is told of a death", sleeper_is_told, [FOR_EVER, Kept, Kept, FOR_EVER]),
    ("told again until it is repaired", told_again, [FOR_EVER, Kept, Kept, FOR_EVER]),
    ("a killed process is told of", process_is_killed, [Apart, Kept, Kept, FOR_EVER]),
];

/// Where a case runs.
struct Ground {
    kind: Kind,
    memory: &'static Memory,
    lock: Arc<dyn Subject>,
    /// How long to look for what the table says comes, or does not.
    patience: Duration,
}

fn run(kind: Kind) {
    let mut faults = Vec::new();
    for (promise, case, says) in TABLE {
        let says = says[kind.index()];
        let memory = Memory::fresh();
        let ground = Ground {
            kind,
            memory,
            lock: memory.subject(kind, true),
            patience: if matches!(says, Kept) {
                LONG
            } else {
                SOON * 10
            },
        };
        let expected = match says {
            Kept => Ok(()),
            Broken(how) => Err(how.to_owned()),
            Apart => continue,
        };
        let verdict = case(&ground);
        if verdict != expected {
            faults.push(format!(
                "{promise}: {verdict:?}, the table says {expected:?}"
            ));
        }
    }
    assert!(faults.is_empty(), "{kind:?}: {faults:#?}");
}

#[test]
fn private_lock_keeps_what_the_table_says() {
    run(Kind::Private);
}

#[test]
fn shared_lock_keeps_what_the_table_says() {
    run(Kind::Shared);
}

#[cfg(all(feature = "posix", target_env = "gnu"))]
#[test]
fn posix_lock_keeps_what_the_table_says() {
    run(Kind::Posix);
}

#[cfg(all(feature = "posix", target_env = "gnu"))]
#[test]
fn mutex_of_raw_sync_keeps_what_the_table_says_and_breaks_the_rest() {
    run(Kind::RawSync);
}

#[test]
fn documented_table_is_the_tested_one() {
    let documented = include_str!("../../../src/posix/mod.rs");
    for (promise, _, says) in TABLE {
        let cells = Kind::ALL.map(|kind| match says[kind.index()] {
            Kept => "yes".to_owned(),
            Broken(how) => format!("no: {how}"),
            Apart => "not shared".to_owned(),
        });
        let row = format!("//! | {promise} | {} |\n", cells.join(" | "));
        assert!(documented.contains(&row), "missing: {row}");
    }
}

fn exclusion(ground: &Ground) -> Verdict {
    const ROUNDS: u64 = 5_000;
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for _ in 0..ROUNDS {
                    let outcome = ground.lock.enter(Wait::Forever, &mut |number| {
                        let before = *number;
                        *number = std::hint::black_box(before) + 1;
                        End::Leave
                    });
                    assert_eq!(outcome, Outcome::Entered);
                }
            });
        }
    });
    let mut sum = 0;
    ground.enter(Wait::Forever, |number| sum = *number);
    same(sum, 4 * ROUNDS)
}

fn try_of_held(ground: &Ground) -> Verdict {
    let mut tried = Outcome::Entered;
    ground.enter(Wait::Try, |_| tried = ground.elsewhere(Wait::Try));
    same(tried, Outcome::Refused)?;
    same(ground.elsewhere(Wait::Try), Outcome::Entered)
}

fn panic_inside(ground: &Ground) -> Verdict {
    let lock = Arc::clone(&ground.lock);
    let panicked = thread::spawn(move || {
        lock.enter(Wait::Forever, &mut |number| {
            *number = 7;
            std::panic::resume_unwind(Box::new("on purpose"));
        })
    });
    assert!(panicked.join().is_err());
    let mut left = 0;
    let outcome = ground.enter(Wait::Try, |number| left = *number);
    same((outcome, left), (Outcome::Entered, 7))
}

fn within_a_second(ground: &Ground) -> Verdict {
    loop {
        let (begin, _) = wall_clock();
        let start = Instant::now();
        let mut timed = Outcome::Entered;
        ground.enter(Wait::Forever, |_| {
            timed = ground.elsewhere(Wait::AtMost(SOON));
        });
        let waited = start.elapsed() >= SOON / 2;
        // The call may have looked at the clock at any moment until now, `SOON` before its end.
        let (end, rest) = wall_clock();
        if begin == end && rest > SOON {
            same((timed, waited), (Outcome::Refused, true))?;
            return same(ground.elsewhere(Wait::AtMost(SOON)), Outcome::Entered);
        }
    }
}

/// The second of the wall clock, and what is left of it.
fn wall_clock() -> (u64, Duration) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("after 1970");
    let rest = Duration::from_secs(1) - Duration::from_nanos(now.subsec_nanos().into());
    (now.as_secs(), rest)
}

fn past_a_second(ground: &Ground) -> Verdict {
    waits(ground, LONG - Duration::from_nanos(1))
}

fn longest(ground: &Ground) -> Verdict {
    waits(ground, Duration::MAX)
}

/// Whether a locker with this time-out waits for a held lock, and gets it.
fn waits(ground: &Ground, time: Duration) -> Verdict {
    let mut answer = None;
    let mut told = None;
    ground.enter(Wait::Forever, |_| {
        let asked = answer.insert(ground.ask(Wait::AtMost(time), End::Leave));
        until(|| {
            told = asked.try_recv().ok();
            told.is_some() || ground.lock.has_waiters()
        });
    });
    let late = || answer?.recv_timeout(LONG).ok();
    match told.or_else(late) {
        Some(Outcome::Failed(error)) => Err(format!("{error} at once")),
        other => same(other, Some(Outcome::Entered)),
    }
}

fn next_is_told(ground: &Ground) -> Verdict {
    die_inside(ground);
    same(ground.behind_the_dead(End::Repair)?, Outcome::OwnerDied)
}

fn told_again(ground: &Ground) -> Verdict {
    die_inside(ground);
    same(ground.behind_the_dead(End::Leave)?, Outcome::OwnerDied)?;
    same(ground.behind_the_dead(End::Leave)?, Outcome::OwnerDied)?;
    same(ground.behind_the_dead(End::Repair)?, Outcome::OwnerDied)?;
    same(ground.behind_the_dead(End::Leave)?, Outcome::Entered)
}

/// A thread ends while it holds the lock: for the kernel, a death as any other.
fn die_inside(ground: &Ground) {
    let lock = Arc::clone(&ground.lock);
    let dead = thread::spawn(move || lock.enter(Wait::Forever, &mut |_| End::Keep));
    assert_eq!(dead.join().expect("no panic"), Outcome::Entered);
}

fn sleeper_is_told(ground: &Ground) -> Verdict {
    let lock = Arc::clone(&ground.lock);
    let (held, is_held) = mpsc::channel();
    let (may_die, word) = mpsc::channel();
    let holder = thread::spawn(move || {
        lock.enter(Wait::Forever, &mut |_| {
            held.send(()).expect("the test waits");
            word.recv().expect("the test sends");
            End::Keep
        })
    });
    is_held.recv().expect("the holder sends");
    let answer = ground.ask(Wait::Forever, End::Repair);
    until(|| ground.lock.has_waiters());
    may_die.send(()).expect("the holder waits");
    holder.join().expect("no panic");
    same(ground.patiently(&answer)?, Outcome::OwnerDied)
}

/// Tells the other process of [`process_is_killed`] which lock to take, and where.
const ORDER: &str = "MANYHANDS_SYNC_HOLD";

fn process_is_killed(ground: &Ground) -> Verdict {
    let program = std::env::current_exe().expect("it is there");
    let mut child = Command::new(program)
        .args(["--exact", "conformance::other_process_holds_the_lock"])
        .env(
            ORDER,
            format!("{} {}", ground.kind.index(), ground.memory.name()),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a process more");
    // Acquire: pairs with the Release in the other process.
    until(|| ground.memory.flag().load(Acquire) == 1);
    let before = ground.elsewhere(Wait::Try);
    child.kill().expect("it waits to be killed");
    child.wait().expect("it is ours");
    same(before, Outcome::Refused)?;
    same(ground.behind_the_dead(End::Repair)?, Outcome::OwnerDied)?;
    let mut left = 0;
    ground.enter(Wait::Try, |number| left = *number);
    same(left, 8)
}

/// No test of its own: the other process of [`process_is_killed`] is this one.
#[test]
fn other_process_holds_the_lock() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let (kind, memory) = order.split_once(' ').expect("two words");
    let kind = Kind::ALL[kind.parse::<usize>().expect("a number")];
    let memory = Memory::named(memory);
    memory
        .subject(kind, false)
        .enter(Wait::Forever, &mut |number| {
            *number = 8;
            // Release: pairs with the Acquire in the test.
            memory.flag().store(1, Release);
            // Until it is killed, or the test is gone.
            let _ = std::io::stdin().read(&mut [0]);
            End::Keep
        });
}

impl Ground {
    fn enter(&self, wait: Wait, mut section: impl FnMut(&mut u64)) -> Outcome {
        self.lock.enter(wait, &mut |number| {
            section(number);
            End::Leave
        })
    }

    /// Lets another thread take and leave the lock.
    fn elsewhere(&self, wait: Wait) -> Outcome {
        let answer = self.ask(wait, End::Leave);
        answer.recv_timeout(LONG).expect("it does not wait long")
    }

    /// Lets another thread take the lock; it is left behind if it waits for ever.
    fn ask(&self, wait: Wait, end: End) -> Receiver<Outcome> {
        let lock = Arc::clone(&self.lock);
        let (sender, answer) = mpsc::channel();
        thread::spawn(move || {
            // Nobody may want to know any more.
            drop(sender.send(lock.enter(wait, &mut |_| end)));
        });
        answer
    }

    /// What comes of a locker whose lock a dead thread or process has.
    fn behind_the_dead(&self, end: End) -> Result<Outcome, String> {
        self.patiently(&self.ask(Wait::Forever, end))
    }

    /// An answer that comes now or never: nobody is left who would wake the locker later.
    fn patiently(&self, answer: &Receiver<Outcome>) -> Result<Outcome, String> {
        let mut told = None;
        until(|| {
            told = answer.try_recv().ok();
            told.is_some() || self.lock.has_waiters()
        });
        told.or_else(|| answer.recv_timeout(self.patience).ok())
            .ok_or_else(|| "waits for ever".to_owned())
    }
}

fn same<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Verdict {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{got:?} instead of {wanted:?}"))
    }
}
