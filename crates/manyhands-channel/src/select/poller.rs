//! The thread that polls descriptors for tasks.
//!
//! It starts when it is first needed, and stays. It has copies of the descriptors, so that they may be
//! closed meanwhile.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread;

use manyhands_os::descriptor::{EventFd, poll_readable};
use manyhands_os::process::incarnation;
use manyhands_os::{Deadline, OsError, signals};

use super::bridge::{Slot, lock};

/// Who is to be woken, by what, and when at the latest.
struct Sleeper {
    slot: Arc<Slot>,
    descriptors: Vec<OwnedFd>,
    limit: Deadline,
}

struct Desk {
    /// Those who have come since the thread looked.
    inbox: Vec<Sleeper>,
    /// Wakes the thread, if there is one, and in which incarnation of the process it runs.
    bell: Option<(Arc<EventFd>, u32)>,
}

static DESK: Mutex<Desk> = Mutex::new(Desk {
    inbox: Vec::new(),
    bell: None,
});

/// Has the waker of `slot` called when one of the descriptors can be read, or at the limit. The bell that
/// is returned was rung; it is to be rung again when the slot is over.
pub(super) fn enter(
    slot: &Arc<Slot>,
    descriptors: &[BorrowedFd<'_>],
    limit: Deadline,
) -> Result<Arc<EventFd>, OsError> {
    let copies = descriptors.iter().map(BorrowedFd::try_clone_to_owned);
    let copies: Result<_, _> = copies.collect();
    let sleeper = Sleeper {
        slot: Arc::clone(slot),
        descriptors: copies.map_err(|e| OsError::new("fcntl(F_DUPFD_CLOEXEC)", e))?,
        limit,
    };
    let mut desk = lock(&DESK);
    let bell = match &desk.bell {
        Some((bell, incarnation_of)) if *incarnation_of == incarnation() => Arc::clone(bell),
        _ => {
            let bell = Arc::new(EventFd::new()?);
            let theirs = Arc::clone(&bell);
            let builder = thread::Builder::new().name("manyhands-poller".to_owned());
            let started = signals::blocked(|| builder.spawn(move || serve(&theirs)));
            started.map_err(|e| OsError::new("clone", e))?;
            desk.inbox.clear();
            desk.bell = Some((Arc::clone(&bell), incarnation()));
            bell
        }
    };
    desk.inbox.push(sleeper);
    drop(desk);
    bell.set();
    Ok(bell)
}

fn serve(bell: &EventFd) {
    let mut sleepers: Vec<Sleeper> = Vec::new();
    loop {
        // Before the inbox is read: who comes later rings again.
        bell.clear();
        sleepers.append(&mut lock(&DESK).inbox);
        sleepers.retain(|sleeper| !sleeper.slot.is_over());
        let mut until = Deadline::NEVER;
        let mut descriptors = vec![bell.as_fd()];
        for sleeper in &sleepers {
            until = until.earlier(sleeper.limit);
            descriptors.extend(sleeper.descriptors.iter().map(OwnedFd::as_fd));
        }
        // Refused for want of memory: everybody looks for himself.
        let readable =
            poll_readable(&descriptors, until).unwrap_or_else(|_| vec![true; descriptors.len()]);
        let mut rest = &readable[1..];
        for sleeper in &sleepers {
            let (own, others) = rest.split_at(sleeper.descriptors.len());
            if own.contains(&true) || sleeper.limit.has_passed() {
                sleeper.slot.fire();
            }
            rest = others;
        }
    }
}
