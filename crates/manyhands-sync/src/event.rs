//! A flag that one sets and many wait for.

use std::fmt;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use manyhands_os::Deadline;

use crate::primitive::futex::{self, Scope, Watch};
use crate::primitive::{AtomicU32, is_planted};
use crate::raw::{ShortLock, net};
use crate::shareable::{LastPlace, Shareable};
use crate::spin::Spin;

#[cfg(all(feature = "posix", target_env = "gnu", not(loom)))]
mod reset;

/// A flag which threads, or processes in shared memory, set, clear and wait for.
///
/// A `set` wakes everybody who waited before it, also when a `clear` follows at once. A process
/// that is killed inside `set` has either set the event and woken all, or done neither.
///
/// # Protocol in shared memory
///
/// A setter holds the short lock: it moves the sequence on, **wakes** the sleepers, then
/// **commits** the state with one store. Whoever is woken passes through the lock, which either
/// the setter leaves or the kernel takes from a dead one, and only then believes the state. So a
/// setter that dies before the commit leaves sleepers who looked, saw nothing, and sleep again.
///
/// Python: `threading.Event`, `multiprocessing.Event`.
///
/// # Examples
///
/// ```
/// use manyhands_sync::Event;
///
/// static READY: Event = Event::new();
/// let waiter = std::thread::spawn(|| READY.wait());
/// READY.set();
/// waiter.join().expect("it was woken");
/// ```
#[repr(C)]
pub struct Event {
    lock: ShortLock,
    /// Moves on with every `set` in shared memory; sleepers sleep on it.
    sequence: AtomicU32,
    /// Bit 0: set. Above it: how often it was set; in private memory sleepers sleep on it.
    state: AtomicU32,
    mode: AtomicU32,
    spin: Spin,
}

const SET: u32 = 1;
const ONE_SET: u32 = 2;
const PRIVATE: u32 = 0;
const SHARED: u32 = 1;

// SAFETY: made of atomics only, without pointers.
unsafe impl Shareable for Event {
    fn placed(&self, _: LastPlace) {
        // Relaxed: runs before anybody else can see the event.
        self.mode.store(SHARED, Relaxed);
    }

    const PINNED: bool = true;
}

impl Event {
    /// An event that is not set.
    pub const fn new() -> Self {
        Self {
            lock: ShortLock::new(),
            sequence: AtomicU32::new(0),
            state: AtomicU32::new(0),
            mode: AtomicU32::new(PRIVATE),
            spin: Spin::new(),
        }
    }

    /// Sets the flag and wakes everybody who waits; does nothing when it is set.
    pub fn set(&self) {
        if self.is_shared() {
            return self.set_shared();
        }
        // AcqRel: Release pairs with the Acquire of waiters; Acquire orders two setters.
        let update = |state| (!is_set(state)).then(|| after_set(state));
        if self.state.fetch_update(AcqRel, Relaxed, update).is_ok() {
            futex::wake_all(&self.state, Scope::Private);
        }
    }

    /// Clears the flag; later waiters wait for the next `set`.
    pub fn clear(&self) {
        if self.is_shared() {
            let mut guard = self.lock.lock();
            self.state.fetch_and(!SET, Relaxed);
            guard.mark_consistent();
        } else {
            self.state.fetch_and(!SET, Relaxed);
        }
    }

    /// Whether the flag is set now.
    pub fn is_set(&self) -> bool {
        // Acquire: pairs with the Release of `set`.
        is_set(self.state.load(Acquire))
    }

    /// Waits until the flag is set. The form that does not wait is [`is_set`](Self::is_set).
    pub fn wait(&self) {
        while !self.wait_until(Deadline::NEVER) {}
    }

    /// Waits until the flag is set, at most `timeout`; `false` when it was not.
    #[must_use = "the wait may have timed out"]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Deadline::after(timeout))
    }

    /// Waits until the flag is set, at most until `deadline`; `false` when it was not.
    #[must_use = "the wait may have timed out"]
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.wait_until(Deadline::at(deadline))
    }

    /// What to sleep on until the flag is set, for who waits for something else too. `None` when it is
    /// set, and when the deadline passes while a setter is at work.
    ///
    /// Whoever is woken looks at the flag, and asks again if it is not set.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_os::Deadline;
    /// use manyhands_sync::Event;
    /// use manyhands_sync::life::{WaitEnd, wait_any};
    ///
    /// let (left, right) = (Event::new(), Event::new());
    /// std::thread::scope(|threads| {
    ///     threads.spawn(|| right.set());
    ///     while let (Some(left), Some(right)) =
    ///         (left.watch(Deadline::NEVER), right.watch(Deadline::NEVER))
    ///     {
    ///         assert_eq!(wait_any(&[left, right], &[], Deadline::NEVER), WaitEnd::Woken);
    ///     }
    /// });
    /// assert!(right.is_set() && !left.is_set());
    /// ```
    pub fn watch(&self, deadline: Deadline) -> Option<Watch<'_>> {
        let watch = if self.is_shared() {
            // Acquire, and behind the lock: as in `wait_shared`.
            let expected = self.sequence.load(Acquire);
            self.lock.lock_deadline(deadline)?.mark_consistent();
            Watch {
                word: &self.sequence,
                expected,
                scope: Scope::Shared,
            }
        } else {
            Watch {
                word: &self.state,
                expected: self.state.load(Acquire),
                scope: Scope::Private,
            }
        };
        // In private memory a `set` since the load changes the word itself.
        (!self.is_set()).then_some(watch)
    }

    /// The word that [`watch`](Self::watch) tells to sleep on.
    pub fn word(&self) -> &AtomicU32 {
        if self.is_shared() {
            &self.sequence
        } else {
            &self.state
        }
    }

    /// What can be seen of the event without waiting; old by the time it is read.
    pub fn inspect(&self) -> EventState {
        // Acquire: as in `is_set`.
        let state = self.state.load(Acquire);
        EventState {
            shared: self.is_shared(),
            set: is_set(state),
            times: state / ONE_SET,
        }
    }

    fn wait_until(&self, deadline: Deadline) -> bool {
        // Acquire, here and below: pairs with the Release of `set`.
        let before = self.state.load(Acquire);
        is_set(before) || self.wait_since(before, deadline)
    }

    /// Waits as one who began to when the state was `before`, which is not set.
    pub(crate) fn wait_since(&self, before: u32, deadline: Deadline) -> bool {
        if self.is_shared() {
            return self.wait_shared(before, deadline);
        }
        loop {
            self.sleep(&self.state, before, Scope::Private, deadline);
            // The flag was not set, so only a `set` changes the state; a `clear` may follow it.
            if self.state.load(Acquire) != before {
                return true;
            }
            if deadline.has_passed() {
                return false;
            }
        }
    }

    fn set_shared(&self) {
        let mut guard = self.lock.lock();
        // Relaxed: the lock orders setters; a dead one has left a whole state.
        let state = self.state.load(Relaxed);
        if !is_set(state) {
            if !is_planted("event") {
                // Relaxed: the kernel compares the sequence at each sleep.
                self.sequence.fetch_add(1, Relaxed);
            }
            futex::wake_all(&self.sequence, Scope::Shared);
            self.state.store(after_set(state), Release);
        }
        guard.mark_consistent();
    }

    fn wait_shared(&self, before: u32, deadline: Deadline) -> bool {
        loop {
            // Acquire: the look at the state below must not move before this load. If a setter
            // has moved the sequence on since, the sleep does not begin.
            let sequence = self.sequence.load(Acquire);
            // Behind the lock no setter stands between its wake and its commit.
            match self.lock.lock_deadline(deadline) {
                Some(mut guard) => guard.mark_consistent(),
                None => return self.state.load(Acquire) != before,
            }
            if self.state.load(Acquire) != before {
                return true;
            }
            if deadline.has_passed() {
                return false;
            }
            self.sleep(&self.sequence, sequence, Scope::Shared, deadline);
        }
    }

    /// Looks at a word for a while, then sleeps on it.
    fn sleep(&self, word: &AtomicU32, expected: u32, scope: Scope, deadline: Deadline) {
        // Relaxed: the caller looks again.
        let changed = || word.load(Relaxed) != expected;
        self.spin.wait(deadline, changed, || {
            futex::wait(word, expected, scope, deadline.earlier(net::slice()))
        });
    }

    fn is_shared(&self) -> bool {
        // Relaxed: set once, before anybody else could reach the event.
        self.mode.load(Relaxed) != PRIVATE
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inspect();
        f.debug_struct("Event")
            .field("state", &if state.set { "set" } else { "unset" })
            .field("times", &state.times)
            .field("shared", &state.shared)
            .finish()
    }
}

/// What [`Event::inspect`] sees.
///
/// Who waits leaves no trace in an event, so that who dies while it waits leaves none either:
/// therefore there is no count of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventState {
    /// Whether it lies in shared memory.
    pub shared: bool,
    /// Whether it is set.
    pub set: bool,
    /// How often it came to be set, modulo 2^31.
    pub times: u32,
}

fn is_set(state: u32) -> bool {
    state & SET != 0
}

fn after_set(state: u32) -> u32 {
    (state & !SET).wrapping_add(ONE_SET) | SET
}
