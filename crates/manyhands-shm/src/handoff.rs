//! What crosses to another process: values to bytes, and back, with the shared objects inside of
//! them kept alive on the way.
//!
//! A value is encoded with [postcard](https://docs.rs/postcard). A handle to a shared object
//! ([`Region`], [`Shared`](crate::Shared), and what upper rooms build on them)
//! crosses as eight bytes; between the sender's last use and the receiver's first, somebody must
//! hold the object. That is the [`Parcel`]: the bytes, and [`Holds`] on every object in them,
//! which the sender keeps until the receiver has unpacked, or is dead.
//!
//! Outside of a parcel, to a file for example, handles refuse to be serialized.

use std::cell::{Cell, RefCell};
use std::fmt;

use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::arena::{Arena, Block, Handle, Hold, family, list_len};
use crate::error::{ArenaError, NoSpace, OutsideParcel, PackError, UnpackError};
use crate::region::Region;

/// A value that can be sent to another process of the family: any that serde can take apart and
/// put together.
pub trait Handoff: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Handoff for T {}

/// An encoded value, and what keeps the shared objects in it alive.
#[derive(Debug)]
#[must_use = "the objects in a parcel may be freed as soon as its holds are dropped"]
pub struct Parcel {
    /// The encoded value.
    pub bytes: Vec<u8>,
    /// Drop them when the receiver has unpacked, or is dead.
    pub holds: Holds,
}

/// Holds on the shared objects of a parcel.
///
/// One pointer, so that what holds nothing, as nearly all parcels do, costs nothing on its way.
#[derive(Default)]
#[must_use = "the objects in a parcel may be freed as soon as its holds are dropped"]
pub struct Holds {
    held: Option<Box<Held>>,
}

#[derive(Default)]
struct Held {
    kept: Vec<Box<dyn Send>>,
    /// The shared blocks among what is kept.
    blocks: Vec<Handle>,
}

impl Holds {
    /// Whether the value had no shared objects in it; then nothing needs to be kept.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.held.is_none()
    }

    /// How many handles the value had in it.
    pub fn len(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.kept.len())
    }

    /// Takes over the holds of another parcel.
    pub fn extend(&mut self, other: Holds) {
        if let Some(other) = other.held {
            let held = self.held.get_or_insert_default();
            held.kept.extend(other.kept);
            held.blocks.extend(other.blocks);
        }
    }

    /// Keeps something besides, and drops it before the others.
    pub fn keep(&mut self, more: impl Send + 'static) {
        let held = self.held.get_or_insert_default();
        held.kept.insert(0, Box::new(more));
    }

    /// Whether the value refers to this region.
    pub fn has(&self, region: &Region) -> bool {
        self.blocks().contains(&region.handle())
    }

    fn blocks(&self) -> &[Handle] {
        self.held.as_ref().map_or(&[], |held| &held.blocks)
    }

    /// Whether a block can hold all of it, without any process: all are shared objects of the arena.
    fn are_blocks(&self) -> bool {
        self.len() == self.blocks().len()
    }
}

impl fmt::Debug for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holds").field("count", &self.len()).finish()
    }
}

/// Encodes a value.
///
/// # Errors
///
/// [`PackError`] when the value's `Serialize` implementation refuses.
///
/// # Examples
///
/// ```
/// use manyhands_shm::handoff;
///
/// let parcel = handoff::pack(&(1_u32, "one"))?;
/// assert!(parcel.holds.is_empty());
/// assert_eq!(handoff::unpack::<(u32, &str)>(&parcel.bytes)?, (1, "one"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Parcel, PackError> {
    let mut bytes = Vec::new();
    let holds = pack_into(value, &mut bytes)?;
    Ok(Parcel { bytes, holds })
}

/// Encodes a value behind what is in `bytes` already.
///
/// # Errors
///
/// As for [`pack`]; `bytes` is then as it was.
#[inline]
pub fn pack_into<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<Holds, PackError> {
    let before = bytes.len();
    let scope = PackScope::open();
    let outcome = postcard::serialize_with_flavor(value, Appender { bytes });
    let holds = scope.close();
    match outcome {
        Ok(()) => Ok(holds),
        Err(reason) => {
            bytes.truncate(before);
            let reason = refusal().unwrap_or_else(|| reason.to_string());
            Err(PackError::Refused { reason })
        }
    }
}

/// Copies an encoded value into a block that holds the shared objects in it, in place of the
/// process: as long as the block is there, whoever has it, they are. `None` when they are not all objects
/// of the arena (an end of a pipe, say, is open as long as somebody keeps it).
///
/// The bytes begin at the block's [`start`](Block::start). If the block is the last that holds an object,
/// this is freed with the block, without its destructor, as it is when its last holder is killed.
///
/// # Errors
///
/// [`NoSpace`] when the arena is full.
///
/// # Examples
///
/// ```
/// use manyhands_shm::{Shared, handoff};
///
/// let shared = Shared::new(7_u64)?;
/// let parcel = handoff::pack(&("seven", &shared))?;
/// let block = handoff::to_block(&parcel.bytes, &parcel.holds)?.expect("one of the arena");
/// drop((parcel.holds, shared));
///
/// // SAFETY: the block is ours, and has bytes up to its end.
/// let bytes = unsafe {
///     std::slice::from_raw_parts(block.as_ptr().add(block.start()), block.len() - block.start())
/// };
/// let (name, shared): (String, Shared<u64>) = handoff::unpack(bytes)?;
/// assert_eq!((name.as_str(), *shared), ("seven", 7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn to_block(bytes: &[u8], holds: &Holds) -> Result<Option<Block>, NoSpace> {
    if !holds.are_blocks() {
        return Ok(None);
    }
    let arena = receiving_arena().map_err(|reason| NoSpace::without_arena(bytes.len(), reason))?;
    let list = match holds.is_empty() {
        true => Some(0),
        false => list_len(holds.len()),
    };
    let len = list.and_then(|list| list.checked_add(bytes.len()));
    let block = arena.allocate(len.unwrap_or(usize::MAX))?;
    if !holds.is_empty() && !arena.hold_all(&block, holds.blocks()) {
        return Ok(None);
    }
    let place = block.as_ptr().wrapping_add(block.start());
    // SAFETY: `copy_nonoverlapping` needs two valid ranges that do not overlap.
    // - where: behind the list, the block has as many bytes; it is new, so the caller's are elsewhere.
    // - who: the block is this process's alone.
    // - what: nothing is read from it.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
    Ok(Some(block))
}

/// Decodes a value; the receiver becomes a holder of every shared object in it.
///
/// # Errors
///
/// [`UnpackError`] when the bytes are not such a value, when bytes are left over, or when an
/// object in it has been freed because the sender did not keep its holds.
#[inline]
pub fn unpack<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, UnpackError> {
    let _depth = UnpackScope::open();
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(UnpackError::TrailingBytes { count: rest.len() }),
        Err(reason) => {
            let reason = refusal().unwrap_or_else(|| reason.to_string());
            Err(UnpackError::Malformed { reason })
        }
    }
}

/// Keeps something alive as long as the parcel that is being packed on this thread.
///
/// Called by the `Serialize` implementations of what is more than a handle.
///
/// # Errors
///
/// [`OutsideParcel`] when no parcel is being packed on this thread.
pub fn hold<H: Send + 'static>(keep: H) -> Result<(), OutsideParcel> {
    keep_in_scope(keep, None)
}

/// As [`hold`], of what holds a shared block, and does nothing else.
pub(crate) fn hold_block<H: Send + 'static>(keep: H, block: Handle) -> Result<(), OutsideParcel> {
    keep_in_scope(keep, Some(block))
}

fn keep_in_scope<H: Send + 'static>(keep: H, block: Option<Handle>) -> Result<(), OutsideParcel> {
    // In an option, so that what is refused is dropped after the borrow: a drop may pack.
    let mut keep = Some(keep);
    let this = DEPTH.with(|depth| depth.packing.get());
    let outcome = HELD.with_borrow_mut(|held| {
        if this == 0 {
            return Err(OutsideParcel);
        }
        if held.last().is_none_or(|(depth, _)| *depth < this) {
            held.push((this, Box::default()));
            DEPTH.with(|depth| depth.holding.set(this));
        }
        let (_, scope) = held.last_mut().ok_or(OutsideParcel)?;
        let keep = keep.take().map(|keep| Box::new(keep) as Box<dyn Send>);
        scope.kept.extend(keep);
        scope.blocks.extend(block);
        Ok(())
    });
    outcome.inspect_err(|error: &OutsideParcel| refuse(error.to_string()))
}

/// Whether this thread is inside of [`unpack`].
pub fn is_unpacking() -> bool {
    DEPTH.with(|depth| depth.unpacking.get()) > 0
}

/// Tells the enclosing [`pack`] or [`unpack`] why it will fail: the codec has no room for text.
///
/// Called by the `Serialize` and `Deserialize` implementations of handles, before they return their
/// error.
pub fn refuse(reason: String) {
    REFUSAL.set(Some(reason));
    DEPTH.with(|depth| depth.is_refused.set(true));
}

/// The hold behind a handle in the bytes that are being unpacked.
pub(crate) fn receive<'de, D: Deserializer<'de>>(
    deserializer: D,
    kind: u64,
) -> Result<Hold, D::Error> {
    let bits = u64::deserialize(deserializer)?;
    let refused = |reason: &str| {
        refuse(reason.to_owned());
        D::Error::custom(reason)
    };
    if !is_unpacking() {
        return Err(refused(
            "a handle to shared memory comes in parcels only (handoff::unpack)",
        ));
    }
    let arena = receiving_arena().map_err(|error| refused(&error.to_string()))?;
    let handle = Handle::from_bits(bits).ok_or_else(|| refused("this is no handle"))?;
    arena.reach(handle).map_err(|error| {
        refused(&format!(
            "the memory of the shared object cannot be mapped: {error}"
        ))
    })?;
    Hold::attach(arena, handle, kind)
        .ok_or_else(|| refused("the shared object has been freed, or is of another type"))
}

fn receiving_arena() -> Result<&'static Arena, ArenaError> {
    #[cfg(test)]
    if let Some(arena) = tests::ARENA.get() {
        return Ok(arena);
    }
    family()
}

/// How deep this thread is in parcels. All of it without destructor, so that a look costs nothing.
struct Depth {
    /// The parcels that are being packed, each inside of the one before: a `Serialize`
    /// implementation may pack.
    packing: Cell<u32>,
    /// The innermost of them that holds anything, counted from 1; 0 for none.
    holding: Cell<u32>,
    unpacking: Cell<u32>,
    /// Whether there is something in `REFUSAL`.
    is_refused: Cell<bool>,
}

thread_local! {
    static DEPTH: Depth = const {
        Depth {
            packing: Cell::new(0),
            holding: Cell::new(0),
            unpacking: Cell::new(0),
            is_refused: Cell::new(false),
        }
    };
    /// What the parcels hold that are being packed, and hold anything, with their depth.
    static HELD: RefCell<Vec<(u32, Box<Held>)>> = const { RefCell::new(Vec::new()) };
    static REFUSAL: Cell<Option<String>> = const { Cell::new(None) };
}

#[inline]
fn refusal() -> Option<String> {
    match DEPTH.with(|depth| depth.is_refused.replace(false)) {
        true => REFUSAL.take(),
        false => None,
    }
}

/// A parcel being packed; closes itself when a `Serialize` implementation panics.
struct PackScope;

impl PackScope {
    #[inline]
    fn open() -> PackScope {
        DEPTH.with(|depth| {
            depth.is_refused.set(false);
            depth.packing.set(depth.packing.get() + 1);
        });
        PackScope
    }

    #[inline]
    fn close(self) -> Holds {
        std::mem::forget(self);
        pop_scope()
    }
}

impl Drop for PackScope {
    fn drop(&mut self) {
        drop(pop_scope());
    }
}

#[inline]
fn pop_scope() -> Holds {
    DEPTH.with(|depth| {
        let this = depth.packing.get();
        depth.packing.set(this - 1);
        match depth.holding.get() == this {
            true => pop_held(depth),
            false => Holds::default(),
        }
    })
}

#[cold]
fn pop_held(depth: &Depth) -> Holds {
    HELD.with_borrow_mut(|held| {
        let popped = held.pop();
        depth
            .holding
            .set(held.last().map_or(0, |(depth, _)| *depth));
        Holds {
            held: popped.map(|(_, held)| held),
        }
    })
}

struct UnpackScope;

impl UnpackScope {
    #[inline]
    fn open() -> UnpackScope {
        DEPTH.with(|depth| {
            depth.is_refused.set(false);
            depth.unpacking.set(depth.unpacking.get() + 1);
        });
        UnpackScope
    }
}

impl Drop for UnpackScope {
    #[inline]
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.unpacking.set(depth.unpacking.get() - 1));
    }
}

/// Lets postcard write behind what a vector has already.
struct Appender<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Flavor for Appender<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.bytes.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
