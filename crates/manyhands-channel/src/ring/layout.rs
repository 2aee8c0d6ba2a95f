//! The words at the head of a ring, and the head of a record.
//!
//! ```text
//!    0  capacity                          written once, before anybody else knows the ring
//!   64  tail                              the producer's: bytes committed since the beginning
//!  128  consumer's parking                where the consumer sleeps
//!  192  head                              the consumer's: bytes taken since the beginning
//!  256  producer's parking, wanted        where the producer sleeps, and until when
//!  320  producer's seat, consumer's seat  who owns each end, see `endpoint.rs`
//!  384  records                           `capacity` bytes, a power of two
//! ```
//!
//! Each line of 64 bytes has one writer in the steady state, so the two sides do not take lines
//! from each other more often than the protocol asks.
//!
//! A record is 8 bytes of head, `length:32 | kind:32`, and its payload, padded to 8 bytes. A head
//! never wraps around the end of the ring; a payload may.

use crate::primitive::AtomicU64;
use crate::ring::parking::Parking;

/// The size of a record's head.
pub(crate) const RECORD_HEAD: u64 = 8;
/// The smallest ring: a head, and something behind it.
pub(crate) const LEAST_CAPACITY: u64 = 64;
/// The largest ring. Lengths of records are 32 bits wide.
pub(crate) const MOST_CAPACITY: u64 = 1 << 31;
/// The head of a ring in shared memory. Zeroed memory is a valid, empty one without capacity.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) capacity: Line<AtomicU64>,
    pub(crate) tail: Line<AtomicU64>,
    pub(crate) consumer_parking: Line<Parking>,
    pub(crate) head: Line<AtomicU64>,
    pub(crate) producer_parking: Line<ProducerParking>,
    pub(crate) seats: Line<[Seat; 2]>,
}

/// Who owns an end.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Seat {
    /// See `seat.rs`.
    pub(crate) word: AtomicU64,
    /// Which process the owner is, to be told when it has died; by the parity of its moves.
    ///
    /// An owner writes its own before it is the owner, so nobody reads that of another.
    pub(crate) identities: [AtomicU64; 2],
}

/// Where the producer sleeps.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct ProducerParking {
    pub(crate) parking: Parking,
    /// The head at which there is room enough; below it nobody need wake the producer.
    pub(crate) wanted: AtomicU64,
}

/// A cache line of its own.
#[repr(C, align(64))]
#[derive(Debug)]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Line<T>(pub(crate) T);

impl Header {
    /// An empty ring, for the model.
    #[cfg(loom)]
    pub(crate) fn new(capacity: u64) -> Self {
        Self {
            capacity: Line(AtomicU64::new(capacity)),
            tail: Line(AtomicU64::new(0)),
            consumer_parking: Line(Parking::new()),
            head: Line(AtomicU64::new(0)),
            producer_parking: Line(ProducerParking {
                parking: Parking::new(),
                wanted: AtomicU64::new(0),
            }),
            seats: Line([0, 1].map(|_| Seat {
                word: AtomicU64::new(0),
                identities: [AtomicU64::new(0), AtomicU64::new(0)],
            })),
        }
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message.
    Whole,
    /// The first part of a message; whatever was begun before was given up by the producer.
    First,
    /// A further part.
    Middle,
    /// The last part.
    Last,
    /// Nothing: fills the end of the ring, where a claimed slot did not fit in one piece.
    Skip,
}

/// The head of a record in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) kind: Kind,
    pub(crate) length: u32,
}

impl RecordHead {
    #[inline]
    pub(crate) fn to_bits(self) -> u64 {
        let kind: u64 = match self.kind {
            Kind::Whole => 1,
            Kind::First => 2,
            Kind::Middle => 3,
            Kind::Last => 4,
            Kind::Skip => 5,
        };
        kind << 32 | u64::from(self.length)
    }

    /// `None` when no record has such a head.
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        let kind = match bits >> 32 {
            1 => Kind::Whole,
            2 => Kind::First,
            3 => Kind::Middle,
            4 => Kind::Last,
            5 => Kind::Skip,
            _ => return None,
        };
        Some(Self {
            kind,
            length: bits as u32,
        })
    }

    /// The bytes that the record takes in the ring.
    #[inline]
    pub(crate) fn size(self) -> u64 {
        record_size(u64::from(self.length))
    }
}

/// The bytes that a record with `length` bytes of payload takes in the ring.
#[inline]
pub(crate) const fn record_size(length: u64) -> u64 {
    RECORD_HEAD + length.next_multiple_of(8)
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Header, capacity) == 0);
    assert!(offset_of!(Header, tail) == 64);
    assert!(offset_of!(Header, consumer_parking) == 128);
    assert!(offset_of!(Header, head) == 192);
    assert!(offset_of!(Header, producer_parking) == 256);
    assert!(offset_of!(Header, seats) == 320);
    assert!(size_of::<Header>() == 384);
};
