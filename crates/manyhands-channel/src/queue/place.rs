//! Sections, turns, and sleeping at a place; `raw.rs` tells how they work together.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_os::process::{Identity, thread_id};
use manyhands_sync::LockGuard;
use manyhands_sync::raw::{ShortGuard, ShortLock};

use super::layout::{Notice, Place};
use super::raw::Stop;

/// Enters a section, which is whole at each instruction; `None` when the deadline passed.
pub(super) fn enter(section: &ShortLock, deadline: Deadline) -> Option<ShortGuard<'_>> {
    let mut inside = section.lock_deadline(deadline)?;
    if inside.owner_died() {
        inside.mark_consistent();
    }
    Some(inside)
}

/// Takes the turn to sleep at a place.
pub(super) fn turn(place: &Place, deadline: Deadline) -> Result<LockGuard<'_, ()>, Stop> {
    use manyhands_sync::LockTimeoutError as Error;
    let holder = place.turn.inspect();
    // In another namespace a thread may have the same number.
    let is_here = || holder.process.is_none_or(|who| who == Identity::current());
    if holder.thread == Some(thread_id()) && is_here() {
        return Err(Stop::Reentered);
    }
    // Forms without a deadline look for deadlocks where that is on; here there is none to find.
    let long = std::time::Duration::MAX;
    match place
        .turn
        .lock_timeout(deadline.remaining().unwrap_or(long))
    {
        Ok(turn) => Ok(turn),
        Err(Error::OwnerDied { mut guard, .. }) => {
            guard.mark_consistent();
            Ok(guard)
        }
        Err(Error::TimedOut { .. }) => Err(Stop::TimedOut),
        Err(Error::TooManyHeld) => Err(Stop::TooManyHeld),
        Err(_) => Err(Stop::Corrupt),
    }
}

/// Notes that somebody is going to sleep; inside of the section of who will wake.
pub(super) fn lie_down(notice: &Notice) -> u32 {
    // Relaxed: both are changed in this section only.
    notice.waiting.store(1, Relaxed);
    notice.sequence.load(Relaxed)
}

/// Wakes who sleeps; inside of the section, before the change is committed.
pub(super) fn rouse(notice: &Notice) {
    let sequence: &AtomicU32 = &notice.sequence;
    // Relaxed: changed in this section only; the kernel compares it.
    sequence.store(sequence.load(Relaxed).wrapping_add(1), Relaxed);
    futex::wake_all(sequence, Scope::Shared);
}

/// Wakes those who said that they wait for what is about to be committed; one more time than is
/// needed, if this is killed before the commit.
pub(super) fn rouse_waiting(notice: &Notice) {
    // Relaxed: changed in this section only.
    if notice.waiting.load(Relaxed) != 0 {
        rouse(notice);
    }
}
