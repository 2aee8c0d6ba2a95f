//! What crosses to another process: values to bytes, and back, with the shared objects inside of
//! them kept alive on the way.
//!
//! A value is encoded with [postcard](https://docs.rs/postcard). A handle to a shared object
//! ([`Region`](crate::Region), [`Shared`](crate::Shared), and what upper rooms build on them)
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

use crate::arena::{Arena, Handle, Hold, family};
use crate::error::{OutsideParcel, PackError, UnpackError};

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
#[derive(Default)]
#[must_use = "the objects in a parcel may be freed as soon as its holds are dropped"]
pub struct Holds {
    kept: Vec<Box<dyn Send>>,
}

impl Holds {
    /// Whether the value had no shared objects in it; then nothing needs to be kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many handles the value had in it.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Takes over the holds of another parcel.
    pub fn extend(&mut self, other: Holds) {
        self.kept.extend(other.kept);
    }
}

impl fmt::Debug for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holds")
            .field("count", &self.kept.len())
            .finish()
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
pub fn pack_into<T: Serialize + ?Sized>(
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<Holds, PackError> {
    let before = bytes.len();
    let scope = PackScope::open();
    let outcome = postcard::serialize_with_flavor(value, Appender { bytes });
    let kept = scope.close();
    match outcome {
        Ok(()) => Ok(Holds { kept }),
        Err(reason) => {
            bytes.truncate(before);
            let reason = refusal().unwrap_or_else(|| reason.to_string());
            Err(PackError::Refused { reason })
        }
    }
}

/// Decodes a value; the receiver becomes a holder of every shared object in it.
///
/// # Errors
///
/// [`UnpackError`] when the bytes are not such a value, when bytes are left over, or when an
/// object in it has been freed because the sender did not keep its holds.
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
/// Called by the `Serialize` implementations of handles.
///
/// # Errors
///
/// [`OutsideParcel`] when no parcel is being packed on this thread.
pub fn hold<H: Send + 'static>(keep: H) -> Result<(), OutsideParcel> {
    // In an option, so that what is refused is dropped after the borrow: a drop may pack.
    let mut keep = Some(keep);
    let outcome = PACKING.with_borrow_mut(|scopes| {
        let scope = scopes.last_mut().ok_or(OutsideParcel)?;
        scope.extend(keep.take().map(|keep| Box::new(keep) as Box<dyn Send>));
        Ok(())
    });
    outcome.inspect_err(|error: &OutsideParcel| refuse(error.to_string()))
}

/// Whether this thread is inside of [`unpack`].
pub fn is_unpacking() -> bool {
    UNPACKING.get() > 0
}

/// Tells the enclosing [`pack`] or [`unpack`] why it will fail: the codec has no room for text.
///
/// Called by the `Serialize` and `Deserialize` implementations of handles, before they return their
/// error.
pub fn refuse(reason: String) {
    REFUSAL.set(Some(reason));
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
    let arena = receiving_arena().map_err(|error| refused(&error))?;
    let handle = Handle::from_bits(bits).ok_or_else(|| refused("this is no handle"))?;
    arena.reach(handle).map_err(|error| {
        refused(&format!(
            "the memory of the shared object cannot be mapped: {error}"
        ))
    })?;
    Hold::attach(arena, handle, kind)
        .ok_or_else(|| refused("the shared object has been freed, or is of another type"))
}

fn receiving_arena() -> Result<&'static Arena, String> {
    #[cfg(test)]
    if let Some(arena) = tests::ARENA.get() {
        return Ok(arena);
    }
    family().map_err(|error| error.to_string())
}

type Kept = Vec<Box<dyn Send>>;

thread_local! {
    /// The parcels that are being packed on this thread; a `Serialize` implementation may pack.
    static PACKING: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
    static UNPACKING: Cell<u32> = const { Cell::new(0) };
    static REFUSAL: Cell<Option<String>> = const { Cell::new(None) };
}

fn refusal() -> Option<String> {
    REFUSAL.take()
}

/// A parcel being packed; closes itself when a `Serialize` implementation panics.
struct PackScope;

impl PackScope {
    fn open() -> PackScope {
        REFUSAL.set(None);
        PACKING.with_borrow_mut(|scopes| scopes.push(Vec::new()));
        PackScope
    }

    fn close(self) -> Kept {
        std::mem::forget(self);
        pop_scope()
    }
}

impl Drop for PackScope {
    fn drop(&mut self) {
        drop(pop_scope());
    }
}

fn pop_scope() -> Kept {
    PACKING.with_borrow_mut(Vec::pop).unwrap_or_default()
}

struct UnpackScope;

impl UnpackScope {
    fn open() -> UnpackScope {
        REFUSAL.set(None);
        UNPACKING.set(UNPACKING.get() + 1);
        UnpackScope
    }
}

impl Drop for UnpackScope {
    fn drop(&mut self) {
        UNPACKING.set(UNPACKING.get() - 1);
    }
}

/// Lets postcard write behind what a vector has already.
struct Appender<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Flavor for Appender<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.bytes.push(byte);
        Ok(())
    }

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
