//! A file with a name, mapped: the one place that knows the `shared_memory` crate.
//!
//! The crate makes, opens and maps on all systems. What it does not do is done here: pages are
//! reserved before anybody can see the name, since it only sets the length (a later access would end
//! in `SIGBUS`); a file is made under a name of its own, that tells the maker, and published by one
//! call when it is complete; what has the name is checked before it is mapped; and the crate never
//! unlinks, because it would remove whatever has the name by then.

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use manyhands_os::names::{self, Facts, Hold, NamedFile};
use manyhands_os::{Deadline, OsError, futex, memory};
use shared_memory::{Shmem, ShmemConf, ShmemError};

use super::bytes::Bytes;
use super::error::{CreateError, OpenError, Refusal, UnlinkError};
use super::name;

/// The byte that everybody locks who has a segment, together; who sweeps locks it alone.
pub(super) const ATTACHED: u32 = 0;

/// The byte that is locked while a name is being removed.
const NAME: u32 = 1;

/// How long `unlink` waits for another one, which makes two calls: it must be stopped.
const PATIENCE: Duration = Duration::from_secs(1);

/// A mapped file. Dropping it unmaps and unlocks, and never unlinks.
pub(super) struct Backing {
    // Before the file: whoever sweeps must not find it unlocked while it is mapped.
    map: Shmem,
    pub(super) file: NamedFile,
}

// SAFETY: the map is a fixed range of memory, which any thread may use, and is only unmapped by the
// drop; the crate's other state is not changed.
unsafe impl Send for Backing {}
// SAFETY: as above.
unsafe impl Sync for Backing {}

impl Backing {
    /// Makes `len` zeroed bytes, has them prepared, and then gives them the name.
    pub(super) fn create(
        told: &str,
        file_name: &str,
        len: usize,
        prepare: impl FnOnce(&Backing) -> Result<(), CreateError>,
    ) -> Result<Backing, CreateError> {
        let exists = || CreateError::AlreadyExists { name: told.into() };
        // The call that publishes decides; this is only quicker.
        if names::facts_of(file_name)?.is_some() {
            return Err(exists());
        }
        let backing = Unfinished::make(len)?;
        prepare(&backing.0)?;
        match names::publish(&backing.1.0, file_name) {
            Ok(()) => {
                std::mem::forget(backing.1);
                Ok(backing.0)
            }
            Err(refused) if refused.source.kind() == io::ErrorKind::AlreadyExists => Err(exists()),
            Err(refused) => Err(refused.into()),
        }
    }

    /// Maps what has the name; `attach` says whether to lock it against sweepers.
    pub(super) fn open(
        told: &str,
        file_name: &str,
        attach: bool,
        deadline: Deadline,
    ) -> Result<Backing, OpenError> {
        loop {
            let file = match NamedFile::open(file_name) {
                Ok(file) => file,
                Err(refused) => return Err(why_not_opened(told, file_name, refused)),
            };
            let facts = file.facts()?;
            check(told, &facts)?;
            while attach && !file.try_lock(ATTACHED, Hold::Shared)? {
                if !pause(deadline) {
                    return Err(OpenError::Busy { name: told.into() });
                }
            }
            if facts.len == 0 {
                return Err(OpenError::NoBytes { name: told.into() });
            }
            // The name may have come to stand for something else. When it stands for our file now
            // and after the crate has mapped it, then it did in between.
            if !file.is_named(file_name)? {
                continue;
            }
            let opened = ShmemConf::new().os_id(format!("/{file_name}")).open();
            let named = file.is_named(file_name)?;
            match opened {
                Ok(map) if named => return Ok(Backing { map, file }),
                Err(refused) if named => return Err(os_error(&refused).into()),
                _ => {}
            }
        }
    }

    /// All bytes, the header included.
    pub(super) fn bytes(&self) -> Bytes {
        self.part(0, self.map.len())
    }

    /// `len` bytes from a place that the caller has checked; the caller keeps the backing as long.
    ///
    /// # Panics
    ///
    /// When they are not inside.
    pub(super) fn part(&self, start: usize, len: usize) -> Bytes {
        let inside = start
            .checked_add(len)
            .is_some_and(|end| end <= self.map.len());
        assert!(
            inside && start.is_multiple_of(8),
            "the callers have checked the part"
        );
        let first = NonNull::new(self.map.as_ptr().wrapping_add(start));
        let first = first.expect("a map is not at address zero");
        // SAFETY: `new` needs mapped bytes for the life of the view: the part is inside of the map
        // and aligned, as checked; views are kept beside their backing and lent out with it.
        unsafe { Bytes::new(first, len) }
    }

    /// The number of all bytes.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }
}

impl fmt::Debug for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backing").field("len", &self.len()).finish()
    }
}

/// Removes a name, if it stands for this file; `false` when it does not.
///
/// The lock closes the gap between looking and removing: only who removes the name can make room for
/// another file under it, and does so under this lock. (Tools that know nothing of us do not lock.)
pub(super) fn remove(file: &NamedFile, file_name: &str) -> Result<bool, OsError> {
    let removed = match file.is_named(file_name) {
        Ok(true) => match names::unlink(file_name) {
            // Such a tool was quicker.
            Err(refused) if refused.source.kind() == io::ErrorKind::NotFound => Ok(false),
            done => done.map(|()| true),
        },
        other => other,
    };
    file.unlock(NAME)?;
    removed
}

/// Takes the lock for [`remove`], if nobody has it.
pub(super) fn try_lock_name(file: &NamedFile) -> Result<bool, OsError> {
    file.try_lock(NAME, Hold::Alone)
}

/// Removes a name for a user who asked for it.
pub(super) fn unlink(told: &str, file: &NamedFile, file_name: &str) -> Result<(), UnlinkError> {
    unlink_until(told, file, file_name, Deadline::after(PATIENCE))
}

/// The same; waits for another one no longer than until the deadline.
pub(super) fn unlink_until(
    told: &str,
    file: &NamedFile,
    file_name: &str,
    deadline: Deadline,
) -> Result<(), UnlinkError> {
    while !try_lock_name(file)? {
        if !pause(deadline) {
            return Err(UnlinkError::Busy { name: told.into() });
        }
    }
    if remove(file, file_name)? {
        Ok(())
    } else {
        Err(UnlinkError::NotFound { name: told.into() })
    }
}

/// Removes the name of a file that is not open.
pub(super) fn unlink_closed(told: &str, file_name: &str) -> Result<(), UnlinkError> {
    match NamedFile::open(file_name) {
        Ok(file) => unlink(told, &file, file_name),
        Err(refused) if refused.source.kind() == io::ErrorKind::NotFound => {
            Err(UnlinkError::NotFound { name: told.into() })
        }
        // A link, a folder or somebody else's: the system decides.
        Err(_) => Ok(names::unlink(file_name)?),
    }
}

/// Lets others run for a moment; `false` when the deadline has passed.
pub(super) fn pause(deadline: Deadline) -> bool {
    let never_woken = AtomicU32::new(0);
    let moment = Deadline::after(Duration::from_millis(1)).earlier(deadline);
    futex::wait(&never_woken, 0, futex::Scope::Private, moment);
    !deadline.has_passed()
}

/// A name that is only there until the file has its real one.
struct Unfinished(String);

impl Unfinished {
    /// Makes a file of zeros that is complete except for its name.
    fn make(len: usize) -> Result<(Backing, Unfinished), CreateError> {
        let asked = len as u64;
        let no_space = |source, free| CreateError::NoSpace {
            asked,
            free,
            source,
        };
        memory::check_file_size_limit(asked)?;
        let free = names::free_space()?;
        // Not needed for correctness: filling the memory of a machine to learn that it is too small
        // would hurt everybody else.
        if i64::try_from(len).is_err() || free.is_some_and(|free| free < asked) {
            return Err(no_space(io::ErrorKind::StorageFull.into(), free));
        }
        let name = name::unfinished();
        let mut map = match ShmemConf::new()
            .os_id(format!("/{name}"))
            .size(len)
            .create()
        {
            Ok(map) => map,
            Err(refused) => {
                let refused = os_error(&refused);
                return Err(if is_shortage(&refused.source) {
                    no_space(refused.source, free)
                } else {
                    refused.into()
                });
            }
        };
        map.set_owner(false);
        let name = Unfinished(name);
        names::close_to_others(&name.0)?;
        let file = NamedFile::open(&name.0)?;
        match file.reserve(asked) {
            Ok(()) => Ok((Backing { map, file }, name)),
            Err(refused) => Err(no_space(refused.source, free)),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // If it fails, the sweeper finds the name when this process is gone.
        let _ = names::unlink(&self.0);
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory | io::ErrorKind::QuotaExceeded
    )
}

/// The crate tells the number of the system's error, and roughly which call it was.
fn os_error(error: &ShmemError) -> OsError {
    let (call, number) = match error {
        ShmemError::MapCreateFailed(number) | ShmemError::MapOpenFailed(number) => {
            ("shm_open or mmap", *number)
        }
        ShmemError::UnknownOsError(number) => ("ftruncate", *number),
        other => return OsError::new("shm_open", io::Error::other(other.to_string())),
    };
    OsError::new(call, io::Error::from_raw_os_error(number as i32))
}

fn why_not_opened(told: &str, file_name: &str, refused: OsError) -> OpenError {
    let name = told.to_owned();
    if refused.source.kind() == io::ErrorKind::NotFound {
        return OpenError::NotFound { name };
    }
    match names::facts_of(file_name) {
        Ok(Some(facts)) => check(told, &facts).err().unwrap_or(refused.into()),
        _ => refused.into(),
    }
}

/// Refuses what may be somebody else's, or planted by somebody else.
fn check(told: &str, facts: &Facts) -> Result<(), OpenError> {
    let why = if !facts.is_plain {
        Refusal::NotPlain
    } else if facts.owner != names::user() {
        Refusal::OtherUser { user: facts.owner }
    } else if facts.mode & 0o077 != 0 {
        Refusal::Mode { mode: facts.mode }
    } else if facts.links > 1 {
        Refusal::Links { links: facts.links }
    } else {
        return Ok(());
    };
    let name = told.into();
    Err(OpenError::Refused { name, why })
}
