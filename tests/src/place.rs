//! Memory in which an object under test lies, shared by tracer, victim and survivors.

use std::cell::UnsafeCell;
use std::fs::File;
use std::mem::MaybeUninit;
use std::{ptr, slice};

use manyhands_sync::LastPlace;

use crate::system;

/// A type that may be used in a [`Place`].
///
/// # Safety
///
/// All-zero bytes are a valid value, shared references may be used by several processes at once
/// (atomics or a lock inside), and the type has no destructor that must run.
pub unsafe trait Placed: Sync + 'static {}

// SAFETY: an atomic integer: zero is valid, shared use is its purpose, nothing to drop.
unsafe impl Placed for std::sync::atomic::AtomicU32 {}
// SAFETY: as above.
unsafe impl Placed for std::sync::atomic::AtomicU64 {}

/// The bytes of one object, mapped at the same address in every actor.
#[derive(Copy, Clone, Debug)]
pub struct Place {
    base: *mut u8,
    len: usize,
}

impl Place {
    /// Maps a new place; it stays for the life of the process.
    pub fn map(len: usize) -> Place {
        Place {
            base: system::map_shared(len),
            len,
        }
    }

    /// Maps a whole file, to look into it; as [`Place::map`].
    pub fn of_file(file: &File) -> Option<Place> {
        let len = usize::try_from(file.metadata().ok()?.len()).ok()?;
        let base = system::map_file(file, len)?;
        Some(Place { base, len })
    }

    /// The object at the start of the place.
    ///
    /// # Panics
    ///
    /// Panics when the object is larger than the place.
    pub fn at<T: Placed>(self) -> &'static T {
        assert!(size_of::<T>() <= self.len, "the object fits into its place");
        // SAFETY: a shared reference to the start of the mapping.
        // - where: mapped for ever, page aligned, size checked above.
        // - who: `Placed` promises that shared use by several processes is sound.
        // - what: `Placed` promises that zero is valid; later bytes are the type's own.
        unsafe { &*self.base.cast::<T>() }
    }

    /// Makes every byte zero. Only the tracer does so, between two boundaries.
    pub fn clear(self) {
        // SAFETY: `write_bytes` over the mapping.
        // - where: `base` and `len` are those of the mapping.
        // - who: called between boundaries, when the victim is dead and the survivors are idle.
        // - what: nothing is read; `Placed` types need no destructor.
        unsafe { ptr::write_bytes(self.base, 0, self.len) };
    }

    /// Writes a value over the start of the place. Only the tracer does so, between boundaries.
    ///
    /// # Panics
    ///
    /// Panics when the object is larger than the place.
    pub fn write<T: Placed>(self, value: T) -> &'static T {
        assert!(size_of::<T>() <= self.len, "the object fits into its place");
        // SAFETY: `ptr::write` to the start of the mapping.
        // - where: mapped for ever, page aligned, size checked above.
        // - who: called between boundaries, when the victim is dead and the survivors are idle.
        // - what: nothing is read; `Placed` types need no destructor.
        unsafe { self.base.cast::<T>().write(value) };
        self.at()
    }

    /// The bytes, for a look while nobody writes.
    pub fn bytes(self) -> &'static [u8] {
        // SAFETY: a slice of the whole mapping.
        // - where: `base` and `len` are those of the mapping, which stays for ever.
        // - who: the tracer looks only while the victim stands still and the others sleep.
        // - what: bytes.
        unsafe { slice::from_raw_parts(self.base, self.len) }
    }

    /// Whether `address` liesinside the place.
    pub fn contains(self, address: usize) -> bool {
        (self.base.addr()..self.base.addr() + self.len).contains(&address)
    }
}

/// A part of something [`Placed`] that is not zero in the beginning.
#[repr(transparent)]
#[derive(Debug)]
pub struct Late<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: after `fill` it is only read, by shared references to a `Sync` value.
unsafe impl<T: Sync> Sync for Late<T> {}
// SAFETY: any bytes are a `MaybeUninit`; see `Sync`; nothing is ever dropped.
unsafe impl<T: Sync + 'static> Placed for Late<T> {}

impl<T> Late<T> {
    /// Writes the value.
    ///
    /// # Safety
    ///
    /// Nobody else knows the place yet.
    pub unsafe fn fill(&self, value: T) {
        // SAFETY: the caller promises that there is no other reference to the inside.
        unsafe { (*self.0.get()).write(value) };
    }

    /// The value.
    ///
    /// # Safety
    ///
    /// [`Late::fill`] was called before anybody else came.
    pub unsafe fn get(&self) -> &T {
        let inside: *const MaybeUninit<T> = self.0.get();
        // SAFETY: nobody writes any more.
        let inside = unsafe { &*inside };
        // SAFETY: the caller promises that it was filled.
        unsafe { inside.assume_init_ref() }
    }
}

/// Vouches for a value of a test.
pub fn last_place() -> LastPlace {
    // SAFETY: places are mapped for the life of their processes, and other values are leaked.
    unsafe { LastPlace::new() }
}
