//! A value that several processes share.

mod bytes;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use bytemuck::Zeroable;
use manyhands_sync::{LastPlace, Lock, Shareable};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::arena::{Arena, Block, Handle, Hold, Participant, family};
use crate::error::{NoSpace, ParticipantGone};
use crate::handoff;
use crate::shape::{Shape, lock_head, mark};

pub use bytes::FromBytesError;

/// A value in shared memory: an `Arc` whose clones may be in several processes.
///
/// It is alive while any process holds it. The last holder that drops it runs the destructor, once;
/// if the last holder is killed instead, the memory is freed and the destructor does not run. A
/// process that has leaked the guard of a lock inside stays a holder until it ends.
///
/// Besides values of a type there are `Shared<[T]>` and `Shared<str>`, which nobody changes any more
/// once they are shared, and `Shared<Lock<[T]>>`. All lie in shared memory from the start: what is
/// made there is never copied.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use manyhands_shm::Shared;
/// use manyhands_sync::Lock;
///
/// let counter = Shared::new(AtomicU64::new(0))?;
/// let same = counter.clone(); // or sent to another process, in a parcel
/// same.fetch_add(1, Ordering::Relaxed);
/// assert_eq!(counter.load(Ordering::Relaxed), 1);
///
/// let squares = Shared::<[u64]>::from_fn(1000, |index| (index * index) as u64)?;
/// assert_eq!(squares[30], 900);
///
/// let image = Shared::<Lock<[u8]>>::zeroed(640 * 480)?;
/// image.lock().expect("nobody died")[7] = 255;
/// # Ok::<(), manyhands_shm::NoSpace>(())
/// ```
pub struct Shared<T: ?Sized + Shape> {
    hold: Arc<Hold>,
    value: PhantomData<T>,
}

// SAFETY: it gives `&T` to any thread and drops the value on any: `T: Shareable` is Send and Sync.
unsafe impl<T: ?Sized + Shape> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Shape> Sync for Shared<T> {}

impl<T: Shareable> Shared<T> {
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
        const { T::FITS };
        // A block is aligned to its size, so one of the alignment's size is aligned.
        let block = arena.allocate(size_of::<T>().max(align_of::<T>()))?;
        // SAFETY: `write` needs a valid, aligned, exclusive place.
        // - where: the block has at least the bytes and the alignment of `T`.
        // - who: the block is owned by this process and known to this function only.
        // - what: nothing is read or dropped.
        unsafe { block.as_ptr().cast::<T>().write(value) };
        // SAFETY: the value was written just now.
        Ok(unsafe { Shared::place(block) })
    }
}

impl<T: Shareable> Shared<[T]> {
    /// Makes `len` items, in order.
    ///
    /// If `make` panics, the items that were made are not dropped, and the memory is freed.
    ///
    /// # Errors
    ///
    /// [`NoSpace`] when the arena is full, has no block of that size, or cannot be made.
    pub fn from_fn(len: usize, make: impl FnMut(usize) -> T) -> Result<Shared<[T]>, NoSpace> {
        const { <[T]>::FITS };
        let block = allocate(len.checked_mul(size_of::<T>()))?;
        // SAFETY: the block is new, and has room for `len` items.
        unsafe { fill(block.as_ptr(), len, make) };
        // SAFETY: all items were written just now.
        Ok(unsafe { Shared::place(block) })
    }

    /// Copies items.
    ///
    /// # Errors
    ///
    /// As for [`from_fn`](Self::from_fn).
    pub fn copy_of(items: &[T]) -> Result<Shared<[T]>, NoSpace>
    where
        T: Copy,
    {
        Shared::<[T]>::from_fn(items.len(), |index| items[index])
    }

    /// Makes `len` items of zero bytes: at once, as far as the memory is zero already.
    ///
    /// # Errors
    ///
    /// As for [`from_fn`](Self::from_fn).
    pub fn zeroed(len: usize) -> Result<Shared<[T]>, NoSpace>
    where
        T: Zeroable,
    {
        const { <[T]>::FITS };
        let mut block = allocate(len.checked_mul(size_of::<T>()))?;
        block.zero();
        // SAFETY: `T: Zeroable` says that zero bytes are values.
        Ok(unsafe { Shared::place(block) })
    }
}

impl Shared<str> {
    /// Copies text.
    ///
    /// # Errors
    ///
    /// As for `Shared::<[T]>::from_fn`.
    pub fn copy_of(text: &str) -> Result<Shared<str>, NoSpace> {
        let block = allocate(Some(text.len()))?;
        let bytes = text.as_bytes();
        // SAFETY: the block is new, and has room for the bytes.
        unsafe { fill(block.as_ptr(), bytes.len(), |index| bytes[index]) };
        // SAFETY: these are the bytes of a text.
        Ok(unsafe { Shared::place(block) })
    }
}

impl<T: Shareable> Shared<Lock<[T]>> {
    /// Makes `len` items, in order, behind one free lock.
    ///
    /// # Errors
    ///
    /// As for `Shared::<[T]>::from_fn`.
    pub fn from_fn(len: usize, make: impl FnMut(usize) -> T) -> Result<Shared<Lock<[T]>>, NoSpace> {
        const { Lock::<[T]>::FITS };
        let block = allocate(len_with_lock::<T>(len))?;
        let items = block.as_ptr().wrapping_add(lock_head::<T>());
        // SAFETY: the block is new, and has room for the lock and `len` items after it.
        unsafe { fill(items, len, make) };
        // SAFETY: the items were written just now, the lock is written by the function.
        Ok(unsafe { Shared::place_lock(block) })
    }

    /// Copies items behind one free lock.
    ///
    /// # Errors
    ///
    /// As for `Shared::<[T]>::from_fn`.
    pub fn copy_of(items: &[T]) -> Result<Shared<Lock<[T]>>, NoSpace>
    where
        T: Copy,
    {
        Shared::<Lock<[T]>>::from_fn(items.len(), |index| items[index])
    }

    /// Makes `len` items of zero bytes behind one free lock.
    ///
    /// # Errors
    ///
    /// As for `Shared::<[T]>::from_fn`.
    pub fn zeroed(len: usize) -> Result<Shared<Lock<[T]>>, NoSpace>
    where
        T: Zeroable,
    {
        const { Lock::<[T]>::FITS };
        let mut block = allocate(len_with_lock::<T>(len))?;
        block.zero();
        // SAFETY: `T: Zeroable` says that zero bytes are values; the lock is written by the function.
        Ok(unsafe { Shared::place_lock(block) })
    }

    /// # Safety
    ///
    /// The bytes of the block after [`lock_head`] are items.
    unsafe fn place_lock(block: Block) -> Shared<Lock<[T]>> {
        let lock = block.as_ptr().cast::<Lock<[T; 0]>>();
        // SAFETY: `write` needs a valid, aligned, exclusive place.
        // - where: the block has at least the head of the lock, and its alignment.
        // - who: the block is owned by this process and known to the caller only.
        // - what: the lock of no items has the layout of the head, and reaches no item.
        unsafe { lock.write(Lock::new([])) };
        // SAFETY: head and items are written.
        unsafe { Shared::place(block) }
    }
}

impl<T: ?Sized + Shape> Shared<T> {
    /// Tells the value in a block that it is at its place, and shares it.
    ///
    /// # Safety
    ///
    /// The block is seen as a valid `T`, by [`Shape::view`].
    unsafe fn place(block: Block) -> Shared<T> {
        let value = T::view(block.as_ptr(), block.len());
        // SAFETY: the value stays in its block, which is freed when nobody holds it any more, and not
        // while a thread of the last holder holds a lock in it. Nobody knows the block yet.
        let here = unsafe { LastPlace::new() };
        // SAFETY: a reference needs a valid value, which the caller promises; nobody changes it.
        unsafe { &*value }.placed(here);
        Shared::of(Hold::share(block, mark::<T>()))
    }

    /// The hold must be of a block with the mark of `T`.
    fn of(mut hold: Hold) -> Shared<T> {
        if T::PINNED {
            // SAFETY: `set_kept` needs a function that is sound for the value on any thread: a value
            // of type `T` lies there, and `T: Sync`.
            unsafe { hold.set_kept(is_held_here::<T>) };
        }
        if std::mem::needs_drop::<T>() {
            // SAFETY: `set_finish` needs a function that is sound for the value, once, on any
            // thread: a value of type `T` lies there, and `T: Send`.
            unsafe { hold.set_finish(drop_value::<T>) };
        }
        Shared {
            hold: Arc::new(hold),
            value: PhantomData,
        }
    }

    /// The value to change, if this is the only `Shared` of it, in any process.
    ///
    /// Not for values with locks, events or the like inside: those change through `&self`, and must
    /// not be replaced where they lie. A [`handle`](Self::handle) that was noted before no longer
    /// names the value, nor does a parcel whose holds were dropped.
    ///
    /// ```
    /// use manyhands_shm::Shared;
    ///
    /// let mut table = Shared::<[f32]>::zeroed(100)?;
    /// Shared::get_mut(&mut table).expect("nobody else has it")[3] = 1.5;
    /// let copy = table.clone();
    /// assert!(Shared::get_mut(&mut table).is_none() && copy[3] == 1.5);
    /// # Ok::<(), manyhands_shm::NoSpace>(())
    /// ```
    ///
    /// ```compile_fail,E0080
    /// use manyhands_shm::Shared;
    /// use manyhands_sync::Lock;
    ///
    /// let mut shared = Shared::new(Lock::new(0)).expect("room");
    /// Shared::get_mut(&mut shared);
    /// ```
    pub fn get_mut(this: &mut Shared<T>) -> Option<&mut T> {
        const {
            assert!(
                !T::PINNED,
                "what has a lock or the like inside is changed through it"
            )
        };
        let hold = Arc::get_mut(&mut this.hold)?;
        if !hold.make_only() {
            return None;
        }
        // SAFETY: a unique reference needs that nobody else reaches the value while it lasts.
        // - where: as in `deref`.
        // - who: no other process holds the block, and none can come to hold it but by what is
        //   cloned or sent from this one value, which is borrowed: its handle is new.
        // - what: as in `deref`.
        Some(unsafe { &mut *T::view(hold.address(), hold.len()) })
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

impl<T: ?Sized + Shape> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared {
            hold: self.hold.clone(),
            value: PhantomData,
        }
    }
}

impl<T: ?Sized + Shape> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a reference needs a valid, aligned value for its whole life.
        // - where: the block has `T`'s size and alignment and stays while this process holds it.
        // - who: nobody has `&mut` to it, in any process: only the last holder drops it, and
        //   `get_mut` borrows the only holder.
        // - what: `T: Shareable` promises that whatever a dead peer left is a valid value; the
        //   mark was compared when the handle came from outside.
        unsafe { &*T::view(self.hold.address(), self.hold.len()) }
    }
}

impl<T: ?Sized + Shape> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        handoff::hold_block(self.clone(), self.hold.handle()).map_err(S::Error::custom)?;
        serializer.serialize_u64(self.hold.handle().to_bits())
    }
}

impl<'de, T: ?Sized + Shape> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shared<T>, D::Error> {
        let hold = handoff::receive(deserializer, mark::<T>()).map_err(D::Error::custom)?;
        Ok(Shared::of(hold))
    }
}

impl<T: ?Sized + Shape + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&&**self).finish()
    }
}

impl<T: ?Sized + Shape + fmt::Display> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A block of the family's arena; `None` is more bytes than can be counted.
fn allocate(len: Option<usize>) -> Result<Block, NoSpace> {
    let len = len.unwrap_or(usize::MAX);
    let without = |reason| NoSpace::without_arena(len, reason);
    family().map_err(without)?.allocate(len)
}

fn len_with_lock<T>(items: usize) -> Option<usize> {
    items
        .checked_mul(size_of::<T>())?
        .checked_add(lock_head::<T>())
}

/// # Safety
///
/// There is room for `len` items at `place`, which is aligned and nobody else's.
unsafe fn fill<T>(place: *mut u8, len: usize, mut make: impl FnMut(usize) -> T) {
    let place = place.cast::<T>();
    for index in 0..len {
        let item = make(index);
        // SAFETY: the caller promises the room; nothing is read or dropped.
        unsafe { place.wrapping_add(index).write(item) };
    }
}

/// # Safety
///
/// A valid `T` lies in the `len` bytes at `place`, and nobody drops or moves it meanwhile.
unsafe fn is_held_here<T: ?Sized + Shape>(place: *mut u8, len: usize) -> bool {
    // SAFETY: the caller promises what a reference asks for.
    unsafe { &*T::view(place, len) }.is_held_here()
}

/// # Safety
///
/// A valid `T` lies in the `len` bytes at `place`, is nobody else's, and is not used afterwards.
unsafe fn drop_value<T: ?Sized + Shape>(place: *mut u8, len: usize) {
    // SAFETY: the caller promises what `drop_in_place` asks for.
    unsafe { T::view(place, len).drop_in_place() };
}

#[cfg(test)]
mod tests;
