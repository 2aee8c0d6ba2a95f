//! The place where one sleeper waits to be woken by whoever changes what it waits for.
//!
//! # How no wake-up is lost
//!
//! The sleeper must see the change, or the changer must see the sleeper. Both sides write one word
//! and then read the other's (Dekker's pattern):
//!
//! ```text
//! sleeper:  sleeping = sequence | 1;  FENCE;  look again;  futex_wait(sequence)
//! changer:  change what is waited for;  FENCE;  read sleeping;  if set: sequence += 2, futex_wake
//! ```
//!
//! The two fences are `SeqCst`, so one of them is first. If the sleeper's is, the changer reads
//! `sleeping` as set and wakes. If the changer's is, the second look of the sleeper sees the
//! change. Between the look and the system call the sequence guards: the kernel compares it before
//! it puts the thread to sleep. All other accesses here are relaxed; the fences order them.
//!
//! # What a death leaves behind
//!
//! Only the sleeper clears `sleeping`. A changer that dies anywhere in the middle therefore hides
//! the sleeper from nobody, and the sleeper, which watches the life of the one it depends on, wakes
//! by that. A sleeper that dies leaves `sleeping` set: it costs the changer one system call, since
//! a changer wakes the same sleep only once (`Woken`).

use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

use crate::primitive::{AtomicU32, fence, is_planted};

/// One sleeper's place. Zeroed memory is an empty one.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Parking {
    /// The futex word. Always even; two more at each wake-up.
    sequence: AtomicU32,
    /// Zero while nobody sleeps, else the sequence at which the sleeper lay down, plus one.
    sleeping: AtomicU32,
}

/// The sleep that this changer ended last. It lies in the changer's own memory.
#[derive(Debug, Default)]
pub(crate) struct Woken(u32);

impl Parking {
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            sleeping: AtomicU32::new(0),
        }
    }

    /// Calls `wait(word, expected)` once, if `nothing_yet` still holds after lying down.
    ///
    /// `wait` may return early, late or for no reason; the caller looks again.
    pub(crate) fn sleep<R>(
        &self,
        nothing_yet: impl FnOnce() -> bool,
        wait: impl FnOnce(&AtomicU32, u32) -> R,
    ) -> Option<R> {
        // A stale value here makes the kernel refuse to sleep, no more.
        let sequence = self.sequence.load(Relaxed);
        self.sleeping.store(sequence | 1, Relaxed);
        // Partner: the fence in `notify`.
        fence(SeqCst);
        let slept = look_again(nothing_yet).then(|| wait(&self.sequence, sequence));
        self.sleeping.store(0, Relaxed);
        slept
    }

    /// Wakes the sleeper if there is one that `woken` has not ended yet, and if it is `enough`.
    ///
    /// To be called after the change was stored. `enough` is asked behind the fence.
    pub(crate) fn notify(
        &self,
        woken: &mut Woken,
        enough: impl FnOnce() -> bool,
        wake: impl FnOnce(&AtomicU32),
    ) {
        // Partner: the fence in `sleep`.
        fence(SeqCst);
        let sleeping = self.sleeping.load(Relaxed);
        if sleeping != 0 && sleeping != woken.0 && enough() {
            self.rouse(wake);
            // Only now: a death in the line above must not leave a wake-up counted as done.
            woken.0 = sleeping;
        }
    }

    /// Wakes the sleeper whether or not one shows; for rare events.
    pub(crate) fn rouse(&self, wake: impl FnOnce(&AtomicU32)) {
        // Release: a sleeper that reads this sequence sees what happened before. Partner: the
        // fence in `sleep`, which follows the relaxed load.
        self.sequence.fetch_add(2, Release);
        wake(&self.sequence);
    }
}

/// Without this second look a change in between is slept over: the bug that the model must find.
fn look_again(nothing_yet: impl FnOnce() -> bool) -> bool {
    is_planted("parking") || nothing_yet()
}
