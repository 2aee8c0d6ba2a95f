//! Which worker gets which task, what comes back, and what a death means.
//!
//! All of it happens in [`State::turn`], under the pool's lock, by whatever thread pumps; and
//! nothing in it waits. Tasks are numbered as they come and kept in that order; one that is
//! tried again keeps its number, so it goes first. An idle worker exists only while the queue is
//! empty, which is why `submit` may hand a task straight to it.

use std::collections::BTreeMap;
use std::time::Duration;

use manyhands_os::clock::Deadline;
use manyhands_process::Exit;
use manyhands_shm::arena::Participant;
use manyhands_shm::handoff;

use super::frame::{self, Kind};
use super::hand::{Condition, Hand, Load, StartError, cause_of};
use super::health::Health;
use super::job::{Effects, Job};
use super::pump::Seats;
use super::stats::Stats;
use super::{Gate, Plan};
use crate::error::{Cause, SubmitError, TaskError};

/// How long a worker that was told to stop may take.
const LEAVE_GRACE: Duration = Duration::from_secs(5);

/// Everything about a pool that changes; guarded by one lock of this process.
pub(super) struct State {
    pub(super) gate: Gate,
    /// Tasks that wait, by number.
    pub(super) queue: BTreeMap<u64, Job>,
    pub(super) hands: Vec<Hand>,
    pub(super) health: Health,
    pub(super) seats: Seats,
    pub(super) stats: Stats,
    /// Whether a process is being started, outside the lock.
    pub(super) is_starting: bool,
    next_task: u64,
    next_hand: u64,
    message: Vec<u8>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            gate: Gate::Open,
            queue: BTreeMap::new(),
            hands: Vec::new(),
            health: Health::default(),
            seats: Seats::default(),
            stats: Stats::default(),
            is_starting: false,
            // Zero is the number of no task on a board.
            next_task: 1,
            next_hand: 1,
            message: Vec::new(),
        }
    }

    /// Takes a task in: to an idle worker at once, else to the queue. Returns its number.
    pub(super) fn admit(&mut self, plan: &Plan, mut job: Job) -> Result<u64, SubmitError> {
        match &self.gate {
            Gate::Open => {}
            Gate::Closed => return Err(SubmitError::PoolShutDown),
            Gate::Broken(reason) => {
                return Err(SubmitError::Broken {
                    reason: reason.clone(),
                });
            }
        }
        job.number = self.next_task;
        self.next_task += 1;
        let number = job.number;
        self.queue.insert(number, job);
        self.assign(plan);
        Ok(number)
    }

    /// Looks at every worker and gives out what can be; returns when to look again at the latest.
    pub(super) fn turn(&mut self, plan: &Plan, effects: &mut Effects) -> Deadline {
        // From the end: a worker that is removed is replaced by one that was looked at.
        for index in (0..self.hands.len()).rev() {
            self.tend(index, plan, effects);
        }
        self.assign(plan);
        self.hands
            .iter()
            .map(Hand::next_look)
            .fold(Deadline::NEVER, Deadline::earlier)
    }

    /// The lives that whoever waits for news must watch.
    pub(super) fn lives(&self, lives: &mut Vec<Participant>) {
        lives.clear();
        let watched = self
            .hands
            .iter()
            .filter(|hand| !matches!(hand.condition, Condition::Dead { .. }));
        lives.extend(watched.map(Hand::participant));
    }

    fn tend(&mut self, index: usize, plan: &Plan, effects: &mut Effects) {
        // Whether it lives is asked first: then what it sent while alive is all there below.
        let alive = self.hands[index].is_alive();
        self.collect(index, plan, effects);
        let hand = &mut self.hands[index];
        if !alive && !matches!(hand.condition, Condition::Dead { .. }) {
            hand.found_dead();
            let is_expected = hand.was_struck() || hand.was_dismissed();
            self.stats.restarts += u64::from(!is_expected && self.gate != Gate::Closed);
        }
        let hand = &mut self.hands[index];
        match hand.condition {
            Condition::Starting if hand.has_started() => {
                hand.condition = Condition::Idle;
            }
            Condition::Busy => {
                if hand.next_look().has_passed() {
                    self.stop_overdue(index, plan, effects);
                } else {
                    hand.feed(&mut self.message);
                }
            }
            Condition::Leaving(until) if until.has_passed() => {
                hand.strike();
            }
            Condition::Dead { .. } => {
                if let Some(exit) = hand.exit() {
                    let hand = self.hands.swap_remove(index);
                    self.bury(hand, exit, plan, effects);
                }
            }
            _ => {}
        }
    }

    /// Takes all outcomes that a worker has sent.
    fn collect(&mut self, index: usize, plan: &Plan, effects: &mut Effects) {
        let mut message = std::mem::take(&mut self.message);
        while self.hands[index].next_outcome(&mut message) {
            // What cannot be read is no outcome: the task's deadline or the worker's end decides.
            if let Some((number, kind, payload)) = frame::read_outcome(&message) {
                self.settle(index, plan, number, kind, payload, effects);
            }
        }
        self.message = message;
    }

    fn settle(
        &mut self,
        index: usize,
        plan: &Plan,
        number: u64,
        kind: Kind,
        payload: &[u8],
        effects: &mut Effects,
    ) {
        let hand = &mut self.hands[index];
        // An outcome of a task that was taken away (its time was up, say) comes too late.
        let Some(load) = hand.load.take_if(|load| load.job.number == number) else {
            return;
        };
        hand.served += 1;
        self.health.succeeded();
        let job = load.job;
        match outcome_error(kind, payload, plan) {
            Some(error) => {
                self.stats.count(Some(&error));
                effects.error(job, error);
            }
            None if kind == Kind::ValueWithHandles => {
                self.stats.count(None);
                if hand.condition == Condition::Busy {
                    hand.condition = Condition::Unpacking;
                }
                hand.is_needed = true;
                effects.value_with_handles(hand.id, job, payload.to_vec());
                return;
            }
            None => {
                self.stats.count(None);
                effects.value(job, payload.to_vec());
            }
        }
        self.release(index, plan);
    }

    /// A worker has done its task and the owner has what it needs of it.
    fn release(&mut self, index: usize, plan: &Plan) {
        let hand = &mut self.hands[index];
        if !matches!(hand.condition, Condition::Busy | Condition::Unpacking) {
            return;
        }
        if plan.max_tasks.is_some_and(|most| hand.served >= most) {
            hand.dismiss(Deadline::after(LEAVE_GRACE));
        } else {
            hand.condition = Condition::Idle;
        }
    }

    /// The handles in the last results of these workers have been taken over.
    pub(super) fn unpacked(&mut self, plan: &Plan, hands: &[u64]) {
        for index in 0..self.hands.len() {
            if hands.contains(&self.hands[index].id) {
                self.hands[index].is_needed = false;
                self.release(index, plan);
            }
        }
    }

    /// Gives queued tasks to idle workers.
    pub(super) fn assign(&mut self, plan: &Plan) {
        while !self.queue.is_empty() {
            // The one started last: when there are more workers than tasks, the same few work.
            let idle = self
                .hands
                .iter_mut()
                .rev()
                .find(|hand| hand.condition == Condition::Idle);
            let Some(hand) = idle else { return };
            let Some((_, mut job)) = self.queue.pop_first() else {
                return;
            };
            job.attempts += 1;
            let deadline = plan.limits.deadline(job.spent);
            hand.give(Load::new(job, deadline), &mut self.message);
        }
    }

    /// Ends a task whose time is used up, and the worker that has it.
    fn stop_overdue(&mut self, index: usize, plan: &Plan, effects: &mut Effects) {
        let Some(load) = &self.hands[index].load else {
            return;
        };
        let ran = load.job.spent + load.since.elapsed();
        let limit = plan.limits.time.unwrap_or_default();
        self.stop_at_work(index, TaskError::Deadline { limit, ran }, effects);
    }

    /// Ends the task that a worker has with `error`, and the worker; false if it has none.
    pub(super) fn stop_at_work(
        &mut self,
        index: usize,
        error: TaskError,
        effects: &mut Effects,
    ) -> bool {
        let hand = &mut self.hands[index];
        let Some(job) = hand.take_away() else {
            return false;
        };
        self.stats.count(Some(&error));
        effects.error_of(job, error);
        let lived = hand.strike();
        self.stats.restarts += u64::from(lived && self.gate != Gate::Closed);
        true
    }

    /// Ends all queued tasks with `error`; returns how many.
    pub(super) fn clear_queue(&mut self, error: &TaskError, effects: &mut Effects) -> u64 {
        let jobs = std::mem::take(&mut self.queue);
        let count = jobs.len() as u64;
        for job in jobs.into_values() {
            self.stats.count(Some(error));
            effects.error(job, error.clone());
        }
        count
    }

    /// Draws the consequences of a death whose exit status is known.
    fn bury(&mut self, mut hand: Hand, exit: Exit, plan: &Plan, effects: &mut Effects) {
        let cause = cause_of(exit);
        let load = hand.load.take();
        if hand.was_dismissed() {
            self.stats.recycled += u64::from(self.gate == Gate::Open);
            return;
        }
        let is_outside = cause == Cause::OutsideKill;
        // A worker that dies by itself while it has nothing to do would do so for ever.
        let is_by_itself = load.is_none() && !hand.was_struck();
        if is_by_itself && !(hand.has_started() && is_outside) {
            self.health.failed(&cause.to_string(), is_outside);
        }
        tracing::debug!(worker = hand.pid(), %cause, task = load.is_some(), "worker ended");
        let Some(load) = load else { return };
        let (death, seen) = hand.death_of(&load, cause);
        let mut job = load.job;
        job.spent += death.ran;
        match job.history.judge(plan.policy, death, seen) {
            Some(error) => {
                self.stats.count(Some(&error));
                effects.error(job, error);
            }
            None => {
                self.stats.retries += 1;
                job.cell.set_running(false);
                self.queue.insert(job.number, job);
            }
        }
    }

    /// How many more workers there should be than there are.
    fn missing(&self, plan: &Plan) -> usize {
        let active = self.hands.iter().filter(|hand| hand.is_active()).count();
        let busy = self.hands.iter().filter(|hand| hand.load.is_some()).count();
        let needed = busy + self.queue.len();
        let wanted = match self.gate {
            Gate::Open => needed.clamp(plan.workers.least(), plan.workers.most()),
            Gate::Closed => needed.min(plan.workers.most()),
            Gate::Broken(_) => 0,
        };
        // The dying count too, so that no storm of deaths makes the pool outgrow its bound.
        let room = (2 * plan.workers.most()).saturating_sub(self.hands.len());
        wanted.saturating_sub(active).min(room)
    }

    /// When the next worker is to be started, if one is.
    pub(super) fn next_start(&self, plan: &Plan) -> Option<Deadline> {
        (!self.is_starting && self.missing(plan) > 0).then(|| self.health.next_try())
    }

    pub(super) fn new_hand_id(&mut self) -> u64 {
        self.next_hand += 1;
        self.next_hand - 1
    }

    /// Takes in a started worker, or the reason why there is none.
    pub(super) fn enlist(&mut self, started: Result<Hand, StartError>) {
        self.is_starting = false;
        match started {
            Ok(hand) => {
                self.stats.started += 1;
                self.hands.push(hand);
            }
            Err(error) => self
                .health
                .failed(&error.to_string(), error.is_outside_kill()),
        }
    }

    /// Gives up when no worker lives and none can be started.
    pub(super) fn give_up_if_hopeless(&mut self, effects: &mut Effects) {
        if self.health.is_hopeless() && !self.hands.iter().any(Hand::is_active) {
            let reason = self.health.reason().to_owned();
            let error = TaskError::Broken {
                reason: reason.clone(),
            };
            self.clear_queue(&error, effects);
            if self.gate == Gate::Open {
                self.gate = Gate::Broken(reason);
            }
        }
    }
}

/// The error in an outcome, `None` when it is a value.
fn outcome_error(kind: Kind, payload: &[u8], plan: &Plan) -> Option<TaskError> {
    let text = || String::from_utf8_lossy(payload).into_owned();
    match kind {
        Kind::Value | Kind::ValueWithHandles => None,
        Kind::Panicked => Some(match handoff::unpack(payload) {
            Ok(panic) => TaskError::Panicked(panic),
            Err(error) => TaskError::Undecodable {
                reason: format!("the panic: {error}"),
            },
        }),
        Kind::Undecodable => Some(TaskError::Undecodable { reason: text() }),
        Kind::Unencodable => Some(TaskError::Unencodable { reason: text() }),
        Kind::OutputLimit => {
            let size = payload.try_into().map_or(0, u64::from_le_bytes);
            Some(TaskError::OutputLimit {
                size,
                allowed: plan.limits.output.unwrap_or_default(),
            })
        }
    }
}
