//! A vector with a bounded number of items, in place.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use bytemuck::{Pod, Zeroable};
use manyhands_sync::Shareable;

/// Up to `N` items, which lie where the vector lies: so it can be in shared memory, usually behind a
/// `Lock`.
///
/// Every operation ends with one store of the length. So whoever takes the lock over from a holder
/// that was killed inside finds whole items: all, or all but the last that it was putting in.
/// ([`insert`](Self::insert), [`remove`](Self::remove) and writing to items in place are not so:
/// there an item may be twice, or half new.)
///
/// # Examples
///
/// ```
/// use manyhands_shm::{Shared, ShmVec};
/// use manyhands_sync::Lock;
///
/// let jobs = Shared::new(Lock::new(ShmVec::<u32, 100>::new()))?;
/// let mut guard = jobs.lock().expect("nobody died");
/// guard.push(7).expect("there is room for a hundred");
/// assert_eq!(guard.iter().sum::<u32>(), 7);
/// # Ok::<(), manyhands_shm::NoSpace>(())
/// ```
#[repr(C)]
pub struct ShmVec<T, const N: usize> {
    /// An atomic so that its stores are not moved before those of the items.
    len: AtomicU32,
    items: [T; N],
}

/// There was no room; the item comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

// SAFETY: plain data of a length that is checked when it is read; the items are `Pod`, so whatever
// bytes a dead peer left are items.
unsafe impl<T: Pod + Send + Sync, const N: usize> Shareable for ShmVec<T, N> {}

impl<T: Pod, const N: usize> ShmVec<T, N> {
    /// An empty vector.
    pub fn new() -> Self {
        Self {
            len: AtomicU32::new(0),
            items: [T::zeroed(); N],
        }
    }

    /// Items of a slice, if there is room for them.
    ///
    /// # Errors
    ///
    /// [`Full`]: there are more than `N`.
    pub fn from_slice(items: &[T]) -> Result<Self, Full<()>> {
        let mut vec = Self::new();
        vec.extend_from_slice(items)?;
        Ok(vec)
    }

    /// How many items there can be.
    pub const fn capacity(&self) -> usize {
        N
    }

    /// The bytes of all items; other views are those of bytemuck, by way of the slice.
    ///
    /// ```
    /// use manyhands_shm::ShmVec;
    ///
    /// let mut samples = ShmVec::<u16, 8>::from_slice(&[0x101, 0x202]).expect("room");
    /// assert_eq!(samples.as_bytes(), [1, 1, 2, 2]);
    /// bytemuck::cast_slice_mut(&mut samples)[3] = 0_u8;
    /// assert_eq!(samples.as_bytes().iter().sum::<u8>(), 4);
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }

    /// Adds an item at the end.
    ///
    /// # Errors
    ///
    /// [`Full`] with the item.
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        let len = self.len();
        let place = self.items.get_mut(len).ok_or(Full(item))?;
        *place = item;
        self.set_len(len + 1);
        Ok(())
    }

    /// Takes the last item out.
    pub fn pop(&mut self) -> Option<T> {
        let last = *self.last()?;
        self.set_len(self.len() - 1);
        Some(last)
    }

    /// Adds all items, or none.
    ///
    /// # Errors
    ///
    /// [`Full`]: there is no room for all.
    pub fn extend_from_slice(&mut self, items: &[T]) -> Result<(), Full<()>> {
        let len = self.len();
        let places = self.items.get_mut(len..).unwrap_or_default();
        let places = places.get_mut(..items.len()).ok_or(Full(()))?;
        places.copy_from_slice(items);
        self.set_len(len + items.len());
        Ok(())
    }

    /// Puts an item before that of an index, which is at most the length.
    ///
    /// # Errors
    ///
    /// [`Full`] with the item, also when there is no such index.
    pub fn insert(&mut self, index: usize, item: T) -> Result<(), Full<T>> {
        let len = self.len();
        if index > len || len == N {
            return Err(Full(item));
        }
        self.items.copy_within(index..len, index + 1);
        self.items[index] = item;
        self.set_len(len + 1);
        Ok(())
    }

    /// Takes the item of an index out; the later ones move up.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        let len = self.len();
        let item = *self.get(index)?;
        self.items.copy_within(index + 1..len, index);
        self.set_len(len - 1);
        Some(item)
    }

    /// Takes the item of an index out; the last one takes its place.
    pub fn swap_remove(&mut self, index: usize) -> Option<T> {
        let item = *self.get(index)?;
        self.items[index] = *self.last()?;
        self.set_len(self.len() - 1);
        Some(item)
    }

    /// Forgets the items from an index on.
    pub fn truncate(&mut self, len: usize) {
        self.set_len(self.len().min(len));
    }

    /// Forgets all items.
    pub fn clear(&mut self) {
        self.set_len(0);
    }

    fn set_len(&mut self, len: usize) {
        // Release: the items come before the length that shows them, whoever looks after a death.
        // (Then the kernel's barrier has passed; what must not happen is that the compiler swaps
        // them.) The length is at most `N`, which `new` asks to fit.
        const { assert!(N <= u32::MAX as usize, "a vector this long has no length") };
        self.len.store(len as u32, Release);
    }
}

impl<T: Pod, const N: usize> Deref for ShmVec<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // Acquire: pairs with the Release in `set_len`.
        let len = self.len.load(Acquire) as usize;
        // The limit keeps a wrong length from leading outside.
        &self.items[..len.min(N)]
    }
}

impl<T: Pod, const N: usize> DerefMut for ShmVec<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        let len = *self.len.get_mut() as usize;
        &mut self.items[..len.min(N)]
    }
}

impl<T: Pod, const N: usize> Default for ShmVec<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Pod, const N: usize> Clone for ShmVec<T, N> {
    fn clone(&self) -> Self {
        Self {
            len: AtomicU32::new(self.len.load(Relaxed)),
            items: self.items,
        }
    }
}

impl<T: Pod + PartialEq, const N: usize> PartialEq for ShmVec<T, N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Pod + Eq, const N: usize> Eq for ShmVec<T, N> {}

impl<T: Pod + fmt::Debug, const N: usize> fmt::Debug for ShmVec<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

// SAFETY: zero bytes are the empty vector, since `T: Zeroable`.
unsafe impl<T: Zeroable, const N: usize> Zeroable for ShmVec<T, N> {}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no room for more; take something out, or make it with more capacity")
    }
}

impl<T: fmt::Debug> std::error::Error for Full<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u16),
        Pop,
        Extend(Vec<u16>),
        Insert(usize, u16),
        Remove(usize),
        SwapRemove(usize),
        Truncate(usize),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<u16>().prop_map(Step::Push),
            1 => Just(Step::Pop),
            1 => proptest::collection::vec(any::<u16>(), 0..5).prop_map(Step::Extend),
            1 => (0..9_usize, any::<u16>()).prop_map(|(index, item)| Step::Insert(index, item)),
            1 => (0..9_usize).prop_map(Step::Remove),
            1 => (0..9_usize).prop_map(Step::SwapRemove),
            1 => (0..9_usize).prop_map(Step::Truncate),
            1 => Just(Step::Clear),
        ]
    }

    const ROOM: usize = 6;

    /// The same on a `Vec`, which refuses what has no room.
    fn model(vec: &mut Vec<u16>, step: Step) -> Option<Option<u16>> {
        let room = ROOM - vec.len();
        match step {
            Step::Push(item) => (room > 0).then(|| vec.push(item)).map(|()| None),
            Step::Pop => Some(vec.pop()),
            Step::Extend(items) => (room >= items.len()).then(|| {
                vec.extend(items);
                None
            }),
            Step::Insert(index, item) => (room > 0 && index <= vec.len()).then(|| {
                vec.insert(index, item);
                None
            }),
            Step::Remove(index) => Some((index < vec.len()).then(|| vec.remove(index))),
            Step::SwapRemove(index) => Some((index < vec.len()).then(|| vec.swap_remove(index))),
            Step::Truncate(len) => {
                vec.truncate(len);
                Some(None)
            }
            Step::Clear => {
                vec.clear();
                Some(None)
            }
        }
    }

    fn ours(vec: &mut ShmVec<u16, ROOM>, step: Step) -> Option<Option<u16>> {
        match step {
            Step::Push(item) => vec.push(item).ok().map(|()| None),
            Step::Pop => Some(vec.pop()),
            Step::Extend(items) => vec.extend_from_slice(&items).ok().map(|()| None),
            Step::Insert(index, item) => vec.insert(index, item).ok().map(|()| None),
            Step::Remove(index) => Some(vec.remove(index)),
            Step::SwapRemove(index) => Some(vec.swap_remove(index)),
            Step::Truncate(len) => {
                vec.truncate(len);
                Some(None)
            }
            Step::Clear => {
                vec.clear();
                Some(None)
            }
        }
    }

    proptest! {
        #[test]
        fn it_does_what_a_vec_of_so_much_room_does(steps in proptest::collection::vec(step(), 0..40)) {
            let mut bounded = ShmVec::new();
            let mut vec = Vec::new();
            for step in steps {
                prop_assert_eq!(ours(&mut bounded, step.clone()), model(&mut vec, step));
                prop_assert_eq!(&*bounded, &*vec);
            }
        }
    }

    #[test]
    fn wrong_length_leads_nowhere() {
        let vec = ShmVec::<u8, 3>::new();
        vec.len.store(u32::MAX, Relaxed);
        assert_eq!(&*vec, &[0, 0, 0]);
    }
}
