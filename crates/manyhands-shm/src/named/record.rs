//! Whose the memory is that has no header: a segment beside it says so.
//!
//! The *record* tells the file of the memory by device and inode, and its name. It is made before the
//! memory has its name and removed after it, so whoever is killed in between leaves a record of
//! nothing, and never memory without one. It is swept as other segments of the dead are, and what it
//! tells of is removed before it. Layout: `docs/layout.md`, section "Record".

use manyhands_os::OsError;
use manyhands_os::names::{self, Facts, NamedFile};

use super::attached::{Attached, Kind};
use super::backing;
use super::bytes::Bytes;
use super::error::CreateError;
use super::header;
use super::name;

/// What the header of a record has for a shape.
pub(super) const SHAPE: u64 = u64::from_le_bytes(*b"mhrecord");

const DEVICE_AT: usize = 0;
const INODE_AT: usize = 8;
const NAME_LEN_AT: usize = 16;
const NAME_AT: usize = 24;
/// With the longest name that a file can have.
const BYTES: usize = NAME_AT + 255;
const KIND: Kind = Kind {
    shape: SHAPE,
    start: header::BYTES,
    len: BYTES,
};

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    device: u64,
    inode: u64,
    pub(super) name: String,
}

impl Record {
    /// Makes the record of a file that is going to have this name.
    pub(super) fn make(name: &str, file: &NamedFile) -> Result<Attached, CreateError> {
        let facts = file.facts()?;
        // Like a name of an unfinished file, it is this process's alone.
        let own = format!("record {} of {name}", name::unfinished());
        let len = name.len() as u64;
        let mut fill = |bytes: &Bytes| {
            for (at, number) in [
                (DEVICE_AT, facts.device),
                (INODE_AT, facts.inode),
                (NAME_LEN_AT, len),
            ] {
                bytes
                    .write_at(at, &number.to_ne_bytes())
                    .expect("a record has a place for it");
            }
            bytes
                .write_at(NAME_AT, name.as_bytes())
                .expect("the name was checked");
        };
        Attached::create(&own, KIND, &mut fill)
    }

    /// Reads the record in a file whose header has its shape; `None` when it is none.
    pub(super) fn read(file: &NamedFile) -> Result<Option<Record>, OsError> {
        let mut bytes = [0; header::BYTES + BYTES];
        if file.read_start(&mut bytes)? < bytes.len() {
            return Ok(None);
        }
        Ok(Record::parse(&bytes[header::BYTES..]))
    }

    fn parse(bytes: &[u8]) -> Option<Record> {
        let number = |at: usize| bytes[at..].first_chunk().copied().map(u64::from_ne_bytes);
        let len = usize::try_from(number(NAME_LEN_AT)?).ok()?;
        let name = bytes[NAME_AT..].get(..len)?.to_vec();
        let name = String::from_utf8(name).ok()?;
        name::check_plain(&name).ok()?;
        Some(Record {
            device: number(DEVICE_AT)?,
            inode: number(INODE_AT)?,
            name,
        })
    }

    /// Removes what the record tells of, if it is there still; `false` when somebody else is just
    /// removing it.
    pub(super) fn remove(&self) -> Result<bool, OsError> {
        // An error: nothing has the name, or something that we never made.
        let Ok(file) = NamedFile::open(&self.name) else {
            return Ok(true);
        };
        if !self.is_of(&file.facts()?) {
            return Ok(true);
        }
        if !backing::try_lock_name(&file)? {
            return Ok(false);
        }
        backing::remove(&file, &self.name)?;
        Ok(true)
    }

    fn is_of(&self, facts: &Facts) -> bool {
        facts.is_plain
            && facts.owner == names::user()
            && (facts.device, facts.inode) == (self.device, self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SharedMemory;
    use super::*;

    #[test]
    fn record_reads_as_it_was_made_and_a_damaged_one_is_none() {
        let name = "x".repeat(255);
        drop(SharedMemory::create(&name, 8).expect("room"));
        let file = NamedFile::open(&name).expect("it is there");
        let facts = file.facts().expect("facts");
        let attached = Record::make(&name, &file).expect("room");
        let record = NamedFile::open(attached.file_name()).expect("it is there");
        let read = Record::read(&record).expect("read").expect("a record");
        assert_eq!((read.device, read.inode), (facts.device, facts.inode));
        assert_eq!(read.name, name);
        // Another file of the same name is not what it tells of.
        names::unlink(&name).expect("it is there");
        let other = SharedMemory::create(&name, 8).expect("room");
        assert!(read.remove().expect("no fault"));
        other.unlink().expect("it is still there");
        for (at, byte) in [(NAME_LEN_AT + 1, 2_u8), (NAME_AT, b'/'), (NAME_AT, 0xff)] {
            let before = attached.bytes.to_vec();
            attached.bytes.write_at(at, &[byte]).expect("inside");
            assert_eq!(Record::read(&record).expect("read"), None);
            attached.bytes.write_at(0, &before).expect("inside");
        }
        attached.unlink().expect("it is there");
    }
}
