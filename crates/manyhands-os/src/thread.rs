//! What a thread notes of itself, all in one place.
//!
//! To find a thread-local costs a library about as much as a call; whoever needs several of these
//! asks once.

use std::cell::Cell;
use std::fmt;

use crate::robust::{Head, RawHead};

thread_local! {
    static OWN: Own = const {
        Own {
            id: Cell::new(0),
            head: Cell::new(None),
            held: Cell::new(0),
        }
    };
}

/// The notes of the calling thread.
///
/// # Examples
///
/// ```
/// use manyhands_os::process::thread_id;
/// use manyhands_os::thread;
///
/// let id = thread_id();
/// assert_eq!(thread::own(|own| own.id()), Some(id));
/// ```
pub struct Own {
    /// The kernel's number, zero before it was asked for.
    pub(crate) id: Cell<u32>,
    /// The robust list, once it was found.
    pub(crate) head: Cell<Option<&'static RawHead>>,
    held: Cell<u32>,
}

/// Hands the notes of the calling thread to `f`.
#[inline]
pub fn own<R>(f: impl FnOnce(&Own) -> R) -> R {
    OWN.with(f)
}

impl Own {
    /// The kernel's number of the thread, if [`thread_id`](crate::process::thread_id) was called.
    #[inline]
    pub fn id(&self) -> Option<u32> {
        let id = self.id.get();
        (id != 0).then_some(id)
    }

    /// The robust list, if [`head`](crate::robust::head) was called.
    #[inline]
    pub fn head(&self) -> Option<Head> {
        self.head.get().map(Head::of)
    }

    /// How many locks the thread has on its list; kept by those who link them.
    #[inline]
    pub fn held(&self) -> &Cell<u32> {
        &self.held
    }

    /// Forgets everything that is not so in a forked child.
    pub(crate) fn forget(&self) {
        self.id.set(0);
        self.held.set(0);
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own")
            .field("id", &self.id())
            .field("held", &self.held.get())
            .finish_non_exhaustive()
    }
}
