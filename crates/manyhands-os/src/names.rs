//! Memory files that have a name, for processes that do not know each other.
//!
//! A name stays when everybody is gone, can be planted by others, and can come to stand for
//! another file between two calls. So a file is [checked](NamedFile::facts) when it was opened,
//! [`NamedFile::is_named`] tells whether the name still stands for it, and whoever removes a name
//! holds a [lock](NamedFile::try_lock) meanwhile. What is stored in the files is the business of
//! the rooms above.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::error::OsError;
use crate::memory::{ReserveError, reserve};

/// Where the names are; the C library's `shm_open` uses the same folder.
pub const FOLDER: &str = "/dev/shm";

/// An open named file.
#[derive(Debug)]
pub struct NamedFile {
    fd: OwnedFd,
}

/// What is known of a named file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// With the device, the file itself, whatever its name.
    pub inode: u64,
    /// The file system.
    pub device: u64,
    /// The user it belongs to.
    pub owner: u32,
    /// The permission bits.
    pub mode: u32,
    /// How many names it has.
    pub links: u64,
    /// Bytes.
    pub len: u64,
    /// Whether it is an ordinary file: no link, folder, pipe or device.
    pub is_plain: bool,
}

impl From<Stat> for Facts {
    fn from(stat: Stat) -> Self {
        Self {
            inode: stat.st_ino,
            device: stat.st_dev,
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            #[allow(clippy::useless_conversion, reason = "its width differs by platform")]
            links: stat.st_nlink.into(),
            len: stat.st_size as u64,
            is_plain: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
        }
    }
}

/// How a byte is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Together with others that share it.
    Shared,
    /// By nobody else.
    Alone,
}

impl NamedFile {
    /// Opens what has this name, for reading and writing; a symbolic link is not followed.
    ///
    /// # Errors
    ///
    /// `ENOENT` when nothing has the name, `ELOOP` for a link, `EACCES` for somebody else's.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_os::names::NamedFile;
    ///
    /// let refused = NamedFile::open("mh-no-such-name").expect_err("nothing has the name");
    /// assert_eq!(refused.source.kind(), std::io::ErrorKind::NotFound);
    /// ```
    pub fn open(name: &str) -> Result<Self, OsError> {
        // NONBLOCK: a pipe that somebody planted must not make us wait.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::io::retry_on_intr(|| fs::open(path(name), flags, Mode::empty()))
            .map_err(|e| OsError::new("open", e))?;
        Ok(Self { fd })
    }

    /// What is known of the file.
    ///
    /// # Errors
    ///
    /// When the system cannot tell.
    pub fn facts(&self) -> Result<Facts, OsError> {
        let stat = fs::fstat(&self.fd).map_err(|e| OsError::new("fstat", e))?;
        Ok(stat.into())
    }

    /// Whether the name stands for this file now.
    ///
    /// A file that once lost its name does not get it back. So when this is true, and was true
    /// before, the name stood for this file all the time between.
    ///
    /// # Errors
    ///
    /// When the system cannot tell.
    pub fn is_named(&self, name: &str) -> Result<bool, OsError> {
        let own = self.facts()?;
        let found = facts_of(name)?;
        Ok(found.is_some_and(|found| (found.device, found.inode) == (own.device, own.inode)))
    }

    /// Backs the first `len` bytes with pages, so that touching them cannot fail later.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when there is not enough memory.
    pub fn reserve(&self, len: u64) -> Result<(), ReserveError> {
        reserve(&self.fd, 0, len)
    }

    /// Copies from the start of the file, up to its end; returns how many bytes.
    ///
    /// # Errors
    ///
    /// When the system refuses to read.
    pub fn read_start(&self, buffer: &mut [u8]) -> Result<usize, OsError> {
        let mut len = 0;
        while len < buffer.len() {
            match rustix::io::pread(&self.fd, &mut buffer[len..], len as u64) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(OsError::new("pread", errno)),
            }
        }
        Ok(len)
    }

    /// Locks one byte, which need not exist, against other openings of the file, in this process
    /// too; `false` when one of them holds it. Held until [`unlock`](Self::unlock) or the end of
    /// this opening, at the latest the end of the process.
    ///
    /// # Errors
    ///
    /// When the system refuses locks.
    pub fn try_lock(&self, byte: u32, hold: Hold) -> Result<bool, OsError> {
        let kind = match hold {
            Hold::Shared => libc::F_RDLCK,
            Hold::Alone => libc::F_WRLCK,
        };
        self.set_lock(byte, kind)
    }

    /// Gives up a lock on a byte.
    ///
    /// # Errors
    ///
    /// When the system refuses locks.
    pub fn unlock(&self, byte: u32) -> Result<(), OsError> {
        self.set_lock(byte, libc::F_UNLCK).map(drop)
    }

    fn set_lock(&self, byte: u32, kind: i32) -> Result<bool, OsError> {
        // SAFETY: `zeroed` needs a type for which zeros are a value: a C struct of numbers.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as i16;
        lock.l_whence = libc::SEEK_SET as i16;
        lock.l_start = i64::from(byte);
        lock.l_len = 1;
        // SAFETY: the call takes an open descriptor, which `self` is, and reads the struct, which
        // lives until it returns; it writes nothing.
        let done = unsafe { libc::fcntl(self.fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
        if done == 0 {
            return Ok(true);
        }
        let refused = OsError::last("fcntl(F_OFD_SETLK)");
        match refused.source.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Ok(false),
            _ => Err(refused),
        }
    }
}

impl AsFd for NamedFile {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// What is known of the thing with this name, link or not; `None` when there is none.
///
/// # Errors
///
/// When the system cannot tell.
pub fn facts_of(name: &str) -> Result<Option<Facts>, OsError> {
    match fs::statat(CWD, path(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(OsError::new("fstatat", errno)),
    }
}

/// Gives the owner, and nobody else, the right to read and write, whatever the file mode creation
/// mask made of it.
///
/// # Errors
///
/// When the file is gone or somebody else's.
pub fn close_to_others(name: &str) -> Result<(), OsError> {
    fs::chmod(path(name), Mode::RUSR | Mode::WUSR).map_err(|e| OsError::new("chmod", e))
}

/// Gives a file another name, if nothing has that name.
///
/// # Errors
///
/// `EEXIST` when something has the name.
pub fn publish(from: &str, to: &str) -> Result<(), OsError> {
    fs::renameat_with(CWD, path(from), CWD, path(to), RenameFlags::NOREPLACE)
        .map_err(|e| OsError::new("renameat2", e))
}

/// Removes a name; the file goes with the last process that has it.
///
/// # Errors
///
/// `ENOENT` when nothing has the name.
pub fn unlink(name: &str) -> Result<(), OsError> {
    fs::unlink(path(name)).map_err(|e| OsError::new("unlink", e))
}

/// All names there are now, ours and others'.
///
/// # Errors
///
/// When the folder cannot be read.
pub fn all() -> Result<Vec<String>, OsError> {
    let entries = std::fs::read_dir(FOLDER).map_err(|e| OsError::new("opendir", e))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    // A name that is no text is none of ours.
    Ok(names.filter_map(|name| name.into_string().ok()).collect())
}

/// The bytes that named files can still take; `None` where they have no limit of their own.
///
/// # Errors
///
/// When the system cannot tell.
pub fn free_space() -> Result<Option<u64>, OsError> {
    let space = fs::statvfs(FOLDER).map_err(|e| OsError::new("statvfs", e))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    Ok((space.f_blocks > 0).then_some(free))
}

/// The user on whose behalf this process opens files.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The random number of this boot of the system, `None` without `/proc`.
pub fn boot() -> Option<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).ok()
}

/// A number for what process ids and start times mean here: processes of different namespaces do
/// not see each other's. `None` without `/proc`.
pub fn namespace() -> Option<u64> {
    let number = |kind: &str| {
        let stat = fs::stat(format!("/proc/self/ns/{kind}")).ok()?;
        Some(stat.st_ino)
    };
    // Systems without time namespaces have one time.
    Some(number("pid")?.rotate_left(32) ^ number("time").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of a page under a name of this test, removed at the end.
    struct Temporary(String);

    impl Temporary {
        fn new(what: &str) -> Self {
            let name = format!("mh-os-{what}-{}", std::process::id());
            std::fs::write(path(&name), [7; 4096]).expect("a file");
            Self(name)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = unlink(&self.0);
        }
    }

    #[test]
    fn lock_is_between_openings_and_ends_with_them() {
        let name = Temporary::new("lock");
        let (one, two) = (
            NamedFile::open(&name.0).expect("open"),
            NamedFile::open(&name.0).expect("open"),
        );
        assert!(one.try_lock(0, Hold::Shared).expect("lock"));
        assert!(two.try_lock(0, Hold::Shared).expect("lock"));
        assert!(!one.try_lock(0, Hold::Alone).expect("the other shares it"));
        assert!(one.try_lock(1, Hold::Alone).expect("another byte"));
        two.unlock(0).expect("unlock");
        assert!(one.try_lock(0, Hold::Alone).expect("lock"));
        assert!(!two.try_lock(0, Hold::Shared).expect("held"));
        drop(one);
        assert!(two.try_lock(0, Hold::Alone).expect("free again"));
    }

    #[test]
    fn name_that_stands_for_another_file_is_noticed() {
        let name = Temporary::new("again");
        let file = NamedFile::open(&name.0).expect("open");
        assert!(file.is_named(&name.0).expect("stat"));
        unlink(&name.0).expect("it is there");
        assert!(!file.is_named(&name.0).expect("stat"));
        std::fs::write(path(&name.0), [0; 16]).expect("another");
        assert!(!file.is_named(&name.0).expect("stat"));
        let mut bytes = [0; 5000];
        assert_eq!(file.read_start(&mut bytes).expect("read"), 4096);
        assert_eq!((bytes[4095], bytes[4096]), (7, 0));
    }

    #[test]
    fn link_is_not_followed_and_publishing_replaces_nothing() {
        let (file, link) = (Temporary::new("file"), Temporary::new("link"));
        let refused = publish(&file.0, &link.0).expect_err("the name is used");
        assert_eq!(refused.source.kind(), std::io::ErrorKind::AlreadyExists);
        unlink(&link.0).expect("it is there");
        std::os::unix::fs::symlink(path(&file.0), path(&link.0)).expect("a link");
        let refused = NamedFile::open(&link.0).expect_err("a link");
        assert_eq!(refused.source.raw_os_error(), Some(libc::ELOOP));
        assert!(!facts_of(&link.0).expect("stat").expect("there").is_plain);
        assert!(all().expect("list").contains(&file.0));
    }

    #[test]
    fn boot_and_namespace_are_the_same_each_time() {
        assert!(boot().is_some() && boot() == boot());
        assert!(namespace().is_some() && namespace() == namespace());
        assert!(free_space().expect("statvfs") != Some(0));
    }
}
