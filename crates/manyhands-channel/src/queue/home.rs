//! Where a queue's bytes lie.

use std::sync::atomic::Ordering::Relaxed;

use manyhands_shm::Region;
use manyhands_shm::arena::Handle;

use super::ground::{self, Memory};
use super::layout::Mark;
use super::message::Ticket;
use super::raw::{MOST_BYTES, RawQueue};
use crate::ring::{Corrupt, place_locks};

impl RawQueue {
    /// Makes a queue in a new region of `size_of::<Header>() + bytes` bytes.
    pub(super) fn make(region: Region, bytes: u64, items: u32) -> Result<Self, Corrupt> {
        let memory = Memory::new(region)?;
        place_locks(&memory);
        let limits = &memory.head().limits.0;
        // Relaxed: nobody else knows the region yet.
        limits.bytes.store(bytes, Relaxed);
        limits.items.store(items, Relaxed);
        Self::attach(memory.region().clone())
    }

    /// The queue that lies in a region.
    pub(super) fn attach(region: Region) -> Result<Self, Corrupt> {
        let memory = Memory::new(region)?;
        let limits = &memory.head().limits.0;
        // Relaxed: written before the handle of the region went anywhere.
        let (bytes, items) = (limits.bytes.load(Relaxed), limits.items.load(Relaxed));
        let fits = bytes.is_power_of_two() && bytes <= memory.len() && bytes <= MOST_BYTES;
        if !fits || items == 0 {
            return Err(Corrupt);
        }
        Ok(Self {
            memory,
            bytes,
            items,
            me: ground::me(),
        })
    }

    pub(super) fn region(&self) -> &Region {
        self.memory.region()
    }

    /// Appends the block of a leased message to `into`; `false` when the lease is lost, since then it may
    /// have changed meanwhile.
    pub(super) fn copy_leased(&self, ticket: Ticket, block: u64, into: &mut Vec<u8>) -> bool {
        let handle = Handle::from_bits(block);
        handle.is_some_and(|handle| self.memory.copy_deposited(handle, into))
            && self.has_lease(ticket)
    }

    /// Whether the message that ends at `mark` was taken, or will never be: nobody else has the queue.
    pub(super) fn has_passed(&mut self, mark: Mark) -> bool {
        self.freed_until_now().has_reached(mark) || self.memory.is_only()
    }
}
