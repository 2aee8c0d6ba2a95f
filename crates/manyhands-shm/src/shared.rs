//! A value that several processes share.

use std::any::TypeId;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use manyhands_sync::Shareable;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::arena::{Arena, Handle, Hold, MOST_ALIGNMENT, Participant, family};
use crate::error::{NoSpace, ParticipantGone};
use crate::handoff;

/// A value in shared memory: an `Arc` whose clones may be in several processes.
///
/// It is alive while any process holds it. The last holder that drops it runs the destructor, once;
/// if the last holder is killed instead, the memory is freed and the destructor does not run. A
/// process that has leaked the guard of a lock inside stays a holder until it ends.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use manyhands_shm::Shared;
///
/// let counter = Shared::new(AtomicU64::new(0))?;
/// let same = counter.clone(); // or sent to another process, in a parcel
/// same.fetch_add(1, Ordering::Relaxed);
/// assert_eq!(counter.load(Ordering::Relaxed), 1);
/// # Ok::<(), manyhands_shm::NoSpace>(())
/// ```
pub struct Shared<T: Shareable> {
    hold: Arc<Hold>,
    value: PhantomData<T>,
}

impl<T: Shareable> Shared<T> {
    const FITS: () = assert!(
        align_of::<T>() <= MOST_ALIGNMENT,
        "a value in shared memory cannot be aligned to more than a page"
    );

    /// Moves a value into shared memory and tells it so, by [`Shareable::placed`].
    ///
    /// # Errors
    ///
    /// [`NoSpace`] when the arena is full, or cannot be made.
    pub fn new(value: T) -> Result<Shared<T>, NoSpace> {
        let without = |reason| NoSpace::without_arena(size_of::<T>(), reason);
        Shared::new_in(family().map_err(without)?, value)
    }

    pub(crate) fn new_in(arena: &'static Arena, value: T) -> Result<Shared<T>, NoSpace> {
        const { Self::FITS };
        // A block is aligned to its size, so one of the alignment's size is aligned.
        let block = arena.allocate(size_of::<T>().max(align_of::<T>()))?;
        let place = block.as_ptr().cast::<T>();
        // SAFETY: `write` needs a valid, aligned, exclusive place.
        // - where: the block has at least the bytes and the alignment of `T`.
        // - who: the block is owned by this process and known to this function only.
        // - what: nothing is read or dropped.
        unsafe { place.write(value) };
        // SAFETY: a reference needs a valid value: it was written just now, nobody changes it.
        unsafe { &*place }.placed();
        let mut hold = Hold::share(block, mark::<T>());
        end_with::<T>(&mut hold);
        Ok(Shared {
            hold: Arc::new(hold),
            value: PhantomData,
        })
    }

    /// Whether both are the same value in shared memory.
    pub fn ptr_eq(one: &Shared<T>, other: &Shared<T>) -> bool {
        one.hold.handle() == other.hold.handle()
    }

    /// The eight bytes that name the value.
    pub fn handle(this: &Shared<T>) -> Handle {
        this.hold.handle()
    }

    /// As [`Region::hold_for`](crate::Region::hold_for).
    ///
    /// # Errors
    ///
    /// [`ParticipantGone`] when it has ended.
    pub fn hold_for(this: &Shared<T>, participant: Participant) -> Result<(), ParticipantGone> {
        this.hold.hold_for(participant)
    }
}

impl<T: Shareable> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared {
            hold: self.hold.clone(),
            value: PhantomData,
        }
    }
}

impl<T: Shareable> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a reference needs a valid, aligned value for its whole life.
        // - where: the block has `T`'s size and alignment and stays while this process holds it.
        // - who: nobody has `&mut` to it, in any process: only the last holder drops it.
        // - what: `T: Shareable` promises that whatever a dead peer left is a valid value; the
        //   mark was compared when the handle came from outside.
        unsafe { &*self.hold.address().cast::<T>() }
    }
}

impl<T: Shareable> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handoff::hold(self.clone()).map_err(S::Error::custom)?;
        serializer.serialize_u64(self.hold.handle().to_bits())
    }
}

impl<'de, T: Shareable> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shared<T>, D::Error> {
        let mut hold = handoff::receive(deserializer, mark::<T>()).map_err(D::Error::custom)?;
        end_with::<T>(&mut hold);
        Ok(Shared {
            hold: Arc::new(hold),
            value: PhantomData,
        })
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&**self).finish()
    }
}

impl<T: Shareable + fmt::Display> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

fn end_with<T: Shareable>(hold: &mut Hold) {
    if T::PINNED {
        // SAFETY: `set_kept` needs a function that is sound for the value on any thread: a value of
        // type `T` lies there, and `T: Sync`.
        unsafe { hold.set_kept(is_held_here::<T>) };
    }
    if !std::mem::needs_drop::<T>() {
        return;
    }
    // SAFETY: `set_finish` needs a function that is sound for the value, once, on any thread: a
    // value of type `T` lies there, and `T: Send`.
    unsafe { hold.set_finish(drop_value::<T>) };
}

/// # Safety
///
/// A valid `T` lies at `place`, and nobody drops or moves it meanwhile.
unsafe fn is_held_here<T: Shareable>(place: *const u8) -> bool {
    // SAFETY: the caller promises what a reference asks for.
    unsafe { &*place.cast::<T>() }.is_held_here()
}

/// # Safety
///
/// A valid `T` lies at `place`, is nobody else's, and is not used afterwards.
unsafe fn drop_value<T>(place: *mut u8) {
    // SAFETY: the caller promises what `drop_in_place` asks for.
    unsafe { place.cast::<T>().drop_in_place() };
}

/// What tells a block with a `T` in it from all others; never zero, the mark of plain bytes.
///
/// The processes of a family are the same program, in which a type has one id. A plugin that was
/// built apart has other ids, and is refused.
fn mark<T: 'static>() -> u64 {
    struct Fold(u64);

    impl Hasher for Fold {
        fn finish(&self) -> u64 {
            self.0
        }

        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }

    let mut fold = Fold(0xcbf2_9ce4_8422_2325);
    TypeId::of::<T>().hash(&mut fold);
    fold.finish().max(1)
}

#[cfg(test)]
mod tests;
