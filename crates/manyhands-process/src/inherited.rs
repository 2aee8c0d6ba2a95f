//! The descriptors that a child was given, and nothing else of its parent's.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

static INHERITED: Mutex<Vec<Option<OwnedFd>>> = Mutex::new(Vec::new());

/// Keeps what came until the function asks for it.
pub(crate) fn keep(descriptors: Vec<OwnedFd>) {
    let mut list = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    *list = descriptors.into_iter().map(Some).collect();
}

/// The descriptor that this process's parent gave it at this place of the list, by
/// [`inherit`](crate::ProcessBuilder::inherit), counted from zero. It is given out once.
///
/// It is a descriptor of the same open file, under another number, and closes on exec.
///
/// # Examples
///
/// ```
/// use std::fs::File;
/// use std::io::Write;
///
/// use manyhands_process::{Process, inherited};
///
/// fn write() -> bool {
///     let mut file = File::from(inherited(0).expect("the parent gave one"));
///     file.write_all(b"by the child").is_ok() && inherited(0).is_none()
/// }
///
/// let (reader, writer) = std::io::pipe()?;
/// let builder = Process::builder().inherit(writer);
/// assert!(builder.spawn(write, ())?.join()?);
/// drop(builder);
/// assert_eq!(std::io::read_to_string(reader)?, "by the child");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `pass_fds` of `subprocess`.
pub fn inherited(index: usize) -> Option<OwnedFd> {
    let mut list = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    list.get_mut(index)?.take()
}
