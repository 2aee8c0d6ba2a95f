//! Waking tasks that wait for processes: a thread or two for all of them, and none when nobody waits.
//!
//! What a process reports is a word in shared memory, and its end a descriptor; no call of the system
//! waits for both. So one thread polls the descriptors, and another sleeps on the words, of which the
//! kernel takes [`MOST_WORDS`] at a time; for more there are more of these threads. Each has a bell
//! that is rung when its list has changed, and ends when its list is empty.
//!
//! A waker is called once, and may be called for nothing: who is woken looks, and registers again.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;

use manyhands_os::descriptor::poll_readable;
use manyhands_os::futex::{self, MAX_WATCHES, Scope, Watch};
use manyhands_os::process::Pidfd;
use manyhands_os::{Deadline, OsError, signals};

use crate::page::Page;
use crate::panics::run_caught;

/// How many words one thread sleeps on, beside its bell.
const MOST_WORDS: usize = MAX_WATCHES - 1;

/// A task that waits for a process; no more, once this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    slot: Arc<Slot>,
}

impl Registration {
    /// Has `waker` called when the process reports or ends, also if it has done so already.
    pub(crate) fn new(process: &Arc<Pidfd>, page: &Page, waker: &Waker) -> Result<Self, OsError> {
        let slot = Arc::new(Slot {
            waker: Mutex::new(Some(waker.clone())),
        });
        // Dropped on an error, it takes the slot out of both lists.
        let registration = Self { slot };
        Ends::enter(&registration.slot, process)?;
        Desk::enter(&registration.slot, page)?;
        Ok(registration)
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
}

impl Drop for Registration {
    fn drop(&mut self) {
        drop(lock(&self.slot.waker).take());
        // So that the lists, and at the end the threads, go.
        lock(&ENDS).ring();
        lock(&DESKS).iter().for_each(Desk::ring);
    }
}

/// The waker of one registration, until it is called or not wanted any more.
#[derive(Debug)]
struct Slot {
    waker: Mutex<Option<Waker>>,
}

impl Slot {
    fn is_over(&self) -> bool {
        lock(&self.waker).is_none()
    }

    fn fire(&self) {
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            // Caught: a waker is foreign code, and this thread has others to wake too.
            let _ = run_caught(|| waker.wake());
        }
    }
}

/// The list of the thread that polls.
struct Ends {
    list: Vec<(Arc<Slot>, Arc<Pidfd>)>,
    /// `None` when there is no thread.
    bell: Option<PipeWriter>,
    is_rung: bool,
}

static ENDS: Mutex<Ends> = Mutex::new(Ends {
    list: Vec::new(),
    bell: None,
    is_rung: false,
});

impl Ends {
    fn enter(slot: &Arc<Slot>, process: &Arc<Pidfd>) -> Result<(), OsError> {
        let mut ends = lock(&ENDS);
        ends.list.push((Arc::clone(slot), Arc::clone(process)));
        if ends.bell.is_some() {
            ends.ring();
            return Ok(());
        }
        let (reader, writer) = io::pipe().map_err(|e| OsError::new("pipe2", e))?;
        start("manyhands-ends", move || Self::serve(reader))?;
        ends.bell = Some(writer);
        ends.is_rung = false;
        Ok(())
    }

    fn ring(&mut self) {
        if let Some(mut bell) = self.bell.as_ref()
            && !self.is_rung
        {
            // One byte in an empty pipe, whose reader is there as long as the writer is.
            self.is_rung = bell.write(&[0]).is_ok();
        }
    }

    fn serve(mut bell: PipeReader) {
        while let Some(list) = Self::list() {
            let processes = list.iter().map(|(_, process)| process.as_fd());
            let descriptors: Vec<BorrowedFd<'_>> =
                std::iter::once(bell.as_fd()).chain(processes).collect();
            // Refused for want of memory: everybody looks for himself.
            let ready = poll_readable(&descriptors, Deadline::NEVER)
                .unwrap_or_else(|_| vec![true; descriptors.len()]);
            let mut ends = lock(&ENDS);
            if ends.is_rung {
                let _ = bell.read(&mut [0]);
                ends.is_rung = false;
            }
            drop(ends);
            for ((slot, _), _) in list.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
                slot.fire();
            }
        }
    }

    /// Whom to wait for; `None` ends the thread, and says so.
    fn list() -> Option<Vec<(Arc<Slot>, Arc<Pidfd>)>> {
        let mut ends = lock(&ENDS);
        ends.list.retain(|(slot, _)| !slot.is_over());
        if ends.list.is_empty() {
            ends.bell = None;
            return None;
        }
        Some(ends.list.clone())
    }
}

/// Whose word is slept on, and where it is.
#[derive(Clone)]
struct Sleeper {
    slot: Arc<Slot>,
    page: Arc<Page>,
}

/// The list of one thread that sleeps on words.
struct Desk {
    list: Vec<Sleeper>,
    bell: Arc<AtomicU32>,
}

static DESKS: Mutex<Vec<Desk>> = Mutex::new(Vec::new());

impl Desk {
    fn enter(slot: &Arc<Slot>, page: &Page) -> Result<(), OsError> {
        let sleeper = Sleeper {
            slot: Arc::clone(slot),
            page: Arc::new(page.clone()),
        };
        let mut desks = lock(&DESKS);
        for desk in desks.iter_mut() {
            desk.list.retain(|sleeper| !sleeper.slot.is_over());
        }
        if let Some(desk) = desks.iter_mut().find(|desk| desk.list.len() < MOST_WORDS) {
            desk.list.push(sleeper);
            desk.ring();
            return Ok(());
        }
        let bell = Arc::new(AtomicU32::new(0));
        let theirs = Arc::clone(&bell);
        start("manyhands-words", move || Self::serve(&theirs))?;
        let list = vec![sleeper];
        desks.push(Self { list, bell });
        Ok(())
    }

    fn ring(&self) {
        // Relaxed: the list's lock publishes what has changed.
        self.bell.fetch_add(1, Relaxed);
        futex::wake_all(&self.bell, Scope::Private);
    }

    fn serve(bell: &Arc<AtomicU32>) {
        while let Some((list, rung)) = Self::list(bell) {
            let watch = Watch {
                word: bell,
                expected: rung,
                scope: Scope::Private,
            };
            let words = list.iter().map(|sleeper| sleeper.page.words().watch());
            let watches: Vec<Watch<'_>> = std::iter::once(watch).chain(words).collect();
            // Whatever the reason: the words tell.
            let _ = futex::wait_any(&watches, Deadline::NEVER);
            for Sleeper { slot, page } in &list {
                if page.words().reported().is_some() {
                    slot.fire();
                }
            }
        }
    }

    /// What to sleep on, and the state of the bell; `None` ends the thread, and removes the desk.
    fn list(bell: &Arc<AtomicU32>) -> Option<(Vec<Sleeper>, u32)> {
        let mut desks = lock(&DESKS);
        let place = desks
            .iter()
            .position(|desk| Arc::ptr_eq(&desk.bell, bell))?;
        let desk = &mut desks[place];
        desk.list.retain(|sleeper| !sleeper.slot.is_over());
        if desk.list.is_empty() {
            desks.swap_remove(place);
            return None;
        }
        // Relaxed: read under the lock of the list that it counts the changes of.
        Some((desk.list.clone(), bell.load(Relaxed)))
    }
}

fn start(name: &str, serve: impl FnOnce() + Send + 'static) -> Result<(), OsError> {
    let builder = thread::Builder::new().name(name.to_owned());
    let started = signals::blocked(|| builder.spawn(serve));
    started.map(drop).map_err(|e| OsError::new("clone", e))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
