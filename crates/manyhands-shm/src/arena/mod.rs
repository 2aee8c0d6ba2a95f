#![doc = include_str!("README.md")]

mod block;
mod classes;
mod deposit;
mod layout;
mod members;
mod memory;
mod orphans;
mod parcel;
mod reaper;
mod seat;
mod sharing;
mod stats;
mod word;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use manyhands_os::process::{Identity, Pidfd};
use manyhands_sync::keeper::{self, KeeperError};
use manyhands_sync::life::LifeWord;
use manyhands_sync::member;
use manyhands_sync::raw::ShortGuard;

pub use block::{Block, GiveError, Handle};
pub use orphans::{end_children, watch_parent};
pub use seat::{Participant, Seat};
pub use stats::{ClassStats, HolderStats, Stats, stats};

pub(crate) use layout::MOST_ALIGNMENT;
pub(crate) use parcel::list_len;
pub(crate) use sharing::Hold;

use classes::Hints;
use layout::{CLASSES, MOST_WINDOWS};
use memory::Memory;
use sharing::Holds;
use word::{SeatState, SeatWord, Who};

use crate::error::{ArenaError, NoSpace};

/// The lengths of windows that are tried, in this order: limits on address space or file size may
/// forbid the larger ones.
const WINDOW_LENGTHS: [u64; 5] = [64 << 30, 16 << 30, 4 << 30, 1 << 30, 256 << 20];

/// The family's arena as this process sees it.
static FAMILY: OnceLock<&'static Arena> = OnceLock::new();
/// Mapped, but not joined yet.
static PREPARED: Mutex<Option<Memory>> = Mutex::new(None);
/// Held while the arena is made or joined, so that several threads make only one.
static MAKING: Mutex<()> = Mutex::new(());

/// A shared memory arena, and this process's seat in it.
///
/// There is one in a process family; see [`family`].
pub struct Arena {
    memory: Memory,
    me: Participant,
    hints: [Mutex<Hints>; CLASSES],
    /// How many [`Hold`]s of each shared block this process has; the shared set has one bit.
    holds: Mutex<Holds>,
}

/// The arena of this process family.
///
/// The root process, which is any that was not started by manyhands, makes it at first use, or
/// before with [`found`]; a child has the one that it [joined](join). It stays mapped for the life of the process.
///
/// # Errors
///
/// [`ArenaError`] when the root cannot make it; the next call tries again.
///
/// # Examples
///
/// ```
/// let arena = manyhands_shm::arena::family()?;
/// let block = arena.allocate(1000)?;
/// assert!(block.len() >= 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[inline]
pub fn family() -> Result<&'static Arena, ArenaError> {
    match FAMILY.get() {
        Some(arena) => Ok(arena),
        None => found_largest(),
    }
}

/// Finds a block of at least `len` bytes that belongs to nobody, and makes it this process's.
///
/// # Errors
///
/// As [`Arena::allocate`], or when there is no arena.
///
/// # Examples
///
/// ```
/// let block = manyhands_shm::arena::allocate(1000)?;
/// assert_eq!(block.len(), 1000);
/// # Ok::<(), manyhands_shm::NoSpace>(())
/// ```
pub fn allocate(len: usize) -> Result<Block, NoSpace> {
    let arena = family().map_err(|reason| NoSpace::without_arena(len, reason))?;
    arena.allocate(len)
}

#[cold]
fn found_largest() -> Result<&'static Arena, ArenaError> {
    let _making = lock(&MAKING);
    if let Some(arena) = FAMILY.get() {
        return Ok(arena);
    }
    let arena = Arena::found(make()?)?;
    member::install(arena);
    Ok(FAMILY.get_or_init(|| arena))
}

/// Makes the arena of this process family, with a bound on what the family can share: up to
/// `windows` times `window` bytes.
///
/// For the root process, before anything else needs the arena; otherwise [`family`] makes the
/// largest that the limits of the process allow. A process needs addresses for those windows only
/// that it uses. The largest block is a sixty-fourth of a window, and at most 1 GiB.
///
/// # Errors
///
/// [`ArenaError::Length`] when `window` is less than 1 MiB, or no multiple of 4 KiB.
/// [`ArenaError::AlreadyJoined`] when this process has an arena. Others when the system refuses.
///
/// # Examples
///
/// ```
/// use manyhands_shm::arena;
///
/// let arena = arena::found(64 << 20, 4)?; // 256 MiB in all
/// assert!(arena.allocate(1 << 20).is_ok());
/// assert!(arena.allocate(2 << 20).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn found(window: u64, windows: u32) -> Result<&'static Arena, ArenaError> {
    let _making = lock(&MAKING);
    if FAMILY.get().is_some() {
        return Err(ArenaError::AlreadyJoined);
    }
    let arena = Arena::found(Memory::create(window, windows)?)?;
    member::install(arena);
    Ok(FAMILY.get_or_init(|| arena))
}

/// Joins the family of the parent; the first thing that a child does.
///
/// When the parent has died, or dies later, this process is killed: it serves nobody any more.
///
/// # Errors
///
/// [`ArenaError::SeatGone`] and [`ArenaError::ParentGone`] when the parent died before the child
/// came: the child has nobody to work for and ends. Other errors when `fd` is no arena, when it
/// cannot be mapped, or when this process has an arena already.
pub fn join(fd: OwnedFd, seat: Seat) -> Result<&'static Arena, ArenaError> {
    prepare(fd)?;
    let arena = sit(seat, keeper::hold)?;
    arena.follow(seat, None)?;
    Ok(arena)
}

/// Maps the family's arena without a seat in it: for a process whose forks will be members, so that
/// none of them has to map it. Do it once, and then [`join_here`] in the fork.
///
/// # Errors
///
/// As [`join`], but for those that concern the seat.
pub fn prepare(fd: OwnedFd) -> Result<(), ArenaError> {
    let memory = Memory::attach(fd)?;
    *lock(&PREPARED) = Some(memory);
    Ok(())
}

/// As [`join`], of what was [prepared](prepare), and with the calling thread in the place of a new
/// one that keeps this process's life: the family takes the end of that thread for the end of the
/// process. It must be one that ends with the process, such as the first.
///
/// What becomes of this process when its parent dies is to be said next, by [`Arena::follow`].
///
/// # Errors
///
/// As [`join`]; [`ArenaError::NotPrepared`].
pub fn join_here(seat: Seat) -> Result<&'static Arena, ArenaError> {
    sit(seat, |life| {
        let held = life.hold();
        held.then_some(()).ok_or(KeeperError::NotVacant)
    })
}

/// How a process comes to hold its life word.
type HoldLife = fn(&'static LifeWord) -> Result<(), KeeperError>;

fn sit(seat: Seat, hold: HoldLife) -> Result<&'static Arena, ArenaError> {
    let _making = lock(&MAKING);
    if FAMILY.get().is_some() {
        return Err(ArenaError::AlreadyJoined);
    }
    let memory = lock(&PREPARED).take().ok_or(ArenaError::NotPrepared)?;
    let arena = Arena::sit_down(memory, seat, hold)?;
    member::install(arena);
    Ok(FAMILY.get_or_init(|| arena))
}

/// An arena with the largest windows that the limits of this process allow, and as many of them.
fn make() -> Result<Memory, ArenaError> {
    let mut outcome = Err(ArenaError::Length { len: 0 });
    for len in WINDOW_LENGTHS {
        for windows in [MOST_WINDOWS, 1] {
            outcome = Memory::create(len, windows);
            if outcome.is_ok() {
                return outcome;
            }
        }
    }
    outcome
}

/// The family's arena, if this process has one already.
pub(crate) fn joined() -> Option<&'static Arena> {
    FAMILY.get().copied()
}

impl Arena {
    /// Makes the first process of a family out of the calling one. The arena is leaked, as its map
    /// is: both live as long as the process.
    fn found(memory: Memory) -> Result<&'static Arena, ArenaError> {
        let me = Participant::new(0, 1);
        let seat = memory.seat(0);
        // Release: nobody else has the arena yet; later joiners get it through a descriptor.
        seat.identity.store(Identity::current().pack(), Release);
        let word = SeatWord::new(1, Who::NOBODY, SeatState::Taken);
        seat.word.store(word.to_bits(), Release);
        keeper::hold(&seat.life)?;
        Ok(Arena::new(memory, me))
    }

    /// Takes a reserved seat and holds its life word.
    fn sit_down(memory: Memory, seat: Seat, hold: HoldLife) -> Result<&'static Arena, ArenaError> {
        let arena = Arena::new(memory, seat.participant());
        if !arena.take_seat(seat) {
            return Err(ArenaError::SeatGone {
                slot: seat.participant().slot(),
            });
        }
        hold(&arena.memory.seat(arena.me.slot()).life)?;
        Ok(arena)
    }

    fn new(memory: Memory, me: Participant) -> &'static Arena {
        Box::leak(Box::new(Arena {
            memory,
            me,
            hints: [const { Mutex::new(Hints::new()) }; CLASSES],
            holds: Mutex::default(),
        }))
    }

    /// Has `then` called when this process's parent has died. It must see to it that this process ends
    /// soon, and return at once: it runs on a thread of this library, with all signals blocked. With
    /// `None`, the process is killed. For who has [joined on a thread of its own](join_here).
    ///
    /// # Errors
    ///
    /// [`ArenaError::ParentGone`], or when the system refuses a thread.
    pub fn follow(&self, seat: Seat, then: Option<fn()>) -> Result<(), ArenaError> {
        let then = then.unwrap_or(end_with_parent);
        let parent = seat.parent();
        let gone = || ArenaError::ParentGone {
            slot: seat.participant().slot(),
        };
        let life = self.life(parent).ok_or_else(gone)?;
        keeper::on_death(life, then)?;
        // Looked at again: had the parent been cleaned up in between, the keeper might watch the
        // life of the seat's next user.
        self.check_parent(seat)?;
        let record = self.memory.seat(self.me.slot());
        // Relaxed: the keeper watches, whoever sees it and whoever does not.
        record.follows.store(self.me.generation(), Relaxed);
        Ok(())
    }

    /// The participant that this process is.
    pub fn me(&self) -> Participant {
        self.me
    }

    /// The descriptor by which a child maps the arena.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// The length of the arena in bytes, nearly all of them without memory behind. It grows when
    /// there is no free block any more.
    pub fn len(&self) -> u64 {
        self.memory.window_offset(self.memory.opened())
    }

    /// An arena is never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The arena's lock. What it guards is written by single stores, each of which leaves a state
    /// that the sweep after a death completes; or it is in the journal, and is completed here.
    pub(crate) fn lock(&self) -> ShortGuard<'_> {
        let mut guard = self.memory.header().lock.lock();
        if guard.owner_died() {
            guard.mark_consistent();
        }
        self.complete();
        guard
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Arena");
        shown
            .field("me", &self.me)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// A private mutex; a panic while it was held does not hurt what is inside.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills this process: what [`Arena::follow`] does when there is nothing else to do.
pub fn end_with_parent() {
    const SIGKILL: i32 = 9;
    // Not `exit`: its handlers may wait for a thread that waits for the parent. The kill does not
    // return; abort is for a system that refuses it.
    if let Ok(myself) = Pidfd::open(std::process::id()) {
        let _ = myself.signal(SIGKILL);
    }
    std::process::abort();
}

#[cfg(test)]
pub(crate) mod tests;
