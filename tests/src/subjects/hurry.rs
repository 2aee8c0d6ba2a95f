//! The other forms of what processes have shares in: tried, with a time-out, or ended from outside.
//!
//! A form that only tries waits for nobody, so it has no other scenes than a and f. Those with a
//! time-out are those without until their time is up; from there on they have scenes of their own.

use manyhands_sync::{
    Barrier, Broken, LockError, LockTimeoutError, RwLock, Semaphore, TryLockError, WaitError,
};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use super::mutual::SOON;
use super::shares::{
    BARRIER_WAIT, Basket, CONDITION_NOTIFY, CONDITION_WAIT, PERMIT, READ, RWLOCK_LEAVE_WRITE,
    RWLOCK_READ, RWLOCK_WRITE, SEMAPHORE_ACQUIRE, Shares, WRITE, fill_for_one, items,
    meet_or_be_told, nothing, waits_for_the_dead, write,
};
use crate::step::{Outcome, Scene, Subject};

const TRYING: &[Scene] = &[Scene::Alone, Scene::Racing];
const TIMING_OUT: &[Scene] = &[Scene::TimedOut, Scene::TooLate];
const ENDING: &[Scene] = &[Scene::Alone, Scene::Watched, Scene::Racing];

/// Every boundary, but in code that is not optimized.
const ALL: u32 = if cfg!(debug_assertions) { 3 } else { 1 };

/// Each boundary waits for a time-out.
const FEW: u32 = 3;

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![
        &SEMAPHORE_TRY,
        &SEMAPHORE_IN_TIME,
        &SEMAPHORE_ADD,
        &SEMAPHORE_FORGET,
        &RWLOCK_TRY_READ,
        &RWLOCK_TRY_WRITE,
        &RWLOCK_READ_IN_TIME,
        &RWLOCK_WRITE_IN_TIME,
        &RWLOCK_LEAVE_AS_IS,
        &BARRIER_IN_TIME,
        &BARRIER_ABORT,
        &BARRIER_RESET,
        &CONDITION_NOTIFY_ONE,
        &CONDITION_IN_TIME,
    ]
}

static SEMAPHORE_TRY: Shares<Semaphore> = Shares {
    operation: "try_acquire",
    stride: ALL,
    scenes: TRYING,
    act: |semaphore| PERMIT.set(semaphore.try_acquire().ok()),
    ..SEMAPHORE_ACQUIRE
};

static SEMAPHORE_IN_TIME: Shares<Semaphore> = Shares {
    operation: "acquire, time out",
    scenes: TIMING_OUT,
    stride: FEW,
    act: |semaphore| PERMIT.set(semaphore.acquire_timeout(SOON).ok()),
    ..SEMAPHORE_ACQUIRE
};

/// A permit that nobody had.
static SEMAPHORE_ADD: Shares<Semaphore> = Shares {
    operation: "release one more",
    stride: ALL,
    scenes: ENDING,
    make: || Semaphore::new(0),
    before: nothing,
    act: |semaphore| semaphore.release(1).expect("there is room"),
    settle: settle_with_one,
    hold: nothing,
    release: nothing,
    is_waiting_right: has_no_permits,
    ..SEMAPHORE_ACQUIRE
};

/// The only permit, which then belongs to nobody.
static SEMAPHORE_FORGET: Shares<Semaphore> = Shares {
    operation: "forget",
    make: || Semaphore::new(1),
    before: |semaphore| PERMIT.set(Some(semaphore.acquire().expect("few locks"))),
    act: |_| {
        if let Some(permit) = PERMIT.take() {
            permit.forget();
        }
    },
    ..SEMAPHORE_ADD
};

/// Sees to it that there is one permit, and no other.
fn settle_with_one(semaphore: &'static Semaphore) -> Outcome {
    if has_no_permits(semaphore) {
        semaphore.release(1).expect("there is room");
    }
    // The peers were right to wait, so they may come now: what counts is what is so while the one
    // permit is here. (Looked at after it was given back, one of them had it now and then.)
    let _permit = semaphore.acquire().expect("few locks");
    let state = semaphore.inspect();
    if (state.free, state.supply) == (0, 1) {
        Outcome::Fine
    } else {
        Outcome::Lost
    }
}

fn has_no_permits(semaphore: &'static Semaphore) -> bool {
    semaphore.inspect().supply == 0
}

static RWLOCK_TRY_READ: Shares<RwLock<()>> = Shares {
    operation: "try_read",
    stride: ALL,
    scenes: TRYING,
    act: |lock| match lock.try_read() {
        Ok(guard) | Err(TryLockError::OwnerDied { guard, .. }) => READ.set(Some(guard)),
        Err(_) => {}
    },
    ..RWLOCK_READ
};

static RWLOCK_TRY_WRITE: Shares<RwLock<()>> = Shares {
    operation: "try_write",
    stride: ALL,
    scenes: TRYING,
    act: |lock| match lock.try_write() {
        Ok(guard) | Err(TryLockError::OwnerDied { guard, .. }) => WRITE.set(Some(guard)),
        Err(_) => {}
    },
    ..RWLOCK_WRITE
};

static RWLOCK_READ_IN_TIME: Shares<RwLock<()>> = Shares {
    operation: "read, time out",
    scenes: TIMING_OUT,
    stride: FEW,
    act: |lock| match lock.read_timeout(SOON) {
        Ok(guard) | Err(LockTimeoutError::OwnerDied { guard, .. }) => READ.set(Some(guard)),
        Err(_) => {}
    },
    ..RWLOCK_READ
};

static RWLOCK_WRITE_IN_TIME: Shares<RwLock<()>> = Shares {
    operation: "write, time out",
    scenes: TIMING_OUT,
    stride: FEW,
    act: |lock| match lock.write_timeout(SOON) {
        Ok(guard) | Err(LockTimeoutError::OwnerDied { guard, .. }) => WRITE.set(Some(guard)),
        Err(_) => {}
    },
    ..RWLOCK_WRITE
};

/// Somebody has died writing; the victim has taken over, and leaves without a repair.
static RWLOCK_LEAVE_AS_IS: Shares<RwLock<()>> = Shares {
    operation: "leave unrepaired",
    stride: ALL,
    before: take_over,
    ..RWLOCK_LEAVE_WRITE
};

fn take_over(lock: &'static RwLock<()>) {
    // SAFETY: the child only takes the lock and ends; it allocates nothing.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            write(lock);
            // SAFETY: ends the process at once, with the lock held.
            unsafe { libc::_exit(0) }
        }
        Ok(ForkResult::Parent { child }) => _ = waitpid(child, None),
        Err(error) => panic!("fork: {error}"),
    }
    match lock.write() {
        Ok(guard) | Err(LockError::OwnerDied { guard, .. }) => WRITE.set(Some(guard)),
        Err(error) => panic!("{error}"),
    }
}

/// The peers sleep too; the time of one party ends it for all.
static BARRIER_IN_TIME: Shares<Barrier> = Shares {
    operation: "wait, time out",
    scenes: &[Scene::TimedOut],
    stride: 61,
    make: || Barrier::new(4).expect("four"),
    act: |barrier| _ = barrier.wait_timeout(SOON),
    peer: |barrier| match barrier.wait() {
        Err(Broken::TimedOut) => Outcome::Fine,
        Err(Broken::PartyDied(_)) => Outcome::OwnerDied,
        _ => Outcome::Refused,
    },
    settle: |barrier| match barrier.wait() {
        Err(Broken::TimedOut | Broken::PartyDied(_)) => Outcome::Fine,
        _ => Outcome::Refused,
    },
    release: nothing,
    is_waiting_right: |_| false,
    ..BARRIER_WAIT
};

static BARRIER_ABORT: Shares<Barrier> = Shares {
    operation: "abort",
    scenes: ENDING,
    stride: ALL,
    act: Barrier::abort,
    peer: meet_or_be_told,
    is_waiting_right: waits_for_the_dead,
    ..BARRIER_WAIT
};

static BARRIER_RESET: Shares<Barrier> = Shares {
    operation: "reset",
    act: Barrier::reset,
    ..BARRIER_ABORT
};

static CONDITION_NOTIFY_ONE: Shares<Basket> = Shares {
    operation: "notify_one",
    stride: ALL,
    act: fill_for_one,
    ..CONDITION_NOTIFY
};

/// In scene i it is told of an item after its time was up, and may take it or die.
static CONDITION_IN_TIME: Shares<Basket> = Shares {
    operation: "wait, time out",
    scenes: TIMING_OUT,
    stride: FEW,
    act: take_in_time,
    hold: nothing,
    ..CONDITION_WAIT
};

fn take_in_time(basket: &'static Basket) {
    let mut items = items(basket);
    let end = basket
        .filled
        .wait_for_timeout(&mut items, SOON, |items| *items > 0);
    if let Err(WaitError::OwnerDied { .. }) = end {
        items.mark_consistent();
    }
    *items = items.saturating_sub(1);
}
