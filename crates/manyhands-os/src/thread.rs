//! What a thread notes of itself, all in one place; and threads that live as long as the process.
//!
//! To find a thread-local costs a library about as much as a call; whoever needs several of these
//! asks once.

use std::cell::Cell;
use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::{fmt, io, ptr};

use crate::error::OsError;
use crate::robust::{Head, RawHead};
use crate::signals;

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

/// Stacks that are tried: a program with much memory of its threads' own needs a larger one.
const STACKS: [usize; 3] = [64 << 10, 256 << 10, 8 << 20];

/// Starts a thread of this library, which never ends: it has a small stack and blocks all signals.
///
/// The standard library knows nothing of it, and neither the start nor the thread itself takes or
/// returns memory of the allocator, which would set up an arena for the new thread first.
///
/// # Errors
///
/// When the system refuses.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::AtomicU32;
/// use std::sync::atomic::Ordering::{Acquire, Release};
///
/// use manyhands_os::futex::{self, Scope};
/// use manyhands_os::Deadline;
/// use manyhands_os::thread::{Resident, start_resident};
///
/// static ANSWER: AtomicU32 = AtomicU32::new(0);
///
/// fn live() -> ! {
///     ANSWER.store(42, Release);
///     futex::wake_all(&ANSWER, Scope::Private);
///     loop {
///         let _ = futex::wait(&ANSWER, 42, Scope::Private, Deadline::NEVER);
///     }
/// }
///
/// static ANSWERER: Resident = Resident { name: c"answerer", life: live };
///
/// start_resident(&ANSWERER)?;
/// while ANSWER.load(Acquire) == 0 {
///     let _ = futex::wait(&ANSWER, 0, Scope::Private, Deadline::NEVER);
/// }
/// # Ok::<(), manyhands_os::OsError>(())
/// ```
pub fn start_resident(resident: &'static Resident) -> Result<(), OsError> {
    let argument = ptr::from_ref(resident).cast_mut().cast();
    // Nobody will join it: it does not end.
    let start = |stack| signals::blocked(|| Attributes::new(stack)?.create(enter, argument));
    let mut started = Ok(());
    for stack in STACKS {
        started = start(stack);
        match &started {
            Err(refused) if refused.source.raw_os_error() == Some(libc::EINVAL) => {}
            _ => break,
        }
    }
    started
}

/// A thread that lives as long as its process.
#[derive(Debug)]
pub struct Resident {
    /// What the system calls it; cut to 15 bytes.
    pub name: &'static CStr,
    /// What it does.
    pub life: fn() -> !,
}

extern "C" fn enter(argument: *mut c_void) -> *mut c_void {
    // SAFETY: it is what `start_resident` passed, which lives for ever.
    let resident = unsafe { &*argument.cast::<Resident>() };
    // SAFETY: reads a string that ends in zero, of which it takes 15 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, resident.name.as_ptr()) };
    (resident.life)()
}

/// How a thread is started.
struct Attributes {
    raw: libc::pthread_attr_t,
}

impl Attributes {
    fn new(stack: usize) -> Result<Self, OsError> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the call initializes the place that it is given.
        let code = unsafe { libc::pthread_attr_init(raw.as_mut_ptr()) };
        check("pthread_attr_init", code)?;
        // SAFETY: initialized by the call above, which succeeded.
        let raw = unsafe { raw.assume_init() };
        let mut attributes = Self { raw };
        // SAFETY: it is initialized.
        let code = unsafe { libc::pthread_attr_setstacksize(&raw mut attributes.raw, stack) };
        check("pthread_attr_setstacksize", code)?;
        Ok(attributes)
    }

    fn create(
        &self,
        enter: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> Result<(), OsError> {
        let mut thread = MaybeUninit::uninit();
        // SAFETY: the attributes are initialized, and both functions of this file take the argument
        // that is passed with them.
        let code = unsafe {
            libc::pthread_create(thread.as_mut_ptr(), &raw const self.raw, enter, argument)
        };
        check("pthread_create", code)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: it is initialized, and not used afterwards.
        unsafe { libc::pthread_attr_destroy(&raw mut self.raw) };
    }
}

/// A result of the `pthread` family, which returns its error number.
fn check(call: &'static str, code: i32) -> Result<(), OsError> {
    match code {
        0 => Ok(()),
        code => Err(OsError::new(call, io::Error::from_raw_os_error(code))),
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
