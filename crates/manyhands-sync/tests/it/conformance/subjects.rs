//! The locks that the suite runs over, each behind one small trait.

use std::fs::File;
use std::ops::DerefMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::last_place;
use manyhands_os::memory::{Map, Memfd};
use manyhands_sync::{Lock, LockError, LockGuard, LockTimeoutError, Shareable, TryLockError};

/// Which lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Private,
    Shared,
    Posix,
    RawSync,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Private, Self::Shared, Self::Posix, Self::RawSync];

    /// Where the kind stands in a row of the table.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// How long a locker waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    Forever,
    Try,
    AtMost(Duration),
}

/// How a section ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The guard is dropped.
    Leave,
    /// The guard is dropped after the data was called whole.
    Repair,
    /// The guard is leaked.
    Keep,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Entered,
    /// Entered, with the news of a death.
    OwnerDied,
    /// Held by somebody else all the time.
    Refused,
    Failed(String),
}

/// A lock around a number.
pub(super) trait Subject: Send + Sync {
    /// Takes the lock, runs the section inside, and ends it as the section says.
    fn enter(&self, wait: Wait, section: &mut dyn FnMut(&mut u64) -> End) -> Outcome;

    /// Whether somebody sleeps for the lock.
    fn has_waiters(&self) -> bool;
}

/// Memory that processes share: the lock at its start, and what the posix kinds keep beside it.
pub(crate) struct Memory {
    file: Memfd,
    map: Map,
}

#[cfg(all(feature = "posix", target_env = "gnu"))]
const DATA: usize = 128;
const FLAG: usize = 256;
const SIZE: u64 = 4096;

impl Memory {
    /// Fresh memory; it stays, since threads that wait for ever are left behind with it.
    pub(crate) fn fresh() -> &'static Self {
        let file = Memfd::create("conformance", SIZE).expect("a descriptor");
        file.reserve(0, SIZE).expect("a page");
        Self::of(file)
    }

    /// The memory of another process, by what [`name`](Self::name) said there.
    pub(crate) fn named(name: &str) -> &'static Self {
        let file = File::options().read(true).write(true).open(name);
        let descriptor = OwnedFd::from(file.expect("the other process lives"));
        Self::of(Memfd::from_fd(descriptor).expect("it is sealed"))
    }

    fn of(file: Memfd) -> &'static Self {
        let map = Map::shared(&file).expect("addresses");
        Box::leak(Box::new(Self { file, map }))
    }

    pub(crate) fn name(&self) -> String {
        let descriptor = self.file.as_fd().as_raw_fd();
        format!("/proc/{}/fd/{descriptor}", std::process::id())
    }

    /// Where it begins.
    #[cfg(all(feature = "posix", target_env = "gnu"))]
    pub(crate) fn start(&self) -> *mut u8 {
        self.map.as_ptr()
    }

    fn at<T>(&'static self, offset: usize) -> &'static T {
        let place = self.map.as_ptr().wrapping_add(offset).cast::<T>();
        // SAFETY: inside the page, aligned to 64, never unmapped; the types used are valid when
        // zeroed, and change through atomics or a lock only.
        unsafe { &*place }
    }

    /// A word for the two processes to tell each other something.
    pub(crate) fn flag(&'static self) -> &'static AtomicU32 {
        self.at(FLAG)
    }

    /// The lock in this memory, which is made there if `fresh`.
    pub(super) fn subject(&'static self, kind: Kind, fresh: bool) -> Arc<dyn Subject> {
        match kind {
            Kind::Private => Arc::new(Lock::new(0)),
            Kind::Shared => {
                let lock: &'static Lock<u64> = self.at(0);
                // Zeroed memory is a free lock; nobody else has seen it yet.
                if fresh {
                    lock.placed(last_place());
                }
                Arc::new(Placed(lock))
            }
            #[cfg(all(feature = "posix", target_env = "gnu"))]
            kind => self.foreign(kind, fresh),
            #[cfg(not(all(feature = "posix", target_env = "gnu")))]
            kind => unreachable!("{kind:?} needs the feature `posix`"),
        }
    }

    #[cfg(all(feature = "posix", target_env = "gnu"))]
    fn foreign(&'static self, kind: Kind, fresh: bool) -> Arc<dyn Subject> {
        use manyhands_sync::posix::PosixLock;
        use raw_sync::locks::{LockInit, Mutex};
        use std::cell::UnsafeCell;

        let memory = self.map.as_ptr();
        let data: &UnsafeCell<u64> = self.at(DATA);
        if kind == Kind::Posix && fresh {
            // SAFETY: fresh memory; both parts lie in the page and apart, the data is touched
            // under the lock only.
            let lock = unsafe { PosixLock::place(memory, data) };
            return Arc::new(lock.expect("glibc"));
        }
        if kind == Kind::Posix {
            // SAFETY: as above; the process that named the memory has placed the lock.
            let lock = unsafe { PosixLock::adopt(memory, data) };
            return Arc::new(lock.expect("one was placed"));
        }
        if fresh {
            // SAFETY: as above. The handle is made anew by each call.
            let made = unsafe { Mutex::new(memory, data.get().cast()) };
            drop(made.expect("there is memory"));
        }
        Arc::new(foreign::RawSync {
            memory: &self.map,
            data: DATA,
        })
    }
}

/// A lock of ours in shared memory.
struct Placed(&'static Lock<u64>);

impl Subject for Placed {
    fn enter(&self, wait: Wait, section: &mut dyn FnMut(&mut u64) -> End) -> Outcome {
        self.0.enter(wait, section)
    }

    fn has_waiters(&self) -> bool {
        self.0.has_waiters()
    }
}

impl Subject for Lock<u64> {
    fn enter(&self, wait: Wait, section: &mut dyn FnMut(&mut u64) -> End) -> Outcome {
        match wait {
            Wait::Forever => Told::from(self.lock()).enter(section),
            Wait::Try => Told::from(self.try_lock()).enter(section),
            Wait::AtMost(time) => Told::from(self.lock_timeout(time)).enter(section),
        }
    }

    fn has_waiters(&self) -> bool {
        self.inspect().waiters
    }
}

/// A guard of ours.
trait Repair: DerefMut<Target = u64> {
    fn repair(&mut self);
}

impl Repair for LockGuard<'_, u64> {
    fn repair(&mut self) {
        self.mark_consistent();
    }
}

/// What our three calls tell, in one type.
enum Told<G> {
    Guard(G, Outcome),
    None(Outcome),
}

impl<G: Repair> Told<G> {
    fn enter(self, section: &mut dyn FnMut(&mut u64) -> End) -> Outcome {
        match self {
            Self::None(outcome) => outcome,
            Self::Guard(mut guard, outcome) => {
                match section(&mut guard) {
                    End::Leave => drop(guard),
                    End::Repair => guard.repair(),
                    End::Keep => std::mem::forget(guard),
                }
                outcome
            }
        }
    }
}

impl<G> From<Result<G, LockError<G>>> for Told<G> {
    fn from(told: Result<G, LockError<G>>) -> Self {
        match told {
            Ok(guard) => Self::Guard(guard, Outcome::Entered),
            Err(LockError::OwnerDied { guard, .. }) => Self::Guard(guard, Outcome::OwnerDied),
            Err(error) => Self::None(Outcome::Failed(error.to_string())),
        }
    }
}

impl<G> From<Result<G, TryLockError<G>>> for Told<G> {
    fn from(told: Result<G, TryLockError<G>>) -> Self {
        match told {
            Ok(guard) => Self::Guard(guard, Outcome::Entered),
            Err(TryLockError::OwnerDied { guard, .. }) => Self::Guard(guard, Outcome::OwnerDied),
            Err(TryLockError::WouldBlock) => Self::None(Outcome::Refused),
            Err(error) => Self::None(Outcome::Failed(error.to_string())),
        }
    }
}

impl<G> From<Result<G, LockTimeoutError<G>>> for Told<G> {
    fn from(told: Result<G, LockTimeoutError<G>>) -> Self {
        match told {
            Ok(guard) => Self::Guard(guard, Outcome::Entered),
            Err(LockTimeoutError::OwnerDied { guard, .. }) => {
                Self::Guard(guard, Outcome::OwnerDied)
            }
            Err(LockTimeoutError::TimedOut { .. }) => Self::None(Outcome::Refused),
            Err(error) => Self::None(Outcome::Failed(error.to_string())),
        }
    }
}

/// The kinds of the feature.
#[cfg(all(feature = "posix", target_env = "gnu"))]
mod foreign {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use manyhands_os::memory::Map;
    use manyhands_sync::posix::{PosixLock, PosixLockGuard};
    use raw_sync::Timeout;
    use raw_sync::locks::{LockImpl, LockInit, Mutex};

    use super::{End, Outcome, Repair, Subject, Told, Wait};

    impl Repair for PosixLockGuard<'_, u64> {
        fn repair(&mut self) {
            self.mark_consistent();
        }
    }

    impl Subject for PosixLock<'_, u64> {
        fn enter(&self, wait: Wait, section: &mut dyn FnMut(&mut u64) -> End) -> Outcome {
            match wait {
                Wait::Forever => Told::from(self.lock()).enter(section),
                Wait::Try => Told::from(self.try_lock()).enter(section),
                Wait::AtMost(time) => Told::from(self.lock_timeout(time)).enter(section),
            }
        }

        fn has_waiters(&self) -> bool {
            self.inspect().waiters
        }
    }

    /// raw_sync's own mutex.
    pub(super) struct RawSync {
        pub(super) memory: &'static Map,
        pub(super) data: usize,
    }

    impl RawSync {
        fn handle(&self) -> Box<dyn LockImpl> {
            let memory = self.memory.as_ptr();
            let data = memory.wrapping_add(self.data);
            // SAFETY: the mutex was made there, and the memory stays.
            let (lock, _) = unsafe { Mutex::from_existing(memory, data) }.expect("it takes all");
            lock
        }
    }

    impl Subject for RawSync {
        fn enter(&self, wait: Wait, section: &mut dyn FnMut(&mut u64) -> End) -> Outcome {
            let lock = self.handle();
            let taken = match wait {
                Wait::Forever => lock.lock(),
                // It has no other form that does not wait.
                Wait::Try => lock.try_lock(Timeout::Val(Duration::ZERO)),
                Wait::AtMost(time) => lock.try_lock(Timeout::Val(time)),
            };
            match taken {
                Ok(guard) => {
                    let data = guard.cast::<u64>();
                    // SAFETY: the data lies in the memory, and the guard stands for the lock.
                    let data = unsafe { &mut *data };
                    if let End::Keep = section(data) {
                        std::mem::forget(guard);
                    }
                    Outcome::Entered
                }
                // The error is a text with the C library's number.
                Err(error) => match error.to_string().rsplit(' ').next() {
                    Some("110") => Outcome::Refused,
                    Some("22") => Outcome::Failed("`EINVAL`".to_owned()),
                    _ => Outcome::Failed(error.to_string()),
                },
            }
        }

        fn has_waiters(&self) -> bool {
            let word = self.memory.as_ptr().cast::<u32>();
            // SAFETY: the mutex begins with glibc's word, which it changes by atomics.
            let word = unsafe { AtomicU32::from_ptr(word) };
            // Relaxed: nothing is ordered by it. 2 stands for "locked, and somebody may sleep".
            word.load(Relaxed) == 2
        }
    }
}
