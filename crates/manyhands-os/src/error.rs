//! What the operating system refused.

use std::{error, fmt, io};

/// The operating system refused a call.
///
/// # Examples
///
/// ```
/// use manyhands_os::OsError;
///
/// let refused = OsError::new("memfd_create", std::io::Error::from_raw_os_error(12));
/// assert!(refused.to_string().starts_with("memfd_create: "));
/// ```
#[derive(Debug)]
pub struct OsError {
    /// The call, as in section 2 of the manual.
    pub call: &'static str,
    /// The reason that it gave.
    pub source: io::Error,
}

impl OsError {
    /// Names the call behind an error.
    pub fn new(call: &'static str, source: impl Into<io::Error>) -> Self {
        Self {
            call,
            source: source.into(),
        }
    }

    /// The error that the calling thread's `errno` tells of.
    pub fn last(call: &'static str) -> Self {
        Self {
            call,
            source: io::Error::last_os_error(),
        }
    }
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.source)
    }
}

impl error::Error for OsError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}
