//! The two cursors of a ring: what is written where, and when the other side may see it.
//!
//! Nothing here waits, allocates shared memory or asks the system; [`Memory`] hides where the bytes
//! lie, so that the model checker runs this file over memory of its own.
//!
//! # Ordering
//!
//! The bytes of a record must be visible to the consumer before it sees the tail behind them:
//! `tail` is stored with Release in [`Writer::publish`] and loaded with Acquire in
//! [`Reader::next`]. The consumer must have finished reading before the producer writes there
//! again: `head` is stored with Release in [`Reader::release`] and loaded with Acquire in
//! [`Writer::room`]. Each cursor reads its own word only when it attaches.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::primitive::AtomicU32;
use crate::ring::layout::{
    Header, Kind, LEAST_CAPACITY, MOST_CAPACITY, RECORD_HEAD, RecordHead, record_size,
};
use crate::ring::parking::Woken;

/// Where a ring lies. Positions passed in are offsets into the records, and never wrap.
pub(crate) trait Memory {
    fn header(&self) -> &Header;
    /// How many bytes of records the memory has.
    fn size(&self) -> u64;
    /// Stores a record's head at `offset`, a multiple of 8.
    fn store_head(&self, offset: u64, bits: u64);
    /// Loads a record's head from `offset`, a multiple of 8.
    fn load_head(&self, offset: u64) -> u64;
    /// Copies `bytes` to `offset`.
    fn write(&self, offset: u64, bytes: &[u8]);
    /// Copies `length` bytes from `offset` to the end of `into`.
    fn append(&self, offset: u64, length: u64, into: &mut Vec<u8>);
    /// Wakes who sleeps on `word`.
    fn wake(&self, word: &AtomicU32);
}

/// The words of the ring contradict each other: somebody wrote where only one may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// Offsets of positions in a ring whose capacity was checked.
#[derive(Clone, Copy, Debug)]
struct Shape {
    capacity: u64,
}

impl Shape {
    fn of(memory: &impl Memory) -> Result<Self, Corrupt> {
        // Relaxed: written before the handle of the ring went anywhere.
        let capacity = memory.header().capacity.0.load(Relaxed);
        let fits = (LEAST_CAPACITY..=MOST_CAPACITY).contains(&capacity)
            && capacity.is_power_of_two()
            && capacity <= memory.size();
        if fits {
            Ok(Self { capacity })
        } else {
            Err(Corrupt)
        }
    }

    #[inline]
    fn offset(self, position: u64) -> u64 {
        position & (self.capacity - 1)
    }

    /// How many bytes from `position` to the end of the ring.
    #[inline]
    fn until_wrap(self, position: u64) -> u64 {
        self.capacity - self.offset(position)
    }

    /// The bytes between the two positions, if such positions can be.
    #[inline]
    fn used(self, head: u64, tail: u64) -> Result<u64, Corrupt> {
        let used = tail.wrapping_sub(head);
        if used <= self.capacity && head.is_multiple_of(8) && used.is_multiple_of(8) {
            Ok(used)
        } else {
            Err(Corrupt)
        }
    }
}

/// The producer's cursor.
#[derive(Debug)]
pub(crate) struct Writer<M> {
    memory: M,
    shape: Shape,
    /// Our own word; what lies behind it is not committed yet.
    tail: u64,
    /// The consumer's word as it was last seen; it only grows.
    head: u64,
    woken: Woken,
}

impl<M: Memory> Writer<M> {
    pub(crate) fn attach(memory: M) -> Result<Self, Corrupt> {
        let shape = Shape::of(&memory)?;
        // Acquire: what a former owner of this end committed is there for us to go on from.
        let tail = memory.header().tail.0.load(Acquire);
        let head = memory.header().head.0.load(Acquire);
        shape.used(head, tail)?;
        Ok(Self {
            memory,
            shape,
            tail,
            head,
            woken: Woken::default(),
        })
    }

    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    pub(crate) fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.shape.capacity
    }

    /// The position behind the last committed message.
    pub(crate) fn position(&self) -> u64 {
        self.tail
    }

    /// Whether the consumer has taken everything before `position`.
    pub(crate) fn is_taken(&self, position: u64) -> bool {
        // Acquire: partner is `Reader::release`; the consumer is done with what lies before.
        let head = self.memory.header().head.0.load(Acquire);
        head.wrapping_sub(position) as i64 >= 0
    }

    /// The free bytes; looks at the consumer's word only when fewer than `wanted` are known.
    #[inline]
    pub(crate) fn room(&mut self, wanted: u64) -> Result<u64, Corrupt> {
        let known = self.shape.capacity - self.shape.used(self.head, self.tail)?;
        if known >= wanted {
            return Ok(known);
        }
        // Acquire: partner is the Release store in `Reader::release`.
        self.head = self.memory.header().head.0.load(Acquire);
        Ok(self.shape.capacity - self.shape.used(self.head, self.tail)?)
    }

    /// Whether there are `wanted` free bytes, for the second look before sleeping.
    pub(crate) fn has_room(&self, wanted: u64) -> bool {
        // Relaxed: `room` looks again with Acquire before anything is written.
        let head = self.memory.header().head.0.load(Relaxed);
        // A contradiction counts as room: `room` reports it.
        self.shape
            .used(head, self.tail)
            .map_or(true, |used| self.shape.capacity - used >= wanted)
    }

    /// Says for how much room the producer is going to sleep.
    pub(crate) fn announce(&self, wanted: u64) {
        let head = self
            .tail
            .wrapping_add(wanted)
            .wrapping_sub(self.shape.capacity);
        // Relaxed: the fence in `Parking::sleep` follows.
        self.memory
            .header()
            .producer_parking
            .0
            .wanted
            .store(head, Relaxed);
    }

    /// Writes a record behind the tail without publishing it. The caller has made room.
    #[inline]
    pub(crate) fn put(&mut self, kind: Kind, payload: &[u8]) -> Pending {
        let head = RecordHead {
            kind,
            // The caller cuts payloads to the room there is, at most `MOST_CAPACITY`.
            length: payload.len() as u32,
        };
        self.memory
            .store_head(self.shape.offset(self.tail), head.to_bits());
        let start = self.tail.wrapping_add(RECORD_HEAD);
        let first = self.shape.until_wrap(start).min(payload.len() as u64) as usize;
        let (before, after) = payload.split_at(first);
        self.memory.write(self.shape.offset(start), before);
        if !after.is_empty() {
            self.memory.write(0, after);
        }
        Pending(self.tail.wrapping_add(head.size()))
    }

    /// Room for a payload of `length` bytes in one piece: its offset, and where it would end.
    ///
    /// Writes a record that skips the end of the ring, if need be; it is published with the slot.
    pub(crate) fn claim(&mut self, length: u32) -> Result<Option<(u64, Pending)>, Corrupt> {
        let size = record_size(length.into());
        let rest = self.shape.until_wrap(self.tail);
        let skip = if rest >= size { 0 } else { rest };
        if self.room(skip + size)? < skip + size {
            return Ok(None);
        }
        if skip > 0 {
            let head = RecordHead {
                kind: Kind::Skip,
                length: (skip - RECORD_HEAD) as u32,
            };
            self.memory
                .store_head(self.shape.offset(self.tail), head.to_bits());
        }
        let start = self.tail.wrapping_add(skip);
        let head = RecordHead {
            kind: Kind::Whole,
            length,
        };
        self.memory
            .store_head(self.shape.offset(start), head.to_bits());
        let payload = self.shape.offset(start) + RECORD_HEAD;
        Ok(Some((payload, Pending(start.wrapping_add(size)))))
    }

    /// How much room `claim` needs at this place for `length` bytes.
    pub(crate) fn claim_size(&self, length: u32) -> u64 {
        let size = record_size(length.into());
        let rest = self.shape.until_wrap(self.tail);
        if rest >= size { size } else { rest + size }
    }

    /// Makes everything up to `pending` the consumer's, by one store.
    #[inline]
    pub(crate) fn publish(&mut self, pending: Pending) {
        self.tail = pending.0;
        // Release: partner is the Acquire load in `Reader::next`; publishes the bytes before it.
        self.memory.header().tail.0.store(self.tail, Release);
        let Self { memory, woken, .. } = self;
        let parking = &memory.header().consumer_parking.0;
        parking.notify(woken, || true, |word| memory.wake(word));
    }
}

/// Written, and not yet published.
#[derive(Debug)]
#[must_use]
pub(crate) struct Pending(u64);

/// The consumer's cursor.
#[derive(Debug)]
pub(crate) struct Reader<M> {
    memory: M,
    shape: Shape,
    /// Our own word.
    head: u64,
    /// The producer's word as it was last seen; it only grows.
    tail: u64,
    woken: Woken,
}

/// A committed record that was not released yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    length: u64,
    start: u64,
    end: u64,
}

impl<M: Memory> Reader<M> {
    pub(crate) fn attach(memory: M) -> Result<Self, Corrupt> {
        let shape = Shape::of(&memory)?;
        // Acquire: the former owner of this end was done with what lies before.
        let head = memory.header().head.0.load(Acquire);
        let tail = memory.header().tail.0.load(Acquire);
        shape.used(head, tail)?;
        Ok(Self {
            memory,
            shape,
            head,
            tail,
            woken: Woken::default(),
        })
    }

    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.shape.capacity
    }

    /// The first record that was not released, if one was committed.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Corrupt> {
        loop {
            if self.head == self.tail {
                // Acquire: partner is the Release store in `Writer::publish`.
                self.tail = self.memory.header().tail.0.load(Acquire);
            }
            let there = self.shape.used(self.head, self.tail)?;
            if there == 0 {
                return Ok(None);
            }
            let record = self.record(there)?;
            if record.kind != Kind::Skip {
                return Ok(Some(record));
            }
            self.release(record);
        }
    }

    /// Whether a record is there, for the second look before sleeping.
    pub(crate) fn has_record(&self) -> bool {
        // Relaxed: `next` looks again with Acquire before anything is read.
        self.memory.header().tail.0.load(Relaxed) != self.head
    }

    /// Whether the payload of `record` does not go round the end of the ring.
    pub(crate) fn is_in_one_piece(&self, record: Record) -> bool {
        self.shape.until_wrap(record.start) >= record.length
    }

    /// Where the payload of `record` begins, and its length; for one in one piece.
    pub(crate) fn place(&self, record: Record) -> (u64, u64) {
        // The payload of nothing may begin where the ring ends.
        (self.shape.offset(record.start), record.length)
    }

    /// Appends the payload of `record` to `into`.
    #[inline]
    pub(crate) fn append(&self, record: Record, into: &mut Vec<u8>) {
        let first = self.shape.until_wrap(record.start).min(record.length);
        self.memory
            .append(self.shape.offset(record.start), first, into);
        if record.length > first {
            self.memory.append(0, record.length - first, into);
        }
    }

    /// Gives the bytes of `record` back to the producer, by one store.
    #[inline]
    pub(crate) fn release(&mut self, record: Record) {
        self.head = record.end;
        // Release: partner is the Acquire load in `Writer::room`; our reads lie before it.
        self.memory.header().head.0.store(self.head, Release);
        let Self { memory, woken, .. } = self;
        let place = &memory.header().producer_parking.0;
        // Relaxed: read behind the fence in `notify`, stored before the fence in `sleep`. An older
        // value belongs to a sleep that is over; the next one looks at `head` behind its fence.
        let enough = || record.end.wrapping_sub(place.wanted.load(Relaxed)) as i64 >= 0;
        place
            .parking
            .notify(woken, enough, |word| memory.wake(word));
    }

    #[inline]
    fn record(&self, there: u64) -> Result<Record, Corrupt> {
        // One load, checked, and used from the copy: the place is not read twice.
        let bits = self.memory.load_head(self.shape.offset(self.head));
        let head = RecordHead::from_bits(bits).ok_or(Corrupt)?;
        if head.size() > there {
            return Err(Corrupt);
        }
        Ok(Record {
            kind: head.kind,
            length: head.length.into(),
            start: self.head.wrapping_add(RECORD_HEAD),
            end: self.head.wrapping_add(head.size()),
        })
    }
}
