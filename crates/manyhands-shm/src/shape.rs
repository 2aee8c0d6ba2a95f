//! What the bytes of a block are seen as: a value, or as many as there are.

use std::any::TypeId;
use std::hash::{Hash, Hasher};
use std::ptr::{self, NonNull};

use manyhands_sync::{Lock, Shareable};

use crate::arena::MOST_ALIGNMENT;

/// What a [`Shared`](crate::Shared) can hold: a value of a type, or `[T]`, `str`, `Lock<[T]>`.
///
/// Sealed: what a block is seen as decides over every access to it.
pub trait Shape: Shareable + private::Sealed {
    /// Whether a block can hold it; fails to compile where not.
    #[doc(hidden)]
    const FITS: ();

    /// The bytes from `address` on, of which there are `len`.
    #[doc(hidden)]
    fn view(address: *mut u8, len: usize) -> *mut Self;
}

mod private {
    pub trait Sealed {}

    impl<T: super::Shareable> Sealed for T {}
    impl<T: super::Shareable> Sealed for [T] {}
    impl Sealed for str {}
    impl<T: super::Shareable> Sealed for super::Lock<[T]> {}
}

/// The bytes before the items of a `Lock<[T]>`.
pub(crate) const fn lock_head<T>() -> usize {
    // The lock of no items is nothing but what comes before them.
    size_of::<Lock<[T; 0]>>()
}

const fn fits<T>() {
    assert!(
        align_of::<T>() <= MOST_ALIGNMENT,
        "a value in shared memory cannot be aligned to more than a page"
    );
}

const fn has_size<T>() {
    fits::<T>();
    assert!(
        size_of::<T>() > 0,
        "items without bytes cannot be counted by the bytes of their block"
    );
}

impl<T: Shareable> Shape for T {
    const FITS: () = fits::<T>();

    fn view(address: *mut u8, _: usize) -> *mut T {
        address.cast()
    }
}

impl<T: Shareable> Shape for [T] {
    const FITS: () = has_size::<T>();

    fn view(address: *mut u8, len: usize) -> *mut [T] {
        if len == 0 {
            // The block of no bytes may be aligned less than a `T`.
            return ptr::slice_from_raw_parts_mut(NonNull::dangling().as_ptr(), 0);
        }
        ptr::slice_from_raw_parts_mut(address.cast(), len / size_of::<T>())
    }
}

impl Shape for str {
    const FITS: () = ();

    fn view(address: *mut u8, len: usize) -> *mut str {
        ptr::slice_from_raw_parts_mut(address, len) as *mut str
    }
}

impl<T: Shareable> Shape for Lock<[T]> {
    const FITS: () = has_size::<T>();

    fn view(address: *mut u8, len: usize) -> *mut Lock<[T]> {
        // A pointer to a lock has the length of what it guards beside it.
        let items = len.saturating_sub(lock_head::<T>()) / size_of::<T>();
        ptr::slice_from_raw_parts_mut(address.cast::<T>(), items) as *mut Lock<[T]>
    }
}

/// What tells a block with a `T` in it from all others; never zero, the mark of plain bytes.
///
/// The processes of a family are the same program, in which a type has one id. A plugin that was
/// built apart has other ids, and is refused.
pub(crate) fn mark<T: ?Sized + 'static>() -> u64 {
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
mod tests {
    use super::*;

    #[test]
    fn items_of_a_lock_begin_after_its_head() {
        let lock: Box<Lock<[u64]>> = Box::new(Lock::new([1, 2, 3]));
        let address = Box::into_raw(lock);
        let items = Lock::<[u64]>::view(address.cast(), lock_head::<u64>() + 24);
        assert_eq!(items, address);
        // SAFETY: it came from a box, just above, and the two pointers are the same.
        let lock = unsafe { Box::from_raw(items) };
        assert_eq!(*lock.lock().expect("nobody dies"), [1, 2, 3]);
    }

    #[test]
    fn empty_slices_are_aligned() {
        #[repr(align(1024))]
        struct Wide;
        assert_eq!(size_of::<Wide>(), 0);
        let none = <[u128]>::view(ptr::without_provenance_mut(1), 0);
        assert!(none.cast::<u128>().is_aligned());
        assert_eq!(none.len(), 0);
    }
}
