//! Memory with a name, for programs that do not know each other.
//!
//! Members of a family need none of this: [`Shared`](crate::Shared) and [`Region`](crate::Region)
//! have no name that could be left behind or guessed. A name is for strangers: programs that were
//! started apart, other builds, Python.
//!
//! | what | for | cleaned up |
//! |---|---|---|
//! | [`Segment`] | bytes, among programs that use this crate | by [`unlink`], or by [`sweep()`] when its owner is dead |
//! | [`SegmentOf<T>`](SegmentOf) | a struct of atomics, the same | the same |
//! | [`SharedMemory`] | bytes, with Python | by [`SharedMemory::unlink`]; made by [`SharedMemory::create_owned`], with its owner, or by [`sweep()`] when that is dead |
//! | [`ShareableList`] | numbers and text, with Python | the same |
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! use manyhands_shm::named::{self, SegmentOf};
//!
//! named::sweep()?; // what was left when this program was killed the last time
//!
//! # let name = format!("mh-doc-named-{}", std::process::id());
//! // Whoever comes first makes it; the others find it complete, or wait until it is.
//! let hits = SegmentOf::<AtomicU64>::attach_or_create(&name, |hits| hits.store(100, Relaxed))?;
//! assert_eq!(hits.fetch_add(1, Relaxed), 100);
//! hits.unlink()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When somebody is killed
//!
//! *While making a segment*: before it has its name, nobody knows of it, and [`sweep()`] removes it.
//! After that, those who wait for it get [`OpenError::CreatorDied`], and `attach_or_create` makes it
//! anew. *Later*: whoever has it keeps it; a sweep removes it when the last one is gone. What the dead
//! wrote last may be incomplete: use atomics so that this does not matter.
//!
//! # When memory is short
//!
//! All pages are reserved before the name is given, so a shortage is [`CreateError::NoSpace`] and
//! nothing is left; it is no `SIGBUS` later.
//!
//! # What strangers can do
//!
//! Files have mode 0600. What belongs to another user, can be reached by others, or is no plain file,
//! is [refused](OpenError::Refused). Other programs of the same user can still write anything at any
//! time, so nothing here gives out a reference to bytes other than atomics, and lengths are checked.
//! They could also shorten the file under us, which ends in `SIGBUS`: that is beyond what names can
//! protect from.

mod attached;
mod backing;
mod bytes;
mod error;
mod header;
mod list;
mod memory;
mod name;
mod owner;
mod portable;
mod record;
mod segment;
mod sweep;

pub use bytes::Bytes;
pub use error::{AttachError, CreateError, NameError, OpenError, PlaceError, Refusal, UnlinkError};
pub use list::{Item, ItemError, ListCreateError, ListOpenError, ShareableList};
pub use memory::SharedMemory;
pub use owner::Owner;
pub use portable::Portable;
#[doc(hidden)]
pub use portable::{shape, with};
pub use segment::{Segment, SegmentOf};
pub use sweep::{Swept, sweep};

/// Removes the name of a segment that is not open here, whoever made it.
///
/// # Errors
///
/// [`UnlinkError::NotFound`] when there is no such segment, and others.
///
/// # Examples
///
/// ```
/// use manyhands_shm::named::{self, Segment, UnlinkError};
///
/// # let name = format!("mh-doc-unlink-{}", std::process::id());
/// drop(Segment::create(&name, 100)?);
/// named::unlink(&name)?;
/// assert!(matches!(named::unlink(&name), Err(UnlinkError::NotFound { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unlink(name: &str) -> Result<(), UnlinkError> {
    backing::unlink_closed(name, &name::file_of(name)?)
}

/// The name of the file for a segment, in the folder of named memory: a hash of the user and the name.
///
/// # Errors
///
/// When no segment can have the name.
///
/// # Examples
///
/// ```
/// let file_name = manyhands_shm::named::file_name("the name of a segment")?;
/// assert!(file_name.starts_with("mh-") && file_name.len() <= 30);
/// # Ok::<(), manyhands_shm::named::NameError>(())
/// ```
pub fn file_name(name: &str) -> Result<String, NameError> {
    name::file_of(name)
}
