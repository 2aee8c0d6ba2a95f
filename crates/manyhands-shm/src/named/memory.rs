//! Python's `multiprocessing.shared_memory.SharedMemory`: bytes under a plain name.

use std::fmt;
use std::ops::Deref;

use manyhands_os::Deadline;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::attached::Attached;
use super::backing::{self, Backing};
use super::bytes::Bytes;
use super::error::{AttachError, CreateError, OpenError, UnlinkError};
use super::name;
use super::record::Record;

/// Shared bytes without any header, under the very name that was given: what Python's `SharedMemory`
/// of that name is, and the other way round.
///
/// As in Python, dropping it leaves the name, and one of all who have it calls
/// [`unlink`](Self::unlink), once. When all are killed before, the name stays for ever, unless the
/// memory was made by [`create_owned`](Self::create_owned). Python's resource tracker unlinks, at the end of a Python program, all that the program made *or opened*; there say
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
    /// Of memory that goes with its owner, which is this process.
    record: Option<Attached>,
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

    /// Makes shared memory that goes with this value: dropping it [unlinks](Self::unlink) it, and
    /// when this process is killed, the next [`sweep`](super::sweep()) of anybody does. Whoever has
    /// it open keeps the bytes.
    ///
    /// Python's `track=True`, as far as the maker is concerned; who only opens it removes nothing.
    /// The owner is known by a small segment beside the memory, which itself has no header.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_shm::named::{OpenError, SharedMemory};
    ///
    /// # let name = format!("mh-doc-owned-{}", std::process::id());
    /// let memory = SharedMemory::create_owned(&name, 1000)?;
    /// let other = SharedMemory::open(&name)?;
    /// drop(memory);
    /// assert!(matches!(SharedMemory::open(&name), Err(OpenError::NotFound { .. })));
    /// other.write_at(0, b"still here")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_owned(name: &str, size: usize) -> Result<SharedMemory, CreateError> {
        name::check_plain(name)?;
        if size == 0 {
            return Err(CreateError::NoBytes);
        }
        let mut record = None;
        let made = Backing::create(name, name, size, |backing| {
            record = Some(Record::make(name, &backing.file)?);
            Ok(())
        });
        match made {
            Ok(backing) => {
                let mut memory = SharedMemory::of(name, backing);
                memory.record = record;
                Ok(memory)
            }
            Err(refused) => {
                forget(record);
                Err(refused)
            }
        }
    }

    /// Lets memory that was made by [`create_owned`](Self::create_owned) outlive this value: somebody
    /// has to [`unlink`](Self::unlink) it.
    pub fn keep(&mut self) {
        forget(self.record.take());
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
            record: None,
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

/// Removes the record of memory that has no owner any more.
fn forget(record: Option<Attached>) {
    if let Some(record) = record {
        // If it fails, a sweeper finds a record of nothing when this process has ended.
        let _ = record.unlink();
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        if self.record.is_some() {
            // The memory first, so that there is none without a record. Others may have unlinked it.
            let _ = self.unlink();
            self.keep();
        }
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
