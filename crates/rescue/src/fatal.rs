//! What ends a run before every file has a verdict: one line, and exit code 2.

use crate::name::EntryName;
use std::fmt;
use std::io;
use std::path::Path;

/// Why the run cannot begin or go on.
#[derive(Debug)]
pub(crate) struct Fatal(String);

impl Fatal {
    /// Ends the run with this line.
    pub(crate) fn new(line: impl Into<String>) -> Fatal {
        Fatal(line.into())
    }

    /// Ends the run because `action`, as in "cannot read", failed at `path`.
    pub(crate) fn at(action: &str, path: &Path, error: &io::Error) -> Fatal {
        Fatal(format!("{action} {}: {}", shown(path), plain(error)))
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A path on one line, whatever bytes it has.
pub(crate) fn shown(path: &Path) -> String {
    EntryName::new(path.to_owned()).to_string()
}

/// An error of the system without its number, in lower case.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}
