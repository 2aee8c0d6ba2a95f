//! Memory that has no name: sealed memory files and their maps.
//!
//! A [`Memfd`] is sparse: it costs nothing until pages are [reserved](Memfd::reserve) or touched.
//! It is sealed against shrinking and growing, so that no peer can take pages away under a map
//! and turn a later read into `SIGBUS`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::{error, fmt, io};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{self, FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::error::OsError;
use crate::headroom;
use crate::setup::above_streams;

const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// A memory file of fixed length, found by its descriptor only.
///
/// The descriptor never has the number of a standard stream, also in a process whose streams are closed:
/// what is printed there would be written into the file, and who opens a stream would take the number, and
/// have the pages of another file taken and given back.
#[derive(Debug)]
pub struct Memfd {
    fd: OwnedFd,
    len: u64,
}

impl Memfd {
    /// Makes a sparse, zeroed file of `len` bytes; `name` shows in `/proc/PID/maps` and nowhere else.
    ///
    /// # Errors
    ///
    /// When the system refuses: too many descriptors, or a length above the file size limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_os::memory::{Map, Memfd};
    ///
    /// let file = Memfd::create("example", 1 << 20)?;
    /// file.reserve(0, 4096)?;
    /// let map = Map::shared(&file)?;
    /// assert_eq!(map.len(), 1 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(name: &str, len: u64) -> Result<Self, OsError> {
        let file = Self::create_unsealed(name, len)?;
        file.seal(SEALS)?;
        Ok(file)
    }

    /// Makes a file of `len` bytes that its maker alone can write, through the map beside it: nobody
    /// can map it for writing any more, nor write into it through a descriptor.
    ///
    /// # Errors
    ///
    /// When the system refuses, as for [`create`](Self::create), or cannot seal so (Linux 5.1).
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_os::memory::{Map, Memfd, ReadMap};
    ///
    /// let (file, map) = Memfd::create_read_only("example", 4096)?;
    /// assert!(Map::shared(&file).is_err());
    /// assert_eq!(ReadMap::shared(&file)?.len(), map.len());
    /// # Ok::<(), manyhands_os::error::OsError>(())
    /// ```
    pub fn create_read_only(name: &str, len: u64) -> Result<(Self, Map), OsError> {
        let file = Self::create_unsealed(name, len)?;
        let map = Map::shared(&file)?;
        file.seal(SEALS.union(SealFlags::FUTURE_WRITE))?;
        Ok((file, map))
    }

    fn create_unsealed(name: &str, len: u64) -> Result<Self, OsError> {
        check_file_size_limit(len)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = fs::memfd_create(name, flags).map_err(|e| OsError::new("memfd_create", e))?;
        let fd = above_streams(fd)?;
        fs::ftruncate(&fd, len).map_err(|e| OsError::new("ftruncate", e))?;
        Ok(Self { fd, len })
    }

    fn seal(&self, seals: SealFlags) -> Result<(), OsError> {
        fs::fcntl_add_seals(&self.fd, seals).map_err(|e| OsError::new("fcntl(F_ADD_SEALS)", e))
    }

    /// Takes over a descriptor that came from another process; it must be sealed as ours are.
    ///
    /// # Errors
    ///
    /// When the descriptor is not a memory file with the seals, or cannot be measured.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, OsError> {
        let seals = fs::fcntl_get_seals(&fd).map_err(|e| OsError::new("fcntl(F_GET_SEALS)", e))?;
        if !seals.contains(SEALS) {
            let text = "the memory file is not sealed against resizing";
            return Err(OsError::new("fcntl(F_GET_SEALS)", io::Error::other(text)));
        }
        let stat = fs::fstat(&fd).map_err(|e| OsError::new("fstat", e))?;
        Ok(Self {
            fd: above_streams(fd)?,
            len: stat.st_size as u64,
        })
    }

    /// The length in bytes, as made.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Backs `len` bytes from `offset` with pages, so that touching them cannot fail later.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when there is not enough memory, or the range is outside the file. What
    /// was reserved before the shortage is given back by the kernel or stays reserved.
    pub fn reserve(&self, offset: u64, len: u64) -> Result<(), ReserveError> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len);
        let source = io::ErrorKind::InvalidInput;
        let end = end.ok_or_else(|| ReserveError {
            asked: len,
            source: source.into(),
        })?;
        reserve(&self.fd, offset, end)
    }

    /// Gives the pages of a range back to the system; it reads as zeros afterwards.
    ///
    /// # Errors
    ///
    /// When the system refuses the range.
    pub fn punch(&self, offset: u64, len: u64) -> Result<(), OsError> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::io::retry_on_intr(|| fs::fallocate(&self.fd, flags, offset, len))
            .map_err(|e| OsError::new("fallocate(PUNCH_HOLE)", e))
    }

    /// The bytes that are backed by pages now.
    ///
    /// # Errors
    ///
    /// When the system cannot measure the file.
    pub fn resident(&self) -> Result<u64, OsError> {
        let stat = fs::fstat(&self.fd).map_err(|e| OsError::new("fstat", e))?;
        Ok(stat.st_blocks as u64 * 512)
    }
}

impl AsFd for Memfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Backs a range of a memory file with pages.
pub(crate) fn reserve(file: impl AsFd, start: u64, end: u64) -> Result<(), ReserveError> {
    const CHUNK: u64 = 1 << 20;
    if !headroom::allows(end - start) {
        let text = "the memory cgroup of this process is nearly at its limit";
        return Err(ReserveError {
            asked: end - start,
            source: io::Error::new(io::ErrorKind::OutOfMemory, text),
        });
    }
    let mut place = start;
    // In chunks: before Linux 6, a long call under a steady stream of signals never ended.
    while place < end {
        let step = CHUNK.min(end - place);
        match fs::fallocate(&file, FallocateFlags::empty(), place, step) {
            Ok(()) => place += step,
            Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(ReserveError {
                    asked: end - start,
                    source: errno.into(),
                });
            }
        }
    }
    Ok(())
}

/// Refuses a length that the limit on the size of files (`RLIMIT_FSIZE`) forbids.
///
/// `ftruncate` above the limit raises `SIGXFSZ`, which ends a process that did not expect it.
///
/// # Errors
///
/// `EFBIG`.
pub fn check_file_size_limit(len: u64) -> Result<(), OsError> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if limit < len => Err(OsError::new("ftruncate", Errno::FBIG)),
        _ => Ok(()),
    }
}

/// There is not enough memory to back a range.
#[derive(Debug)]
pub struct ReserveError {
    /// The bytes that were asked for.
    pub asked: u64,
    /// The reason that the system gave.
    pub source: io::Error,
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot reserve {} bytes of shared memory: {}",
            self.asked, self.source
        )
    }
}

impl error::Error for ReserveError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A [`Memfd`] or a part of it, mapped for reading and writing by everybody who maps it.
///
/// It gives out a raw pointer and never a slice: other processes write the bytes at any time.
#[derive(Debug)]
pub struct Map {
    raw: MmapRaw,
}

impl Map {
    /// Maps a file into this process; costs no memory until pages are touched.
    ///
    /// # Errors
    ///
    /// When the address space, or its limit (`RLIMIT_AS`), has no room.
    pub fn shared(file: &Memfd) -> Result<Self, OsError> {
        Self::part(file, 0, file.len)
    }

    /// Maps `len` bytes of a file from `offset` on, which is a multiple of the page size.
    ///
    /// # Errors
    ///
    /// As for [`shared`](Self::shared), and when the part is not inside of the file.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_os::memory::{Map, Memfd};
    ///
    /// let file = Memfd::create("example", 1 << 40)?;
    /// assert_eq!(Map::part(&file, 1 << 39, 8192)?.len(), 8192);
    /// assert!(Map::part(&file, 1 << 40, 8192).is_err());
    /// # Ok::<(), manyhands_os::error::OsError>(())
    /// ```
    pub fn part(file: &Memfd, offset: u64, len: u64) -> Result<Self, OsError> {
        let is_inside = offset.checked_add(len).is_some_and(|end| end <= file.len);
        if !is_inside {
            return Err(OsError::new("mmap", Errno::INVAL));
        }
        let len = usize::try_from(len).map_err(|_| OsError::new("mmap", Errno::NOMEM))?;
        let raw = MmapOptions::new()
            .offset(offset)
            .len(len)
            .no_reserve_swap()
            .map_raw(&file.fd)
            .map_err(|e| OsError::new("mmap", e))?;
        // A core file of a sparse map of many gigabytes helps nobody. Advice may be refused.
        let _ = raw.advise(Advice::DontDump);
        Ok(Self { raw })
    }

    /// The address of the first byte; page aligned.
    pub fn as_ptr(&self) -> *mut u8 {
        self.raw.as_mut_ptr()
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether the map has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.raw.len() == 0
    }

    /// The first bytes, for those who agree to use them as words.
    ///
    /// # Panics
    ///
    /// When the map is shorter.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_os::memory::{Map, Memfd};
    /// use std::sync::atomic::Ordering::Relaxed;
    ///
    /// let file = Memfd::create("example", 4096)?;
    /// let (map, other) = (Map::shared(&file)?, Map::shared(&file)?);
    /// let [_, second] = map.words();
    /// second.store(5, Relaxed);
    /// assert_eq!(other.words::<2>()[1].load(Relaxed), 5);
    /// # Ok::<(), manyhands_os::error::OsError>(())
    /// ```
    pub fn words<const COUNT: usize>(&self) -> &[AtomicU32; COUNT] {
        assert!(
            self.len() >= size_of::<[AtomicU32; COUNT]>(),
            "there are fewer"
        );
        // SAFETY: makes a shared reference.
        // - where: the map's first bytes, page aligned, mapped as long as `self` is borrowed.
        // - who: other users of the file have them as atomics too, or they are theirs to lose.
        // - what: any bits are integers.
        unsafe { &*self.as_ptr().cast() }
    }

    /// Keeps the map for the rest of the process.
    pub fn leak(self) -> &'static Self {
        Box::leak(Box::new(self))
    }
}

/// A whole [`Memfd`], mapped for reading, while others may write.
#[derive(Debug)]
pub struct ReadMap {
    raw: MmapRaw,
}

impl ReadMap {
    /// Maps a file into this process.
    ///
    /// # Errors
    ///
    /// As for [`Map::shared`].
    pub fn shared(file: &Memfd) -> Result<Self, OsError> {
        let len = usize::try_from(file.len).map_err(|_| OsError::new("mmap", Errno::NOMEM))?;
        let raw = MmapOptions::new()
            .len(len)
            .map_raw_read_only(&file.fd)
            .map_err(|e| OsError::new("mmap", e))?;
        let _ = raw.advise(Advice::DontDump);
        Ok(Self { raw })
    }

    /// The address of the first byte; page aligned.
    pub fn as_ptr(&self) -> *const u8 {
        self.raw.as_ptr()
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether the map has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.raw.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_file_is_sparse_and_refuses_to_change_its_length() {
        let file = Memfd::create("test", 1 << 32).expect("a sparse file costs nothing");
        assert_eq!(file.resident().expect("it can be measured"), 0);
        assert!(fs::ftruncate(&file, 1).is_err());
        assert!(fs::ftruncate(&file, 1 << 33).is_err());
    }

    #[test]
    fn reserved_pages_stay_until_punched() {
        let file = Memfd::create("test", 16 << 20).expect("16 MiB");
        file.reserve(4096, 3 << 20).expect("3 MiB");
        assert_eq!(file.resident().expect("size"), 3 << 20);
        file.punch(4096, 3 << 20).expect("punch");
        assert_eq!(file.resident().expect("size"), 0);
    }

    #[test]
    fn reserving_outside_the_file_is_an_error() {
        let file = Memfd::create("test", 8192).expect("two pages");
        assert_eq!(file.reserve(4096, 8192).expect_err("too long").asked, 8192);
        assert!(file.reserve(u64::MAX, 2).is_err());
    }

    #[test]
    fn descriptor_of_another_kind_is_refused() {
        let (reader, _writer) = rustix::pipe::pipe().expect("pipe");
        assert!(Memfd::from_fd(reader).is_err());
        let unsealed = fs::memfd_create("test", MemfdFlags::ALLOW_SEALING).expect("memfd");
        assert!(Memfd::from_fd(unsealed).is_err());
    }

    #[test]
    fn read_only_file_is_written_by_its_maker_only() {
        let (file, map) = Memfd::create_read_only("test", 8192).expect("two pages");
        file.reserve(0, 8192).expect("pages");
        assert!(Map::shared(&file).is_err());
        assert!(rustix::io::pwrite(&file, &[1], 0).is_err());
        assert!(file.punch(0, 4096).is_err());
        assert!(fs::fcntl_add_seals(&file, SealFlags::WRITE).is_err());
        let theirs = Memfd::from_fd(file.as_fd().try_clone_to_owned().expect("dup"));
        let view = ReadMap::shared(&theirs.expect("sealed")).expect("a map");
        // SAFETY: `write` needs a valid place: the map has 8192 bytes and is ours.
        unsafe { map.as_ptr().write(42) };
        // SAFETY: `read` needs valid bytes: the map has 8192 bytes, and nobody writes now.
        assert_eq!(unsafe { view.as_ptr().read() }, 42);
        assert!((view.len(), view.is_empty()) == (8192, false));
    }

    #[test]
    fn two_maps_of_a_file_show_the_same_bytes() {
        let file = Memfd::create("test", 4096).expect("a page");
        let fd = file.as_fd().try_clone_to_owned().expect("dup");
        let again = Memfd::from_fd(fd).expect("sealed");
        let (one, two) = (
            Map::shared(&file).expect("map"),
            Map::shared(&again).expect("map"),
        );
        // SAFETY: `write` needs a valid, aligned place: the map has 4096 bytes and is ours.
        unsafe { one.as_ptr().write(42) };
        // SAFETY: `read` needs valid bytes: the map has 4096 bytes, and nobody else writes.
        assert_eq!(unsafe { two.as_ptr().read() }, 42);
    }
}
