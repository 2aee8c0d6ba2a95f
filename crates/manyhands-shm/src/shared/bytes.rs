//! Slices as the bytes that they are, and back.

use bytemuck::{AnyBitPattern, NoUninit};
use manyhands_sync::Shareable;

use super::{Shared, allocate};
use crate::error::NoSpace;
use crate::shape::Shape;

impl<T: Shareable> Shared<[T]> {
    /// Copies the items that lie in bytes, which need not be aligned: those of a file, say.
    ///
    /// # Errors
    ///
    /// [`FromBytesError`] when a part of an item is left over, or the arena has no room.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_shm::Shared;
    ///
    /// let samples = Shared::<[u16]>::from_bytes(b"abcd")?;
    /// assert_eq!(Shared::as_bytes(&samples), b"abcd");
    /// // Other views are those of bytemuck.
    /// let pairs: &[[u8; 2]] = bytemuck::cast_slice(&samples);
    /// assert_eq!(pairs, [*b"ab", *b"cd"]);
    /// assert!(Shared::<[u16]>::from_bytes(b"abc").is_err());
    /// # Ok::<(), manyhands_shm::FromBytesError>(())
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Result<Shared<[T]>, FromBytesError>
    where
        T: AnyBitPattern,
    {
        const { <[T]>::FITS };
        let (len, item) = (bytes.len(), size_of::<T>());
        if !len.is_multiple_of(item) {
            return Err(FromBytesError::Len { len, item });
        }
        let block = allocate(Some(len))?;
        // SAFETY: `copy_nonoverlapping` needs two valid places of as many bytes.
        // - where: the block has as many bytes as were asked for, and is new.
        // - who: nobody else knows the block yet; the source is borrowed.
        // - what: bytes.
        unsafe { block.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), len) };
        // SAFETY: `place` needs items: any bytes are some, and they were written just now.
        Ok(unsafe { Shared::place(block) })
    }

    /// The bytes of all items.
    ///
    /// ```
    /// use manyhands_shm::Shared;
    ///
    /// let numbers = Shared::<[u32]>::copy_of(&[1, 2])?;
    /// assert_eq!(Shared::as_bytes(&numbers).len(), 8);
    /// # Ok::<(), manyhands_shm::NoSpace>(())
    /// ```
    pub fn as_bytes(this: &Shared<[T]>) -> &[u8]
    where
        T: NoUninit,
    {
        bytemuck::cast_slice(this)
    }
}

/// Why there are no items of some bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FromBytesError {
    /// A part of an item is left over.
    #[error("{len} bytes are no number of items of {item} bytes")]
    Len {
        /// How many bytes there are.
        len: usize,
        /// How many an item has.
        item: usize,
    },
    /// The arena is full, or cannot be made.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_from_bytes_wherever_these_lie() {
        let numbers = [3_u32, 1 << 31, 7];
        let mut bytes = vec![0];
        bytes.extend(bytemuck::cast_slice::<_, u8>(&numbers));
        let shared = Shared::<[u32]>::from_bytes(&bytes[1..]).expect("room");
        assert_eq!(*shared, numbers);
        assert_eq!(Shared::as_bytes(&shared), &bytes[1..]);
        let none = Shared::<[u64]>::from_bytes(&[]).expect("room");
        assert!(none.is_empty() && Shared::as_bytes(&none).is_empty());
        let error = Shared::<[u32]>::from_bytes(&bytes).expect_err("one byte too many");
        assert_eq!(
            error.to_string(),
            "13 bytes are no number of items of 4 bytes"
        );
    }
}
