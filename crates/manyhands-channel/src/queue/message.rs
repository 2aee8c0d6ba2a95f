//! Messages on their way between a caller and the ring.

use super::ground::Block;
use super::layout::{Kind, Mark, RecordHead};
use super::raw::Stop;
use crate::ring::record_size;

/// The message in front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    /// Which lease it was given back by, if it was.
    pub(super) lease: Option<usize>,
    pub(super) head: RecordHead,
    /// Where it begins, and what lies behind it.
    pub(super) start: Mark,
    pub(super) end: Mark,
}

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Take,
    Lease,
}

/// Which lease a caller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) lease: usize,
    pub(super) start: Mark,
    /// How often the message was leased, this time included.
    pub(super) deliveries: u32,
    /// The handle of the message's block, if it is one.
    pub(super) block: Option<u64>,
}

/// What a look at the front of the queue found, if it did not just copy a message and take it.
#[derive(Debug)]
pub(super) enum Found {
    /// The message is this block, and taken.
    Block(Block),
    /// The message is in the buffer, unless the ticket has its block, and leased.
    Leased(Ticket),
    /// The message is in the buffer, or it is this block, and to be taken when it is unpacked.
    Seen(Front, Option<Block>),
    Nothing,
    /// The message has handles, and the caller has not the turn.
    NeedsTurn,
    /// The buffer needs room for so many bytes first.
    NeedsRoom(usize),
}

/// Messages of one kind that lie behind each other; those that were put leave it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    pub(super) kind: Kind,
    /// The place behind those that were put.
    pub(super) end: Mark,
    lengths: &'a [usize],
    payload: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The lengths are those of the messages in `payload`, in their order.
    #[inline]
    pub(super) fn new(kind: Kind, lengths: &'a [usize], payload: &'a [u8]) -> Self {
        Self {
            kind,
            end: Mark::new(0, 0),
            lengths,
            payload,
        }
    }

    /// How many messages are left.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// What the record of the first message takes.
    #[inline]
    pub(super) fn first_size(&self) -> u64 {
        record_size(self.lengths.first().map_or(0, |length| *length as u64))
    }

    /// The messages that are left.
    #[inline]
    pub(super) fn payloads(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.payload;
        self.lengths.iter().map(move |length| {
            let (first, behind) = rest.split_at(*length);
            rest = behind;
            first
        })
    }

    /// Takes the first `many` messages off, which were put.
    #[inline]
    pub(super) fn remove(&mut self, many: usize, end: Mark) {
        self.end = end;
        let (removed, lengths) = self.lengths.split_at(many);
        self.payload = &self.payload[removed.iter().sum()..];
        self.lengths = lengths;
    }
}

/// Where messages are copied to. Nothing is allocated in a section: what there is no room for is not
/// copied.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    /// When more than one is wanted: where each ends in `bytes`, and how many are.
    pub(super) ends: Option<(&'a mut Vec<usize>, usize)>,
    /// Where a look leaves what it found, if that is not in the bytes: nearly always it is, and what is
    /// passed on then goes in a register.
    pub(super) found: Found,
}

impl<'a> Taking<'a> {
    /// One message.
    #[inline]
    pub(super) fn one(bytes: &'a mut Vec<u8>) -> Self {
        Self {
            bytes,
            ends: None,
            found: Found::Nothing,
        }
    }
}

impl Taking<'_> {
    /// For a look that did not end with bytes that were taken.
    pub(super) fn found(&mut self, found: Found) -> Result<bool, Stop> {
        self.found = found;
        Ok(false)
    }

    /// What the last look found.
    pub(super) fn take_found(&mut self) -> Found {
        std::mem::replace(&mut self.found, Found::Nothing)
    }

    #[inline]
    pub(super) fn has_room(&self, record: RecordHead) -> bool {
        self.bytes.capacity() - self.bytes.len() >= record.length as usize
    }

    #[inline]
    pub(super) fn wants_more(&self) -> bool {
        let wants =
            |(ends, most): &(&mut Vec<usize>, usize)| ends.len() < ends.capacity().min(*most);
        self.ends.as_ref().is_some_and(wants)
    }
}
