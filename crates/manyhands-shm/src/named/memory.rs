//! Python's `multiprocessing.shared_memory.SharedMemory`: bytes under a plain name.

use std::fmt;
use std::ops::Deref;

use manyhands_os::Deadline;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::backing::{self, Backing};
use super::bytes::Bytes;
use super::error::{AttachError, CreateError, OpenError, UnlinkError};
use super::name;

/// Shared bytes without any header, under the very name that was given: what Python's `SharedMemory`
/// of that name is, and the other way round.
///
/// As in Python, dropping it leaves the name, and one of all who have it calls
/// [`unlink`](Self::unlink), once. Nothing says who made it, so no sweeper can know whether it is
/// needed: prefer a [`Segment`](super::Segment) where Python is not a party. Python's resource
/// tracker unlinks, at the end of a Python program, all that the program made *or opened*; there say
/// `track=False` (3.13), or unregister the name.
///
/// Serialized it is its name, so it crosses to another process in any message, and must have its name
/// until it has arrived.
///
/// # Examples
///
/// ```
/// use manyhands_shm::named::SharedMemory;
///
/// let memory = SharedMemory::create_unnamed(1000)?;
/// memory.write_at(0, b"hello")?;
///
/// let same = SharedMemory::open(memory.name())?; // or SharedMemory(name=...) in Python
/// assert!(same.len() >= 1000);
/// assert_eq!(&same.to_vec()[..5], b"hello");
/// memory.unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `SharedMemory(name, create, size)`, `.buf`, `.name`, `.size`, `.unlink()`; `close()` is
/// the drop.
pub struct SharedMemory {
    name: String,
    bytes: Bytes,
    backing: Backing,
}

impl SharedMemory {
    /// Makes shared memory of `size` zeroed bytes.
    ///
    /// It has its size and all its pages when others first see it.
    ///
    /// # Errors
    ///
    /// [`CreateError::AlreadyExists`], [`CreateError::NoBytes`], [`CreateError::NoSpace`] and others.
    pub fn create(name: &str, size: usize) -> Result<SharedMemory, CreateError> {
        name::check_plain(name)?;
        if size == 0 {
            return Err(CreateError::NoBytes);
        }
        let backing = Backing::create(name, name, size, |_| Ok(()))?;
        Ok(SharedMemory::of(name, backing))
    }

    /// Makes shared memory under a name that nothing has, as Python does without a name.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create), but never that the name exists.
    pub fn create_unnamed(size: usize) -> Result<SharedMemory, CreateError> {
        loop {
            let token = manyhands_os::process::thread_token() ^ next_number();
            // Python's own pattern, in the length that it has there.
            let name = format!("psm_{:08x}", (token ^ token >> 32) as u32);
            match SharedMemory::create(&name, size) {
                Err(CreateError::AlreadyExists { .. }) => {}
                done => return done,
            }
        }
    }

    /// Opens shared memory of its real size.
    ///
    /// # Errors
    ///
    /// [`OpenError::NotFound`], [`OpenError::Refused`], [`OpenError::NoBytes`] and others.
    pub fn open(name: &str) -> Result<SharedMemory, OpenError> {
        name::check_plain(name)?;
        // Nothing is waited for: there are no locks on plain memory.
        let backing = Backing::open(name, name, false, Deadline::now())?;
        Ok(SharedMemory::of(name, backing))
    }

    /// Opens shared memory of its real size, or makes it with `size` bytes.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create).
    pub fn open_or_create(name: &str, size: usize) -> Result<SharedMemory, AttachError> {
        loop {
            match SharedMemory::open(name) {
                Err(OpenError::NotFound { .. }) => {}
                done => return Ok(done?),
            }
            match SharedMemory::create(name, size) {
                Err(CreateError::AlreadyExists { .. }) => {}
                done => return Ok(done?),
            }
        }
    }

    fn of(name: &str, backing: Backing) -> SharedMemory {
        SharedMemory {
            name: name.into(),
            bytes: backing.bytes(),
            backing,
        }
    }

    /// The name, by which others open it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes; on some systems whole pages, so at least what was asked for.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Removes the name. Whoever has the memory keeps it, and it goes with the last of them.
    ///
    /// # Errors
    ///
    /// [`UnlinkError::NotFound`] when the name is gone, or stands for other memory by now.
    pub fn unlink(&self) -> Result<(), UnlinkError> {
        backing::unlink(&self.name, &self.backing.file, &self.name)
    }

    /// Removes the name of memory that is not open here.
    ///
    /// # Errors
    ///
    /// [`UnlinkError::NotFound`] when nothing has the name, and others.
    pub fn unlink_name(name: &str) -> Result<(), UnlinkError> {
        name::check_plain(name)?;
        backing::unlink_closed(name, name)
    }
}

/// A number that differs at each call in this process.
fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Relaxed: only that the numbers differ matters. The factor spreads them over all bits.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Deref for SharedMemory {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedMemory({:?}, size={})", self.name, self.size())
    }
}

impl Serialize for SharedMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for SharedMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SharedMemory, D::Error> {
        let name = String::deserialize(deserializer)?;
        SharedMemory::open(&name).map_err(D::Error::custom)
    }
}
