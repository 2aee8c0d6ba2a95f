//! The word that tells who holds a lock, and that survives its holder.
//!
//! # Layout
//!
//! ```text
//! bits  0..30  thread id of the owner, 0 = free     \
//! bit   30     OWNER_DIED: nobody has repaired yet   > the kernel's futex word
//! bit   31     WAITERS: somebody may sleep          /
//! bits 32..64  epoch: how often somebody went to sleep
//! ```
//!
//! # Protocol
//!
//! Taking sets the owner in a word that has none, and keeps all other bits. Who cannot take adds
//! one to the epoch and sets WAITERS in one step, then sleeps while the low half stays so.
//! Leaving subtracts the owner and nothing else; when WAITERS is set, it wakes one sleeper.
//!
//! WAITERS is *sticky*: only a wake that found nobody asleep clears it, and only when the epoch
//! shows that nobody went to sleep since. A word whose unlock clears WAITERS loses a sleeper when
//! the one it woke is killed before it takes the word and a newcomer came in between: the
//! newcomer's unlock sees no WAITERS. glibc's robust mutex has this hole; `tests/` keeps a word
//! with the hole as a negative control.
//!
//! In shared memory the word is announced on the thread's robust list around all of this
//! (`manyhands_os::robust`). The kernel then does for a dead owner: owner = 0, OWNER_DIED = 1,
//! wake one; and for a thread that died while the word was announced but free: wake one.
//!
//! # Ordering
//!
//! What the last owner wrote must be visible to the next. Release in `leave` pairs with Acquire
//! in `take`; after a death, the kernel's own full barrier stands for the Release. All other
//! accesses are Relaxed: they decide on nothing but the word itself.
//!
//! Source: the robust futex ABI of Linux; sticky WAITERS and epoch are ours.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manyhands_os::Deadline;

use crate::primitive::futex::{Scope, Wake};
use crate::primitive::robust::{OWNER, OWNER_DIED, WAITERS};
use crate::primitive::{OwnedBits, is_planted, sleep, spin, wake};

/// One step of the epoch.
const EPOCH: u64 = 1 << 32;

/// A lock's word; zeroed memory is a free one.
#[derive(Debug)]
#[repr(transparent)]
pub struct Word {
    bits: OwnedBits,
}

/// A word was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// A former owner died, and nobody has called the data consistent since.
    pub owner_died: bool,
}

/// A word that was left while somebody waited for it, as it was then.
#[derive(Clone, Copy)]
pub(crate) struct WaitedFor(u64);

impl Word {
    /// A free word.
    pub const fn new() -> Self {
        Self {
            bits: OwnedBits::new(0),
        }
    }
}

impl Default for Word {
    fn default() -> Self {
        Self::new()
    }
}

impl Word {
    /// What the word says between two owners while nobody waits; for the owner.
    ///
    /// `None` while it is not so: somebody waits, or an owner died.
    pub(crate) fn calm(&self) -> Option<u64> {
        // Relaxed: a guess, and `take_calm` asks the word itself.
        let calm = self.bits.load(Relaxed) & !u64::from(OWNER);
        (calm as u32 == 0).then_some(calm)
    }

    /// Takes the word for thread `me` if it says what it said in a [calm](Self::calm) moment.
    #[inline]
    pub(crate) fn take_calm(&self, calm: u64, me: u32) -> bool {
        // Acquire: as in `try_take`.
        self.bits
            .compare_exchange(calm, calm | u64::from(me), Acquire, Relaxed)
            .is_ok()
    }

    /// Its owner, and whether one before it died and nobody has repaired since; for the owner.
    #[inline]
    pub(crate) fn seen_by_owner(&self) -> (u32, bool) {
        // Relaxed: both change by the owner's own hand only.
        let bits = self.bits.load(Relaxed);
        (owner(bits), is_owner_died(bits))
    }

    /// Takes the word for thread `me` if nobody has it.
    #[inline]
    pub fn try_take(&self, me: u32) -> Option<Taken> {
        let mut bits = self.bits.load(Relaxed);
        while owner(bits) == 0 {
            // Acquire: pairs with the Release in `leave`.
            match self
                .bits
                .compare_exchange_weak(bits, bits | u64::from(me), Acquire, Relaxed)
            {
                Ok(_) => {
                    return Some(Taken {
                        owner_died: is_owner_died(bits),
                    });
                }
                Err(now) => bits = now,
            }
        }
        None
    }

    /// Takes the word for thread `me`, and sleeps until it can; `None` when the deadline passed.
    #[inline]
    pub fn take(&self, me: u32, scope: Scope, deadline: Deadline) -> Option<Taken> {
        match self.try_take(me) {
            Some(taken) => Some(taken),
            None => self.take_contended(me, scope, deadline),
        }
    }

    #[cold]
    fn take_contended(&self, me: u32, scope: Scope, deadline: Deadline) -> Option<Taken> {
        let mut rounds = 0;
        loop {
            if let Some(taken) = self.try_take(me) {
                return Some(taken);
            }
            let bits = self.bits.load(Relaxed);
            if owner(bits) == 0 {
                continue;
            }
            // While others sleep already, the lock is contended for longer than a spin.
            if !is_waited_for(bits) && spin(rounds) {
                rounds += 1;
                continue;
            }
            let asleep = going_to_sleep(bits);
            // Relaxed: `sleep` compares the word again, inside the kernel.
            if self
                .bits
                .compare_exchange(bits, asleep, Relaxed, Relaxed)
                .is_err()
            {
                continue;
            }
            let slice = deadline.earlier(net::slice());
            let end = sleep(&self.bits, asleep as u32, scope, slice);
            if end == Wake::TimedOut && deadline.has_passed() {
                // The wake that may have come in between is not lost: it left WAITERS set, so
                // whoever holds the word now, or takes it next, wakes again.
                return self.try_take(me);
            }
        }
    }

    /// Leaves the word, which thread `me` holds, and wakes one who waits for it.
    #[inline]
    pub fn leave(&self, me: u32, scope: Scope) {
        if let Some(waited_for) = self.leave_asleep(me) {
            self.wake_one(waited_for, scope);
        }
    }

    /// Leaves the word; when somebody waits for it, the caller must [wake](Self::wake_one) it.
    #[inline]
    pub(crate) fn leave_asleep(&self, me: u32) -> Option<WaitedFor> {
        // Release: pairs with the Acquire in `try_take`.
        let left = self.bits.fetch_sub(u64::from(me), Release) - u64::from(me);
        is_waited_for(left).then_some(WaitedFor(left))
    }

    /// Wakes one who waits for a word that was left.
    #[cold]
    pub(crate) fn wake_one(&self, WaitedFor(left): WaitedFor, scope: Scope) {
        if is_planted("word") {
            // Clears the bit before the wake, as a word that is not sticky does.
            let _ = self
                .bits
                .compare_exchange(left, left & !wait_bit(), Relaxed, Relaxed);
            wake(&self.bits, 1, scope);
            return;
        }
        if wake(&self.bits, 1, scope) == 0 {
            // Nobody slept at the wake. Whoever had announced a sleep before finds the low half
            // changed since; whoever announces one after changes the epoch and makes this fail.
            let _ = self
                .bits
                .compare_exchange(left, left & !wait_bit(), Relaxed, Relaxed);
        }
    }

    /// Declares the data consistent again; the caller holds the word.
    #[inline]
    pub fn mark_consistent(&self) {
        // Relaxed: the holder's `leave` publishes everything.
        self.bits.fetch_and(!u64::from(OWNER_DIED), Relaxed);
    }

    /// The thread that holds the word now, for information: it may have left already.
    pub fn holder(&self) -> Option<u32> {
        // Relaxed: the answer is old by the time it is used, whatever the ordering.
        Some(owner(self.bits.load(Relaxed))).filter(|owner| *owner != 0)
    }

    /// Whether somebody may sleep on the word, for information.
    pub fn has_waiters(&self) -> bool {
        is_waited_for(self.bits.load(Relaxed))
    }
}

fn owner(bits: u64) -> u32 {
    bits as u32 & OWNER
}

fn is_owner_died(bits: u64) -> bool {
    bits as u32 & OWNER_DIED != 0
}

fn is_waited_for(bits: u64) -> bool {
    bits & wait_bit() != 0
}

fn wait_bit() -> u64 {
    u64::from(WAITERS)
}

/// The word with one more sleeper announced; the epoch wraps within its half.
fn going_to_sleep(bits: u64) -> u64 {
    bits.wrapping_add(EPOCH) | wait_bit()
}

/// The net under every sleep.
///
/// The protocol needs no time-out to be right, and no run of the tests ever needed one. But a
/// kernel bug, or a signal handler which uses the C library's robust mutexes inside one of our
/// sections and so erases the announcement, could lose a wake. So each sleep ends after a second
/// and looks at the word again. The tests that look for lost wakes take the net away.
pub mod net {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use manyhands_os::Deadline;

    static TAKEN_AWAY: AtomicBool = AtomicBool::new(false);

    /// Lets sleeps of this process last until they are woken, so that a lost wake shows.
    pub fn take_away() {
        TAKEN_AWAY.store(true, Relaxed);
    }

    /// When a sleep that begins now looks up again.
    pub(crate) fn slice() -> Deadline {
        if TAKEN_AWAY.load(Relaxed) {
            Deadline::NEVER
        } else {
            Deadline::after(Duration::from_secs(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_keeps_every_other_bit() {
        let word = Word::new();
        word.bits
            .store(7 << 32 | wait_bit() | u64::from(OWNER_DIED), Relaxed);
        assert_eq!(word.try_take(5), Some(Taken { owner_died: true }));
        assert_eq!(word.holder(), Some(5));
        assert_eq!(word.try_take(6), None);
        word.mark_consistent();
        word.leave(5, Scope::Private);
        // Nobody slept, so the sticky bit went with the wake.
        assert_eq!(word.bits.load(Relaxed), 7 << 32);
    }

    #[test]
    fn epoch_wraps_without_touching_the_low_half() {
        let bits = u64::from(u32::MAX) << 32 | 9;
        assert_eq!(going_to_sleep(bits), wait_bit() | 9);
    }
}
