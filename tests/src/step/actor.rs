//! Survivors: children that wait for a role, play it, and wait for the next.
//!
//! They outlive the boundaries (a fork costs more than a boundary), unless one hangs: then it is
//! killed and replaced.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use super::{Outcome, Subject};
use crate::place::{Place, Placed};
use crate::system;

/// Which kind of actor.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It invites the others, and plays no other part.
    Host,
    /// It arrives and warms itself.
    Survivor,
}

/// What an actor is asked to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Role {
    /// [`Subject::peer`].
    Peer = 1,
    /// [`Subject::settle`].
    Settle = 2,
    /// [`Subject::hold`].
    Hold = 3,
    /// [`Subject::release`].
    Release = 4,
    /// [`Subject::peer`], as soon as the gate opens; until then the actor spins.
    GatedPeer = 5,
    /// [`Subject::rob`].
    Rob = 6,
    /// [`Subject::end_robbery`].
    EndRobbery = 7,
    /// [`Subject::invite`].
    Invite = 8,
    /// [`Subject::set_up`].
    SetUp = 9,
    /// [`Subject::audit`].
    Audit = 10,
}

impl Role {
    fn from_bits(bits: u32) -> Option<Role> {
        let quick = [Role::Hold, Role::Release, Role::Rob, Role::EndRobbery];
        let slow = [Role::Peer, Role::Settle, Role::GatedPeer];
        let of_host = [Role::Invite, Role::SetUp, Role::Audit];
        quick
            .into_iter()
            .chain(slow)
            .chain(of_host)
            .find(|role| *role as u32 == bits)
    }
}

/// Where one actor gets its orders and leaves its answers; in memory shared with the tracer.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Desk {
    /// Counts the orders; the actor sleeps on it.
    orders: AtomicU32,
    role: AtomicU32,
    /// The number of the last order that is finished; the tracer sleeps on it.
    finished: AtomicU32,
    outcome: AtomicU32,
    /// Counts the openings of the gate.
    gate: AtomicU32,
    /// 1 while the actor spins at the gate.
    at_gate: AtomicU32,
}

// SAFETY: atomics only; zero is "no order yet"; nothing to drop.
unsafe impl Placed for Desk {}

/// How long an actor may take to come to life.
const WARMING: Duration = Duration::from_secs(30);

/// One surviving process.
#[derive(Debug)]
pub struct Actor {
    process: Pid,
    desk: Place,
    ordered: u32,
    is_reaped: bool,
}

impl Actor {
    /// Forks an actor. The calling process must have one thread only.
    ///
    /// # Panics
    ///
    /// Panics when the kernel refuses to fork.
    pub fn fork(subject: &dyn Subject, kind: Kind, place: Place, spare: Place) -> Actor {
        let desk = Place::map(size_of::<Desk>());
        // SAFETY: the caller has one thread, so the child may run any Rust code.
        match unsafe { fork() }.expect("fork an actor") {
            ForkResult::Parent { child } => {
                // The actor warms itself as if that were its first order.
                let actor = Actor {
                    process: child,
                    desk,
                    ordered: 1,
                    is_reaped: false,
                };
                let warmth = actor.wait_finished(WARMING);
                assert!(warmth.is_some(), "an actor warms itself in time");
                actor
            }
            ForkResult::Child => play(subject, kind, place, spare, desk.at()),
        }
    }

    fn desk(&self) -> &'static Desk {
        self.desk.at()
    }

    /// The process.
    pub fn process(&self) -> Pid {
        self.process
    }

    /// Gives an order; the actor must have finished the one before.
    pub fn order(&mut self, role: Role) {
        let desk = self.desk();
        desk.role.store(role as u32, Relaxed);
        self.ordered += 1;
        // Release: pairs with the Acquire load in `play`; publishes the role.
        desk.orders.store(self.ordered, Release);
        system::futex_wake(&desk.orders, 1);
    }

    /// Whether the last order is finished.
    pub fn is_finished(&self) -> bool {
        // Acquire: pairs with the Release store in `play`; publishes the outcome.
        self.desk().finished.load(Acquire) == self.ordered
    }

    /// Waits for the end of the last order.
    pub fn wait_finished(&self, patience: Duration) -> Option<Outcome> {
        let desk = self.desk();
        let deadline = Instant::now() + patience;
        loop {
            let finished = desk.finished.load(Acquire);
            if finished == self.ordered {
                let outcome = Outcome::from_bits(desk.outcome.load(Relaxed));
                return Some(outcome.unwrap_or(Outcome::Refused));
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            system::futex_wait(&desk.finished, finished, Some(left));
        }
    }

    /// Whether the actor sleeps in a futex that is not its desk's.
    pub fn is_asleep(&self) -> bool {
        system::sleeps_in(self.process).is_some_and(|address| !self.desk.contains(address))
    }

    /// Whether the actor has reached its gate.
    pub fn is_at_gate(&self) -> bool {
        self.desk().at_gate.load(Acquire) == 1
    }

    /// Opens the gate of [`Role::GatedPeer`].
    pub fn open_gate(&self) {
        self.desk().gate.fetch_add(1, Release);
    }

    /// Kills the actor and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !self.is_reaped {
            self.is_reaped = true;
            // It is our child and not reaped, so the id is still its own.
            let _ = kill(self.process, Signal::SIGKILL);
            let _ = waitpid(self.process, None);
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.end();
    }
}

fn play(subject: &dyn Subject, kind: Kind, place: Place, spare: Place, desk: &Desk) -> ! {
    system::die_with_parent();
    system::go_anywhere();
    let _ = panic::catch_unwind(AssertUnwindSafe(|| {
        if kind == Kind::Survivor {
            subject.arrive();
            subject.warm(spare);
        }
        let mut seen = 1;
        finish(desk, seen, Outcome::Fine);
        loop {
            // Acquire: pairs with the Release store in `order`.
            let ordered = desk.orders.load(Acquire);
            if ordered <= seen {
                system::futex_wait(&desk.orders, ordered, None);
                continue;
            }
            seen = ordered;
            finish(desk, seen, play_once(subject, place, desk));
        }
    }));
    // SAFETY: ends the process without running what the tracer registered to run at its exit.
    unsafe { libc::_exit(101) }
}

fn finish(desk: &Desk, order: u32, outcome: Outcome) {
    desk.outcome.store(outcome as u32, Relaxed);
    // Release: pairs with the Acquire load in `wait_finished`.
    desk.finished.store(order, Release);
    system::futex_wake(&desk.finished, 1);
}

fn play_once(subject: &dyn Subject, place: Place, desk: &Desk) -> Outcome {
    match Role::from_bits(desk.role.load(Relaxed)) {
        Some(Role::Peer) => return subject.peer(place),
        Some(Role::Settle) => return subject.settle(place),
        Some(Role::Audit) => return subject.audit(place),
        Some(Role::Invite) => subject.invite(),
        Some(Role::SetUp) => subject.set_up(place),
        Some(Role::Hold) => subject.hold(place),
        Some(Role::Release) => subject.release(place),
        Some(Role::Rob) => subject.rob(place),
        Some(Role::EndRobbery) => subject.end_robbery(place),
        Some(Role::GatedPeer) => {
            wait_at_gate(desk);
            return subject.peer(place);
        }
        None => return Outcome::Refused,
    }
    Outcome::Fine
}

fn wait_at_gate(desk: &Desk) {
    let closed = desk.gate.load(Acquire);
    desk.at_gate.store(1, Release);
    while desk.gate.load(Acquire) == closed {
        std::hint::spin_loop();
    }
    desk.at_gate.store(0, Relaxed);
}
