//! Which types mean the same to programs that were built apart.

use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
};

use crate::Shareable;

/// A type that strangers can share: a [`Shareable`] type whose layout is part of its
/// [shape](Self::SHAPE), and of which any bytes are a value.
///
/// Atomic numbers, arrays of such types, and structs of them by the macro
/// [`portable!`](crate::portable). Plain numbers are not: others may write while we look. Nor are
/// locks, which know members of one family only.
///
/// # Safety
///
/// * Any bytes are a value, and using it through `&self` is sound while others write any bytes:
///   only atomics, no padding that is looked at.
/// * Two types of the same shape, of whatever build, have the same fields at the same places.
pub unsafe trait Portable: Shareable {
    /// A hash of all that has to be equal on both sides: the kinds, names and places of all fields.
    const SHAPE: u64;
}

macro_rules! atomics {
    ($($type:ident),*) => {$(
        // SAFETY: any bits are a value of an atomic number, and its size is part of its name.
        unsafe impl Portable for $type {
            const SHAPE: u64 = shape(stringify!($type));
        }
    )*};
}

atomics!(
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64
);

// SAFETY: as for the parts, which lie one after the other; their number is part of the shape.
unsafe impl<T: Portable, const N: usize> Portable for [T; N] {
    const SHAPE: u64 = with(with(shape("array"), T::SHAPE), N as u64);
}

/// The shape of a name.
#[doc(hidden)]
pub const fn shape(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = with(0xcbf2_9ce4_8422_2325, bytes.len() as u64);
    let mut index = 0;
    while index < bytes.len() {
        hash = mix(hash, bytes[index]);
        index += 1;
    }
    hash
}

/// The shape with one more number in it.
#[doc(hidden)]
pub const fn with(mut hash: u64, number: u64) -> u64 {
    let bytes = number.to_le_bytes();
    let mut index = 0;
    while index < bytes.len() {
        hash = mix(hash, bytes[index]);
        index += 1;
    }
    hash
}

/// FNV-1a: it has to tell mistakes from none, not to withstand an enemy.
const fn mix(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3)
}

/// Implements [`Portable`](crate::named::Portable) for a struct of atomics; all its fields are
/// listed again, with their types.
///
/// What the compiler made of the struct is in the shape, so the builds on both sides may differ; say
/// `#[repr(C)]` for the layouts to be equal.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, AtomicU64};
/// use manyhands_shm::{Shareable, portable};
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Board {
///     turn: AtomicU64,
///     scores: [AtomicU32; 8],
/// }
///
/// portable!(Board { turn: AtomicU64, scores: [AtomicU32; 8] });
/// ```
///
/// Plain numbers are refused, because another process may write while one is read:
///
/// ```compile_fail,E0277
/// #[derive(manyhands_shm::Shareable)]
/// #[repr(C)]
/// struct Plain {
///     turn: u64,
/// }
///
/// manyhands_shm::portable!(Plain { turn: u64 });
/// ```
///
/// So is a field that is left out:
///
/// ```compile_fail,E0027
/// # use std::sync::atomic::AtomicU64;
/// #[derive(manyhands_shm::Shareable)]
/// #[repr(C)]
/// struct Pair {
///     one: AtomicU64,
///     two: AtomicU64,
/// }
///
/// manyhands_shm::portable!(Pair { one: AtomicU64 });
/// ```
#[macro_export]
macro_rules! portable {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        // SAFETY: every field is portable, all are listed, and the shape has the name, the type and
        // the place of each.
        unsafe impl $crate::named::Portable for $name {
            const SHAPE: u64 = {
                const fn all_listed($name { $($field),* }: &$name) {
                    $(let _: &$type = $field;)*
                }
                let _ = all_listed;
                let hash = $crate::named::shape(::core::stringify!($name));
                let hash = $crate::named::with(hash, ::core::mem::size_of::<$name>() as u64);
                $(
                    let hash = $crate::named::with(hash, $crate::named::shape(::core::stringify!($field)));
                    let hash = $crate::named::with(hash, ::core::mem::offset_of!($name, $field) as u64);
                    let hash = $crate::named::with(hash, <$type as $crate::named::Portable>::SHAPE);
                )*
                hash
            };
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(manyhands_derive::Shareable)]
    #[shareable(crate = crate)]
    #[repr(C)]
    struct Pair {
        one: AtomicU32,
        two: [AtomicU64; 2],
    }
    portable!(Pair {
        one: AtomicU32,
        two: [AtomicU64; 2]
    });

    mod elsewhere {
        use super::*;

        #[derive(manyhands_derive::Shareable)]
        #[shareable(crate = crate)]
        #[repr(C)]
        pub(super) struct Pair {
            one: AtomicU32,
            two: [AtomicU64; 3],
        }
        portable!(Pair {
            one: AtomicU32,
            two: [AtomicU64; 3]
        });
    }

    #[test]
    fn shape_differs_with_names_types_and_lengths_and_stays_over_releases() {
        assert_ne!(Pair::SHAPE, elsewhere::Pair::SHAPE);
        assert_ne!(AtomicU32::SHAPE, AtomicI32::SHAPE);
        assert_ne!(<[AtomicU32; 2]>::SHAPE, <[AtomicU32; 3]>::SHAPE);
        // Written down: other builds have stored these.
        assert_eq!(AtomicU64::SHAPE, shape("AtomicU64"));
        assert_eq!(shape(""), 0xa8c7_f832_281a_39c5);
    }
}
