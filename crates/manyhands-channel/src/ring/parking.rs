//! The place where a sleeper waits to be woken by whoever changes what it waits for.
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
//! There are two places to lie down at. One is the end's own: whoever has the end lies there, and gets
//! up. The other is for those who sleep on its behalf, and there may be several, in several threads, even
//! of a process that had the end before. So nobody gets up from it, and it takes only later sleeps than it
//! has: an old one that came late would hide another from the changer.
//!
//! The two fences are `SeqCst`, so one of them is first. If the sleeper's is, the changer reads
//! `sleeping` as set and wakes. If the changer's is, the second look of the sleeper sees the
//! change. Between the look and the system call the sequence guards: the kernel compares it before
//! it puts the thread to sleep. All other accesses here are relaxed; the fences order them.
//!
//! # What a death leaves behind
//!
//! Only the sleeper clears its `sleeping`. A changer that dies anywhere in the middle therefore hides
//! the sleeper from nobody, and the sleeper, which watches the life of the one it depends on, wakes
//! by that. A sleeper that dies leaves `sleeping` set: it costs the changer one system call, since
//! a changer wakes the same sleep only once (`Woken`).

use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

use crate::primitive::{AtomicU32, fence, is_planted};

/// Where the sleepers of one end lie. Zeroed memory is an empty one.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Parking {
    /// The futex word. Always even; two more at each wake-up.
    sequence: AtomicU32,
    /// Each zero while nobody sleeps, else the sequence at which the sleeper lay down, plus one.
    sleeping: [AtomicU32; 2],
}

/// Which place of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bunk {
    /// That of who has the end.
    Own,
    /// That of those who sleep on its behalf.
    Behalf,
}

/// The sleeps that this changer ended last. It lies in the changer's own memory.
#[derive(Debug, Default)]
pub(crate) struct Woken([u32; 2]);

impl Parking {
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            sleeping: [AtomicU32::new(0), AtomicU32::new(0)],
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
        let slept = self
            .lie_down(Bunk::Own, nothing_yet)
            .map(|sequence| wait(&self.sequence, sequence));
        self.get_up();
        slept
    }

    /// Says that somebody is going to sleep on [`word`](Self::word) while it holds what is returned;
    /// `None` when `nothing_yet` does not hold any more.
    pub(crate) fn lie_down(&self, bunk: Bunk, nothing_yet: impl FnOnce() -> bool) -> Option<u32> {
        // A stale value here makes the kernel refuse to sleep, no more.
        let sequence = self.sequence.load(Relaxed);
        let (own, behalf) = (&self.sleeping[0], &self.sleeping[1]);
        match bunk {
            Bunk::Own => own.store(sequence | 1, Relaxed),
            Bunk::Behalf => {
                let later = |former: u32| {
                    if is_planted("bunk") {
                        return Some(sequence | 1);
                    }
                    let ahead = sequence.wrapping_sub(former & !1) as i32;
                    (former == 0 || ahead > 0).then_some(sequence | 1)
                };
                let _ = behalf.fetch_update(Relaxed, Relaxed, later);
            }
        }
        // Partner: the fence in `notify`.
        fence(SeqCst);
        look_again(nothing_yet).then_some(sequence)
    }

    /// Ends the sleep of who has the end.
    pub(crate) fn get_up(&self) {
        self.sleeping[0].store(0, Relaxed);
    }

    /// What to sleep on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.sequence
    }

    /// Wakes the sleepers if there is one that `woken` has not ended yet, and if it is `enough`.
    ///
    /// To be called after the change was stored. `enough` is asked behind the fence.
    #[inline]
    pub(crate) fn notify(
        &self,
        woken: &mut Woken,
        enough: impl FnOnce() -> bool,
        wake: impl FnOnce(&AtomicU32),
    ) {
        // Partner: the fence in `sleep`.
        fence(SeqCst);
        let sleeping = [
            self.sleeping[0].load(Relaxed),
            self.sleeping[1].load(Relaxed),
        ];
        if sleeping == [0; 2] {
            return;
        }
        let sleeps = |bunk: usize| sleeping[bunk] != 0 && sleeping[bunk] != woken.0[bunk];
        if (sleeps(0) || sleeps(1)) && enough() {
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
