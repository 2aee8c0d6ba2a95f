//! Who looks after the workers: the threads that wait for results, by turns.
//!
//! There is no dispatcher. One thread at a time *leads*: it takes a turn ([`State::turn`]), then
//! sleeps at the doorbell, with an eye on each worker's life and on the next deadline. The rules:
//!
//! 1. A thread that waits for a result leads if nobody does; else it *follows*: it sleeps until
//!    its own task is done or it is called to lead.
//! 2. A leader whose task is done steps down. If there are followers it calls one; else it
//!    leaves the seat empty.
//! 3. A called follower either leads or, if its own task is done by then, calls another when it
//!    leaves. So there is always somebody on the way to an empty seat while anybody waits.
//! 4. A *supervisor* thread starts the worker processes, which takes long, and leads while
//!    nobody waits: it takes a seat that has been empty for [`GRACE`]. It steps down, at its next
//!    event, when somebody follows. While the seat changes hands often it looks every `GRACE`;
//!    while one waiting thread leads for longer than that, it sleeps until that one steps down.
//!
//! So a caller that submits and waits, again and again, meets its worker with no third thread in
//! between, and deadlines hold (within `GRACE`) when no caller is there at all.

use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_shm::arena::Participant;

use super::Core;
use super::closing::REAP_GRACE;
use super::hand::Hand;
use super::job::Effects;
use super::schedule::State;
use crate::error::TaskError;
use crate::parker::{Parker, lock, wait_on};
use crate::task::Driver;

/// How long the leader's seat may be empty while nobody waits.
const GRACE: Duration = Duration::from_millis(2);

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Leader {
    #[default]
    Nobody,
    Waiter,
    Supervisor,
}

/// Who leads, who follows, and what the supervisor is doing.
pub(super) struct Seats {
    leader: Leader,
    followers: Vec<Arc<Parker>>,
    /// Those who want to hear of every turn: threads that shut the pool down.
    listeners: Vec<Arc<Parker>>,
    /// How often a waiting thread has stepped down.
    changes: u64,
    /// The supervisor sleeps until somebody steps down.
    supervisor_sleeps: bool,
    /// When the leader that sleeps at the doorbell wakes by itself.
    planned: Deadline,
    /// The pool is at its end: the supervisor is to leave.
    pub(super) is_over: bool,
    /// The supervisor has left.
    pub(super) supervisor_left: bool,
}

impl Default for Seats {
    fn default() -> Self {
        Self {
            leader: Leader::Nobody,
            followers: Vec::new(),
            listeners: Vec::new(),
            changes: 0,
            supervisor_sleeps: false,
            planned: Deadline::NEVER,
            is_over: false,
            supervisor_left: false,
        }
    }
}

impl Seats {
    fn unfollow(&mut self, parker: &Arc<Parker>) {
        self.followers.retain(|other| !Arc::ptr_eq(other, parker));
    }

    pub(super) fn listen(&mut self, parker: &Arc<Parker>) {
        self.listeners.push(Arc::clone(parker));
    }

    pub(super) fn stop_listening(&mut self, parker: &Arc<Parker>) {
        self.listeners.retain(|other| !Arc::ptr_eq(other, parker));
    }
}

impl Driver for Core {
    fn wait(&self, parker: &Arc<Parker>, ready: &mut dyn FnMut() -> bool, until: Deadline) -> bool {
        let mut was_seen = false;
        loop {
            let is_ready = ready();
            if is_ready || until.has_passed() {
                if was_seen {
                    self.unfollow(parker);
                }
                return is_ready;
            }
            if let Some(lead) = self.lead_or_follow(parker) {
                lead.until(ready, until);
            } else {
                was_seen = true;
                parker.park(until);
            }
        }
    }

    fn poll(&self) {
        // Only if it costs nothing: neither waiting for the lock nor taking over from a leader.
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(error)) => PoisonError::into_inner(error),
            Err(TryLockError::WouldBlock) => return,
        };
        if state.seats.leader == Leader::Nobody {
            drop(state);
            self.turn(&mut Vec::new(), Deadline::NEVER);
        }
    }

    fn cancel(&self, number: u64, running: bool) -> bool {
        let mut effects = Effects::default();
        let cancelled = {
            let mut state = lock(&self.state);
            state.cancel(number, running, &mut effects)
        };
        effects.run();
        cancelled
    }
}

impl Core {
    /// Takes the leader's seat, or a place among the followers.
    fn lead_or_follow(&self, parker: &Arc<Parker>) -> Option<Lead<'_>> {
        let mut state = lock(&self.state);
        let seats = &mut state.seats;
        seats.unfollow(parker);
        if seats.leader == Leader::Nobody {
            seats.leader = Leader::Waiter;
            return Some(Lead { core: self });
        }
        seats.followers.push(Arc::clone(parker));
        None
    }

    /// Leaves the followers; passes on a call to lead that may have come.
    fn unfollow(&self, parker: &Arc<Parker>) {
        let mut state = lock(&self.state);
        state.seats.unfollow(parker);
        self.call_next(&mut state);
    }

    /// Calls somebody to an empty seat.
    fn call_next(&self, state: &mut State) {
        let seats = &mut state.seats;
        if seats.leader != Leader::Nobody {
            return;
        }
        if let Some(follower) = seats.followers.first() {
            follower.unpark();
        } else if seats.supervisor_sleeps {
            self.supervisor.notify_one();
        }
    }

    /// Makes whoever leads take a turn soon, and the supervisor start what is missing.
    ///
    /// `deadline` is one that the leader may not know of.
    pub(super) fn alert(&self, state: &State, deadline: Deadline) {
        let starts = state.next_start(&self.plan).is_some();
        let seats = &state.seats;
        let earlier = deadline.earlier(seats.planned) != seats.planned;
        match seats.leader {
            Leader::Supervisor if starts || earlier => self.doorbell.ring(),
            Leader::Waiter if earlier => self.doorbell.ring(),
            _ => {}
        }
        if starts && seats.leader != Leader::Supervisor {
            self.supervisor.notify_one();
        }
    }

    /// One turn, with all that follows from it; returns when the next is due at the latest.
    pub(super) fn turn(&self, lives: &mut Vec<Participant>, until: Deadline) -> Deadline {
        loop {
            let mut effects = Effects::default();
            let next = {
                let mut state = lock(&self.state);
                let next = state.turn(&self.plan, &mut effects);
                state.give_up_if_hopeless(&mut effects);
                if state.seats.leader != Leader::Supervisor
                    && state.next_start(&self.plan).is_some()
                {
                    self.supervisor.notify_one();
                }
                state.lives(lives);
                state.seats.planned = next.earlier(until);
                for listener in &state.seats.listeners {
                    listener.unpark();
                }
                next
            };
            let unpacked = effects.run();
            if unpacked.is_empty() {
                return next;
            }
            lock(&self.state).unpacked(&self.plan, &unpacked);
        }
    }
}

/// The leader's seat, taken by a waiting thread; dropping it steps down, also by a panic.
struct Lead<'a> {
    core: &'a Core,
}

impl Lead<'_> {
    fn until(self, ready: &mut dyn FnMut() -> bool, until: Deadline) {
        let core = self.core;
        let mut lives = Vec::new();
        loop {
            let seen = core.doorbell.seen();
            let next = core.turn(&mut lives, until);
            if ready() || until.has_passed() {
                return;
            }
            core.doorbell.wait(seen, &lives, next.earlier(until));
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.core.state);
        state.seats.leader = Leader::Nobody;
        state.seats.changes += 1;
        self.core.call_next(&mut state);
    }
}

/// The supervisor's thread.
pub(super) fn supervise(core: &Core) {
    let mut state = lock(&core.state);
    // How many changes of the leader's seat were seen at the last look, if there was one.
    let mut last_look = Some(0);
    while !state.seats.is_over {
        match state.next_start(&core.plan) {
            Some(due) if due.has_passed() => {
                core.start_worker(state);
                state = lock(&core.state);
                continue;
            }
            _ => {}
        }
        let changes = state.seats.changes;
        let is_calm = last_look == Some(changes);
        if is_calm && state.seats.leader == Leader::Nobody && state.seats.followers.is_empty() {
            state.seats.leader = Leader::Supervisor;
            drop(state);
            core.lead_as_supervisor();
            state = lock(&core.state);
            last_look = None;
            continue;
        }
        let sleeps = is_calm && state.seats.leader == Leader::Waiter;
        let wake = if sleeps {
            Deadline::NEVER
        } else {
            Deadline::after(GRACE)
        };
        let start = state.next_start(&core.plan).unwrap_or(Deadline::NEVER);
        state.seats.supervisor_sleeps = sleeps;
        (state, _) = wait_on(&core.supervisor, state, wake.earlier(start));
        state.seats.supervisor_sleeps = false;
        last_look = (!sleeps).then_some(changes);
    }
    drop(state);
    core.end_late_worker();
    let mut state = lock(&core.state);
    state.seats.supervisor_left = true;
    for listener in &state.seats.listeners {
        listener.unpark();
    }
}

impl Core {
    /// Ends the worker whose start took longer than the shutdown.
    fn end_late_worker(&self) {
        let mut are_gone = || {
            let mut state = lock(&self.state);
            for hand in &mut state.hands {
                hand.strike();
            }
            state.hands.is_empty()
        };
        self.wait(&Arc::default(), &mut are_gone, Deadline::after(REAP_GRACE));
    }

    /// Leads until somebody follows, or a worker is to be started, or the pool ends.
    fn lead_as_supervisor(&self) {
        let mut lives = Vec::new();
        loop {
            let seen = self.doorbell.seen();
            let next = self.turn(&mut lives, Deadline::NEVER);
            let mut state = lock(&self.state);
            let start = state.next_start(&self.plan).unwrap_or(Deadline::NEVER);
            let seats = &mut state.seats;
            if seats.is_over || !seats.followers.is_empty() || start.has_passed() {
                seats.leader = Leader::Nobody;
                self.call_next(&mut state);
                return;
            }
            let next = next.earlier(start);
            seats.planned = next;
            drop(state);
            self.doorbell.wait(seen, &lives, next);
        }
    }

    /// Starts one worker process, outside the lock, and takes it in.
    ///
    /// It comes with the lock under which this was decided: from then on a shutdown waits for it.
    fn start_worker(&self, mut state: MutexGuard<'_, State>) {
        state.is_starting = true;
        let id = state.new_hand_id();
        drop(state);
        let started = Hand::start(id, &self.plan, &self.doorbell);
        if let Err(reason) = &started {
            tracing::warn!(pool = %self.plan.name, %reason, "worker not started");
        }
        let mut effects = Effects::default();
        {
            let mut state = lock(&self.state);
            state.enlist(started);
            state.give_up_if_hopeless(&mut effects);
        }
        effects.run();
        // Whoever leads has a new life to watch.
        self.doorbell.ring();
    }
}

impl State {
    fn cancel(&mut self, number: u64, running: bool, effects: &mut Effects) -> bool {
        if let Some(job) = self.queue.remove(&number) {
            self.stats.count(Some(&TaskError::Cancelled));
            effects.error(job, TaskError::Cancelled);
            return true;
        }
        let has_it = |hand: &Hand| {
            hand.load
                .as_ref()
                .is_some_and(|load| load.job.number == number)
        };
        match self.hands.iter().position(has_it) {
            Some(index) if running => self.stop_at_work(index, TaskError::Cancelled, effects),
            _ => false,
        }
    }
}
