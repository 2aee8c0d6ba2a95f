//! What is told about threads that wait for each other.

use std::fmt;

use manyhands_os::process::Identity;

/// Threads that wait for each other in a circle: each for a lock that the next one holds, the last
/// for one that the first holds.
///
/// The first is the thread that is told of it. It waits no more; the others go on when it has left
/// what it holds.
///
/// # Examples
///
/// ```
/// use manyhands_sync::{Lock, LockError, deadlock};
///
/// let papers = Lock::new(0);
/// let first = papers.lock().expect("it is free");
/// if deadlock::ENABLED {
///     let Err(LockError::Deadlock { cycle }) = papers.lock() else {
///         panic!("this thread would wait for itself");
///     };
///     let [wait] = cycle.waits() else { panic!("nobody else takes part") };
///     assert_eq!(wait.process.pid, std::process::id());
///     assert!(cycle.to_string().starts_with("deadlock of 1 thread\n  process "));
/// }
/// drop(first);
/// assert!(papers.lock().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    waits: Waits,
}

/// The threads of a circle. Where nobody looks for circles there is no such value, and so no code
/// for it in what a lock returns.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Waits {
    #[cfg(any(debug_assertions, feature = "deadlock-detection"))]
    Found(Box<[Wait]>),
}

/// One thread of a [`Cycle`], and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wait {
    /// The process of the thread.
    pub process: Identity,
    /// The kernel's number of the thread.
    pub thread: u32,
    /// The name of the thread, its first 32 bytes; `None` when it has none.
    pub name: Option<String>,
    /// Which lock it waits for: how many bytes it lies behind the beginning of the shared memory,
    /// the same in every process. For a lock elsewhere its address.
    pub lock: u64,
    /// The call that waits, as `file:line:column`; its last 64 bytes.
    pub site: String,
}

impl Cycle {
    #[cfg(any(debug_assertions, feature = "deadlock-detection"))]
    pub(super) fn new(waits: Vec<Wait>) -> Self {
        Self {
            waits: Waits::Found(waits.into()),
        }
    }

    #[cfg(not(any(debug_assertions, feature = "deadlock-detection")))]
    pub(super) fn new(_: Vec<Wait>) -> Self {
        unreachable!("nobody looks for circles")
    }

    /// Who takes part: first the thread that was told, then the holder of the lock that it wants,
    /// and so on.
    pub fn waits(&self) -> &[Wait] {
        match self.waits {
            #[cfg(any(debug_assertions, feature = "deadlock-detection"))]
            Waits::Found(ref waits) => waits,
        }
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits = self.waits();
        let ending = if waits.len() == 1 { "" } else { "s" };
        write!(f, "deadlock of {} thread{ending}", waits.len())?;
        let holders = waits.iter().cycle().skip(1);
        for (wait, holder) in waits.iter().zip(holders) {
            write!(f, "\n  {wait}, held by thread {}", holder.thread)?;
        }
        Ok(())
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, thread {}", self.process, self.thread)?;
        if let Some(name) = &self.name {
            write!(f, " \"{name}\"")?;
        }
        write!(f, ", waits at {} for lock {:#x}", self.site, self.lock)
    }
}
