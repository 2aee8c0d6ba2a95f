//! Robust locks, a futex, and a region of the arena.

use manyhands_os::Deadline;
use manyhands_os::futex::{self, Scope};
use manyhands_os::process::{Identity, thread_id};
use manyhands_sync::raw::ShortGuard;

pub(in crate::queue) use manyhands_sync::raw::ShortLock;
pub(in crate::queue) use manyhands_sync::spin::Spin;
pub(in crate::queue) use manyhands_sync::{Lock, LockGuard};

use crate::queue::layout::{Header, Notice, Place};
use crate::queue::raw::Stop;
use crate::ring::Mapped;

/// The bytes of a queue in its region.
pub(in crate::queue) type Memory = Mapped<Header>;

/// Who sleeps at a place is known to the kernel.
pub(in crate::queue) type Bed = ();

/// Enters a section, which is whole at each instruction; `None` when the deadline passed.
pub(in crate::queue) fn enter(section: &ShortLock, deadline: Deadline) -> Option<ShortGuard<'_>> {
    let mut inside = section.lock_deadline(deadline)?;
    if inside.owner_died() {
        inside.mark_consistent();
    }
    Some(inside)
}

/// Takes the turn to sleep at a place.
pub(in crate::queue) fn turn(place: &Place, deadline: Deadline) -> Result<LockGuard<'_, ()>, Stop> {
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

/// Sleeps while the sequence is as it was.
pub(in crate::queue) fn wait(notice: &Notice, expected: u32, deadline: Deadline) {
    futex::wait(&notice.sequence, expected, Scope::Shared, deadline);
}

/// Wakes all who sleep.
pub(in crate::queue) fn wake_all(notice: &Notice) {
    futex::wake_all(&notice.sequence, Scope::Shared);
}
