//! Who has how many of something, member by member.
//!
//! A bare count that processes change cannot be mended after a death: an addition by the dead
//! cannot be told from one that did not happen. Here each member's share is one word, written by
//! one store, and a total is only ever computed from them.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::Deadline;
use manyhands_os::process::Identity;

use crate::life::{MAX_LIVES, Seen, WaitEnd, wait_any};
use crate::member::{self, Member, SLOTS};
use crate::primitive::futex::{Scope, Watch};
use crate::primitive::{AtomicU32, AtomicU64};
use crate::spin::Spin;

/// The shares of all members; 4 KiB, all empty when zeroed.
///
/// Each entry is `generation:32 | share:32`, at the index of the member's slot. All methods are
/// called inside the owner's short section, which orders the accesses: Relaxed is enough.
#[repr(C)]
pub(crate) struct Ledger {
    entries: [AtomicU64; SLOTS],
    /// One more than the highest slot that ever had a share.
    used: AtomicU32,
    /// Moves on when the lives that are watched become more. Nobody is woken for it: who is just lying
    /// down does not.
    ///
    /// For a death the kernel wakes one sleeper, the one who sleeps longest, and who is woken wakes the
    /// rest. If it is killed before, its own death wakes who watches it. So everybody must watch all
    /// who lay down before: not only those who were there when it looked, but also those who came and
    /// lay down between its look and its sleep.
    joined: AtomicU32,
}

/// The lives of those who have a share, as one wait can watch.
pub(crate) struct Lives {
    seen: [Seen<'static>; MAX_LIVES],
    len: usize,
    /// The value of `Ledger::joined` at the time.
    joined: u32,
}

impl Ledger {
    pub(crate) const fn new() -> Self {
        Self {
            entries: [const { AtomicU64::new(0) }; SLOTS],
            used: AtomicU32::new(0),
            joined: AtomicU32::new(0),
        }
    }

    /// Makes a member's share `share(before)`, by one store.
    ///
    /// What a dead former member of the same slot had goes with it: call
    /// [`drop_dead`](Self::drop_dead) before, when that matters.
    pub(crate) fn change(&self, member: Member, share: impl FnOnce(u32) -> u32) {
        let entry = &self.entries[usize::from(member.slot())];
        let used = u32::from(member.slot()) + 1;
        // Raised before the entry is written: the walks must see every entry.
        if self.used.load(Relaxed) < used {
            self.used.store(used, Relaxed);
        }
        let before = self.share(member);
        let after = share(before);
        if before == 0 && after != 0 {
            self.tell_joined();
        }
        entry.store(
            u64::from(member.generation()) << 32 | u64::from(after),
            Relaxed,
        );
    }

    /// Says that somebody is there whom others have to watch from now on.
    pub(crate) fn tell_joined(&self) {
        let joined = self.joined.load(Relaxed);
        self.joined.store(joined.wrapping_add(1), Relaxed);
    }

    /// What a member has.
    pub(crate) fn share(&self, member: Member) -> u32 {
        let entry = self.entries[usize::from(member.slot())].load(Relaxed);
        if (entry >> 32) as u32 == member.generation() {
            entry as u32
        } else {
            0
        }
    }

    /// What all have together.
    pub(crate) fn total(&self) -> u64 {
        self.walk().map(|(_, share)| u64::from(share)).sum()
    }

    /// Drops the shares of the dead; whether there were any.
    pub(crate) fn drop_dead(&self) -> bool {
        let mut found = false;
        for (member, _) in self.walk().filter(|(member, _)| member::is_over(*member)) {
            self.entries[usize::from(member.slot())].store(0, Relaxed);
            found = true;
        }
        found
    }

    /// The identity of a dead member with a share, where known: `None` when all live.
    pub(crate) fn first_dead(&self) -> Option<Option<Identity>> {
        let (dead, _) = self.walk().find(|(member, _)| member::is_over(*member))?;
        Some(member::identity(dead))
    }

    /// Whether the slot of a member still has the share of one before it.
    pub(crate) fn has_predecessor(&self, member: Member) -> bool {
        let entry = self.entries[usize::from(member.slot())].load(Relaxed);
        entry as u32 != 0 && (entry >> 32) as u32 != member.generation()
    }

    /// Drops every share.
    pub(crate) fn clear(&self) {
        for (member, _) in self.walk() {
            self.entries[usize::from(member.slot())].store(0, Relaxed);
        }
    }

    /// The lives of all others who have a share. More than one wait can watch are left out: such a
    /// wait looks again after its slice.
    ///
    /// The caller's own is left out: its death ends the caller's wait too. And it would do harm. The
    /// kernel wakes one sleeper for a death, and could choose a thread of the very process that is
    /// dying, which hands nothing on.
    ///
    /// They are watched as they are seen here. A life word passes to the next process when its first
    /// one is dead and reaped; whoever looked at it later only would watch a stranger.
    pub(crate) fn lives(&self) -> Lives {
        let mut lives = Lives {
            joined: self.joined.load(Relaxed),
            ..Lives::NONE
        };
        let me = member::current();
        let others = self.walk().filter(|(member, _)| Some(*member) != me);
        others.for_each(|(member, _)| lives.add(member));
        lives
    }

    fn walk(&self) -> impl Iterator<Item = (Member, u32)> {
        let used = (self.used.load(Relaxed) as usize).min(SLOTS);
        self.entries[..used]
            .iter()
            .enumerate()
            .filter_map(|(slot, entry)| {
                let entry = entry.load(Relaxed);
                let member = Member::new(slot as u16, (entry >> 32) as u32)?;
                (entry as u32 != 0).then_some((member, entry as u32))
            })
    }
}

impl Lives {
    /// No lives: only the word is waited for.
    pub(crate) const NONE: Self = Self {
        seen: [Seen::OVER; MAX_LIVES],
        len: 0,
        joined: 0,
    };

    /// Adds the life of another member as it is now, while there is room.
    pub(crate) fn add(&mut self, member: Member) {
        let seen = member::life(member).map(Seen::new);
        // Asked again: what was seen belongs to this member only if it is there still.
        let seen = seen.filter(|_| member::life(member).is_some());
        if self.len < MAX_LIVES && seen.is_none_or(|seen| !seen.is_vacant()) {
            self.seen[self.len] = seen.unwrap_or(Seen::OVER);
            self.len += 1;
        }
    }

    /// As [`wait`](crate::life::wait) for `object` and for these lives, which are those of a ledger,
    /// after looking at the object for a while.
    pub(crate) fn wait(
        &self,
        ledger: &Ledger,
        spin: &Spin,
        object: Watch<'_>,
        deadline: Deadline,
    ) -> WaitEnd {
        let joined = Watch {
            word: &ledger.joined,
            expected: self.joined,
            scope: Scope::Shared,
        };
        // Relaxed: whoever is woken passes through the section of the object.
        let changed = || object.word.load(Relaxed) != object.expected;
        // Without lives nobody had to be seen joining.
        let objects = &[object, joined][..1 + usize::from(self.len > 0)];
        let sleep = || wait_any(objects, &self.seen[..self.len], deadline);
        spin.wait(deadline, changed, sleep)
            .unwrap_or(WaitEnd::Woken)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.walk()).finish()
    }
}
