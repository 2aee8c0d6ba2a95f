//! Whether a fresh process can be given a library that this one has loaded.
//!
//! The loader of a new process takes names of libraries from the environment. A name that it
//! cannot use is a line on the terminal for it, and then the program runs without the library: what
//! cannot work must be found before.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{error, fmt, fs};

/// Why a fresh process cannot be given a library.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReloadError {
    /// Its path has a space or a colon, at which the loader splits lists of paths.
    Unnamable {
        /// The path.
        path: PathBuf,
    },
    /// Its file was removed or replaced since it was loaded.
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// This program runs with more rights than its user (set-uid), so the loader heeds no
    /// environment.
    Restricted,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unnamable { path } => write!(
                f,
                "the path of the library `{}` has a space or a colon, and the loader of a child \
                 cannot be given such a path: move the library",
                path.display()
            ),
            Self::Replaced { path } => write!(
                f,
                "the library `{}` was removed or replaced since it was loaded: start the program \
                 anew",
                path.display()
            ),
            Self::Restricted => f.write_str(
                "the program runs with more rights than its user, so a child of it would not \
                 load the library",
            ),
        }
    }
}

impl error::Error for ReloadError {}

/// Checks that a fresh process of this program can be given the loaded library at `path`, which
/// holds `address`.
///
/// # Errors
///
/// [`ReloadError`], with what to do.
pub fn check(path: &Path, address: *const ()) -> Result<(), ReloadError> {
    let path = path.to_path_buf();
    // SAFETY: `getauxval` has no precondition.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return Err(ReloadError::Restricted);
    }
    let bytes = path.as_os_str().as_bytes();
    if bytes.iter().any(|byte| b" :".contains(byte)) {
        return Err(ReloadError::Unnamable { path });
    }
    let is_removed = mapped_at(address.addr()).is_some_and(|name| name.ends_with(REMOVED));
    if is_removed || !path.exists() {
        return Err(ReloadError::Replaced { path });
    }
    Ok(())
}

/// What the kernel says after the name of a file that has lost it, also to another file.
const REMOVED: &str = " (deleted)";

/// The absolute path of the file that is mapped at an address, in the kernel's words; `None` where
/// there is no file, or no `/proc`.
pub(crate) fn mapped_at(address: usize) -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| file_at(line, address))
}

/// The file of a line such as `7f00-7f10 r-xp 00001000 fe:00 1234    /path`, if it covers `address`.
fn file_at(line: &str, address: usize) -> Option<String> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    if !(number(start)?..number(end)?).contains(&address) {
        return None;
    }
    rest.find('/').map(|begin| rest[begin..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "7f00-7f10 r-xp 00001000 fe:00 1234    /a path/lib.so (deleted)";
        let file = Some("/a path/lib.so (deleted)".to_owned());
        assert_eq!(file_at(line, 0x7f00), file);
        assert_eq!(file_at(line, 0x7f0f), file);
        assert_eq!(file_at(line, 0x7f10), None);
        assert_eq!(file_at("7f00-7f10 r-xp 00000000 00:00 0 ", 0x7f00), None);
        assert_eq!(file_at("nonsense", 0), None);
    }

    #[test]
    fn own_code_is_mapped_from_a_file_that_can_be_given_on() {
        let here = check as *const ();
        let path = mapped_at(here.addr()).expect("a file");
        assert!(path.starts_with('/'), "{path}");
        assert_eq!(check(Path::new("/proc/self/exe"), here), Ok(()));
    }

    #[test]
    fn paths_that_a_loader_cannot_find_are_refused() {
        let here = check as *const ();
        for path in ["/a b/lib.so", "/a:b/lib.so"] {
            let path = PathBuf::from(path);
            let unnamable = ReloadError::Unnamable { path: path.clone() };
            assert_eq!(check(&path, here), Err(unnamable));
        }
        let path = PathBuf::from("/no/such/library.so");
        let replaced = ReloadError::Replaced { path: path.clone() };
        assert_eq!(check(&path, here), Err(replaced));
    }
}
