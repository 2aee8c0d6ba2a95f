//! Loom's side: atomics that can be made in a `const`, a futex, and a thread without a robust list.
//!
//! Loom's own atomics belong to one run of a model and cannot be made in a `const fn`, as ours
//! are. So each run begins with a store of cells, all zero, and an atomic gets the next free one
//! when it is touched first; its address is its name, as it is the kernel's name for a futex.
//! Therefore an object must not move once it was used, and its memory must not be used again
//! within the run.

use std::cell::Cell as Flag;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use loom::sync::Mutex;
use loom::sync::atomic::AtomicU64 as Word;
use loom::thread::{Thread, current, park};
#[cfg(test)]
use manyhands_os::process::Identity;

#[cfg(test)]
use crate::life::LifeWord;
#[cfg(test)]
use crate::member::{self, Member, Members};

/// How many atomics one model may touch.
const CELLS: usize = 24;

/// What a run has: made by `explore` before there is a second thread, so that it orders nothing.
struct Run {
    cells: [Cell; CELLS],
    /// The address of each cell's atomic. Not loom's: that this is looked up orders nothing.
    addresses: std::sync::Mutex<Vec<usize>>,
    threads: std::sync::atomic::AtomicU32,
    /// Who sleeps, or is about to, with a deadline.
    alarms: Mutex<Vec<(usize, Sleeper)>>,
}

/// An atomic, and the queue of who sleeps on it: who came first is woken first.
struct Cell {
    word: Word,
    sleepers: Mutex<Vec<Sleeper>>,
}

#[derive(Clone)]
struct Sleeper {
    thread: Thread,
    timed_out: Rc<Flag<bool>>,
}

loom::lazy_static! {
    static ref RUN: Run = Run {
        cells: std::array::from_fn(|_| Cell {
            word: Word::new(0),
            sleepers: Mutex::default(),
        }),
        addresses: std::sync::Mutex::default(),
        threads: std::sync::atomic::AtomicU32::new(1),
        alarms: Mutex::default(),
    };
}

thread_local! {
    /// Whether owned bits are read as they once were, too: see `newest`.
    static OLD_BITS: Flag<bool> = const { Flag::new(false) };

    /// When time passes in a model: whether that has ended a sleep, in any order.
    static TIME_ENDED_A_SLEEP: Flag<Option<bool>> = const { Flag::new(None) };
}

/// As [`explore`], with every value that a look at a word with an owner may see.
#[cfg(test)]
pub(crate) fn explore_word(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    OLD_BITS.set(true);
    explore(preemptions, model);
    OLD_BITS.set(false);
}

/// All threads of a model, each as if it were a process of its own.
#[cfg(test)]
struct Threads;

#[cfg(test)]
impl Members for Threads {
    fn me(&self) -> Option<Member> {
        Member::new(thread_id() as u16, 1)
    }

    fn life(&self, _: Member) -> Option<&'static LifeWord> {
        // Of one that is just joining: it is not dead, and nobody watches it.
        static LIFE: LifeWord = LifeWord::new();
        Some(&LIFE)
    }

    fn identity(&self, _: Member) -> Option<Identity> {
        None
    }
}

/// Runs a model in every order with at most so many preemptions.
#[cfg(test)]
pub(crate) fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    // Sleeps have no net here: it would end each of them.
    crate::raw::net::take_away();
    member::install(&Threads);
    TIME_ENDED_A_SLEEP.set(None);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        thread_id();
        // Asked once a process: the first run must be like the others.
        manyhands_os::process::identity_word();
        model();
    });
    assert!(
        TIME_ENDED_A_SLEEP.get() != Some(false),
        "time passed when nobody slept"
    );
}

/// Ends the sleeps that have a deadline; later ones go on until the next call. A model in which
/// none ever ends shows nothing: `explore` refuses it.
#[cfg(test)]
pub(crate) fn time_passes() {
    TIME_ENDED_A_SLEEP.set(TIME_ENDED_A_SLEEP.get().or(Some(false)));
    let alarms = std::mem::take(&mut *RUN.alarms.lock().expect("no panic under the lock"));
    for (address, alarmed) in alarms {
        let mut sleepers = cell(address)
            .sleepers
            .lock()
            .expect("no panic under the lock");
        let among = |sleeper: &Sleeper| Rc::ptr_eq(&sleeper.timed_out, &alarmed.timed_out);
        if let Some(index) = sleepers.iter().position(among) {
            sleepers.remove(index);
            alarmed.timed_out.set(true);
            TIME_ENDED_A_SLEEP.set(Some(true));
            alarmed.thread.unpark();
        }
    }
}

/// Whether the bug of this name is planted, to see a model find it.
pub(crate) fn is_planted(bug: &str) -> bool {
    static PLANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let planted = PLANTED.get_or_init(|| std::env::var("MANYHANDS_PLANTED_BUG").ok());
    planted.as_deref() == Some(bug)
}

/// A number for the calling thread: all threads of a model run in one of the system's.
pub(crate) fn thread_id() -> u32 {
    loom::thread_local! {
        static ID: u32 = RUN.threads.fetch_add(1, Ordering::Relaxed);
    }
    ID.with(|id| *id)
}

pub(crate) fn spin(_: u32) -> bool {
    false
}

fn cell(address: usize) -> &'static Cell {
    let run: &'static Run = &RUN;
    let mut addresses = run.addresses.lock().expect("no panic under the lock");
    let known = addresses.iter().position(|known| *known == address);
    let index = known.unwrap_or_else(|| {
        addresses.push(address);
        addresses.len() - 1
    });
    run.cells
        .get(index)
        .expect("a model of fewer atomics, or more CELLS")
}

macro_rules! atomic {
    ($name:ident, $real:ident, $int:ident, $load:ident) => {
        /// Holds the value it was made with; the cell holds what differs from that.
        #[derive(Debug)]
        #[repr(transparent)]
        #[allow(unreachable_pub, reason = "one of them is what `life::wait` takes")]
        pub struct $name(std::sync::atomic::$real);

        #[allow(dead_code, reason = "both have the same methods")]
        impl $name {
            pub(crate) const fn new(value: $int) -> Self {
                Self(std::sync::atomic::$real::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $int {
                self.value($load(self.cell(), order))
            }

            pub(crate) fn store(&self, value: $int, order: Ordering) {
                self.cell().store(self.difference(value), order);
            }

            pub(crate) fn swap(&self, value: $int, order: Ordering) -> $int {
                self.value(self.cell().swap(self.difference(value), order))
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                let (current, new) = (self.difference(current), self.difference(new));
                match self.cell().compare_exchange(current, new, success, failure) {
                    Ok(before) => Ok(self.value(before)),
                    Err(now) => Err(self.value(now)),
                }
            }

            pub(crate) fn compare_exchange_weak(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                self.compare_exchange(current, new, success, failure)
            }

            pub(crate) fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                mut update: impl FnMut($int) -> Option<$int>,
            ) -> Result<$int, $int> {
                let mut before = self.load(failure);
                while let Some(after) = update(before) {
                    match self.compare_exchange(before, after, success, failure) {
                        Ok(before) => return Ok(before),
                        Err(now) => before = now,
                    }
                }
                Err(before)
            }

            pub(crate) fn fetch_add(&self, by: $int, order: Ordering) -> $int {
                let before = self.from_zero().fetch_add(u64::from(by), order) as $int;
                assert!(before.checked_add(by).is_some(), "models do not wrap");
                before
            }

            pub(crate) fn fetch_sub(&self, by: $int, order: Ordering) -> $int {
                let before = self.from_zero().fetch_sub(u64::from(by), order) as $int;
                assert!(before.checked_sub(by).is_some(), "models do not wrap");
                before
            }

            pub(crate) fn fetch_and(&self, bits: $int, order: Ordering) -> $int {
                self.from_zero().fetch_and(u64::from(bits), order) as $int
            }

            pub(crate) fn fetch_or(&self, bits: $int, order: Ordering) -> $int {
                self.from_zero().fetch_or(u64::from(bits), order) as $int
            }

            fn cell(&self) -> &'static Word {
                &cell(std::ptr::from_ref(self).addr()).word
            }

            /// The cell of an atomic that was made with zero, which holds its very value.
            fn from_zero(&self) -> &'static Word {
                assert_eq!(self.0.load(Ordering::Relaxed), 0, "not made with zero");
                self.cell()
            }

            fn value(&self, difference: u64) -> $int {
                difference as $int ^ self.0.load(Ordering::Relaxed)
            }

            fn difference(&self, value: $int) -> u64 {
                u64::from(value ^ self.0.load(Ordering::Relaxed))
            }
        }
    };
}

/// Any value that the orderings allow.
fn any(cell: &Word, order: Ordering) -> u64 {
    cell.load(order)
}

/// The newest value. An older one of a word whose owner changes makes a compare-exchange fail, and
/// nothing else; but loom would try all of them each time, and come to no end. The models of the
/// word itself take any.
fn newest(cell: &Word, order: Ordering) -> u64 {
    if OLD_BITS.get() {
        return cell.load(order);
    }
    cell.fetch_add(0, order)
}

atomic!(AtomicU32, AtomicU32, u32, any);
atomic!(AtomicU64, AtomicU64, u64, any);
atomic!(OwnedBits, AtomicU64, u64, newest);

/// As `manyhands_os::futex`: whoever has the mutex compares and lies down in one step.
pub(crate) mod futex {
    use std::sync::atomic::Ordering::Relaxed;

    use manyhands_os::Deadline;
    pub(crate) use manyhands_os::futex::{MAX_WATCHES, Scope, Wake, WakeAny};

    use super::{AtomicU32, Flag, RUN, Rc, Sleeper, cell, current, park};

    #[derive(Clone, Copy, Debug)]
    pub struct Watch<'a> {
        pub word: &'a AtomicU32,
        pub expected: u32,
        pub scope: Scope,
    }

    pub(crate) fn wait(word: &AtomicU32, expected: u32, _: Scope, deadline: Deadline) -> Wake {
        if deadline.has_passed() {
            return Wake::TimedOut;
        }
        let address = std::ptr::from_ref(word).addr();
        let sleeper = Sleeper {
            thread: current(),
            timed_out: Rc::new(Flag::new(false)),
        };
        if !deadline.is_never() {
            let mut alarms = RUN.alarms.lock().expect("no panic under the lock");
            alarms.push((address, sleeper.clone()));
        }
        let mut sleepers = cell(address)
            .sleepers
            .lock()
            .expect("no panic under the lock");
        // Relaxed: the kernel's comparison makes nothing visible. Who changes the word and wakes
        // afterwards is ordered by the mutex, as by the lock of the kernel's queue.
        if word.load(Relaxed) != expected {
            return Wake::Changed;
        }
        sleepers.push(sleeper.clone());
        // Nothing comes in between, as far as loom is concerned.
        drop(sleepers);
        park();
        if sleeper.timed_out.get() {
            Wake::TimedOut
        } else {
            Wake::Woken
        }
    }

    pub(crate) fn wake(word: &AtomicU32, count: u32, _: Scope) -> u32 {
        let cell = cell(std::ptr::from_ref(word).addr());
        let mut sleepers = cell.sleepers.lock().expect("no panic under the lock");
        let count = sleepers.len().min(count as usize);
        for sleeper in sleepers.drain(..count) {
            sleeper.thread.unpark();
        }
        count as u32
    }

    pub(crate) fn wake_all(word: &AtomicU32, scope: Scope) -> u32 {
        wake(word, u32::MAX, scope)
    }

    pub(crate) fn wait_any(_: &[Watch<'_>], _: Deadline) -> WakeAny {
        unreachable!("nobody dies in a model, so no life is watched")
    }
}

/// As `manyhands_os::robust`, without a list: nobody dies in a model.
pub(crate) mod robust {
    pub(crate) use manyhands_os::robust::{OWNER, OWNER_DIED, Place, WAITERS};

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Head;

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct PendingEntry;

    pub(crate) fn head() -> Head {
        Head
    }

    impl Head {
        pub(crate) fn entry_of(self, _: *const u8) -> PendingEntry {
            PendingEntry
        }

        pub(crate) fn announce(self, entry: PendingEntry) -> PendingEntry {
            entry
        }

        pub(crate) fn announce_again(self, entry: PendingEntry) -> PendingEntry {
            entry
        }

        pub(crate) fn retract(self, _: PendingEntry) {}

        pub(crate) fn retract_later(self, _: PendingEntry) {}

        /// # Safety
        ///
        /// None is needed: nothing is linked.
        pub(crate) unsafe fn link(self, _: *const u8) {}

        /// # Safety
        ///
        /// As for [`link`](Self::link).
        pub(crate) unsafe fn unlink(self, _: *const u8) {}
    }
}

/// As `manyhands_os::thread`: everything is known, and nothing is counted.
pub(crate) mod thread {
    use std::cell::Cell;

    use super::robust::Head;

    pub(crate) struct Own {
        held: Cell<u32>,
    }

    pub(crate) fn own<R>(f: impl FnOnce(&Own) -> R) -> R {
        f(&Own { held: Cell::new(0) })
    }

    impl Own {
        pub(crate) fn id(&self) -> Option<u32> {
            Some(super::thread_id())
        }

        pub(crate) fn head(&self) -> Option<Head> {
            Some(Head)
        }

        pub(crate) fn held(&self) -> &Cell<u32> {
            &self.held
        }
    }
}
