//! The once of `manyhands-sync`: whoever dies in the function, it is done by the next, who is told.

use std::cell::RefCell;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread::JoinHandle;

use manyhands_sync::{Once, OnceState, Shareable};

use crate::place::{Place, Placed, last_place};
use crate::step::{Outcome, Scene, Subject};
use crate::system;

/// A once, and what it does.
#[repr(C)]
struct Task {
    once: Once,
    /// 1: the function has been entered.
    begun: AtomicU32,
    /// 1: it has come to its end.
    done: AtomicU32,
    /// 1: the holder's function may end.
    go: AtomicU32,
}

// SAFETY: made of atomics; zero is not begun; nothing to drop.
unsafe impl Placed for Task {}

thread_local! {
    static RUNNING: RefCell<Option<JoinHandle<()>>> = const { RefCell::new(None) };
}

/// Dies in `call`.
struct Call;

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![&Call]
}

impl Task {
    fn run(&self, state: OnceState) -> Outcome {
        let was_begun = self.begun.swap(1, Relaxed) == 1;
        self.done.store(1, Relaxed);
        match (state.interrupted, was_begun) {
            (true, _) => Outcome::OwnerDied,
            (false, true) => Outcome::Unflagged,
            (false, false) => Outcome::Fine,
        }
    }

    fn call(&self) -> Outcome {
        let mut outcome = Outcome::Fine;
        let result = self.once.call(|state| outcome = self.run(state));
        if result.is_err() || self.done.load(Relaxed) != 1 {
            return Outcome::Lost;
        }
        outcome
    }

    fn run_until_told(&self) {
        self.begun.store(1, Release);
        system::futex_wake(&self.begun, i32::MAX);
        wait_for(&self.go);
        self.done.store(1, Relaxed);
    }
}

fn wait_for(flag: &AtomicU32) {
    while flag.load(Acquire) == 0 {
        system::futex_wait(flag, 0, None);
    }
}

impl Subject for Call {
    fn object(&self) -> &'static str {
        "Once"
    }

    fn operation(&self) -> &'static str {
        "call"
    }

    /// Not b: nobody can wait for a victim that has not yet begun. In d it takes over with all the
    /// others asleep, which is the same. Not e: what is done cannot be taken from the victim.
    fn scenes(&self) -> &'static [Scene] {
        &[
            Scene::Alone,
            Scene::Woken,
            Scene::WokenByDeath,
            Scene::Racing,
        ]
    }

    fn peers(&self) -> usize {
        2
    }

    fn reset(&self, place: Place) {
        place.at::<Task>().once.placed(last_place());
    }

    fn act(&self, place: Place) {
        place.at::<Task>().call();
    }

    fn peer(&self, place: Place) -> Outcome {
        place.at::<Task>().call()
    }

    /// A thread of the holder is in the function, while the holder itself obeys.
    fn hold(&self, place: Place) {
        let task: &'static Task = place.at();
        let runner = std::thread::spawn(|| {
            let _ = task.once.call(|_| task.run_until_told());
        });
        wait_for(&task.begun);
        RUNNING.set(Some(runner));
    }

    fn release(&self, place: Place) {
        let task: &Task = place.at();
        task.go.store(1, Release);
        system::futex_wake(&task.go, i32::MAX);
        let runner = RUNNING.take().expect("held before");
        runner.join().expect("it does not panic");
    }
}
