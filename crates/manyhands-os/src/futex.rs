//! Sleeping until a word of memory changes, and waking who sleeps.
//!
//! A word is private to a process or shared between processes; both sides must say the same.
//! A wait ends when it is woken, when the word does not hold the expected value, or at its
//! deadline. A signal ends no wait: it is taken up again inside, towards the same deadline.
//! A wake may be spurious: callers look at the word again, always.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::thread::futex::{self as sys, Flags};
use rustix::time::ClockId;

use crate::clock::Deadline;

/// Who may sleep on a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Threads of this process only; the kernel finds the word by its address.
    Private,
    /// Any process that maps the word; the kernel finds it by the page behind the address.
    Shared,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Somebody woke this word, or the kernel woke without a reason.
    Woken,
    /// The word did not hold the expected value.
    Changed,
    /// The deadline passed.
    TimedOut,
}

/// A word to sleep on, with the value it must hold.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    /// The word.
    pub word: &'a AtomicU32,
    /// Sleep only while the word holds this.
    pub expected: u32,
    /// Who wakes it.
    pub scope: Scope,
}

/// How a wait for several words ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeAny {
    /// The word of this index was woken; others may have been too.
    Woken(usize),
    /// One of the words did not hold its expected value.
    Changed,
    /// The deadline passed.
    TimedOut,
}

/// The most words that [`wait_any`] takes, a limit of the kernel.
pub const MAX_WATCHES: usize = 128;

/// Sleeps while `word` holds `expected`, until woken or until the deadline.
///
/// # Examples
///
/// ```
/// use manyhands_os::futex::{Scope, Wake, wait};
/// use manyhands_os::Deadline;
/// use std::sync::atomic::AtomicU32;
///
/// let word = AtomicU32::new(1);
/// assert_eq!(wait(&word, 0, Scope::Private, Deadline::NEVER), Wake::Changed);
/// assert_eq!(wait(&word, 1, Scope::Private, Deadline::now()), Wake::TimedOut);
/// ```
pub fn wait(word: &AtomicU32, expected: u32, scope: Scope, deadline: Deadline) -> Wake {
    let until = deadline.timespec();
    loop {
        // The bitset form is the one that takes an absolute time.
        match sys::wait_bitset(
            word,
            flags(scope),
            expected,
            until.as_ref(),
            NonZeroU32::MAX,
        ) {
            Ok(()) => return Wake::Woken,
            Err(Errno::AGAIN) => return Wake::Changed,
            Err(Errno::TIMEDOUT) => return Wake::TimedOut,
            Err(Errno::INTR) => {}
            Err(error) => unreachable_errno("futex wait", error),
        }
    }
}

/// Wakes up to `count` sleepers of `word`; returns how many there were.
pub fn wake(word: &AtomicU32, count: u32, scope: Scope) -> u32 {
    match sys::wake(word, flags(scope), count.min(i32::MAX as u32)) {
        Ok(woken) => woken as u32,
        Err(error) => unreachable_errno("futex wake", error),
    }
}

/// Wakes all sleepers of `word`; returns how many there were.
pub fn wake_all(word: &AtomicU32, scope: Scope) -> u32 {
    wake(word, i32::MAX as u32, scope)
}

/// Sleeps while every word holds its expected value, until one is woken or until the deadline.
///
/// Takes at most [`MAX_WATCHES`] words; more, or none, is a mistake of the calling room.
///
/// # Panics
///
/// With no watch, with more than [`MAX_WATCHES`], and on kernels before 5.16.
pub fn wait_any(watches: &[Watch<'_>], deadline: Deadline) -> WakeAny {
    assert!(
        (1..=MAX_WATCHES).contains(&watches.len()),
        "wait_any takes 1 to 128 watches"
    );
    let mut list = [sys::Wait::new(); MAX_WATCHES];
    for (place, watch) in list.iter_mut().zip(watches) {
        place.val = u64::from(watch.expected);
        place.uaddr = sys::WaitPtr::new(watch.word.as_ptr().cast());
        place.flags = sys::WaitFlags::SIZE_U32 | private(watch.scope);
    }
    let until = deadline.timespec();
    loop {
        let list = &list[..watches.len()];
        match sys::waitv(
            list,
            sys::WaitvFlags::empty(),
            until.as_ref(),
            ClockId::Monotonic,
        ) {
            Ok(index) => return WakeAny::Woken(index),
            Err(Errno::AGAIN) => return WakeAny::Changed,
            Err(Errno::TIMEDOUT) => return WakeAny::TimedOut,
            Err(Errno::INTR) => {}
            Err(error) => unreachable_errno("futex_waitv (Linux 5.16 or newer)", error),
        }
    }
}

fn flags(scope: Scope) -> Flags {
    match scope {
        Scope::Private => Flags::PRIVATE,
        Scope::Shared => Flags::empty(),
    }
}

fn private(scope: Scope) -> sys::WaitFlags {
    match scope {
        Scope::Private => sys::WaitFlags::PRIVATE,
        Scope::Shared => sys::WaitFlags::empty(),
    }
}

/// The word is a valid reference and the arguments are ours, so no other error can come back.
#[cold]
fn unreachable_errno(call: &str, error: Errno) -> ! {
    panic!("{call} failed on a valid word: {error}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;

    use super::*;

    #[test]
    fn waiter_wakes_when_the_word_changes() {
        for scope in [Scope::Private, Scope::Shared] {
            let word = AtomicU32::new(0);
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    word.store(1, SeqCst);
                    wake_all(&word, scope);
                });
                while word.load(SeqCst) == 0 {
                    let _ = wait(&word, 0, scope, Deadline::after(Duration::from_secs(60)));
                }
            });
            assert_eq!(word.load(SeqCst), 1);
        }
    }

    #[test]
    fn waiter_for_several_words_wakes_by_any_of_them() {
        let words = [const { AtomicU32::new(0) }; 3];
        let watches = words.each_ref().map(|word| Watch {
            word,
            expected: 0,
            scope: Scope::Shared,
        });
        std::thread::scope(|threads| {
            threads.spawn(|| {
                words[2].store(7, SeqCst);
                wake_all(&words[2], Scope::Shared);
            });
            while words[2].load(SeqCst) == 0 {
                let _ = wait_any(&watches, Deadline::after(Duration::from_secs(60)));
            }
        });
        assert_eq!(wait_any(&watches, Deadline::NEVER), WakeAny::Changed);
    }

    #[test]
    fn waits_time_out_at_their_deadline() {
        let word = AtomicU32::new(3);
        let watch = Watch {
            word: &word,
            expected: 3,
            scope: Scope::Private,
        };
        let soon = Deadline::after(Duration::from_millis(5));
        assert_eq!(wait(&word, 3, Scope::Private, soon), Wake::TimedOut);
        assert!(soon.has_passed());
        assert_eq!(wait_any(&[watch], Deadline::now()), WakeAny::TimedOut);
    }
}
