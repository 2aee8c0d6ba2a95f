//! The threads of a pool, their queues, and how they sleep.
//!
//! New units go to one injector; a thread takes a batch from it to a queue of its own, from
//! which the others steal, so units start in about the order in which they came.
//!
//! Sleeping: a thread that finds nothing counts itself as a sleeper *and then* looks once more;
//! whoever pushes looks at the count *after* the push. Both sides put a sequentially consistent
//! fence between their two steps, so at least one of them sees the other.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex};

use crossbeam_deque::{Injector, Steal, Stealer, Worker};
use manyhands_os::clock::Deadline;

use crate::parker::{lock, wait_on};
use crate::threads::unit::Unit;

thread_local! {
    /// The number of the crew that this thread belongs to; 0 is none.
    static CREW: Cell<u64> = const { Cell::new(0) };
}

static NEXT_CREW: AtomicU64 = AtomicU64::new(1);

/// What the threads of one pool share.
pub(super) struct Crew {
    number: u64,
    injector: Injector<Arc<Unit>>,
    stealers: Vec<Stealer<Arc<Unit>>>,
    sleepers: AtomicU64,
    state: Mutex<State>,
    /// Work came, or the pool closed.
    work: Condvar,
    /// A unit ended, or a thread did.
    quiet: Condvar,
}

/// What is counted under the lock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    pub(super) closed: bool,
    pub(super) queued: u64,
    pub(super) running: u64,
    pub(super) ended: u64,
    pub(super) threads: u64,
}

impl Crew {
    /// A crew of as many threads as queues come back; they are still to be started.
    pub(super) fn new(threads: usize) -> (Arc<Self>, Vec<Worker<Arc<Unit>>>) {
        let queues: Vec<Worker<Arc<Unit>>> = (0..threads).map(|_| Worker::new_fifo()).collect();
        let crew = Self {
            // Relaxed: only that numbers differ matters.
            number: NEXT_CREW.fetch_add(1, Ordering::Relaxed),
            injector: Injector::new(),
            stealers: queues.iter().map(Worker::stealer).collect(),
            sleepers: AtomicU64::new(0),
            state: Mutex::default(),
            work: Condvar::new(),
            quiet: Condvar::new(),
        };
        (Arc::new(crew), queues)
    }

    /// Whether the calling thread belongs to this crew.
    pub(super) fn is_mine(&self) -> bool {
        CREW.get() == self.number
    }

    /// Counts a unit that is about to be pushed; false when the pool is closed.
    pub(super) fn admit(&self) -> bool {
        let mut state = lock(&self.state);
        if !state.closed {
            state.queued += 1;
        }
        !state.closed
    }

    /// Makes an admitted unit visible to the threads.
    pub(super) fn push(&self, unit: Arc<Unit>) {
        self.injector.push(unit);
        // SeqCst: pairs with the fence in `sleep`; see the head of this file.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            // Through the lock, so that a thread between its last look and its wait is waited for.
            drop(lock(&self.state));
            self.work.notify_one();
        }
    }

    pub(super) fn begin(&self) {
        let mut state = lock(&self.state);
        state.queued -= 1;
        state.running += 1;
        self.notice_last(&state);
    }

    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.running -= 1;
        state.ended += 1;
        drop(state);
        self.quiet.notify_all();
    }

    pub(super) fn withdraw(&self) {
        let mut state = lock(&self.state);
        state.queued -= 1;
        self.notice_last(&state);
        drop(state);
        self.quiet.notify_all();
    }

    /// Lets sleeping threads end when nothing can come any more.
    fn notice_last(&self, state: &State) {
        if state.closed && state.queued == 0 {
            self.work.notify_all();
        }
    }

    /// Lets nobody in any more; threads end when they find nothing to do.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.work.notify_all();
    }

    /// Waits until `enough` of the counts, or until `until` has passed; returns the counts.
    pub(super) fn wait_until(&self, until: Deadline, enough: impl Fn(&State) -> bool) -> State {
        let mut state = lock(&self.state);
        while !enough(&state) {
            let (guard, in_time) = wait_on(&self.quiet, state, until);
            state = guard;
            if !in_time {
                break;
            }
        }
        *state
    }

    pub(super) fn state(&self) -> State {
        *lock(&self.state)
    }

    /// Takes one unit from wherever there is one.
    pub(super) fn steal(&self) -> Option<Arc<Unit>> {
        first_success(|| self.injector.steal()).or_else(|| {
            self.stealers
                .iter()
                .find_map(|other| first_success(|| other.steal()))
        })
    }

    /// The life of one thread of the crew.
    pub(super) fn work(&self, queue: &Worker<Arc<Unit>>) {
        CREW.set(self.number);
        while let Some(unit) = self.find(queue).or_else(|| self.sleep()) {
            unit.run();
        }
        lock(&self.state).threads -= 1;
        self.quiet.notify_all();
    }

    /// Counts a thread that is about to be started.
    pub(super) fn enlist(&self) {
        lock(&self.state).threads += 1;
    }

    /// Takes back [`enlist`](Self::enlist): the thread did not start.
    pub(super) fn discharge(&self) {
        lock(&self.state).threads -= 1;
    }

    fn find(&self, queue: &Worker<Arc<Unit>>) -> Option<Arc<Unit>> {
        queue
            .pop()
            .or_else(|| first_success(|| self.injector.steal_batch_and_pop(queue)))
            .or_else(|| self.steal())
    }

    /// Sleeps until there is a unit; `None` when the pool is closed and nothing is left.
    fn sleep(&self) -> Option<Arc<Unit>> {
        let mut state = lock(&self.state);
        // Relaxed: ordered by the fence; see the head of this file.
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        let unit = loop {
            // SeqCst: pairs with the fence in `push`.
            fence(Ordering::SeqCst);
            let unit = self.steal();
            if unit.is_some() || (state.closed && state.queued == 0) {
                break unit;
            }
            (state, _) = wait_on(&self.work, state, Deadline::NEVER);
        };
        // Relaxed: too high a count costs a needless wake, nothing else.
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        unit
    }
}

/// Tries until nobody else interferes.
fn first_success<T>(mut attempt: impl FnMut() -> Steal<T>) -> Option<T> {
    loop {
        match attempt() {
            Steal::Success(item) => return Some(item),
            Steal::Empty => return None,
            Steal::Retry => std::hint::spin_loop(),
        }
    }
}
