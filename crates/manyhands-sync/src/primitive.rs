//! What the protocols are built on: the real atomics, futex and thread, or loom's models of them.
//!
//! Under `--cfg loom` the model checker runs every order of the accesses to these atomics, in the
//! very code that ships; nothing spins, and no robust list is touched.

#[cfg(loom)]
mod model;

#[cfg(loom)]
pub(crate) use model::{
    AtomicU32, AtomicU64, OwnedBits, futex, is_planted, robust, spin, thread, thread_id,
};

#[cfg(not(loom))]
pub(crate) use real::{
    AtomicU32, AtomicU64, OwnedBits, futex, is_planted, robust, spin, thread, thread_id,
};

#[cfg(all(test, loom))]
pub(crate) use model::{explore, explore_word, time_passes};

use manyhands_os::Deadline;

use futex::{Scope, Wake};

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};

    /// The bits of a word with an owner; they change by compare-exchange and the like only.
    pub(crate) type OwnedBits = AtomicU64;

    pub(crate) use manyhands_os::process::thread_id;
    pub(crate) use manyhands_os::{futex, robust, thread};

    /// Pauses, longer in each round; tells whether it is worth to look again before sleeping.
    ///
    /// A lock that is left and taken again by the same thread, whose cache has it, passes many more
    /// sections than one that changes hands each time; so who waits does not look all the time.
    pub(crate) fn spin(round: u32) -> bool {
        (0..1 << round).for_each(|_| std::hint::spin_loop());
        round < SPINS
    }

    /// So many rounds are about 2^SPINS pauses in all.
    const SPINS: u32 = 6;

    /// Whether the bug of this name is planted, to see a test find it: never in what ships. The
    /// sweeps of `tests/` step through real words, so the word's can be built in.
    #[inline]
    pub(crate) fn is_planted(bug: &str) -> bool {
        cfg!(planted_bug) && bug == "word"
    }
}

#[cfg(target_endian = "big")]
compile_error!("the low half of a word must lie at its address; big-endian is not supported");

/// The half of a word that the kernel looks at.
pub(crate) fn low_half(word: &OwnedBits) -> &AtomicU32 {
    let half = std::ptr::from_ref(word).cast::<AtomicU32>();
    // SAFETY: a reference needs a valid, aligned place: the first four bytes of the word.
    // Nobody reads or writes through the reference; its address goes to the kernel, which
    // does its own access of the right size.
    unsafe { &*half }
}

pub(crate) fn sleep(word: &OwnedBits, low: u32, scope: Scope, deadline: Deadline) -> Wake {
    futex::wait(low_half(word), low, scope, deadline)
}

pub(crate) fn wake(word: &OwnedBits, count: u32, scope: Scope) -> u32 {
    futex::wake(low_half(word), count, scope)
}
