//! What may lie in memory that several processes map.

use std::sync::atomic;

/// A type whose values mean the same to every process that maps them, at any address.
///
/// Derive it (`#[derive(Shareable)]` of `manyhands-shm`, which also explains what is refused)
/// rather than implementing it by hand.
///
/// # Safety
///
/// The implementer vouches that
///
/// * the value holds no pointer, reference, function pointer, descriptor or thread-local thing,
///   directly or inside;
/// * another process may be killed while it changes the value, and whatever bytes it leaves are
///   still a valid value (plain data that is changed only inside a [`Lock`](crate::Lock), which
///   reports the death, or atomics);
/// * the whole answers for its parts: its `placed` calls that of every part, it is `PINNED` when a
///   part is, and its `is_held_here` says yes when that of a part does.
pub unsafe trait Shareable: Send + Sync + 'static {
    /// Runs once, when the value has reached its last, never-moving place in shared memory and
    /// before anybody else can see it. Locks turn process-shared here.
    ///
    /// A part is told by `part.placed(here)`.
    fn placed(&self, _: LastPlace) {}

    /// Whether a primitive of this crate lies inside. It was told where it lies, and a holder's robust
    /// list may point to it: then the value must not be moved or replaced, so it cannot lie behind a
    /// lock that gives out `&mut`.
    ///
    /// ```compile_fail
    /// use manyhands_sync::{Lock, Shareable};
    ///
    /// // Whoever holds the outer lock could replace the inner one while it is held.
    /// static OUTER: Lock<Lock<u32>> = Lock::new(Lock::new(0));
    /// // SAFETY: a static stays where it is.
    /// OUTER.placed(unsafe { manyhands_sync::LastPlace::new() });
    /// ```
    const PINNED: bool = false;

    /// Whether a thread of this process holds a lock inside. Asked when nothing of this process
    /// borrows the value any more, so a guard was leaked; the memory then stays as it is for as long
    /// as the process lives.
    fn is_held_here(&self) -> bool {
        false
    }
}

/// Somebody vouches that a value has come to its last place.
#[derive(Clone, Copy, Debug)]
pub struct LastPlace(());

impl LastPlace {
    /// Vouches for the value that is told of it, by [`Shareable::placed`].
    ///
    /// # Safety
    ///
    /// The value does not move any more, and its memory stays as it is for as long as any thread may
    /// hold a lock in it, also by a guard that was leaked: the kernel follows the list of a thread's
    /// locks when the thread ends. And nobody else can reach the value before it was told.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_sync::{LastPlace, Lock, Shareable};
    ///
    /// static LOCK: Lock<u32> = Lock::new(0);
    /// // SAFETY: a static stays where it is, and this is the program's first line.
    /// LOCK.placed(unsafe { LastPlace::new() });
    /// assert!(LOCK.inspect().shared);
    /// ```
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

/// Refuses to place a value behind a lock of which the holder gets `&mut` to it.
pub(crate) const fn refuse_pinned<T: ?Sized + Shareable>() {
    assert!(
        !T::PINNED,
        "a lock, event or the like inside a lock could be moved or replaced by whoever holds the \
         outer one; put them side by side in shared memory, or use an RLock outside"
    );
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        // SAFETY: plain data or atomics without pointers; every process of a family runs the
        // same build, and writes in place go through atomics or locks.
        unsafe impl Shareable for $type {}
    )*};
}

plain!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    i8,
    i16,
    i32,
    i64,
    i128,
    f32,
    f64,
    usize,
    isize
);
plain!(
    atomic::AtomicBool,
    atomic::AtomicU8,
    atomic::AtomicU16,
    atomic::AtomicU32
);
plain!(
    atomic::AtomicU64,
    atomic::AtomicI8,
    atomic::AtomicI16,
    atomic::AtomicI32
);
plain!(atomic::AtomicI64, std::time::Duration);

// SAFETY: as for the parts.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {
    fn placed(&self, here: LastPlace) {
        self.iter().for_each(|part| part.placed(here));
    }

    const PINNED: bool = T::PINNED;

    fn is_held_here(&self) -> bool {
        self.iter().any(T::is_held_here)
    }
}

// SAFETY: as for the parts.
unsafe impl<T: Shareable> Shareable for [T] {
    fn placed(&self, here: LastPlace) {
        self.iter().for_each(|part| part.placed(here));
    }

    const PINNED: bool = T::PINNED;

    fn is_held_here(&self) -> bool {
        self.iter().any(T::is_held_here)
    }
}

// SAFETY: no pointers; nobody can change shared text, so it stays text.
unsafe impl Shareable for str {}

// SAFETY: as for the parts; the niche of an `Option` is a value like others.
unsafe impl<T: Shareable> Shareable for Option<T> {
    fn placed(&self, here: LastPlace) {
        self.iter().for_each(|part| part.placed(here));
    }

    const PINNED: bool = T::PINNED;

    fn is_held_here(&self) -> bool {
        self.iter().any(T::is_held_here)
    }
}

macro_rules! tuple {
    ($($name:ident . $index:tt),*) => {
        // SAFETY: as for the parts.
        unsafe impl<$($name: Shareable),*> Shareable for ($($name,)*) {
            fn placed(&self, here: LastPlace) {
                $(self.$index.placed(here);)*
            }

            const PINNED: bool = $($name::PINNED)||*;

            fn is_held_here(&self) -> bool {
                $(self.$index.is_held_here())||*
            }
        }
    };
}

tuple!(A.0);
tuple!(A.0, B.1);
tuple!(A.0, B.1, C.2);
tuple!(A.0, B.1, C.2, D.3);
tuple!(A.0, B.1, C.2, D.3, E.4);
tuple!(A.0, B.1, C.2, D.3, E.4, F.5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placing_a_composite_places_each_part() {
        let value = (
            [crate::Lock::new(0_u8), crate::Lock::new(1)],
            Some(crate::Lock::new(2_u64)),
        );
        // SAFETY: the value stays where it is, and outlives the locks that are held in it.
        value.placed(unsafe { LastPlace::new() });
        assert!(value.0.iter().all(|lock| lock.inspect().shared));
        assert!(value.1.expect("some").inspect().shared);
    }

    #[test]
    fn composite_tells_of_a_lock_of_any_part_that_a_leaked_guard_holds() {
        type Composite = ([crate::Lock<u8>; 2], Option<crate::RwLock<u64>>, u8);
        const { assert!(Composite::PINNED && !<([u8; 2], Option<u64>)>::PINNED) };
        let value: Composite = (
            [crate::Lock::new(0), crate::Lock::new(1)],
            Some(crate::RwLock::new(2)),
            3,
        );
        // SAFETY: the value stays where it is, and outlives the locks that are held in it.
        value.placed(unsafe { LastPlace::new() });
        assert!(!value.is_held_here());
        let guard = value.0[1].lock().expect("it is free");
        assert!(value.is_held_here());
        drop(guard);
        assert!(!value.is_held_here());
        let guard = value.1.as_ref().map(crate::RwLock::write);
        assert!(value.is_held_here());
        drop(guard);
        assert!(!value.is_held_here());
    }
}
