//! The way from a thread to the lock it waits for, to the thread that holds it, and so on.
//!
//! Protocol, and why it tells of every circle and of none that is not: `README.md` beside this
//! file.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, fence};

use manyhands_os::robust::OWNER;

use super::cycle::{Cycle, Wait};
use super::table::{Seen, Table};
use crate::life::LifeWord;
use crate::member::{Member, Members};
use crate::raw::RawLock;

/// The memory that the members share, with the table of those who wait for locks in it.
#[derive(Clone, Copy, Debug)]
pub struct Graph {
    table: &'static Table,
    base: *const u8,
    len: usize,
}

impl Graph {
    /// The graph of the locks in `len` bytes at `base`. All members have the same memory there, and
    /// the same table.
    ///
    /// # Safety
    ///
    /// `base` must be aligned to eight bytes. The `len` bytes must stay mapped and readable for the
    /// life of the process, also where nothing was placed yet.
    pub unsafe fn new(table: &'static Table, base: *const u8, len: usize) -> Self {
        Self { table, base, len }
    }

    pub(super) fn table(&self) -> &'static Table {
        self.table
    }

    /// Where a lock lies, if it lies in the memory.
    pub(super) fn offset_of(&self, lock: &RawLock) -> Option<u64> {
        let lock = (&raw const *lock).addr();
        let offset = lock.checked_sub(self.base.addr())?;
        self.is_word(offset).then_some(offset as u64)
    }

    /// The circle through the thread that has published the entry `start`, if there is one now.
    pub(super) fn cycle(&self, start: usize, members: &dyn Members) -> Option<Cycle> {
        // Between the caller's publishing and its looking; pairs with this fence of the others.
        fence(SeqCst);
        let path = self.walk(start, members)?;
        let waits: Option<Vec<Wait>> = path
            .iter()
            .map(|seen| self.wait_of(seen, members))
            .collect();
        let unchanged = self.walk(start, members)? == path;
        waits.filter(|_| unchanged).map(Cycle::new)
    }

    /// Follows the graph until it comes back to its start; `None` when it ends before, or goes
    /// round elsewhere.
    fn walk(&self, start: usize, members: &dyn Members) -> Option<Vec<Seen>> {
        let is_over = |member| is_over(members, member);
        let start = self.table.look(start, is_over)?;
        let mut path = vec![start];
        let mut last = start;
        loop {
            let holder = self.holder(last.lock)?;
            if holder == last.thread {
                // It has the lock, and has only not said so.
                return None;
            }
            if holder == start.thread {
                return Some(path);
            }
            if path.iter().any(|seen| seen.thread == holder) {
                return None;
            }
            last = self.table.find(holder, is_over)?;
            path.push(last);
        }
    }

    /// The thread that holds a lock.
    fn holder(&self, lock: u64) -> Option<u32> {
        let offset = usize::try_from(lock).ok()?;
        if !self.is_word(offset) {
            return None;
        }
        let word = self.base.wrapping_add(offset).cast::<AtomicU64>();
        // SAFETY: dereferencing needs a valid, aligned place without plain writers.
        // - where: checked above; `new` was promised that the memory stays.
        // - who: a lock's word is changed by atomics only, and who waits for a lock keeps it alive.
        //   When the waiter has died since it was looked at, something else may lie there by now.
        // - what: any bits are a number. One that was no lock's is not believed: the second walk
        //   does not find the dead waiter.
        let word = unsafe { &*word };
        // Relaxed: the fence in `cycle` orders it.
        let holder = word.load(Relaxed) as u32 & OWNER;
        (holder != 0).then_some(holder)
    }

    fn wait_of(&self, seen: &Seen, members: &dyn Members) -> Option<Wait> {
        let (name, site) = self.table.texts(seen.index);
        Some(Wait {
            process: members.identity(seen.member)?,
            thread: seen.thread,
            name,
            lock: seen.lock,
            site,
        })
    }

    /// Whether a lock's word can begin at `offset`.
    fn is_word(&self, offset: usize) -> bool {
        offset < self.len
            && self.len - offset >= size_of::<RawLock>()
            && offset.is_multiple_of(align_of::<AtomicU64>())
    }
}

pub(super) fn is_over(members: &dyn Members, member: Member) -> bool {
    members.life(member).is_none_or(LifeWord::is_dead)
}

#[cfg(test)]
mod tests;
