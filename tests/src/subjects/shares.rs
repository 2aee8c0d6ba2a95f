//! What processes have shares in: semaphores, reader-writer locks, barriers, conditions.
//!
//! The actors are a family, so that the objects know who is who. Each subject is an object, an
//! operation in which the victim dies, and what the survivors do.

use std::cell::RefCell;

use manyhands_sync::{
    Barrier, Broken, Condition, LastPlace, Lock, LockError, LockGuard, Permit, ReadGuard, RwLock,
    Semaphore, Shareable, WaitError, WriteGuard,
};

use super::family;
use crate::place::{Place, Placed, last_place};
use crate::step::{Outcome, Scene, Subject};

// SAFETY: made of atomics; the tracer writes a whole one before each boundary; nothing to drop.
unsafe impl Placed for Semaphore {}
// SAFETY: as above.
unsafe impl Placed for RwLock<()> {}
// SAFETY: as above.
unsafe impl Placed for Barrier {}

/// Items, and who waits for them.
pub(super) struct Basket {
    pub(super) items: Lock<u32>,
    pub(super) filled: Condition,
}

// SAFETY: as above.
unsafe impl Placed for Basket {}

thread_local! {
    pub(super) static PERMIT: RefCell<Option<Permit<'static>>> = const { RefCell::new(None) };
    pub(super) static READ: RefCell<Option<ReadGuard<'static, ()>>> = const { RefCell::new(None) };
    pub(super) static WRITE: RefCell<Option<WriteGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// Not c to e: who gives something back waits for nobody.
const WATCHED: &[Scene] = &[Scene::Watched, Scene::Racing];
/// Not `Robbed`: where everybody is served in turn, no newcomer takes anything before the victim.
const TAKING: &[Scene] = &[
    Scene::Alone,
    Scene::Woken,
    Scene::WokenByDeath,
    Scene::Racing,
];

/// One subject; the functions get the object.
pub(super) struct Shares<T: 'static> {
    pub(super) object: &'static str,
    pub(super) operation: &'static str,
    pub(super) scenes: &'static [Scene],
    pub(super) stride: u32,
    pub(super) make: fn() -> T,
    pub(super) before: fn(&'static T),
    pub(super) act: fn(&'static T),
    pub(super) peer: fn(&'static T) -> Outcome,
    pub(super) settle: fn(&'static T) -> Outcome,
    pub(super) hold: fn(&'static T),
    pub(super) release: fn(&'static T),
    pub(super) is_waiting_right: fn(&'static T) -> bool,
}

impl<T: Placed + Shareable> Subject for Shares<T> {
    fn object(&self) -> &'static str {
        self.object
    }

    fn operation(&self) -> &'static str {
        self.operation
    }

    fn scenes(&self) -> &'static [Scene] {
        self.scenes
    }

    fn peers(&self) -> usize {
        2
    }

    fn stride(&self) -> u32 {
        self.stride
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

    fn set_up(&self, _place: Place) {
        family::count();
    }

    fn audit(&self, _place: Place) -> Outcome {
        family::audit()
    }

    fn reset(&self, place: Place) {
        family::open();
        place.write((self.make)()).placed(last_place());
    }

    /// On an object of its own, so that nobody disturbs it.
    fn warm(&self, _spare: Place) {
        let own: &'static T = Box::leak(Box::new((self.make)()));
        own.placed(last_place());
        (self.before)(own);
        (self.release)(own);
        (self.act)(own);
        PERMIT.take();
        READ.take();
        WRITE.take();
    }

    fn before(&self, place: Place) {
        (self.before)(place.at());
    }

    fn act(&self, place: Place) {
        (self.act)(place.at());
    }

    fn peer(&self, place: Place) -> Outcome {
        (self.peer)(place.at())
    }

    fn settle(&self, place: Place) -> Outcome {
        (self.settle)(place.at())
    }

    fn hold(&self, place: Place) {
        (self.hold)(place.at());
    }

    fn release(&self, place: Place) {
        (self.release)(place.at());
    }

    fn is_waiting_right(&self, place: Place) -> bool {
        (self.is_waiting_right)(place.at())
    }
}

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![
        &SEMAPHORE_ACQUIRE,
        &SEMAPHORE_RELEASE,
        &RWLOCK_READ,
        &RWLOCK_LEAVE_READ,
        &RWLOCK_WRITE,
        &RWLOCK_LEAVE_WRITE,
        &BARRIER_WAIT,
        &CONDITION_NOTIFY,
        &CONDITION_WAIT,
        &CONDITION_SLEEP,
    ]
}

pub(super) fn nothing<T>(_: &'static T) {}

fn never_right<T>(_: &'static T) -> bool {
    false
}

pub(super) static SEMAPHORE_ACQUIRE: Shares<Semaphore> = Shares {
    object: "Semaphore",
    operation: "acquire",
    scenes: TAKING,
    stride: 1,
    make: || Semaphore::new(1),
    before: nothing,
    act: acquire,
    peer: visit_semaphore,
    settle: settle_semaphore,
    hold: acquire,
    release: give_back,
    is_waiting_right: never_right,
};

static SEMAPHORE_RELEASE: Shares<Semaphore> = Shares {
    operation: "release",
    scenes: WATCHED,
    before: acquire,
    act: give_back,
    release: nothing,
    hold: nothing,
    ..SEMAPHORE_ACQUIRE
};

fn acquire(semaphore: &'static Semaphore) {
    PERMIT.set(Some(semaphore.acquire().expect("few locks")));
}

fn give_back(_: &'static Semaphore) {
    PERMIT.set(None);
}

fn visit_semaphore(semaphore: &'static Semaphore) -> Outcome {
    drop(semaphore.acquire().expect("few locks"));
    Outcome::Fine
}

pub(super) fn settle_semaphore(semaphore: &'static Semaphore) -> Outcome {
    let permit = semaphore.acquire().expect("few locks");
    // All have finished or are dead: the one permit is here, and there is no second.
    if semaphore.try_acquire().is_ok() {
        return Outcome::TwoOwners;
    }
    drop(permit);
    let state = semaphore.inspect();
    if (state.free, state.supply) == (1, 1) {
        Outcome::Fine
    } else {
        Outcome::Lost
    }
}

pub(super) static RWLOCK_READ: Shares<RwLock<()>> = Shares {
    object: "RwLock",
    operation: "read",
    scenes: TAKING,
    stride: 1,
    make: || RwLock::new(()),
    before: nothing,
    act: read,
    peer: write_once,
    settle: write_once,
    hold: write,
    release: leave,
    is_waiting_right: never_right,
};

static RWLOCK_LEAVE_READ: Shares<RwLock<()>> = Shares {
    operation: "leave read",
    scenes: WATCHED,
    before: read,
    act: leave,
    release: nothing,
    ..RWLOCK_READ
};

pub(super) static RWLOCK_WRITE: Shares<RwLock<()>> = Shares {
    operation: "write",
    act: write,
    peer: read_once,
    hold: read,
    ..RWLOCK_READ
};

pub(super) static RWLOCK_LEAVE_WRITE: Shares<RwLock<()>> = Shares {
    operation: "leave write",
    scenes: WATCHED,
    before: write,
    act: leave,
    peer: read_once,
    release: nothing,
    ..RWLOCK_READ
};

fn read(lock: &'static RwLock<()>) {
    READ.set(Some(
        lock.read()
            .or_else(|error| error.into_guard().ok_or(()))
            .expect("few locks"),
    ));
}

pub(super) fn write(lock: &'static RwLock<()>) {
    WRITE.set(Some(take_to_write(lock).0));
}

fn take_to_write(lock: &'static RwLock<()>) -> (WriteGuard<'static, ()>, Outcome) {
    match lock.write() {
        Ok(guard) => (guard, Outcome::Fine),
        Err(LockError::OwnerDied { mut guard, .. }) => {
            guard.mark_consistent();
            (guard, Outcome::OwnerDied)
        }
        Err(error) => panic!("{error}"),
    }
}

fn leave(_: &'static RwLock<()>) {
    READ.set(None);
    WRITE.set(None);
}

fn write_once(lock: &'static RwLock<()>) -> Outcome {
    take_to_write(lock).1
}

fn read_once(lock: &'static RwLock<()>) -> Outcome {
    match lock.read() {
        Ok(_) => Outcome::Fine,
        Err(LockError::OwnerDied { .. }) => Outcome::OwnerDied,
        Err(error) => panic!("{error}"),
    }
}

pub(super) static BARRIER_WAIT: Shares<Barrier> = Shares {
    object: "Barrier",
    operation: "wait",
    // Not c to e: the one who comes last opens and sleeps for nobody, and nobody takes another's place.
    scenes: &[Scene::Alone, Scene::Watched, Scene::Racing],
    // It waits in it, and to wait for many lives takes thousands of instructions.
    stride: 31,
    make: || Barrier::new(3).expect("three"),
    before: nothing,
    act: meet,
    peer: meet_or_be_told,
    settle: settle_barrier,
    hold: nothing,
    release: open_for_two,
    is_waiting_right: waits_for_the_dead,
};

/// Two more parties, so that who warms up does not wait for ever.
fn open_for_two(barrier: &'static Barrier) {
    barrier.abort();
}

fn meet(barrier: &'static Barrier) {
    let _ = barrier.wait();
}

pub(super) fn meet_or_be_told(barrier: &'static Barrier) -> Outcome {
    match barrier.wait() {
        Ok(_) => Outcome::Fine,
        Err(Broken::PartyDied(_)) => Outcome::OwnerDied,
        // The newcomer sends home who waits for a party that died before it came.
        Err(Broken::Aborted) => Outcome::Fine,
        Err(_) => Outcome::Refused,
    }
}

/// The victim died before it had come: nobody can know, and the two wait for a third.
pub(super) fn waits_for_the_dead(barrier: &'static Barrier) -> bool {
    !barrier.is_broken() && barrier.waiting() == 2
}

/// Breaks it for good: a peer may come later still, and must not wait.
fn settle_barrier(barrier: &'static Barrier) -> Outcome {
    barrier.abort();
    match barrier.wait() {
        Err(Broken::Aborted | Broken::PartyDied(_)) => Outcome::Fine,
        _ => Outcome::Refused,
    }
}

// SAFETY: a lock around a number and a condition, both placed.
unsafe impl Shareable for Basket {
    fn placed(&self, here: LastPlace) {
        self.items.placed(here);
        self.filled.placed(here);
    }

    const PINNED: bool = true;

    fn is_held_here(&self) -> bool {
        self.items.is_held_here()
    }
}

pub(super) static CONDITION_NOTIFY: Shares<Basket> = Shares {
    object: "Condition",
    operation: "notify",
    scenes: &[Scene::Alone, Scene::Watched, Scene::Racing],
    stride: 1,
    make: || Basket {
        items: Lock::new(0),
        filled: Condition::new(),
    },
    before: nothing,
    act: fill_for_all,
    peer: take_item,
    settle: settle_basket,
    hold: nothing,
    release: nothing,
    is_waiting_right: was_not_notified,
};

pub(super) static CONDITION_WAIT: Shares<Basket> = Shares {
    operation: "wait",
    scenes: &[Scene::Woken],
    act: take_one,
    hold: take_if_any,
    release: fill_for_one,
    is_waiting_right: has_no_items,
    ..CONDITION_NOTIFY
};

/// It falls asleep, alone, with all others, or once more after a robbery. Not d: nobody waits for the
/// death of a notifier.
static CONDITION_SLEEP: Shares<Basket> = Shares {
    operation: "wait, sleep",
    scenes: &[Scene::Alone, Scene::Watched, Scene::Robbed, Scene::Racing],
    // Before it sleeps it looks for thousands of instructions whether it must.
    stride: 61,
    ..CONDITION_WAIT
};

pub(super) fn items(basket: &'static Basket) -> LockGuard<'static, u32> {
    match basket.items.lock() {
        Ok(guard) => guard,
        Err(LockError::OwnerDied { mut guard, .. }) => {
            // One number is whole after any write.
            guard.mark_consistent();
            guard
        }
        Err(error) => panic!("{error}"),
    }
}

fn fill_for_all(basket: &'static Basket) {
    *items(basket) = 9;
    basket.filled.notify_all();
}

pub(super) fn fill_for_one(basket: &'static Basket) {
    *items(basket) += 1;
    basket.filled.notify_one();
}

fn take_one(basket: &'static Basket) {
    take_item(basket);
}

fn take_item(basket: &'static Basket) -> Outcome {
    let mut items = items(basket);
    while let Err(WaitError::OwnerDied { .. }) =
        basket.filled.wait_for(&mut items, |items| *items > 0)
    {
        items.mark_consistent();
    }
    *items -= 1;
    Outcome::Fine
}

/// Before anybody waits there is none; the robber finds what the victim was woken for.
fn take_if_any(basket: &'static Basket) {
    let mut items = items(basket);
    *items = items.saturating_sub(1);
}

/// Who has a ticket still was not served: the notifier died before.
pub(super) fn was_not_notified(basket: &'static Basket) -> bool {
    basket.filled.waiting() > 0
}

/// Nobody may sleep while there is an item, whoever had been told of it.
pub(super) fn has_no_items(basket: &'static Basket) -> bool {
    basket.items.inspect().thread.is_none() && *items(basket) == 0
}

fn settle_basket(basket: &'static Basket) -> Outcome {
    fill_for_all(basket);
    Outcome::Fine
}
