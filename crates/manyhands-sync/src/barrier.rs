//! A meeting point for a fixed number of parties.

use std::time::{Duration, Instant};
use std::{error, fmt};

use manyhands_os::Deadline;

pub use crate::raw::barrier::Broken;
use crate::raw::barrier::RawBarrier;
use crate::shareable::{LastPlace, Shareable};

/// Lets so many threads, or processes in shared memory, wait until all of them have come; again
/// and again.
///
/// A party whose time is up, or that dies while it waits, breaks the barrier: all others are told
/// at once why, instead of waiting for ever. A broken barrier stays so until it is
/// [reset](Self::reset). A party that dies before it comes is not known; only time-outs help.
///
/// In shared memory it takes 4 KiB: each process's arrivals are kept apart.
///
/// Python: `threading.Barrier`, `multiprocessing.Barrier`.
///
/// # Examples
///
/// ```
/// use manyhands_sync::Barrier;
///
/// let barrier = Barrier::new(3)?;
/// std::thread::scope(|threads| {
///     let all: Vec<_> = (0..3).map(|_| threads.spawn(|| barrier.wait())).collect();
///     let mut indices: Vec<u32> =
///         all.into_iter().map(|one| one.join().expect("no panic").expect("not broken")).collect();
///     indices.sort();
///     assert_eq!(indices, [0, 1, 2]);
/// });
/// # Ok::<(), manyhands_sync::NoParties>(())
/// ```
#[repr(C)]
pub struct Barrier {
    raw: RawBarrier,
}

// SAFETY: made of atomics and a number that never changes, without pointers.
unsafe impl Shareable for Barrier {
    fn placed(&self, here: LastPlace) {
        self.raw.placed(here);
    }

    const PINNED: bool = true;
}

impl Barrier {
    /// A barrier for so many parties.
    ///
    /// # Errors
    ///
    /// [`NoParties`] for zero: nobody would ever open it.
    pub const fn new(parties: u32) -> Result<Self, NoParties> {
        match parties {
            0 => Err(NoParties),
            _ => Ok(Self {
                raw: RawBarrier::new(parties),
            }),
        }
    }

    /// Waits until all parties have come; tells how many came before this one.
    ///
    /// There is no form that does not wait: a party that comes and goes again breaks the meeting.
    /// [`waiting`](Self::waiting) looks without coming.
    ///
    /// # Errors
    ///
    /// [`Broken`], with the reason, to everybody who waits or comes until it is reset.
    pub fn wait(&self) -> Result<u32, Broken> {
        self.wait_until(Deadline::NEVER, None)
    }

    /// As [`wait`](Self::wait), at most `timeout`: when that is over, the barrier is broken.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<u32, Broken> {
        self.wait_until(Deadline::after(timeout), None)
    }

    /// As [`wait_timeout`](Self::wait_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_deadline(&self, deadline: Instant) -> Result<u32, Broken> {
        self.wait_until(Deadline::at(deadline), None)
    }

    /// As [`wait_timeout`](Self::wait_timeout), but the party that comes last runs `action` before
    /// the others go on.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait); a panic in `action` goes on here, and breaks the barrier.
    pub fn wait_and(&self, timeout: Duration, action: impl FnOnce()) -> Result<u32, Broken> {
        let mut action = Some(action);
        let mut once = || {
            if let Some(action) = action.take() {
                action();
            }
        };
        self.wait_until(Deadline::after(timeout), Some(&mut once))
    }

    /// Breaks the barrier: everybody who waits or comes is told.
    pub fn abort(&self) {
        self.raw.break_for(Broken::Aborted);
    }

    /// Makes a broken barrier usable again; whoever waits is told that it was broken.
    pub fn reset(&self) {
        self.raw.reset();
    }

    /// How many parties it takes.
    pub fn parties(&self) -> u32 {
        self.raw.parties()
    }

    /// How many wait now, none when it is broken; old by the time it is read.
    pub fn waiting(&self) -> u32 {
        if self.is_broken() {
            0
        } else {
            self.raw.waiting()
        }
    }

    /// Whether it is broken now.
    pub fn is_broken(&self) -> bool {
        self.raw.is_broken()
    }

    /// What can be seen of the barrier without waiting; old by the time it is read.
    pub fn inspect(&self) -> BarrierState {
        let broken = self.raw.broken();
        BarrierState {
            shared: self.raw.is_shared(),
            parties: self.parties(),
            waiting: if broken.is_some() {
                0
            } else {
                self.raw.waiting()
            },
            broken,
        }
    }

    fn wait_until(
        &self,
        deadline: Deadline,
        action: Option<&mut dyn FnMut()>,
    ) -> Result<u32, Broken> {
        let arrival = self.raw.arrive(action.is_some(), deadline)?;
        if !self.raw.is_last(arrival) {
            self.raw.wait(arrival, deadline)?;
        } else if let Some(action) = action {
            self.act(action);
            self.raw.open(arrival)?;
        }
        Ok(arrival.index)
    }

    fn act(&self, action: &mut dyn FnMut()) {
        /// Breaks the barrier when the action unwinds.
        struct Unwinding<'a>(&'a RawBarrier);

        impl Drop for Unwinding<'_> {
            fn drop(&mut self) {
                self.0.break_for(Broken::ActionFailed);
            }
        }

        let unwinding = Unwinding(&self.raw);
        action();
        std::mem::forget(unwinding);
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inspect();
        f.debug_struct("Barrier")
            .field(
                "waiting",
                &format_args!("{}/{}", state.waiting, state.parties),
            )
            .field("broken", &state.broken)
            .field("shared", &state.shared)
            .finish()
    }
}

/// What [`Barrier::inspect`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BarrierState {
    /// Whether it lies in shared memory.
    pub shared: bool,
    /// How many parties it takes.
    pub parties: u32,
    /// How many of them wait; none when it is broken.
    pub waiting: u32,
    /// Why it is broken, when it is.
    pub broken: Option<Broken>,
}

/// A barrier without parties would never open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoParties;

impl fmt::Display for NoParties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a barrier needs at least one party")
    }
}

impl error::Error for NoParties {}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => f.write_str("the barrier was aborted or reset"),
            Self::TimedOut => f.write_str("the barrier is broken: the time of a party was up"),
            Self::PartyDied(Some(who)) => {
                write!(f, "the barrier is broken: {who} died while it waited")
            }
            Self::PartyDied(None) => {
                f.write_str("the barrier is broken: a party died while it waited")
            }
            Self::ActionFailed => f.write_str("the barrier is broken: its action panicked"),
        }
    }
}

impl error::Error for Broken {}
