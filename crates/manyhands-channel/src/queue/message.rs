//! Messages on their way between a caller and the ring.

use super::ground::Block;
use super::layout::{Kind, Mark, RecordHead};
use super::raw::Stop;
use crate::ring::{RECORD_HEAD, record_size};

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

/// What is put at once.
#[derive(Clone, Copy, Debug)]
enum Content<'a> {
    /// One message.
    Payload(Kind, &'a [u8]),
    /// So many records, as they are to lie in the ring: with their heads, and padded.
    Records(u32, &'a [u8]),
}

/// Messages that lie behind each other; those that were put leave it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    /// The place behind those that were put.
    pub(super) end: Mark,
    content: Content<'a>,
}

impl<'a> Batch<'a> {
    /// One message.
    #[inline]
    pub(super) fn one(kind: Kind, payload: &'a [u8]) -> Self {
        Self::of(Content::Payload(kind, payload))
    }

    /// So many messages that were formed by [`end_record`].
    #[inline]
    pub(super) fn many(many: u32, records: &'a [u8]) -> Self {
        Self::of(Content::Records(many, records))
    }

    #[inline]
    fn of(content: Content<'a>) -> Self {
        Self {
            end: Mark::new(0, 0),
            content,
        }
    }

    /// How many messages are left, and what their records take.
    #[inline]
    pub(super) fn size(&self) -> (u32, u64) {
        match self.content {
            Content::Payload(_, payload) => (1, record_size(payload.len() as u64)),
            Content::Records(many, records) => (many, records.len() as u64),
        }
    }

    /// What the record of the first message takes.
    pub(super) fn first_size(&self) -> u64 {
        match self.content {
            Content::Payload(_, payload) => record_size(payload.len() as u64),
            Content::Records(_, records) => first_record(records).map_or(0, RecordHead::size),
        }
    }

    /// The first few messages, as many as fit: how many, and what their records take.
    pub(super) fn part(&self, fits: impl Fn(u32, u64) -> bool) -> (u32, u64) {
        let (mut many, mut size) = (0, 0);
        if let Content::Records(_, records) = self.content {
            while let Some(head) = first_record(&records[size as usize..])
                && fits(many + 1, size + head.size())
            {
                many += 1;
                size += head.size();
            }
        }
        (many, size)
    }

    /// Writes the first few messages, whose records take so much: by `one` a payload behind its head, or by
    /// `many` whole records.
    #[inline]
    pub(super) fn write(
        &self,
        size: u64,
        one: impl FnOnce(RecordHead, &[u8]),
        many: impl FnOnce(&[u8]),
    ) {
        match self.content {
            Content::Payload(kind, payload) => {
                // The caller puts long payloads into regions.
                let length = payload.len() as u32;
                one(RecordHead { kind, length }, payload);
            }
            Content::Records(_, records) => many(&records[..size as usize]),
        }
    }

    /// Takes the first `put` messages off, which were put, and whose records take so much.
    #[inline]
    pub(super) fn remove(&mut self, put: u32, size: u64, end: Mark) {
        self.end = end;
        self.content = match self.content {
            Content::Payload(..) => Content::Records(0, &[]),
            Content::Records(many, records) => {
                Content::Records(many - put, &records[size as usize..])
            }
        };
    }
}

/// The head of the first of some records.
#[inline]
pub(super) fn first_record(records: &[u8]) -> Option<RecordHead> {
    let head = records.first_chunk()?;
    RecordHead::from_bits(u64::from_ne_bytes(*head))
}

/// Makes room for the head of a record, whose payload is to follow.
#[inline]
pub(super) fn begin_record(records: &mut Vec<u8>) {
    records.extend_from_slice(&[0; RECORD_HEAD as usize]);
}

/// Makes what follows `start` a record, which was begun there.
#[inline]
pub(super) fn end_record(records: &mut Vec<u8>, start: usize) {
    let length = records.len() - start - RECORD_HEAD as usize;
    let head = RecordHead {
        kind: Kind::Plain,
        // The caller puts long payloads into regions.
        length: length as u32,
    };
    records.resize(start + head.size() as usize, 0);
    if let Some(place) = records[start..].first_chunk_mut() {
        *place = head.to_bits().to_ne_bytes();
    }
}

/// Where messages are copied to. Nothing is allocated in a section: what there is no room for is not
/// copied.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    /// When more than one may be taken: how many. They are copied with their heads then.
    pub(super) most: usize,
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
            most: 0,
            found: Found::Nothing,
        }
    }

    /// So many at most, with their heads.
    #[inline]
    pub(super) fn many(bytes: &'a mut Vec<u8>, most: usize) -> Self {
        Self {
            bytes,
            most,
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

    /// What is copied of a message.
    #[inline]
    pub(super) fn copied(&self, record: RecordHead) -> u64 {
        match self.most {
            0 => record.length.into(),
            _ => record.size(),
        }
    }

    #[inline]
    pub(super) fn room(&self) -> u64 {
        (self.bytes.capacity() - self.bytes.len()) as u64
    }

    #[inline]
    pub(super) fn has_room(&self, record: RecordHead) -> bool {
        self.room() >= self.copied(record)
    }
}
