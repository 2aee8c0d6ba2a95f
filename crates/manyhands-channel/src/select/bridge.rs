//! The threads that sleep on words for those who cannot: who polls descriptors, and tasks.
//!
//! The kernel takes so many words at a time as [`MAX_WATCHES`] says; so there is one thread for each so
//! many of them. It starts when it is first needed, and stays, asleep.
//!
//! Whoever wants to be woken has lain down before, so that the word changes when something happens; the
//! thread compares and calls the waker. A waker is called once, and may be called for nothing: who is
//! woken looks, and lies down again.

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;

use manyhands_os::descriptor::EventFd;
use manyhands_os::futex::{self, MAX_WATCHES, Scope, Watch};
use manyhands_os::process::incarnation;
use manyhands_os::{Deadline, OsError, signals};
use manyhands_sync::life::{self, Seen};

use super::bed::Bed;
use super::poller;

/// How many words and lives one thread sleeps on, beside its bell.
const MOST_WORDS: usize = MAX_WATCHES - 1;

/// Somebody who is to be woken; no more, once this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    slot: Arc<Slot>,
    bells: Vec<Arc<AtomicU32>>,
    /// That of the thread that polls.
    poller: Option<Arc<EventFd>>,
}

impl Registration {
    /// Has `waker` called when somebody is woken who sleeps on one of these beds, also if that has
    /// happened already.
    pub(crate) fn new(beds: Vec<Bed>, waker: &Waker) -> Result<Self, OsError> {
        // Dropped on an error, it takes back what was entered.
        let mut registration = Self::empty(waker);
        let mut desks = Desks::lock();
        for bed in beds {
            let slot = Arc::clone(&registration.slot);
            let bell = desks.enter(Sleeper { slot, bed })?;
            if !registration
                .bells
                .iter()
                .any(|known| Arc::ptr_eq(known, bell))
            {
                registration.bells.push(Arc::clone(bell));
            }
        }
        drop(desks);
        registration.ring();
        Ok(registration)
    }

    /// Has `waker` called when one of the descriptors can be read, and at the limit.
    pub(crate) fn polled(
        descriptors: &[BorrowedFd<'_>],
        limit: Deadline,
        waker: &Waker,
    ) -> Result<Self, OsError> {
        let mut registration = Self::empty(waker);
        registration.poller = Some(poller::enter(&registration.slot, descriptors, limit)?);
        Ok(registration)
    }

    fn empty(waker: &Waker) -> Self {
        Self {
            slot: Arc::new(Slot {
                waker: Mutex::new(Some(waker.clone())),
            }),
            bells: Vec::new(),
            poller: None,
        }
    }

    /// Has another waker called instead; `false` when the first one was called.
    pub(crate) fn renew(&self, waker: &Waker) -> bool {
        let mut place = lock(&self.slot.waker);
        match place.as_mut() {
            Some(former) => {
                former.clone_from(waker);
                true
            }
            None => false,
        }
    }

    fn ring(&self) {
        for bell in &self.bells {
            // Release: partner is the load in `serve`, behind which the inbox is read.
            bell.fetch_add(1, Release);
            futex::wake_all(bell, Scope::Private);
        }
        if let Some(bell) = &self.poller {
            bell.set();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let waker = lock(&self.slot.waker).take();
        if waker.is_some() {
            // So that the memory of the beds goes; who was woken is forgotten anyway.
            self.ring();
        }
    }
}

/// The waker of one registration, until it is called or not wanted any more.
#[derive(Debug)]
pub(super) struct Slot {
    waker: Mutex<Option<Waker>>,
}

impl Slot {
    pub(super) fn is_over(&self) -> bool {
        lock(&self.waker).is_none()
    }

    pub(super) fn fire(&self) {
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            // Caught: a waker is foreign code, and this thread has others to wake too.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

/// One bed, and who is to be woken.
struct Sleeper {
    slot: Arc<Slot>,
    bed: Bed,
}

/// What one thread is told.
struct Desk {
    /// Those who have come since it looked.
    inbox: Vec<Sleeper>,
    /// How many words and lives all of its sleepers have, or had when it looked last.
    size: usize,
    bell: Arc<AtomicU32>,
}

struct Desks {
    list: Vec<Desk>,
    /// In which incarnation of the process the threads run.
    incarnation: u32,
}

static DESKS: Mutex<Desks> = Mutex::new(Desks {
    list: Vec::new(),
    incarnation: 0,
});

impl Desks {
    fn lock() -> MutexGuard<'static, Self> {
        let mut desks = lock(&DESKS);
        // A forked child has the parent's memory and not its threads.
        if desks.incarnation != incarnation() {
            desks.list.clear();
            desks.incarnation = incarnation();
        }
        desks
    }

    /// Lays a sleeper on a desk with room, whose bell is to be rung then.
    fn enter(&mut self, sleeper: Sleeper) -> Result<&Arc<AtomicU32>, OsError> {
        let size = sleeper.bed.size();
        let has_room = |desk: &Desk| desk.size + size <= MOST_WORDS;
        let place = match self.list.iter().position(has_room) {
            Some(place) => place,
            None => {
                self.list.push(Desk::staffed()?);
                self.list.len() - 1
            }
        };
        let desk = &mut self.list[place];
        desk.inbox.push(sleeper);
        desk.size += size;
        Ok(&desk.bell)
    }
}

impl Desk {
    fn staffed() -> Result<Self, OsError> {
        let bell = Arc::new(AtomicU32::new(0));
        let theirs = Arc::clone(&bell);
        let builder = thread::Builder::new().name("manyhands-bridge".to_owned());
        let started = signals::blocked(|| builder.spawn(move || serve(&theirs)));
        started.map_err(|e| OsError::new("clone", e))?;
        Ok(Self {
            inbox: Vec::new(),
            size: 0,
            bell,
        })
    }
}

fn serve(bell: &Arc<AtomicU32>) {
    let mut sleepers: Vec<Sleeper> = Vec::new();
    loop {
        // Acquire: partner is the increment in `ring`. What is put on the desk later rings again.
        let rung = bell.load(Acquire);
        sleepers.retain(|sleeper| !sleeper.slot.is_over());
        if !read_desk(bell, &mut sleepers) {
            return;
        }
        let bell = Watch {
            word: bell,
            expected: rung,
            scope: Scope::Private,
        };
        let beds = sleepers.iter().map(|sleeper| &sleeper.bed);
        let lives: Vec<Seen<'_>> = beds.clone().flat_map(|bed| bed.lives.clone()).collect();
        let words: Vec<Watch<'_>> = [bell].into_iter().chain(beds.map(Bed::watch)).collect();
        // Whatever the reason: the words tell.
        let _ = life::wait_any(&words, &lives, Deadline::NEVER);
        for Sleeper { slot, bed } in &sleepers {
            if bed.is_disturbed() {
                slot.fire();
            }
        }
    }
}

/// Adds those who have come; `false` when the desk is not this thread's.
fn read_desk(bell: &Arc<AtomicU32>, sleepers: &mut Vec<Sleeper>) -> bool {
    let mut desks = lock(&DESKS);
    let own = |desk: &&mut Desk| Arc::ptr_eq(&desk.bell, bell);
    // The desk is put on the list before anybody else can look at it.
    let Some(desk) = desks.list.iter_mut().find(own) else {
        return false;
    };
    sleepers.append(&mut desk.inbox);
    desk.size = sleepers.iter().map(|sleeper| sleeper.bed.size()).sum();
    true
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
