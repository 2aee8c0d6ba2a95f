#![doc = include_str!("README.md")]

mod cycle;
mod graph;
mod table;

use std::panic::Location;

use manyhands_os::process::{Identity, identity_word};

pub use cycle::{Cycle, Wait};
pub use graph::Graph;
pub use table::Table;

use crate::error::{LockError, TryLockError};
use crate::member::{self, Member, Members};
use crate::primitive::thread_id;
use crate::raw::RawLock;
use graph::is_over;

/// Whether deadlocks are found.
pub const ENABLED: bool = cfg!(all(
    any(debug_assertions, feature = "deadlock-detection"),
    not(loom)
));

/// Takes `lock` by `wait`, unless that would never end; `attempt` is the same without waiting.
#[inline]
pub(crate) fn watch<G>(
    lock: &RawLock,
    site: &'static Location<'static>,
    attempt: impl FnOnce() -> Result<G, TryLockError<G>>,
    wait: impl FnOnce() -> Result<G, LockError<G>>,
) -> Result<G, LockError<G>> {
    if !ENABLED {
        return wait();
    }
    match attempt() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::OwnerDied { guard, who }) => Err(LockError::OwnerDied { guard, who }),
        Err(TryLockError::TooManyHeld) => Err(LockError::TooManyHeld),
        Err(TryLockError::NotRecoverable) => Err(LockError::NotRecoverable),
        Err(TryLockError::WouldBlock) => match announce(lock, site) {
            Ok(_waiting) => wait(),
            Err(cycle) => Err(LockError::Deadlock { cycle }),
        },
    }
}

/// Says that this thread waits for `lock`, if that can be said; fails if it would wait for ever.
#[cold]
pub(crate) fn announce(lock: &RawLock, site: &Location<'_>) -> Result<Option<Waiting>, Cycle> {
    let is_mine = lock.holder() == Some(thread_id());
    if !is_mine && !lock.is_shared() {
        // In no graph. Nothing was allocated so far, so an allocator may have such a lock.
        return Ok(None);
    }
    let members = member::all();
    let graph = members.and_then(|members| members.graph());
    let offset = graph.and_then(|graph| graph.offset_of(lock));
    let wait = Wait {
        process: Identity::unpack(identity_word()).unwrap_or_else(Identity::current),
        thread: thread_id(),
        name: std::thread::current().name().map(ToOwned::to_owned),
        lock: offset.unwrap_or((&raw const *lock).addr() as u64),
        site: site.to_string(),
    };
    if is_mine {
        return Err(Cycle::new(vec![wait]));
    }
    let (Some(members), Some(graph), Some(_)) = (members, graph, offset) else {
        return Ok(None);
    };
    let Some(waiting) = Waiting::publish(graph.table(), members, &wait) else {
        return Ok(None);
    };
    match graph.cycle(waiting.index, members) {
        Some(cycle) => Err(cycle),
        None => Ok(Some(waiting)),
    }
}

/// The calling thread's entry in the table, as long as it waits.
pub(crate) struct Waiting {
    table: &'static Table,
    index: usize,
    me: Member,
}

impl Waiting {
    /// `None` when the process is no member, or the table is full.
    fn publish(table: &'static Table, members: &dyn Members, wait: &Wait) -> Option<Self> {
        let me = members.me()?;
        // A child that was forked past manyhands has its parent's seat, and is not its parent.
        if members.identity(me) != Some(wait.process) {
            return None;
        }
        let index = table.claim(me, |member| is_over(members, member))?;
        table.publish(index, me, wait);
        Some(Self { table, index, me })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.table.withdraw(self.index, self.me);
    }
}
