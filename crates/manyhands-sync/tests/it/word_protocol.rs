//! An explicit-state check of the word's protocol: three threads, every order of their steps, and
//! one kill at any of them.
//!
//! loom explores orders of memory accesses but knows no death; the sweep in `tests/` knows death but
//! one order at a time. This walks all states of a model in which a thread can be killed between
//! any two steps, and the kernel then does what it does with a robust list. It must find the
//! *steal race* in a word that is not sticky, the one that glibc's robust mutexes have:
//!
//! two sleep; an unlock wakes the first; a newcomer takes the free word; the first is killed before
//! it retries; the newcomer's unlock sees no WAITERS. The second sleeps for ever, the lock free.

use std::collections::{HashSet, VecDeque};

const THREADS: usize = 3;
/// How often each thread locks and unlocks; the first comes twice, the second time as the newcomer.
const ROUNDS: [u8; THREADS] = [2, 1, 1];

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Bits {
    owner: u8,
    waiters: bool,
    owner_died: bool,
    epoch: u8,
}

impl Bits {
    /// What the kernel compares: all but the epoch.
    fn low(self) -> Bits {
        Bits { epoch: 0, ..self }
    }
}

/// Where a thread is; `Bits` are what it read and goes on with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Try { slept: bool },
    Announce { slept: bool },
    Sleep { expected: Bits },
    Asleep,
    Inside,
    Wake { left: Bits },
    Clear { left: Bits },
    Done,
    Dead,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    word: Bits,
    threads: [(At, u8); THREADS],
    asleep: Vec<usize>,
    killed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Word {
    /// Ours: leaving subtracts the owner; WAITERS goes only when a wake found nobody.
    Sticky,
    /// glibc's: leaving stores zero; who has slept takes the word with WAITERS set.
    Exchanged,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kernel {
    /// At the death of a thread that announced a word: wakes when the word has no owner.
    WakesWithoutOwner,
    /// The rule of old kernels: wakes only when the whole word is zero.
    WakesWhenZero,
}

fn start() -> State {
    State {
        word: Bits::default(),
        threads: ROUNDS.map(|rounds| (At::Try { slept: false }, rounds)),
        asleep: Vec::new(),
        killed: false,
    }
}

fn wake_one(state: &mut State) -> bool {
    if state.asleep.is_empty() {
        return false;
    }
    let woken = state.asleep.remove(0);
    state.threads[woken].0 = At::Try { slept: true };
    true
}

/// The state after the next step of a thread; `None` when it has none.
fn step(state: &State, thread: usize, word: Word) -> Option<State> {
    let mut next = state.clone();
    let me = thread as u8 + 1;
    let (at, rounds) = state.threads[thread];
    let goes_to = match at {
        At::Try { slept } if next.word.owner == 0 => {
            next.word.owner = me;
            // The bit of whoever slept stands for those who may sleep still.
            next.word.waiters |= word == Word::Exchanged && slept;
            At::Inside
        }
        At::Try { slept } => At::Announce { slept },
        At::Announce { slept } if next.word.owner == 0 => At::Try { slept },
        At::Announce { .. } => {
            next.word.waiters = true;
            next.word.epoch = next.word.epoch.wrapping_add(1);
            At::Sleep {
                expected: next.word.low(),
            }
        }
        At::Sleep { expected } if next.word.low() == expected => {
            next.asleep.push(thread);
            At::Asleep
        }
        At::Sleep { .. } => At::Try { slept: true },
        At::Inside => leave(&mut next, word),
        At::Wake { left } => match wake_one(&mut next) {
            false if word == Word::Sticky => At::Clear { left },
            _ => At::Done,
        },
        At::Clear { left } => {
            if next.word == left {
                next.word.waiters = false;
            }
            At::Done
        }
        At::Asleep | At::Done | At::Dead => return None,
    };
    next.threads[thread] = match goes_to {
        At::Done if rounds > 1 => (At::Try { slept: false }, rounds - 1),
        other => (other, rounds),
    };
    Some(next)
}

fn leave(next: &mut State, word: Word) -> At {
    let before = next.word;
    next.word.owner = 0;
    if word == Word::Exchanged {
        next.word.waiters = false;
    }
    if before.waiters {
        At::Wake { left: next.word }
    } else {
        At::Done
    }
}

/// The state after the death of a thread: the kernel walks its robust list.
fn kill(state: &State, thread: usize, kernel: Kernel) -> Option<State> {
    let (at, rounds) = state.threads[thread];
    if state.killed || matches!(at, At::Done | At::Dead) {
        return None;
    }
    let mut next = state.clone();
    next.killed = true;
    next.threads[thread] = (At::Dead, rounds);
    next.asleep.retain(|sleeper| *sleeper != thread);
    if next.word.owner == thread as u8 + 1 {
        next.word.owner = 0;
        next.word.owner_died = true;
        if next.word.waiters {
            wake_one(&mut next);
        }
    } else {
        // All steps but the first lie behind the announcement; before it, a wake does no harm.
        let wakes = match kernel {
            Kernel::WakesWithoutOwner => next.word.owner == 0,
            Kernel::WakesWhenZero => next.word.low() == Bits::default(),
        };
        if wakes {
            wake_one(&mut next);
        }
    }
    Some(next)
}

/// Walks all states; the first in which somebody sleeps for ever, and how many states there are.
fn explore(word: Word, kernel: Kernel) -> (Option<State>, usize) {
    let mut seen = HashSet::from([start()]);
    let mut open = VecDeque::from([start()]);
    while let Some(state) = open.pop_front() {
        let inside = state
            .threads
            .iter()
            .filter(|(at, _)| *at == At::Inside)
            .count();
        assert!(inside <= 1, "two owners: {state:?}");
        let steps: Vec<State> = (0..THREADS)
            .filter_map(|thread| step(&state, thread, word))
            .collect();
        if steps.is_empty() && !state.asleep.is_empty() {
            return (Some(state), seen.len());
        }
        let kills = (0..THREADS).filter_map(|thread| kill(&state, thread, kernel));
        for next in steps.into_iter().chain(kills) {
            if seen.insert(next.clone()) {
                open.push_back(next);
            }
        }
    }
    (None, seen.len())
}

#[test]
fn sticky_word_lets_nobody_sleep_for_ever() {
    let (stuck, states) = explore(Word::Sticky, Kernel::WakesWithoutOwner);
    assert_eq!(stuck, None);
    assert!(
        states > 10_000,
        "only {states} states: the model does not do much"
    );
}

#[test]
fn word_that_is_not_sticky_has_the_steal_race() {
    let (stuck, _) = explore(Word::Exchanged, Kernel::WakesWithoutOwner);
    let stuck = stuck.expect("glibc's word loses a sleeper");
    assert!(stuck.killed && stuck.word.owner == 0, "{stuck:?}");
}

#[test]
fn kernel_that_wakes_only_at_zero_needs_the_net_under_the_sleeps() {
    // Why each sleep looks up after a second (`raw::net`): on such kernels it must.
    let (stuck, _) = explore(Word::Sticky, Kernel::WakesWhenZero);
    assert!(stuck.expect("the owner died bit or WAITERS is set").killed);
}
