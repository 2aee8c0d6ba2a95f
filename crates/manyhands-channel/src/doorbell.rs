//! One waiter for many rings.

use std::fmt;
use std::sync::atomic::AtomicU32 as LocalU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use manyhands_os::Deadline;
use manyhands_os::futex::{self, Scope, Watch};
use manyhands_shm::arena::{self, Participant};
use manyhands_shm::{NoSpace, Shareable, Shared};
use manyhands_sync::life::{self, MAX_LIVES, WaitEnd};
use manyhands_sync::spin::Spin;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::primitive::AtomicU32;

/// How often the deaths are looked at that the kernel does not watch for us.
const UNWATCHED_SLICE: Duration = Duration::from_millis(50);

/// A bell that any process may ring and that one thread at a time waits for.
///
/// A thread that serves many rings attaches one bell to all of them and then repeats: remember
/// [`seen`](Self::seen), look at every ring, and if there was nothing, [`wait`](Self::wait). A
/// ring of the bell after `seen` ends the wait at once, so nothing is missed in between.
///
/// Clones are the same bell, and so is what arrives in another process when a bell is serialized
/// into a parcel.
///
/// # Examples
///
/// ```
/// use manyhands_channel::{Doorbell, Rung};
/// use manyhands_os::Deadline;
/// use std::time::Duration;
///
/// let bell = Doorbell::new()?;
/// let seen = bell.seen();
/// let ringer = bell.clone();
/// std::thread::scope(|threads| {
///     threads.spawn(move || ringer.ring());
///     let deadline = Deadline::after(Duration::from_secs(60));
///     assert_eq!(bell.wait(seen, &[], deadline), Rung::Rang);
/// });
/// # Ok::<(), manyhands_shm::NoSpace>(())
/// ```
///
/// # How no ring is lost
///
/// As in a ring's parking place: the ringer changes `sequence` and then looks at `sleeping`, the
/// waiter sets `sleeping` and then looks at `sequence`; all four are `SeqCst`, so one of the two
/// sees the other. Only the waiter clears `sleeping`, so a ringer that dies half-way keeps nobody
/// else from waking the waiter.
pub struct Doorbell {
    bell: Shared<Bell>,
    /// The sleep that this handle ended last: it is not ended again.
    woken: LocalU32,
    spin: Spin,
}

/// The words in shared memory.
#[repr(C)]
#[derive(Debug, Shareable)]
struct Bell {
    /// Counts the rings; the futex word.
    sequence: AtomicU32,
    /// Zero while nobody sleeps, else the sequence at which the waiter lay down, doubled, plus one.
    sleeping: AtomicU32,
}

/// How a wait for a bell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The bell was rung.
    Rang,
    /// The participant of this index is dead. What it sent before is still in its rings.
    Death(usize),
    /// The deadline passed.
    TimedOut,
}

impl Doorbell {
    /// Makes a bell.
    ///
    /// # Errors
    ///
    /// [`NoSpace`] when the arena has no room for it, or when there is no arena.
    pub fn new() -> Result<Self, NoSpace> {
        Ok(Self::around(Shared::new(Bell {
            sequence: AtomicU32::new(0),
            sleeping: AtomicU32::new(0),
        })?))
    }

    /// Ends the present wait, or the next one that begins from a number seen before.
    ///
    /// Never blocks; makes a system call only while somebody sleeps.
    pub fn ring(&self) {
        // SeqCst, both: see the type. It also publishes what the ringer did before.
        self.bell.sequence.fetch_add(1, SeqCst);
        let sleeping = self.bell.sleeping.load(SeqCst);
        // Relaxed: only a thread of this handle has to see it, and an old value costs a wake-up.
        if sleeping != 0 && sleeping != self.woken.load(Relaxed) {
            futex::wake_all(&self.bell.sequence, Scope::Shared);
            // Only now: a death in the line above must not leave a wake-up counted as done.
            self.woken.store(sleeping, Relaxed);
        }
    }

    /// The number of rings so far, to be taken before looking at what the bell is for.
    pub fn seen(&self) -> u32 {
        // SeqCst: partner is the increment in `ring`; what was done before it is seen.
        self.bell.sequence.load(SeqCst)
    }

    /// Waits until the bell was rung after `seen`, until one of `lives` is dead, or until the
    /// deadline.
    ///
    /// A dead participant is reported each time until the caller leaves it out. The kernel watches
    /// 127 lives; deaths of those behind them are noticed within 50 ms.
    pub fn wait(&self, seen: u32, lives: &[Participant], deadline: Deadline) -> Rung {
        loop {
            if self.seen() != seen {
                return Rung::Rang;
            }
            if let Some(index) = lives.iter().position(|life| !life.is_alive()) {
                if let Some(life) = lives[index].life() {
                    life.pass_on();
                }
                return Rung::Death(index);
            }
            if deadline.has_passed() {
                return Rung::TimedOut;
            }
            let changed = || self.seen() != seen;
            self.spin
                .wait(deadline, changed, || self.sleep(seen, lives, deadline));
        }
    }

    fn sleep(&self, seen: u32, lives: &[Participant], deadline: Deadline) {
        // SeqCst, with the load in `seen`: see the type.
        self.bell.sleeping.store(seen << 1 | 1, SeqCst);
        if self.seen() == seen {
            self.sleep_on_words(seen, lives, deadline);
        }
        // Relaxed: a ringer that still sees the old value makes one system call too many.
        self.bell.sleeping.store(0, Relaxed);
    }

    fn sleep_on_words(&self, seen: u32, lives: &[Participant], deadline: Deadline) {
        let me = arena::family().ok().map(|arena| arena.me());
        let others = lives.iter().filter(|life| Some(**life) != me);
        let mut watched = Vec::with_capacity(lives.len().min(MAX_LIVES));
        let mut all_watched = true;
        for participant in others {
            match participant.life() {
                Some(life) if watched.len() < MAX_LIVES && !life.is_vacant() => watched.push(life),
                // Dead and cleaned up since the caller looked: the next look tells.
                None => return,
                // Too many, or a child that has not come yet.
                Some(_) => all_watched = false,
            }
        }
        let slice = if all_watched {
            Deadline::NEVER
        } else {
            Deadline::after(UNWATCHED_SLICE)
        };
        let object = Watch {
            word: &self.bell.sequence,
            expected: seen,
            scope: Scope::Shared,
        };
        // How it ended does not matter: `wait` looks at everything again.
        let _: WaitEnd = life::wait(object, &watched, deadline.earlier(slice));
    }

    fn around(bell: Shared<Bell>) -> Self {
        Self {
            bell,
            woken: LocalU32::new(0),
            spin: Spin::new(),
        }
    }
}

impl Clone for Doorbell {
    fn clone(&self) -> Self {
        Self::around(self.bell.clone())
    }
}

impl Serialize for Doorbell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.bell.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Doorbell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Shared::deserialize(deserializer).map(Self::around)
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Doorbell")
            .field("seen", &self.seen())
            .finish_non_exhaustive()
    }
}
