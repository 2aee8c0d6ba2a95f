//! Who this process is in its family.

use serde::{Deserialize, Serialize};

use crate::{child, entry};

/// This process, as its family knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentProcess {
    /// The name that it was given at its start; `main` if it was given none.
    pub name: String,
    /// Its process id.
    pub id: u32,
    /// How many parents it has: zero for a process that this library did not start.
    pub generation: u32,
    /// Who started it, `None` in generation zero.
    pub parent: Option<ParentProcess>,
}

/// The process that started this one.
///
/// There is no waiting for its end: when a process of the family ends, by whatever cause, its
/// children are killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParentProcess {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub id: u32,
}

/// This process: its name, its generation, its parent.
///
/// # Examples
///
/// ```
/// use manyhands_process::{Process, current};
///
/// let here = current();
/// assert_eq!((here.name.as_str(), here.generation, here.parent), ("main", 0, None));
///
/// let named = || (current().name, current().parent.expect("it has one").id);
/// let mut process = Process::builder().name("worker").spawn(named, ())?;
/// assert_eq!(process.join()?, ("worker".to_owned(), here.id));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `multiprocessing.current_process()`, `parent_process()`.
pub fn current() -> CurrentProcess {
    CurrentProcess {
        name: child::name().unwrap_or("main").to_owned(),
        id: std::process::id(),
        generation: entry::generation(),
        parent: child::parent().cloned(),
    }
}

impl ParentProcess {
    /// This process, as its children know it.
    pub(crate) fn here() -> Self {
        Self {
            name: child::name().unwrap_or("main").to_owned(),
            id: std::process::id(),
        }
    }
}
