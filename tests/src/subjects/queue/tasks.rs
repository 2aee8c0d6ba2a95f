//! The reports of a queue's values: no value is counted that is not there, none is forgotten, and
//! nobody who joins is.
//!
//! A report that the victim did not come to is made by the newcomer, as a supervisor would. But
//! before that it looks whether those who join did without it what they could.

use std::cell::RefCell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use manyhands_channel::{Queue, TaskDoneError};

use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};
use crate::subjects::family::{self, Letter};

const PEERS: usize = 2;

/// How long survivors get for what they must do without help.
const GRACE: Duration = Duration::from_secs(2);

/// What lies in the place beside the queue.
#[repr(C)]
struct Table {
    queue: Letter,
    /// Whether the victim's call has returned.
    returned: AtomicU64,
    /// How many peers have joined.
    joined: AtomicU64,
}

// SAFETY: atomics only; zero is empty; nothing to drop.
unsafe impl Placed for Table {}

thread_local! {
    static QUEUE: RefCell<Option<Queue<u64>>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Put,
    Get,
    Report,
    Drop,
    Join,
}

struct Case {
    operation: &'static str,
    scenes: &'static [Scene],
    act: Act,
    /// How many values are in the queue at first, and how many were taken and not reported.
    waiting: u64,
    in_hand: u64,
}

const SCENES: &[Scene] = &[Scene::Alone, Scene::Watched, Scene::Racing];

static CASES: [Case; 5] = [
    Case {
        operation: "task_done",
        scenes: SCENES,
        act: Act::Report,
        waiting: 0,
        in_hand: 1,
    },
    Case {
        operation: "put, joined",
        scenes: SCENES,
        act: Act::Put,
        waiting: 0,
        in_hand: 1,
    },
    Case {
        operation: "get, joined",
        scenes: SCENES,
        act: Act::Get,
        waiting: 1,
        in_hand: 0,
    },
    Case {
        operation: "shutdown, joined",
        scenes: SCENES,
        act: Act::Drop,
        waiting: 2,
        in_hand: 0,
    },
    Case {
        operation: "join",
        scenes: &[Scene::Woken, Scene::Robbed],
        act: Act::Join,
        waiting: 0,
        in_hand: 1,
    },
];

/// The subjects of this file.
pub(super) fn subjects() -> impl Iterator<Item = &'static dyn Subject> {
    CASES.iter().map(|case| case as &dyn Subject)
}

impl Table {
    fn queue(&self) -> Queue<u64> {
        family::receive(&self.queue)
    }

    /// Whether the peers return from their join in time.
    fn all_join(&self) -> bool {
        let end = Instant::now() + GRACE;
        while self.joined.load(Relaxed) < PEERS as u64 {
            if Instant::now() > end {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }
}

fn put_and_take(queue: &Queue<u64>) {
    queue.put(&7).expect("it is open");
    assert_eq!(queue.get().ok(), Some(7));
}

impl Subject for Case {
    fn object(&self) -> &'static str {
        "Queue"
    }

    fn operation(&self) -> &'static str {
        self.operation
    }

    fn scenes(&self) -> &'static [Scene] {
        self.scenes
    }

    fn peers(&self) -> usize {
        PEERS
    }

    fn stride(&self) -> u32 {
        match self.act {
            Act::Put | Act::Get => 5,
            // Waits through a thousand boundaries and more.
            Act::Join => 3,
            Act::Report | Act::Drop => 1,
        }
    }

    fn has_host(&self) -> bool {
        true
    }

    fn invite(&self) {
        family::invite();
    }

    fn arrive(&self) {
        family::arrive();
    }

    fn set_up(&self, place: Place) {
        family::count();
        let queue = Queue::bounded(8).expect("the arena is large");
        (0..self.in_hand).for_each(|_| put_and_take(&queue));
        (0..self.waiting).for_each(|_| queue.put(&7).expect("it is open"));
        family::send(&place.at::<Table>().queue, &queue);
    }

    fn audit(&self, _place: Place) -> Outcome {
        family::audit()
    }

    fn reset(&self, _place: Place) {
        family::open();
    }

    fn warm(&self, _spare: Place) {
        let queue = Queue::bounded(1).expect("the arena is large");
        put_and_take(&queue);
        assert!(queue.try_join().is_err());
        assert!(queue.task_done().is_ok() && queue.join().is_ok());
        assert_eq!(queue.shutdown(), 0);
    }

    fn before(&self, place: Place) {
        QUEUE.set(Some(place.at::<Table>().queue()));
    }

    fn act(&self, place: Place) {
        QUEUE.with_borrow(|queue| {
            let queue = queue.as_ref().expect("made before");
            match self.act {
                Act::Put => queue.put(&7).expect("it is open"),
                Act::Get => drop(queue.get().expect("one is there")),
                Act::Report => queue.task_done().expect("one was taken"),
                Act::Drop => drop(queue.shutdown()),
                Act::Join => queue.join().expect("all is done"),
            }
        });
        place.at::<Table>().returned.store(1, Release);
    }

    fn peer(&self, place: Place) -> Outcome {
        let table: &Table = place.at();
        let joined = table.queue().join();
        table.joined.fetch_add(1, Relaxed);
        match joined {
            Ok(()) => Outcome::Fine,
            Err(_) => Outcome::Refused,
        }
    }

    /// The newcomer looks whether it is.
    fn is_waiting_right(&self, _place: Place) -> bool {
        true
    }

    fn settle(&self, place: Place) -> Outcome {
        let table: &Table = place.at();
        let queue = table.queue();
        let stats = queue.stats();
        let before = self.waiting + self.in_hand;
        // Acquire: pairs with the Release store of the victim, which is dead.
        let returned = table.returned.load(Acquire) == 1;
        let may_be = match self.act {
            Act::Put if returned => before + 1..=before + 1,
            Act::Put => before..=before + 1,
            Act::Get => before..=before,
            Act::Report | Act::Drop if returned => 0..=0,
            Act::Report => before - 1..=before,
            // All at once or none.
            Act::Drop => match stats.unfinished {
                0 => 0..=0,
                _ => before..=before,
            },
            // The holder reports; somebody put one more, perhaps, and reported it.
            Act::Join => 0..=0,
        };
        if !may_be.contains(&(stats.unfinished as u64)) {
            return Outcome::Lost;
        }
        if stats.unfinished > 0 {
            match self.act {
                Act::Drop => drop(queue.shutdown()),
                _ => {
                    while queue.try_get().is_ok() {}
                    let missing = 0..queue.stats().in_hand;
                    missing.for_each(|_| queue.task_done().expect("one was taken"));
                }
            }
        }
        if !table.all_join() {
            return Outcome::Lost;
        }
        match (queue.try_join(), queue.task_done()) {
            (Ok(()), Err(TaskDoneError::TooMany)) => Outcome::Fine,
            _ => Outcome::Refused,
        }
    }

    fn release(&self, place: Place) {
        let reported = place.at::<Table>().queue().task_done();
        reported.expect("one was taken");
    }

    fn rob(&self, place: Place) {
        put_and_take(&place.at::<Table>().queue());
    }
}
