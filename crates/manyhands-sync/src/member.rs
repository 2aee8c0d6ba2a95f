//! Who takes part: the processes that share a piece of memory, as the objects in it know them.
//!
//! What a process owns in a shared object (permits, read locks, arrivals) is stored under its
//! [`Member`] number, so that the others can take it back when the process is dead. The numbers,
//! and the life word behind each, are kept by whoever keeps the memory: `manyhands-shm` for its
//! arena. This room only asks.

use std::fmt;
use std::sync::OnceLock;

use manyhands_os::process::Identity;

use crate::deadlock::Graph;
use crate::life::LifeWord;

/// One process among those that share the memory, never to be mistaken for a later one in its
/// place: `slot:16` below, `generation:32` above it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member(u64);

/// How many places there are for members at one time.
pub const SLOTS: usize = 512;

impl Member {
    /// The member of this slot and generation; `None` unless the slot is one of [`SLOTS`] and the
    /// generation is not zero.
    pub fn new(slot: u16, generation: u32) -> Option<Self> {
        let fits = usize::from(slot) < SLOTS && generation != 0;
        fits.then_some(Self(u64::from(generation) << 16 | u64::from(slot)))
    }

    /// The place, below [`SLOTS`].
    pub fn slot(self) -> u16 {
        self.0 as u16
    }

    /// Which incarnation of the place.
    pub fn generation(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The member in one word of 48 bits, which is never zero.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// The member behind such a word.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        Self::new(bits as u16, (bits >> 16) as u32)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({}/{})", self.slot(), self.generation())
    }
}

/// Who knows the members of a piece of memory.
pub trait Members: Sync {
    /// The calling process; `None` when it is no member (yet).
    fn me(&self) -> Option<Member>;

    /// The life of a member, `None` when that incarnation is over. Loads only: it is asked inside
    /// of short sections.
    fn life(&self, member: Member) -> Option<&'static LifeWord>;

    /// Which process a member is or was, where that is still known. Loads only, as above.
    fn identity(&self, member: Member) -> Option<Identity>;

    /// Where [deadlocks](crate::deadlock) are looked for; `None` when they are not.
    fn graph(&self) -> Option<Graph> {
        None
    }
}

static MEMBERS: OnceLock<&'static dyn Members> = OnceLock::new();

/// Says who knows the members; the first to say so stays.
///
/// # Examples
///
/// ```
/// use manyhands_os::process::Identity;
/// use manyhands_sync::life::LifeWord;
/// use manyhands_sync::member::{Member, Members, current, install};
///
/// struct OnlyMe;
///
/// impl Members for OnlyMe {
///     fn me(&self) -> Option<Member> {
///         Member::new(0, 1)
///     }
///
///     fn life(&self, _: Member) -> Option<&'static LifeWord> {
///         None
///     }
///
///     fn identity(&self, _: Member) -> Option<Identity> {
///         None
///     }
/// }
///
/// assert_eq!(current(), None);
/// install(&OnlyMe);
/// assert_eq!(current(), Member::new(0, 1));
/// ```
pub fn install(members: &'static dyn Members) {
    // Whoever came first has the memory that this process shares; there is one such.
    let _ = MEMBERS.set(members);
}

/// The calling process, when it is a member.
pub fn current() -> Option<Member> {
    MEMBERS.get()?.me()
}

/// Who knows the members, if anybody said so.
pub(crate) fn all() -> Option<&'static dyn Members> {
    MEMBERS.get().copied()
}

/// The life of a member; `None` when that incarnation is over, or nobody knows any members.
pub fn life(member: Member) -> Option<&'static LifeWord> {
    MEMBERS.get()?.life(member)
}

/// Which process a member is or was, where known.
pub(crate) fn identity(member: Member) -> Option<Identity> {
    MEMBERS.get()?.identity(member)
}

/// Whether a member is dead or gone; who knows no members calls nobody dead.
pub(crate) fn is_over(member: Member) -> bool {
    let is_over = |members: &&dyn Members| {
        // A vacant word belongs to one that is just joining.
        members.life(member).is_none_or(LifeWord::is_dead)
    };
    MEMBERS.get().is_some_and(is_over)
}
