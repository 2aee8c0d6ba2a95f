//! The owner's side of one worker: its process, its two rings, its board, and what it has to do.

use std::time::{Duration, Instant};

use manyhands_channel::Doorbell;
use manyhands_channel::ring::{Consumer, Producer, RingError, ring};
use manyhands_os::clock::Deadline;
use manyhands_os::process::Identity;
use manyhands_process::{Exit, Process, SpawnError};
use manyhands_shm::NoSpace;
use manyhands_shm::arena::Participant;

use super::Plan;
use super::board::{Board, Progress};
use super::frame::{self, ORDER_RING, PART, RESULT_RING};
use super::job::Job;
use super::worker::worker_main;
use crate::error::{Cause, Death};

/// The first pause between two looks for the exit status of a dead worker; it doubles.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
/// The longest such pause. The kernel tells the status when it has taken the memory apart.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// How long a process may take to come to its loop.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a worker is in its life, as the owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// The process is there; its loop is not yet.
    Starting,
    /// It waits for a task.
    Idle,
    /// It has a task.
    Busy,
    /// It waits until the handles in its last result are in the owner's hands.
    Unpacking,
    /// It was told to stop, and is killed when this has passed.
    Leaving(Deadline),
    /// It was killed by this pool.
    Struck,
    /// It has died; the next look for its exit status is due then.
    Dead { look: Deadline, pause: Duration },
}

/// A task in the hands of a worker.
pub(super) struct Load {
    pub(super) job: Job,
    /// Bytes of the body that are in the worker's ring or behind it.
    sent: usize,
    pub(super) since: Instant,
    pub(super) deadline: Deadline,
}

impl Load {
    pub(super) fn new(job: Job, deadline: Deadline) -> Self {
        Self {
            job,
            sent: 0,
            since: Instant::now(),
            deadline,
        }
    }
}

/// One worker.
pub(super) struct Hand {
    pub(super) id: u64,
    process: Process<()>,
    participant: Participant,
    identity: Identity,
    orders: Producer,
    results: Consumer,
    board: Board,
    pub(super) condition: Condition,
    pub(super) load: Option<Load>,
    /// The last task of a worker that was struck: its handles stay alive as long as the worker.
    remains: Option<Job>,
    /// Tasks that it has done.
    pub(super) served: u64,
    /// A result of it is being decoded whose handles only it keeps alive: even dead, it is not
    /// cleaned up after before that is done.
    pub(super) is_needed: bool,
    struck: bool,
    dismissed: bool,
}

impl Hand {
    /// Starts a worker process.
    pub(super) fn start(id: u64, plan: &Plan, doorbell: &Doorbell) -> Result<Self, StartError> {
        let board = Board::new()?;
        let (orders, orders_there) = ring(ORDER_RING)?;
        let (results_there, results) = ring(RESULT_RING)?;
        let desk = (
            orders_there,
            results_there,
            doorbell.clone(),
            board.clone(),
            plan.limits.output,
        );
        let process = Process::builder()
            .name(format!("{}-{id}", plan.name))
            .start_method(plan.start_method)
            .start_timeout(START_TIMEOUT)
            .limits(manyhands_process::Limits {
                memory: plan.limits.memory,
                ..manyhands_process::Limits::default()
            })
            .spawn(worker_main, desk)?;
        let participant = process.participant();
        let unknown = Identity {
            pid: process.id(),
            start_time: 0,
        };
        let identity = participant.identity().unwrap_or(unknown);
        let condition = Condition::Starting;
        Ok(Self {
            id,
            process,
            participant,
            identity,
            orders,
            results,
            board,
            condition,
            load: None,
            remains: None,
            served: 0,
            is_needed: false,
            struck: false,
            dismissed: false,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.identity.pid
    }

    pub(super) fn participant(&self) -> Participant {
        self.participant
    }

    pub(super) fn is_alive(&self) -> bool {
        self.participant.is_alive()
    }

    pub(super) fn has_started(&self) -> bool {
        self.board.has_started()
    }

    /// Whether it counts as one of the pool's workers: neither leaving nor gone.
    pub(super) fn is_active(&self) -> bool {
        use Condition::{Busy, Idle, Starting, Unpacking};
        matches!(self.condition, Starting | Idle | Busy | Unpacking)
    }

    pub(super) fn was_dismissed(&self) -> bool {
        self.dismissed
    }

    pub(super) fn was_struck(&self) -> bool {
        self.struck
    }

    /// Reads the next outcome out of the ring, without waiting.
    pub(super) fn next_outcome(&mut self, message: &mut Vec<u8>) -> bool {
        self.results.try_recv(message).is_ok()
    }

    /// Takes a task and sends as much of it as fits. A worker that is gone takes it too: its
    /// death is found at the next look, and the task judged by it.
    pub(super) fn give(&mut self, load: Load, message: &mut Vec<u8>) {
        load.job.cell.set_running(true);
        self.load = Some(load);
        self.condition = Condition::Busy;
        self.feed(message);
    }

    /// Sends as many parts of its task as fit.
    pub(super) fn feed(&mut self, message: &mut Vec<u8>) {
        let Some(load) = &mut self.load else { return };
        let body = &load.job.body;
        while load.sent < body.len() {
            let end = body.len().min(load.sent + PART);
            let first = (load.sent == 0).then_some((load.job.number, body.len() as u64));
            frame::write_part(message, first, &body[load.sent..end]);
            if self.orders.try_send(message).is_err() {
                break;
            }
            load.sent = end;
        }
    }

    /// Tells it to end its loop; it is killed when `until` has passed.
    pub(super) fn dismiss(&mut self, until: Deadline) {
        // A worker that cannot be told is dead or stuck: the deadline or its death ends it.
        let _ = self.orders.try_send(&frame::stop());
        self.dismissed = true;
        self.condition = Condition::Leaving(until);
    }

    /// Kills it. Its task, if it has one, was taken away before or is judged after the death.
    /// False if it is dead already.
    pub(super) fn strike(&mut self) -> bool {
        self.struck = true;
        // An error means that it is gone already.
        let _ = self.process.kill();
        let lived = !matches!(self.condition, Condition::Dead { .. });
        if lived {
            self.condition = Condition::Struck;
        }
        lived
    }

    /// Takes its task away, to be ended by the caller; it stays here for its handles, which must
    /// live as long as the worker. To be followed by [`strike`](Self::strike).
    pub(super) fn take_away(&mut self) -> Option<&Job> {
        let load = self.load.take()?;
        Some(self.remains.insert(load.job))
    }

    /// Notes its death.
    pub(super) fn found_dead(&mut self) {
        self.condition = Condition::Dead {
            look: Deadline::now(),
            pause: FIRST_PAUSE,
        };
    }

    /// How it ended, once the kernel tells. Its seat is free then, and what it held released.
    pub(super) fn exit(&mut self) -> Option<Exit> {
        let Condition::Dead { look, pause } = &mut self.condition else {
            return None;
        };
        if self.is_needed || !look.has_passed() {
            return None;
        }
        *look = Deadline::after(*pause);
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        self.process.exit()
    }

    /// The death that ended its task, and whether it had seen anything of that.
    pub(super) fn death_of(&self, load: &Load, cause: Cause) -> (Death, bool) {
        let Progress { phase, seen } = self.board.progress(load.job.number);
        let ran = load.since.elapsed();
        let attempt = load.job.attempts;
        (
            Death {
                cause,
                phase,
                worker: self.identity,
                attempt,
                ran,
            },
            seen,
        )
    }

    /// When it must be looked at again even if nothing is heard of it.
    pub(super) fn next_look(&self) -> Deadline {
        match self.condition {
            Condition::Dead { look, .. } => look,
            Condition::Leaving(until) => until,
            _ => self
                .load
                .as_ref()
                .map_or(Deadline::NEVER, |load| load.deadline),
        }
    }
}

/// Why a worker was not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Memory(#[from] NoSpace),
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

impl StartError {
    /// Whether it says nothing about whether workers can start here.
    pub(super) fn is_outside_kill(&self) -> bool {
        match self {
            Self::Spawn(SpawnError::Died(exit) | SpawnError::ZygoteDied(exit)) => {
                matches!(cause_of(exit.clone()), Cause::OutsideKill | Cause::Unknown)
            }
            _ => false,
        }
    }
}

/// The cause behind an exit that this pool did not bring about.
pub(super) fn cause_of(exit: Exit) -> Cause {
    const SIGKILL: i32 = 9;
    const SIGXCPU: i32 = 24;
    match exit {
        Exit::Exited(code) => Cause::Exited(code),
        Exit::Signaled {
            signal: SIGKILL, ..
        } => Cause::OutsideKill,
        Exit::Signaled {
            signal,
            core_dumped,
            ..
        } => Cause::Signaled {
            signal,
            core_dumped,
        },
        // A pool sets no such limit; a task may have, or whoever started the program.
        Exit::ProcessorLimit { .. } => Cause::Signaled {
            signal: SIGXCPU,
            core_dumped: false,
        },
        Exit::StackOverflow => Cause::StackOverflow,
        Exit::MemoryLimit { asked, allowed } => Cause::MemoryLimit { asked, allowed },
        Exit::Panicked(panic) | Exit::PanicAborted(panic) => Cause::Panicked(panic),
        _ => Cause::Unknown,
    }
}
