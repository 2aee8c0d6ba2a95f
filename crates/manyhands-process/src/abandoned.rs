//! Children that nobody waits for any more, and the processes of closed zygotes.
//!
//! A process that ended stays in the system's table until its parent has taken its status. So what
//! is dropped unjoined comes here, and each later start, join or drop looks whether something here has
//! ended.

use std::sync::{Arc, Mutex, PoisonError};

use manyhands_os::Deadline;
use manyhands_os::process::Pidfd;
use manyhands_shm::arena::{self, Seat};

use crate::active_children;
use crate::page::Page;

/// A process to be cleaned up after once it has ended.
#[derive(Debug)]
pub(crate) struct Abandoned {
    pub(crate) pidfd: Arc<Pidfd>,
    /// A zygote has none.
    pub(crate) place: Option<Place>,
}

/// A child's seat and page.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) seat: Seat,
    pub(crate) page: Page,
}

impl Place {
    /// Frees what a child had in shared memory. The child is certainly dead, or never came.
    pub(crate) fn clean(&self) {
        release(self.seat);
        // A report that nobody took.
        drop(self.page.words().accept());
    }
}

/// Frees a seat, and what its process had. It is certainly dead, or never came.
pub(crate) fn release(seat: Seat) {
    if let Ok(arena) = arena::family() {
        arena.release_seat(seat);
        arena.reap(seat.participant());
    }
}

static ABANDONED: Mutex<Vec<Abandoned>> = Mutex::new(Vec::new());

/// Leaves a process to be cleaned up after later, or now if it has ended.
pub(crate) fn leave(process: Abandoned) {
    let mut list = ABANDONED.lock().unwrap_or_else(PoisonError::into_inner);
    list.push(process);
    drop(list);
    sweep();
}

/// Cleans up after everything here that has ended.
pub(crate) fn sweep() {
    let mut list = ABANDONED.lock().unwrap_or_else(PoisonError::into_inner);
    if list.is_empty() {
        return;
    }
    let ended: Vec<Abandoned> = list
        .extract_if(.., |process| process.pidfd.has_ended())
        .collect();
    drop(list);
    for process in ended {
        // It has ended, so this does not wait; the status interests nobody.
        let _ = process.pidfd.wait(Deadline::now());
        active_children::leave(&process.pidfd);
        if let Some(place) = process.place {
            place.clean();
        }
    }
}
