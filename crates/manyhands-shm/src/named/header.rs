//! What stands before the bytes of a segment.
//!
//! Layout: `docs/layout.md`, section "Named segment". It is read by other builds and releases, so
//! all of it is numbers of fixed width at fixed places, and no reference to a struct is made.
//!
//! Ordering: the creator writes the header and what comes after it, and stores the state last, with
//! Release; who loads `READY` with Acquire sees all of it.

use std::sync::atomic::AtomicU32;

use manyhands_os::process::Identity;

use super::bytes::Bytes;
use super::error::PlaceError;
use super::owner::Owner;

/// The bytes of a header.
pub(super) const BYTES: usize = 256;

/// As a number in the byte order of the machine, so that memory of another order is none of ours.
pub(super) const MAGIC: u64 = 0x6d68_7365_676d_6e74;

/// Of this release.
pub(super) const VERSION: u32 = 1;

/// The creator is filling it; the owner says who that is.
pub(super) const MAKING: u32 = 1;
/// Everything is there.
pub(super) const READY: u32 = 2;
/// The creator lives, and will not fill it: it panicked.
pub(super) const GIVEN_UP: u32 = 3;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const STATE_AT: usize = 12;
const SHAPE_AT: usize = 16;
const START_AT: usize = 24;
const LEN_AT: usize = 32;
const BOOT_AT: usize = 40;
const NAMESPACE_AT: usize = 56;
const PROCESS_AT: usize = 64;
const KEPT_AT: usize = 72;
const NAME_LEN_AT: usize = 76;
const NAME_AT: usize = 80;
/// How many bytes of a name are kept.
const NAME_LEN: usize = 128;
const _: () = assert!(NAME_AT + NAME_LEN <= BYTES);

/// A copy of a header, made once, checked once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The state when the copy was made.
    pub(super) state: u32,
    /// What the bytes hold, zero for plain bytes.
    pub(super) shape: u64,
    /// Where the bytes begin.
    pub(super) start: usize,
    /// How many there are.
    pub(super) len: usize,
    /// Who made it.
    pub(super) owner: Owner,
    /// Whether it outlives its owner.
    pub(super) kept: bool,
    /// The length of the name.
    pub(super) name_len: usize,
    /// The name, as far as it is kept.
    pub(super) name: Vec<u8>,
}

/// Why bytes are no header that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They are something else.
    Foreign,
    /// They are of another release.
    Version(u32),
}

impl Header {
    /// The header of a segment that this process begins to make.
    pub(super) fn new(name: &str, shape: u64, start: usize, len: usize) -> Header {
        Header {
            state: MAKING,
            shape,
            start,
            len,
            owner: Owner::current(),
            kept: false,
            name_len: name.len(),
            name: kept_part(name).to_vec(),
        }
    }

    /// Reads a copy of a header.
    pub(super) fn parse(bytes: &[u8; BYTES]) -> Result<Header, Fault> {
        if u64_at(bytes, MAGIC_AT) != MAGIC {
            return Err(Fault::Foreign);
        }
        let version = u32_at(bytes, VERSION_AT);
        if version != VERSION {
            return Err(Fault::Version(version));
        }
        let process = Identity::unpack(u64_at(bytes, PROCESS_AT)).ok_or(Fault::Foreign)?;
        let boot =
            u128::from(u64_at(bytes, BOOT_AT)) | u128::from(u64_at(bytes, BOOT_AT + 8)) << 64;
        let namespace = u64_at(bytes, NAMESPACE_AT);
        let size = |at| usize::try_from(u64_at(bytes, at)).map_err(|_| Fault::Foreign);
        let name_len = u32_at(bytes, NAME_LEN_AT) as usize;
        let header = Header {
            state: u32_at(bytes, STATE_AT),
            shape: u64_at(bytes, SHAPE_AT),
            start: size(START_AT)?,
            len: size(LEN_AT)?,
            owner: Owner {
                boot,
                namespace,
                process,
            },
            kept: u32_at(bytes, KEPT_AT) != 0,
            name_len,
            name: bytes[NAME_AT..NAME_AT + name_len.min(NAME_LEN)].to_vec(),
        };
        let is_state = (MAKING..=GIVEN_UP).contains(&header.state);
        let is_place = header.start >= BYTES && header.start.is_multiple_of(8);
        if is_state && is_place {
            Ok(header)
        } else {
            Err(Fault::Foreign)
        }
    }

    /// Reads the header at the start of a segment.
    pub(super) fn read(segment: &Bytes) -> Result<Header, Fault> {
        let mut copy = [0; BYTES];
        let all = segment.read_at(0, &mut copy);
        all.map_err(|_| Fault::Foreign)?;
        Header::parse(&copy)
    }

    /// Writes it to the start of a segment that nobody else has yet.
    pub(super) fn write(&self, segment: &Bytes) -> Result<(), PlaceError> {
        let mut bytes = [0; BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(MAGIC_AT, &MAGIC.to_ne_bytes());
        put(VERSION_AT, &VERSION.to_ne_bytes());
        put(STATE_AT, &self.state.to_ne_bytes());
        put(SHAPE_AT, &self.shape.to_ne_bytes());
        put(START_AT, &(self.start as u64).to_ne_bytes());
        put(LEN_AT, &(self.len as u64).to_ne_bytes());
        put(BOOT_AT, &(self.owner.boot as u64).to_ne_bytes());
        put(BOOT_AT + 8, &((self.owner.boot >> 64) as u64).to_ne_bytes());
        put(NAMESPACE_AT, &self.owner.namespace.to_ne_bytes());
        put(PROCESS_AT, &self.owner.process.pack().to_ne_bytes());
        put(KEPT_AT, &u32::from(self.kept).to_ne_bytes());
        put(NAME_LEN_AT, &(self.name_len as u32).to_ne_bytes());
        put(NAME_AT, &self.name);
        segment.write_at(0, &bytes)
    }

    /// Whether the segment was made under this name, and not one of the same hash.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name_len == name.len() && self.name == kept_part(name)
    }

    /// The name for people.
    pub(super) fn told_name(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// The word that is stored last, and that openers sleep on.
pub(super) fn state(segment: &Bytes) -> Result<&AtomicU32, PlaceError> {
    segment.atomic_u32(STATE_AT)
}

/// The word that is not zero when the segment outlives its owner.
pub(super) fn kept(segment: &Bytes) -> Result<&AtomicU32, PlaceError> {
    segment.atomic_u32(KEPT_AT)
}

fn kept_part(name: &str) -> &[u8] {
    &name.as_bytes()[..name.len().min(NAME_LEN)]
}

fn u32_at(bytes: &[u8; BYTES], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(value)
}

fn u64_at(bytes: &[u8; BYTES], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(value)
}

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    fn segment(memory: &[AtomicU64; BYTES / 8]) -> Bytes {
        // SAFETY: `new` needs mapped memory: the tests keep it longer than the view.
        unsafe { Bytes::new(NonNull::from(memory).cast(), BYTES) }
    }

    #[test]
    fn header_that_was_written_reads_the_same() {
        let memory = [const { AtomicU64::new(0) }; BYTES / 8];
        let bytes = segment(&memory);
        assert_eq!(Header::read(&bytes), Err(Fault::Foreign));
        let name = "a long name ".repeat(20);
        let header = Header::new(&name, 7, 4096, 1 << 20);
        header.write(&bytes).expect("it fits");
        let read = Header::read(&bytes).expect("a header");
        assert_eq!(read, header);
        assert!(read.is_named(&name) && !read.is_named(&name[..200]));
        assert_eq!(read.owner, Owner::current());
        state(&bytes).expect("inside").store(READY, Relaxed);
        assert_eq!(Header::read(&bytes).expect("a header").state, READY);
    }

    #[test]
    fn damaged_headers_are_refused_or_read_and_never_trusted() {
        let memory = [const { AtomicU64::new(0) }; BYTES / 8];
        let bytes = segment(&memory);
        let header = Header::new("name", 0, BYTES, 64);
        header.write(&bytes).expect("it fits");
        bytes
            .atomic_u32(VERSION_AT)
            .expect("inside")
            .store(9, Relaxed);
        assert_eq!(Header::read(&bytes), Err(Fault::Version(9)));
        // Whatever one byte is changed to: no panic.
        for at in 0..BYTES {
            for value in [0, 1, 0x80, 0xff] {
                header.write(&bytes).expect("it fits");
                bytes.write_at(at, &[value]).expect("inside");
                let _ = Header::read(&bytes);
            }
        }
        for state in [0, 4, u32::MAX] {
            header.write(&bytes).expect("it fits");
            bytes
                .write_at(STATE_AT, &state.to_ne_bytes())
                .expect("inside");
            assert_eq!(Header::read(&bytes), Err(Fault::Foreign));
        }
    }
}
