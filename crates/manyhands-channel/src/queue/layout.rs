//! The words at the head of a queue, and the head of a record.
//!
//! ```text
//!    0  bytes, items, closing, sealed      seldom written
//!   64  put section, head as last seen, peak, block      the producers'
//!  128  tail                              what was committed since the beginning
//!  192  get section, next, leases, tail as last seen, done    the consumers'
//!  256  head                              what was freed since the beginning
//!  320  the turn of consumers that sleep; 384 what they tell producers
//!  448  the turn of producers that sleep; 512 what they tell consumers
//!  576  what those who join tell consumers
//!  640  leases                            126 of 32 bytes
//! 4672  records                           `bytes` of them, a power of two
//! ```
//!
//! Each line is written by one side often, or by nobody; what a side reads at each message of the
//! other one is its tail or head and the message, no more.
//!
//! A record is 8 bytes of head, `length:32 | kind:32`, and its payload, padded to 8 bytes. A head
//! never wraps around the end; a payload may.

#[cfg(not(loom))]
use manyhands_sync::{LastPlace, Shareable};

use super::ground::{Bed, Lock, ShortLock, Spin};
use crate::primitive::{AtomicU32, AtomicU64};
use crate::ring::{Line, record_size};

/// The head of a queue in shared memory. Zeroed memory is a valid, empty one without capacity.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Header {
    pub(super) limits: Line<Limits>,
    pub(super) put: Line<PutSide>,
    pub(super) tail: Line<AtomicU64>,
    pub(super) get: Line<GetSide>,
    pub(super) head: Line<AtomicU64>,
    /// For who waits for a message.
    pub(super) items: Line<Place>,
    /// For who waits for room.
    pub(super) room: Line<Place>,
    /// For who waits until all is done; changed in the consumers' section.
    pub(super) tasks: Line<Notice>,
    /// Which messages are leased, or were and came back; changed in the consumers' section.
    pub(super) leases: [Lease; LEASES],
}

/// How much fits in, and for how long.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(loom, derive(Default))]
pub(super) struct Limits {
    pub(super) bytes: AtomicU64,
    pub(super) items: AtomicU32,
    /// Not zero once somebody has begun to close; whoever would sleep for room finishes it. Changed
    /// in the consumers' section.
    pub(super) closing: AtomicU32,
    /// [`SEALED`] once nothing more will be put, [`DROPPING`] once what is there is to be dropped,
    /// too: whoever would sleep for a message does that. Changed in the producers' section.
    pub(super) sealed: AtomicU32,
}

/// What the producers change, in their section.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(loom, derive(Default))]
pub(super) struct PutSide {
    pub(super) section: ShortLock,
    /// The head as a producer saw it last; it only grows.
    pub(super) seen_head: AtomicU64,
    /// The most messages that there were at once.
    pub(super) peak: AtomicU32,
    /// While a message is put that is a block: its handle, and the tail before it.
    pub(super) block: AtomicU64,
    pub(super) block_at: AtomicU64,
}

/// What the consumers change, in their section.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(loom, derive(Default))]
pub(super) struct GetSide {
    pub(super) section: ShortLock,
    /// The message to come next, of those that nobody has had. It only grows.
    pub(super) next: AtomicU64,
    /// Which leases there are, a bit each. One that begins at `next` is none yet.
    pub(super) out: [AtomicU64; 2],
    /// The tail as a consumer saw it last; it only grows.
    pub(super) seen_tail: AtomicU64,
    /// How many messages were reported as done; counted as in a [`Mark`].
    pub(super) done: AtomicU32,
    /// What had been taken when all else was dropped; if `next` says [`DROPPED`].
    pub(super) dropped_from: AtomicU64,
    /// How many of the leases are given back. A cache.
    pub(super) given_back: AtomicU32,
    /// Not zero when somebody may sleep who wants to hear of what is given back.
    pub(super) watched: AtomicU32,
}

/// The most leases at once; as many as there are lives that one wait can watch.
#[cfg(not(loom))]
pub(super) const LEASES: usize = 126;
#[cfg(loom)]
pub(super) const LEASES: usize = 2;

/// A message that is not for whoever comes next: leased, or leased once and given back.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(loom, derive(Default))]
pub(super) struct Lease {
    /// Where its record begins.
    pub(super) start: AtomicU64,
    /// The participant that has it.
    pub(super) holder: AtomicU64,
    /// A [`LeaseState`].
    pub(super) state: AtomicU64,
    /// How many messages are reported once this one is finished.
    pub(super) done: AtomicU32,
    pub(super) unused: AtomicU32,
}

/// What became of a message that was leased, and how often it has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseState {
    pub(super) stage: Stage,
    pub(super) deliveries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Stage {
    Leased = 1,
    GivenBack = 2,
    Finished = 3,
}

impl LeaseState {
    #[inline]
    pub(super) fn to_bits(self) -> u64 {
        (self.stage as u64) << 32 | u64::from(self.deliveries)
    }

    /// `None` when there is no such state.
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let stage = match bits >> 32 {
            1 => Stage::Leased,
            2 => Stage::GivenBack,
            3 => Stage::Finished,
            _ => return None,
        };
        Some(Self {
            stage,
            deliveries: bits as u32,
        })
    }
}

/// Where one sleeps; whoever else wants to sleep here waits for the turn.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(loom, derive(Default))]
pub(super) struct Place {
    pub(super) turn: Lock<()>,
    pub(super) spin: Spin,
    pub(super) notice: Line<Notice>,
}

/// What those who sleep at a place tell the other side, which reads it at each message.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(loom, derive(Default))]
pub(super) struct Notice {
    /// The futex word; changed by whoever wakes.
    pub(super) sequence: AtomicU32,
    /// Not zero when somebody may sleep.
    pub(super) waiting: AtomicU32,
    /// How far the other side must have come to make it worth waking; for room only.
    pub(super) wanted: AtomicU64,
    /// Nothing, but in the models.
    pub(super) bed: Bed,
}

#[cfg(not(loom))]
impl Header {
    /// Tells the locks that they lie in shared memory now, before anybody else knows them.
    pub(crate) fn place(&self, here: LastPlace) {
        self.items.0.turn.placed(here);
        self.room.0.turn.placed(here);
    }
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Header, put) == 64);
    assert!(offset_of!(Header, tail) == 128);
    assert!(offset_of!(Header, get) == 192);
    assert!(offset_of!(Header, head) == 256);
    assert!(offset_of!(Header, items) == 320);
    assert!(offset_of!(Header, room) == 448);
    assert!(offset_of!(Place, notice) == 64);
    assert!(offset_of!(Header, tasks) == 576);
    assert!(offset_of!(Header, leases) == 640);
    assert!(size_of::<PutSide>() <= 64 && size_of::<GetSide>() <= 64);
    assert!(size_of::<Lease>() == 32);
    assert!(size_of::<Header>() == 4672);
    assert!(LEASES == manyhands_sync::life::MAX_LIVES);
};

/// Said by `next`, in a bit that no count of bytes has: what was between the last message that was
/// taken and the tail was dropped, and the queue had been closed before.
pub(super) const DROPPED: u64 = 1;

/// See [`Limits::sealed`].
pub(super) const SEALED: u32 = 1;
pub(super) const DROPPING: u32 = 2;

/// A place in the queue: how many messages lie before it since the beginning, and how many bytes
/// of records, a multiple of 8; both wrap. One word, so that one store commits a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Mark {
    /// Also of a place that says [`DROPPED`].
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits & !DROPPED)
    }

    #[inline]
    pub(super) fn to_bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(super) fn new(messages: u32, bytes: u32) -> Self {
        Self(u64::from(messages) << 32 | u64::from(bytes))
    }

    #[inline]
    pub(super) fn messages(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(super) fn bytes(self) -> u32 {
        self.0 as u32
    }

    /// The place behind so many messages more, whose records take `size` bytes.
    #[inline]
    pub(super) fn behind(self, many: u32, size: u64) -> Self {
        Self::new(
            self.messages().wrapping_add(many),
            self.bytes().wrapping_add(size as u32),
        )
    }

    /// The messages from `earlier` to here.
    #[inline]
    pub(super) fn messages_since(self, earlier: Self) -> u32 {
        self.messages().wrapping_sub(earlier.messages())
    }

    /// The bytes of records from `earlier` to here.
    #[inline]
    pub(super) fn bytes_since(self, earlier: Self) -> u64 {
        self.bytes().wrapping_sub(earlier.bytes()).into()
    }

    /// The place that is reached when one of the two is.
    pub(super) fn earlier(self, other: Self) -> Self {
        let first = |mine: u32, other: u32| match mine.wrapping_sub(other) as i32 {
            ..0 => mine,
            _ => other,
        };
        Self::new(
            first(self.messages(), other.messages()),
            first(self.bytes(), other.bytes()),
        )
    }

    /// Whether this place is at `other` or behind it, in messages and in bytes.
    #[inline]
    pub(super) fn has_reached(self, other: Self) -> bool {
        let is_behind = |mine: u32, other: u32| mine.wrapping_sub(other) as i32 >= 0;
        is_behind(self.messages(), other.messages()) && is_behind(self.bytes(), other.bytes())
    }
}

/// What a record's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An encoded value.
    Plain,
    /// An encoded value with ends of rings in it: it is unpacked before the producer learns that it
    /// was taken.
    Holding,
    /// The handle of a block with an encoded value. The block lies in the queue's region, and goes to
    /// who takes the message.
    Block,
    /// A block, with an encoded value that has ends of rings in it.
    HoldingBlock,
}

impl Kind {
    /// Whether it is unpacked before the producer learns that it was taken.
    #[inline]
    pub(super) fn is_holding(self) -> bool {
        matches!(self, Self::Holding | Self::HoldingBlock)
    }

    /// Whether the payload is the handle of a block.
    #[inline]
    pub(super) fn is_block(self) -> bool {
        matches!(self, Self::Block | Self::HoldingBlock)
    }
}

/// The head of a record in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHead {
    pub(super) kind: Kind,
    pub(super) length: u32,
}

impl RecordHead {
    #[inline]
    pub(super) fn to_bits(self) -> u64 {
        let kind: u64 = match self.kind {
            Kind::Plain => 1,
            Kind::Holding => 2,
            Kind::Block => 3,
            Kind::HoldingBlock => 4,
        };
        kind << 32 | u64::from(self.length)
    }

    /// `None` when no record has such a head.
    #[inline]
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let kind = match bits >> 32 {
            1 => Kind::Plain,
            2 => Kind::Holding,
            3 => Kind::Block,
            4 => Kind::HoldingBlock,
            _ => return None,
        };
        Some(Self {
            kind,
            length: bits as u32,
        })
    }

    /// The bytes that the record takes.
    #[inline]
    pub(super) fn size(self) -> u64 {
        record_size(self.length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_count_messages_and_bytes_apart_and_wrap() {
        let near_the_end = Mark::new(u32::MAX, u32::MAX - 7);
        let after = near_the_end.behind(1, 24).behind(1, 8);
        assert_eq!(after.messages_since(near_the_end), 2);
        assert_eq!(after.bytes_since(near_the_end), 32);
        assert!(after.has_reached(near_the_end) && !near_the_end.has_reached(after));
        assert!(after.has_reached(after));
        assert_eq!(Mark::from_bits(after.to_bits()), after);
    }

    #[test]
    fn states_of_leases_are_read_as_they_were_written() {
        for stage in [Stage::Leased, Stage::GivenBack, Stage::Finished] {
            let deliveries = u32::MAX;
            let state = LeaseState { stage, deliveries };
            assert_eq!(LeaseState::from_bits(state.to_bits()), Some(state));
        }
        assert_eq!(LeaseState::from_bits(7), None);
    }

    #[test]
    fn heads_of_records_are_read_as_they_were_written() {
        for kind in [Kind::Plain, Kind::Holding, Kind::Block, Kind::HoldingBlock] {
            let head = RecordHead { kind, length: 17 };
            assert_eq!(RecordHead::from_bits(head.to_bits()), Some(head));
            assert_eq!(head.size(), 32);
        }
        assert_eq!(RecordHead::from_bits(17), None);
    }
}
