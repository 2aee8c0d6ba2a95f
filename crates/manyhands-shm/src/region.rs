//! Plain bytes that several processes share.

use std::fmt;
use std::sync::Arc;

use manyhands_os::OsError;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::arena::{Arena, Block, Handle, Hold, Participant, family};
use crate::error::{NoSpace, ParticipantGone};
use crate::handoff;

/// The kind of a region's block; no type's mark is zero.
const BYTES: u64 = 0;

/// Raw shared bytes, alive while any process holds them.
///
/// The bytes are zero at first and begin at a multiple of 64. Access is by raw pointer only: other
/// processes may write at any time, so no slice of them could be sound; what is built on a region
/// brings its own protocol of atomics.
///
/// Cloning is cheap and stays in this process; sending it in a parcel makes the receiver a holder.
/// A region whose last holder is killed is freed by the reaper.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use manyhands_shm::{Region, handoff};
///
/// let region = Region::new(4096)?;
/// // SAFETY: the region has 4096 bytes, is aligned, and is only used as atomics.
/// let counter = unsafe { AtomicU64::from_ptr(region.as_ptr().cast()) };
/// counter.fetch_add(1, Ordering::Relaxed);
///
/// let parcel = handoff::pack(&region)?; // send parcel.bytes, keep parcel.holds until received
/// let same: Region = handoff::unpack(&parcel.bytes)?;
/// assert_eq!(same.handle(), region.handle());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Region {
    hold: Arc<Hold>,
}

impl Region {
    /// Makes a region of `len` zeroed bytes, with this process as its holder.
    ///
    /// # Errors
    ///
    /// [`NoSpace`] when the arena is full, or cannot be made.
    pub fn new(len: usize) -> Result<Region, NoSpace> {
        let arena = family().map_err(|reason| NoSpace::without_arena(len, reason))?;
        Region::new_in(arena, len)
    }

    pub(crate) fn new_in(arena: &'static Arena, len: usize) -> Result<Region, NoSpace> {
        let mut block = arena.allocate(len)?;
        block.zero();
        Ok(Region {
            hold: Arc::new(Hold::share(block, BYTES)),
        })
    }

    /// The first byte; valid for [`len`](Self::len) bytes while this process holds the region.
    pub fn as_ptr(&self) -> *mut u8 {
        self.hold.address()
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.hold.len()
    }

    /// Whether the region has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The eight bytes that name this region.
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// Whether this is the only `Region` of its bytes, in any process. Then it stays so until it is
    /// cloned or sent: a [`handle`](Self::handle) that was noted before names it no longer.
    ///
    /// ```
    /// use manyhands_shm::Region;
    ///
    /// let mut region = Region::new(100)?;
    /// assert!(region.make_only());
    /// let other = region.clone();
    /// assert!(!region.make_only());
    /// # drop(other);
    /// # Ok::<(), manyhands_shm::NoSpace>(())
    /// ```
    pub fn make_only(&mut self) -> bool {
        Arc::get_mut(&mut self.hold).is_some_and(Hold::make_only)
    }

    /// Makes a block of this process one that lies in the region, and belongs to no process: it lives
    /// until somebody [withdraws](Self::withdraw) it, whatever becomes of this process, or as long as the
    /// region. The handle is what to withdraw it by.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_shm::{Region, arena};
    ///
    /// let region = Region::new(4096)?;
    /// let handle = region.deposit(arena::allocate(1 << 20)?);
    ///
    /// assert!(region.has_deposits());
    /// let block = region.withdraw(handle)?.expect("nobody was faster");
    /// assert!(block.len() == 1 << 20 && region.withdraw(handle)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deposit(&self, block: Block) -> Handle {
        self.hold.deposit(block)
    }

    /// Makes a block that lies in the region one of this process; `None` when it does not lie there, or
    /// not any more.
    ///
    /// # Errors
    ///
    /// [`OsError`] when this process has no room in its address space for the part of the arena that the
    /// block is in. It stays where it is.
    pub fn withdraw(&self, handle: Handle) -> Result<Option<Block>, OsError> {
        self.hold.withdraw(handle)
    }

    /// Whether blocks may lie in the region: `false` when none does, and `true` also when somebody died
    /// who deposited one or withdrew it.
    pub fn has_deposits(&self) -> bool {
        self.hold.has_deposits()
    }

    /// Where the bytes of a block that lies in the region begin, and how many they are; `None` when it
    /// does not lie there. Good until somebody withdraws it.
    ///
    /// # Errors
    ///
    /// As [`withdraw`](Self::withdraw).
    pub fn look_at(&self, handle: Handle) -> Result<Option<(*const u8, usize)>, OsError> {
        self.hold.look_at(handle)
    }

    /// Makes another participant a holder before it has asked, typically a child that has a seat
    /// but has not come: it finds itself a holder, and if it dies first, the reaper takes the hold
    /// back. The hold is one with those that the participant gets by unpacking.
    ///
    /// # Errors
    ///
    /// [`ParticipantGone`] when it has ended.
    pub fn hold_for(&self, participant: Participant) -> Result<(), ParticipantGone> {
        self.hold.hold_for(participant)
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handoff::hold_block(self.clone(), self.handle()).map_err(S::Error::custom)?;
        serializer.serialize_u64(self.handle().to_bits())
    }
}

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Region, D::Error> {
        let hold = handoff::receive(deserializer, BYTES).map_err(D::Error::custom)?;
        Ok(Region {
            hold: Arc::new(hold),
        })
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("handle", &self.handle())
            .field("len", &self.len())
            .finish()
    }
}
