//! A word that says whether a process is alive, and that wakes who waits for its end.
//!
//! A life word is a robust word that one thread of the process, its [keeper](crate::keeper), takes
//! once and holds for ever, with WAITERS set from the start. When the process dies, by any cause,
//! the kernel marks the word and wakes one sleeper; who is woken wakes the rest. "Is it alive?"
//! is one load. It knows of a death before process descriptors, sockets and file locks do: those
//! wait until the memory of the dead is torn down.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manyhands_os::Deadline;

use crate::primitive::futex::{self, MAX_WATCHES, Scope, Wake, WakeAny, Watch};
use crate::primitive::robust::{self, OWNER, OWNER_DIED, Place, WAITERS};
use crate::primitive::{AtomicU32, AtomicU64, OwnedBits, low_half, thread_id};
use crate::raw::net;

/// The life of one process; 40 bytes in shared memory, vacant when zeroed.
///
/// ```text
/// vacant (0) --hold--> alive (thread | WAITERS) --death--> dead (OWNER_DIED | WAITERS) --clear--> vacant
/// ```
#[repr(C)]
pub struct LifeWord {
    word: OwnedBits,
    _unused: [AtomicU64; 2],
    previous: AtomicU64,
    next: AtomicU64,
}

const _: () = assert!(size_of::<LifeWord>() == Place::SIZE);
const _: () = assert!(std::mem::offset_of!(LifeWord, previous) == Place::PREVIOUS);
const _: () = assert!(std::mem::offset_of!(LifeWord, next) == Place::NEXT);

/// The most lives that one [`wait`] watches beside its word, and beside one more word that says that
/// there are others to watch.
pub const MAX_LIVES: usize = MAX_WATCHES - 2;

/// How a [`wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// The word was woken or did not hold the expected value; or there is no reason at all.
    Woken,
    /// The life of this index has ended, or is vacant.
    Death(usize),
    /// The deadline passed.
    TimedOut,
}

impl LifeWord {
    /// A vacant word.
    pub const fn new() -> Self {
        Self {
            word: OwnedBits::new(0),
            _unused: [const { AtomicU64::new(0) }; 2],
            previous: AtomicU64::new(0),
            next: AtomicU64::new(0),
        }
    }

    /// Whether a process holds the word now.
    #[inline]
    pub fn is_alive(&self) -> bool {
        is_alive(self.bits())
    }

    /// Whether a process held the word and has died.
    #[inline]
    pub fn is_dead(&self) -> bool {
        self.bits() & OWNER_DIED != 0
    }

    /// Whether nobody has held the word since it was cleared.
    pub fn is_vacant(&self) -> bool {
        self.bits() == 0
    }

    /// What to sleep on until the death; `None` when there is nothing to wait for any more.
    ///
    /// Whoever sleeps by hand must call [`pass_on`](Self::pass_on) when it wakes; [`wait`] does.
    pub fn watch(&self) -> Option<Watch<'_>> {
        Seen::new(self).watch()
    }

    /// Wakes the other sleepers of a dead word: the kernel wakes one only.
    pub fn pass_on(&self) {
        if !self.is_alive() {
            futex::wake_all(self.half(), Scope::Shared);
        }
    }

    /// Waits for the death; `false` when the deadline passed first.
    pub fn wait_death(&self, deadline: Deadline) -> bool {
        loop {
            match wait_any(&[], &[Seen::new(self)], deadline) {
                WaitEnd::Death(_) => return true,
                WaitEnd::TimedOut => return false,
                WaitEnd::Woken => {}
            }
        }
    }

    /// Makes a dead word vacant for the next process; by the reaper alone, under its lock.
    pub fn clear(&self) {
        // Relaxed: a sleeper of the dead is woken, not matched.
        let bits = self.word.load(Relaxed);
        if bits as u32 & OWNER_DIED != 0 {
            // Release: whoever finds it vacant finds what the reaper has done before.
            let _ = self.word.compare_exchange(bits, 0, Release, Relaxed);
            futex::wake_all(self.half(), Scope::Shared);
        }
    }

    /// Takes the word for the calling thread, whose end it then tells; returns whether it was vacant.
    ///
    /// For the life of a process let its [keeper](crate::keeper::hold) do it, which ends last.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_sync::life::LifeWord;
    ///
    /// static LIFE: LifeWord = LifeWord::new();
    /// let thread = std::thread::spawn(|| LIFE.hold());
    /// assert!(thread.join().expect("no panic"));
    /// assert!(LIFE.is_dead() && !LIFE.hold());
    /// ```
    pub fn hold(&'static self) -> bool {
        let head = robust::head();
        let at = (&raw const *self).cast::<u8>();
        let former = head.announce(head.entry_of(at));
        let alive = u64::from(thread_id() | WAITERS);
        // Relaxed: the word stands for itself.
        let taken = self
            .word
            .compare_exchange(0, alive, Relaxed, Relaxed)
            .is_ok();
        if taken {
            // SAFETY: `link` needs `Place::SIZE` bytes that this thread owns.
            // - where: they are this word, whose layout is asserted above, borrowed for ever.
            // - who: it was taken just now; nobody else touches the node of a taken word.
            // - what: the two pointers of the node are written before they are read.
            unsafe { head.link(at) };
        }
        head.retract(former);
        taken
    }

    fn bits(&self) -> u32 {
        // Acquire: whoever sees the death sees all that the dead wrote; the kernel's barrier at
        // the death is the partner.
        self.word.load(Acquire) as u32
    }

    fn half(&self) -> &AtomicU32 {
        low_half(&self.word)
    }
}

impl Default for LifeWord {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LifeWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.bits();
        let state = match bits {
            0 => "vacant",
            _ if is_alive(bits) => "alive",
            _ => "dead",
        };
        f.debug_struct("LifeWord")
            .field("state", &state)
            .field("keeper", &(bits & OWNER))
            .finish()
    }
}

fn is_alive(bits: u32) -> bool {
    bits & OWNER != 0
}

/// Sleeps while the word of `object` holds its value and all `lives` last, until the deadline.
///
/// This is *the* wait for something that another process will do: if that process dies first,
/// the wait ends with its [`WaitEnd::Death`]. It may also end `Woken` for no reason.
///
/// # Panics
///
/// With more than [`MAX_LIVES`] lives.
///
/// # Examples
///
/// ```
/// use manyhands_os::Deadline;
/// use manyhands_os::futex::{Scope, Watch};
/// use manyhands_sync::life::{LifeWord, WaitEnd, wait};
/// use std::sync::atomic::AtomicU32;
///
/// let answer = AtomicU32::new(0);
/// let object = Watch { word: &answer, expected: 0, scope: Scope::Private };
/// assert_eq!(wait(object, &[], Deadline::now()), WaitEnd::TimedOut);
/// let nobody = LifeWord::new();
/// assert_eq!(wait(object, &[&nobody], Deadline::NEVER), WaitEnd::Death(0));
/// ```
pub fn wait(object: Watch<'_>, lives: &[&LifeWord], deadline: Deadline) -> WaitEnd {
    assert!(
        lives.len() <= MAX_LIVES,
        "one wait watches at most {MAX_LIVES} lives"
    );
    let mut seen = [Seen::OVER; MAX_LIVES];
    for (place, life) in seen.iter_mut().zip(lives) {
        *place = Seen::new(life);
    }
    wait_any(&[object], &seen[..lives.len()], deadline)
}

/// What nobody changes or wakes.
const NOTHING: Watch<'static> = {
    static WORD: AtomicU32 = AtomicU32::new(0);
    Watch {
        word: &WORD,
        expected: 0,
        scope: Scope::Private,
    }
};

/// A life as it was at some time, to be told from that of a later process with the same word.
///
/// Whoever finds a life by the name of its process takes it so, and then asks once more whether it is
/// that process's still: only then it does not watch a stranger.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    life: &'a LifeWord,
    bits: u32,
}

impl<'a> Seen<'a> {
    /// A life that is over.
    pub(crate) const OVER: Seen<'static> = {
        static NOBODY: LifeWord = LifeWord::new();
        Seen {
            life: &NOBODY,
            bits: OWNER_DIED,
        }
    };

    /// As it is now.
    pub fn new(life: &'a LifeWord) -> Self {
        Self {
            life,
            bits: life.bits(),
        }
    }

    /// Whether nobody held it.
    pub(crate) fn is_vacant(&self) -> bool {
        self.bits == 0
    }

    /// Whether it has ended since, or before.
    pub fn has_ended(&self) -> bool {
        !is_alive(self.bits) || self.life.bits() != self.bits
    }

    fn watch(&self) -> Option<Watch<'a>> {
        is_alive(self.bits).then(|| Watch {
            word: self.life.half(),
            expected: self.bits,
            scope: Scope::Shared,
        })
    }

    fn is_over(&self) -> bool {
        !self.life.is_alive()
    }
}

/// As [`wait`], while the words of all `objects` hold their values, and for lives that were seen before.
///
/// When one of them has ended since and another process has its word, the wait ends `Woken`. With no
/// object and no life it sleeps until the deadline.
///
/// # Panics
///
/// With more than [`MAX_WATCHES`] objects and lives together.
///
/// # Examples
///
/// ```
/// use manyhands_os::Deadline;
/// use manyhands_os::futex::{Scope, Watch};
/// use manyhands_sync::life::{LifeWord, Seen, WaitEnd, wait_any};
/// use std::sync::atomic::AtomicU32;
///
/// let words = [AtomicU32::new(0), AtomicU32::new(1)];
/// let objects = words.each_ref().map(|word| Watch { word, expected: 0, scope: Scope::Private });
/// assert_eq!(wait_any(&objects, &[], Deadline::NEVER), WaitEnd::Woken);
/// assert_eq!(wait_any(&objects[..1], &[], Deadline::now()), WaitEnd::TimedOut);
/// let nobody = LifeWord::new();
/// let lives = [Seen::new(&nobody)];
/// assert_eq!(wait_any(&objects[..1], &lives, Deadline::NEVER), WaitEnd::Death(0));
/// ```
pub fn wait_any(objects: &[Watch<'_>], lives: &[Seen<'_>], deadline: Deadline) -> WaitEnd {
    assert!(
        objects.len() + lives.len() <= MAX_WATCHES,
        "one wait watches at most {MAX_WATCHES} words and lives"
    );
    let mut watches = [NOTHING; MAX_WATCHES];
    watches[..objects.len()].copy_from_slice(objects);
    let mut count = objects.len();
    for (index, seen) in lives.iter().enumerate() {
        match seen.watch() {
            Some(watch) => watches[count] = watch,
            None => return ended(lives, index),
        }
        count += 1;
    }
    let Some(first) = lives.first() else {
        return wait_words(&watches[..count.max(1)], deadline);
    };
    // If this thread is killed after the kernel has woken it, and it alone, for a death, then the
    // kernel wakes the next sleeper: the life is announced. One can be, so it is the first; the
    // net of `slice` is under the others.
    let head = robust::head();
    let former = head.announce(head.entry_of((&raw const *first.life).cast()));
    let slice = deadline.earlier(net::slice());
    let end = futex::wait_any(&watches[..count], slice);
    let end = match lives.iter().position(Seen::is_over) {
        Some(index) => ended(lives, index),
        None if end == WakeAny::TimedOut && deadline.has_passed() => WaitEnd::TimedOut,
        None => WaitEnd::Woken,
    };
    head.retract(former);
    end
}

fn wait_words(words: &[Watch<'_>], deadline: Deadline) -> WaitEnd {
    let is_late = match words {
        [one] => futex::wait(one.word, one.expected, one.scope, deadline) == Wake::TimedOut,
        several => futex::wait_any(several, deadline) == WakeAny::TimedOut,
    };
    if is_late {
        WaitEnd::TimedOut
    } else {
        WaitEnd::Woken
    }
}

fn ended(lives: &[Seen<'_>], index: usize) -> WaitEnd {
    // All: this thread may be the one sleeper that was woken for several deaths.
    for seen in &lives[index..] {
        seen.life.pass_on();
    }
    WaitEnd::Death(index)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn leak() -> &'static LifeWord {
        Box::leak(Box::new(LifeWord::new()))
    }

    #[test]
    fn life_of_a_thread_ends_with_it_and_wakes_everybody() {
        let life = leak();
        assert!(life.is_vacant());
        let go = &AtomicU32::new(0);
        let held = &std::sync::Barrier::new(2);
        std::thread::scope(|threads| {
            threads.spawn(move || {
                assert!(life.hold());
                held.wait();
                while go.load(Acquire) == 0 {
                    let _ = futex::wait(go, 0, Scope::Private, Deadline::NEVER);
                }
            });
            held.wait();
            assert!(life.is_alive() && !life.wait_death(Deadline::now()));
            for _ in 0..5 {
                threads.spawn(|| assert!(life.wait_death(Deadline::NEVER)));
            }
            go.store(1, Relaxed);
            futex::wake_all(go, Scope::Private);
        });
        assert!(life.is_dead());
        assert_eq!(life.watch().map(|watch| watch.expected), None);
        life.clear();
        assert!(life.is_vacant());
    }

    #[test]
    fn wait_for_a_life_ends_though_another_process_has_its_word() {
        let life = leak();
        let seen = std::thread::spawn(|| {
            assert!(life.hold());
            Seen::new(life)
        });
        // A joined thread is dead, and so is the life that it held.
        let seen = seen.join().expect("no panic");
        life.clear();
        crate::keeper::hold(life).expect("vacant again");
        let word = AtomicU32::new(0);
        let object = Watch {
            word: &word,
            expected: 0,
            scope: Scope::Private,
        };
        let late = Deadline::after(Duration::from_secs(60));
        assert_eq!(wait_any(&[object], &[seen], late), WaitEnd::Woken);
    }

    #[test]
    fn held_word_cannot_be_held_again() {
        let life = leak();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                assert!(life.hold());
                assert!(!life.hold());
            });
        });
        assert!(!life.hold());
    }

    #[test]
    fn waiter_for_several_words_and_lives_wakes_by_each_of_them() {
        let words = [const { AtomicU32::new(0) }; 3];
        let objects = words.each_ref().map(|word| Watch {
            word,
            expected: 0,
            scope: Scope::Shared,
        });
        let words_of_life = [leak(), leak()];
        crate::keeper::hold(words_of_life[0]).expect("it was vacant");
        std::thread::scope(|threads| {
            let (held, is_held) = std::sync::mpsc::sync_channel(0);
            let (end, ended) = std::sync::mpsc::sync_channel::<()>(0);
            threads.spawn(move || {
                assert!(words_of_life[1].hold());
                held.send(()).expect("the test waits");
                let _ = ended.recv();
            });
            is_held.recv().expect("it runs");
            let lives = words_of_life.map(Seen::new);
            threads.spawn(|| {
                words[2].store(1, Relaxed);
                futex::wake_all(&words[2], Scope::Shared);
            });
            while words[2].load(Relaxed) == 0 {
                let end = wait_any(&objects, &lives, Deadline::NEVER);
                assert_eq!(end, WaitEnd::Woken);
            }
            drop(end);
            while wait_any(&objects[..2], &lives, Deadline::NEVER) != WaitEnd::Death(1) {}
            assert!(lives[1].has_ended() && !lives[0].has_ended());
        });
        let soon = Deadline::after(Duration::from_millis(3));
        assert_eq!(wait_any(&[], &[], soon), WaitEnd::TimedOut);
        let living = [Seen::new(words_of_life[0])];
        while wait_any(&[], &living, soon) != WaitEnd::TimedOut {}
        assert!(soon.has_passed());
    }

    #[test]
    fn waiter_wakes_by_the_object_as_well_as_by_time() {
        let word = AtomicU32::new(0);
        let object = Watch {
            word: &word,
            expected: 1,
            scope: Scope::Private,
        };
        let life = leak();
        crate::keeper::hold(life).expect("it was vacant");
        let lives = [life];
        assert_eq!(wait(object, &lives, Deadline::NEVER), WaitEnd::Woken);
        let object = Watch {
            expected: 0,
            ..object
        };
        let soon = Deadline::after(Duration::from_millis(3));
        while wait(object, &lives, soon) != WaitEnd::TimedOut {}
        assert!(soon.has_passed());
    }
}
