//! Locks that raw_sync or a C program placed in shared memory, and events for users of raw_sync.
//!
//! Behind the feature `posix`, with glibc only (2.30 or newer): the module is not there with other
//! C libraries, which lay robust mutexes out in other ways and lack the timed lock on the monotonic
//! clock.
//!
//! [`PosixLock`] is a pthread mutex. Whatever [`PosixLock::place`] makes can be used by raw_sync
//! (`Mutex::from_existing`) and by C programs (`pthread_mutex_lock`); whatever they made for
//! processes to share, it adopts. What is ours: the death of a holder is told with the guard,
//! and told again until somebody repairs; all time-outs work, on the clock that nobody sets.
//!
//! [`Event`] has the interface of raw_sync's event, and our event behind it.
//!
//! # Which lock keeps which promise
//!
//! One suite of tests runs over all of them. Where the table says no, the suite shows the failure.
//!
//! | promise | `Lock`, private | `Lock`, shared | `PosixLock` | `raw_sync::locks::Mutex` |
//! |---|---|---|---|---|
//! | one holder at a time | yes | yes | yes | yes |
//! | a try of a held lock fails at once | yes | yes | yes | yes |
//! | a panic of the holder leaves the lock | yes | yes | yes | yes |
//! | a time-out within a second of the wall clock | yes | yes | yes | yes |
//! | a time-out past the end of that second | yes | yes | yes | no: `EINVAL` at once |
//! | `Duration::MAX` waits | yes | yes | yes | no: `EINVAL` at once |
//! | the next locker is told of a death | no: waits for ever | yes | yes | no: waits for ever |
//! | who sleeps already is told of a death | no: waits for ever | yes | yes | no: waits for ever |
//! | told again until it is repaired | no: waits for ever | yes | yes | no: waits for ever |
//! | a killed process is told of | not shared | yes | yes | no: waits for ever |
//!
//! raw_sync's time-outs fail since it adds the parts of a second without a carry (999 ms at nearly any
//! moment, 5 ms at one of 200); and it makes its mutexes without robustness. A private `Lock` dies
//! with its process; the rows are about a thread that ends with a leaked guard.
//!
//! # Examples
//!
//! A lock for us, for raw_sync and for C, with a number behind it:
//!
//! ```
//! use std::cell::UnsafeCell;
//! use std::time::Duration;
//!
//! use manyhands_os::memory::{Map, Memfd};
//! use manyhands_sync::LockTimeoutError;
//! use manyhands_sync::posix::PosixLock;
//! use raw_sync::locks::{LockInit, Mutex};
//!
//! // Pages which other processes map, too: a mutex at 0, the number at 64.
//! let file = Memfd::create("example", 4096)?;
//! file.reserve(0, 4096)?;
//! let map = Map::shared(&file)?;
//! let number = map.as_ptr().wrapping_add(64).cast::<UnsafeCell<u64>>();
//! // SAFETY: 64 lies in the map, is aligned, and zeros are a number.
//! let number = unsafe { &*number };
//! // SAFETY: nobody else uses the map yet, which outlives the lock; only holders touch the number.
//! let lock = unsafe { PosixLock::place(map.as_ptr(), number)? };
//! *lock.lock().expect("nobody died") = 1;
//!
//! // Somewhere else, raw_sync takes the same lock.
//! // SAFETY: a lock lies there, as above.
//! let (theirs, _) = unsafe { Mutex::from_existing(map.as_ptr(), number.get().cast())? };
//! let guard = theirs.lock()?;
//! let refused = lock.lock_timeout(Duration::from_millis(5));
//! assert!(matches!(refused, Err(LockTimeoutError::TimedOut { .. })));
//! drop(guard);
//! assert_eq!(*lock.lock().expect("nobody died"), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod event;
mod lock;
mod mutex;

pub use error::{AdoptError, EventTimedOut, NotAnEvent, PlaceError, RenewError};
pub use event::Event;
pub use lock::{PosixLock, PosixLockGuard, PosixLockState};
