//! Robust locks, a futex, and a region of the arena.

use manyhands_os::Deadline;
use manyhands_os::futex::{self, Scope, Watch};
use manyhands_os::process::{Identity, thread_id};
pub(in crate::queue) use manyhands_shm::arena::Block;
use manyhands_shm::arena::{self, Handle, Participant};
use manyhands_sync::life::{self, MAX_LIVES, WaitEnd};
pub(in crate::queue) use manyhands_sync::raw::ShortGuard as Section;

pub(in crate::queue) use manyhands_sync::raw::ShortLock;
pub(in crate::queue) use manyhands_sync::spin::Spin;
pub(in crate::queue) use manyhands_sync::{Lock, LockGuard};

use crate::queue::layout::{Header, Notice, Place};
use crate::queue::raw::Stop;
use crate::ring::Mapped;

/// The bytes of a queue in its region.
pub(in crate::queue) type Memory = Mapped<Header>;

pub(in crate::queue) fn handle_of(block: &Block) -> u64 {
    block.handle().to_bits()
}

/// Makes a block of this process one that lies in the queue's region.
pub(in crate::queue) fn deposit(memory: &Memory, block: Block) {
    memory.region().deposit(block);
}

/// Makes a block that lies in the queue's region one of this process, if it lies there.
pub(in crate::queue) fn withdraw(memory: &Memory, handle: u64) -> Result<Option<Block>, Stop> {
    let handle = Handle::from_bits(handle).ok_or(Stop::Corrupt)?;
    let withdrawn = memory.region().withdraw(handle);
    withdrawn.map_err(|_| Stop::OutOfAddressSpace)
}

pub(in crate::queue) fn is_deposited(memory: &Memory, handle: u64) -> Result<bool, Stop> {
    let handle = Handle::from_bits(handle).ok_or(Stop::Corrupt)?;
    let place = memory.region().look_at(handle);
    let place = place.map_err(|_| Stop::OutOfAddressSpace)?;
    Ok(place.is_some())
}

/// Whether blocks may lie in the queue's region.
pub(in crate::queue) fn has_deposits(memory: &Memory) -> bool {
    memory.region().has_deposits()
}

/// Who sleeps at a place is known to the kernel.
pub(in crate::queue) type Bed = ();

/// Enters a section, and repairs it first when somebody has died inside; `None` when the deadline
/// passed. Who dies while it repairs leaves that to the next one.
///
/// Inlined: a guard on its way through memory costs as much as the lock.
#[inline(always)]
pub(in crate::queue) fn enter(
    section: &ShortLock,
    deadline: Deadline,
    repair: impl FnOnce(),
) -> Option<Section<'_>> {
    match section.lock_deadline(deadline) {
        Some(inside) if inside.owner_died() => Some(mend(inside, repair)),
        inside => inside,
    }
}

#[cold]
fn mend(mut inside: Section<'_>, repair: impl FnOnce()) -> Section<'_> {
    repair();
    inside.mark_consistent();
    inside
}

/// The participant that this process is, as a word.
pub(in crate::queue) fn me() -> u64 {
    // A queue lies in the arena, so there is one.
    arena::family().map_or(0, |arena| arena.me().to_bits())
}

/// Whether a participant lives; one load, or a few.
pub(in crate::queue) fn is_alive(who: u64) -> bool {
    Participant::from_bits(who).is_some_and(Participant::is_alive)
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

/// As [`wait`], but ends when one of these participants dies, too.
pub(in crate::queue) fn wait_beside(
    notice: &Notice,
    expected: u32,
    others: &[u64],
    deadline: Deadline,
) {
    let mut lives = Vec::with_capacity(others.len());
    for who in others {
        match Participant::from_bits(*who).and_then(Participant::life) {
            Some(life) => lives.push(life),
            // Dead and cleaned up since the caller looked, who looks again.
            None => return,
        }
    }
    let object = Watch {
        word: &notice.sequence,
        expected,
        scope: Scope::Shared,
    };
    // There are no more leases than lives that one wait watches. How it ended does not matter: the
    // caller looks at everything again.
    lives.truncate(MAX_LIVES);
    let _: WaitEnd = life::wait(object, &lives, deadline);
}

/// Wakes all who sleep.
pub(in crate::queue) fn wake_all(notice: &Notice) {
    futex::wake_all(&notice.sequence, Scope::Shared);
}
