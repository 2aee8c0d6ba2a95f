//! A value on its way into a queue: encoded once, and tried until there is room for it.

use manyhands_shm::handoff::{self, Holds};
use serde::Serialize;

use super::ground::Block;
use super::layout::Kind;
use super::{PutError, Queue};
use crate::patience::Patience;
use crate::ring::record_size;

/// The message of a value.
pub(crate) struct Packed {
    bytes: Vec<u8>,
    kind: Kind,
    /// Has the bytes, too.
    block: Option<Block>,
    holds: Holds,
}

impl Packed {
    /// What its record takes in the queue.
    pub(crate) fn size(&self) -> u64 {
        let length = match self.block {
            Some(_) => size_of::<u64>(),
            None => self.bytes.len(),
        };
        record_size(length as u64)
    }
}

impl<T: Serialize> Queue<T> {
    pub(crate) fn pack(&self, value: &T) -> Result<Packed, PutError> {
        // Before encoding, which moves ends of rings away: nobody would get them.
        if self.is_closed() {
            return Err(PutError::Closed);
        }
        let mut bytes = Vec::new();
        let holds = handoff::pack_into(value, &mut bytes)?;
        let (kind, block) = self.form(&bytes, &holds)?;
        Ok(Packed {
            bytes,
            kind,
            block,
            holds,
        })
    }

    /// Puts the message if there is room for it now.
    pub(crate) fn try_put_message(&self, packed: &mut Packed) -> Result<(), PutError> {
        let Packed {
            bytes, kind, block, ..
        } = packed;
        let mark = self.put_formed(bytes, *kind, block, Patience::None)?;
        self.keep(mark, std::mem::take(&mut packed.holds));
        Ok(())
    }
}
