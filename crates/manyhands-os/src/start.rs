//! Starting processes: a fresh image of this program, or a fork of a pristine one.
//!
//! The fresh image is started from `/proc/self/exe`, never from a path: after an upgrade the path
//! names another build, and the link still names this one. One descriptor is
//! given over, unmarked in the new process only, so that no other process started at the same time
//! gets it too.
//!
//! [`fork_sibling`] is for the zygote: `clone3` with `CLONE_PARENT`, so that the new process is a
//! child of the zygote's parent, which alone may wait for it. It calls the kernel past the C
//! library and therefore repeats what the library's `fork` does for the one thread that goes on: the
//! thread id that the library caches is written anew by the kernel, and the robust list, which
//! the kernel drops at a clone, is registered again.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU32;
use std::{fs, io, ptr};

use crate::error::OsError;
use crate::process::BeforeFork;
use crate::robust;

/// The link to the file that this process runs, whatever became of its name.
const OWN_IMAGE: &CStr = c"/proc/self/exe";

/// The number under which a process started by [`start_own_image`] finds its descriptor.
pub const INHERITED: RawFd = 3;

/// Starts this program's own file in a new process and returns its process id.
///
/// The new process gets `descriptor` as [`INHERITED`], the standard streams and no other
/// descriptor, an empty signal mask, and the default action for broken pipes and faults.
///
/// # Errors
///
/// When the system refuses: too many processes, too little memory, no `/proc`.
pub fn start_own_image(
    arguments: &[CString],
    environment: &[CString],
    descriptor: BorrowedFd<'_>,
) -> Result<u32, OsError> {
    let mut actions = FileActions::new()?;
    actions.inherit_only(descriptor.as_raw_fd())?;
    let attributes = Attributes::new()?;
    let arguments = pointers(arguments);
    let environment = pointers(environment);
    let mut pid = 0;
    // SAFETY: `posix_spawn` reads what it is given during the call only.
    // - `actions` and `attributes` were initialized by their constructors;
    // - both arrays end in null and point to strings that end in zero and outlive the call;
    // - the strings are not written, the type lacks `const` for reasons of age only.
    let code = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            OWN_IMAGE.as_ptr(),
            &raw const actions.raw,
            &raw const attributes.raw,
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    check("posix_spawn", code)?;
    Ok(pid as u32)
}

fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    let strings = strings.iter().map(|string| string.as_ptr().cast_mut());
    strings.chain([ptr::null_mut()]).collect()
}

/// A result of the `posix_spawn` family, which returns its error number.
fn check(call: &'static str, code: i32) -> Result<(), OsError> {
    match code {
        0 => Ok(()),
        code => Err(OsError::new(call, io::Error::from_raw_os_error(code))),
    }
}

/// What happens to descriptors between fork and exec.
struct FileActions {
    raw: libc::posix_spawn_file_actions_t,
}

impl FileActions {
    fn new() -> Result<Self, OsError> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the call initializes the place that it is given.
        let code = unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) };
        check("posix_spawn_file_actions_init", code)?;
        // SAFETY: initialized by the call above, which succeeded.
        let raw = unsafe { raw.assume_init() };
        Ok(Self { raw })
    }

    /// The duplicate has no close-on-exec mark, not even one of a descriptor to its own number;
    /// whatever was forgotten to be marked is closed.
    fn inherit_only(&mut self, fd: RawFd) -> Result<(), OsError> {
        // SAFETY: `raw` is initialized.
        let code =
            unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.raw, fd, INHERITED) };
        check("posix_spawn_file_actions_adddup2", code)?;
        self.close_from(INHERITED + 1)
    }

    #[cfg(target_env = "gnu")]
    fn close_from(&mut self, first: RawFd) -> Result<(), OsError> {
        // SAFETY: `raw` is initialized.
        let code =
            unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&raw mut self.raw, first) };
        check("posix_spawn_file_actions_addclosefrom_np", code)
    }

    /// Other C libraries lack the call; there, unmarked descriptors stay open.
    #[cfg(not(target_env = "gnu"))]
    fn close_from(&mut self, _first: RawFd) -> Result<(), OsError> {
        Ok(())
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: `raw` is initialized, and not used afterwards.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.raw) };
    }
}

/// The signal state that the new process starts with.
struct Attributes {
    raw: libc::posix_spawnattr_t,
}

/// What this library or a runtime may have changed; the others stay as the user's shell set them.
const RESET: [i32; 7] = [
    libc::SIGPIPE,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGCHLD,
];

impl Attributes {
    fn new() -> Result<Self, OsError> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the call initializes the place that it is given.
        let code = unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) };
        check("posix_spawnattr_init", code)?;
        // SAFETY: initialized by the call above, which succeeded.
        let raw = unsafe { raw.assume_init() };
        let mut attributes = Self { raw };
        attributes.set_signals()?;
        Ok(attributes)
    }

    fn set_signals(&mut self) -> Result<(), OsError> {
        // An interrupt waits until the process has chosen what to do on it.
        let (blocked, reset) = (signal_set(&[libc::SIGINT]), signal_set(&RESET));
        // SAFETY: both are initialized.
        let code =
            unsafe { libc::posix_spawnattr_setsigmask(&raw mut self.raw, &raw const blocked) };
        check("posix_spawnattr_setsigmask", code)?;
        // SAFETY: both are initialized.
        let code =
            unsafe { libc::posix_spawnattr_setsigdefault(&raw mut self.raw, &raw const reset) };
        check("posix_spawnattr_setsigdefault", code)?;
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        // SAFETY: `raw` is initialized.
        let code = unsafe { libc::posix_spawnattr_setflags(&raw mut self.raw, flags as i16) };
        check("posix_spawnattr_setflags", code)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: `raw` is initialized, and not used afterwards.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.raw) };
    }
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call initializes the place that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set was initialized above, and the numbers are signals.
        unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) };
    }
    // SAFETY: initialized by `sigemptyset`.
    unsafe { set.assume_init() }
}

/// The two sides of a fork.
#[derive(Debug)]
pub enum Fork {
    /// In the process that called.
    Original {
        /// The new process's id.
        pid: u32,
    },
    /// In the new process.
    New,
}

/// Forks this process into a *sibling*: a child of this process's parent.
///
/// The kernel writes the new process's id to `record` before it runs, in one step with the fork: in
/// memory that this process shares, somebody else learns of it even if this one is killed right then.
///
/// # Safety
///
/// The process must have one thread only: in the new process the others are gone, with whatever
/// locks they held.
///
/// # Errors
///
/// When the system refuses: too many processes, too little memory, or a kernel that does not tell
/// where the C library keeps its cached thread id (`CONFIG_CHECKPOINT_RESTORE`).
pub unsafe fn fork_sibling(record: &AtomicU32) -> Result<Fork, OsError> {
    let mut thread_id_place: *mut i32 = ptr::null_mut();
    // SAFETY: the call writes one pointer to the place given.
    let code = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut thread_id_place) };
    if code != 0 {
        return Err(OsError::last("prctl(PR_GET_TID_ADDRESS)"));
    }
    // SAFETY: all fields are integers, for which zero is valid.
    let mut request: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    request.flags = (libc::CLONE_PARENT
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_SETTID
        | libc::CLONE_CHILD_CLEARTID) as u64;
    request.parent_tid = record.as_ptr().expose_provenance() as u64;
    request.child_tid = thread_id_place.expose_provenance() as u64;
    let before = BeforeFork::now();
    // `exit_signal` stays zero: with `CLONE_PARENT` the kernel takes the caller's own.
    //
    // SAFETY: memory is copied and not shared (no CLONE_VM), so both sides go on from here with
    // their own stack, as after `fork`; the caller vouches that no other thread is lost. The
    // kernel writes the child's copy of the thread id, and `record`, an atomic that is borrowed.
    let code = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut request,
            size_of::<libc::clone_args>(),
        )
    };
    match code {
        0 => {
            robust::adopt_after_clone();
            before.note_identity();
            Ok(Fork::New)
        }
        pid if pid > 0 => Ok(Fork::Original { pid: pid as u32 }),
        _ => Err(OsError::last("clone3")),
    }
}

/// Takes over a descriptor that a starter gave to this process by number, and marks it
/// close-on-exec again.
///
/// # Safety
///
/// Nothing else in this process may own the descriptor of this number.
///
/// # Errors
///
/// When there is no such descriptor.
pub unsafe fn take_inherited(number: RawFd) -> Result<OwnedFd, OsError> {
    // SAFETY: changes a flag of a descriptor that is ours, as the caller vouches, or fails.
    let code = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if code != 0 {
        return Err(OsError::last("fcntl(F_SETFD)"));
    }
    // SAFETY: it is open, as the call above has shown; the caller vouches for the ownership.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Ignores `SIGPIPE`, as Rust's runtime does before `main`, so that a broken pipe is an error.
pub fn ignore_broken_pipes() {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// What this process did on an interrupt from the keyboard before it was told to ignore it.
#[derive(Clone, Copy, Debug)]
pub struct InterruptAction {
    former: libc::sighandler_t,
}

/// Ignores an interrupt from the keyboard from now on.
pub fn ignore_interrupts() -> InterruptAction {
    InterruptAction {
        // SAFETY: ignoring a signal runs no code.
        former: unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) },
    }
}

impl InterruptAction {
    /// Puts back what was done before.
    pub fn restore(self) {
        if self.former != libc::SIG_ERR {
            // SAFETY: it is the value that `signal` returned in this process or in the one that
            // this was forked from, whose code lies at the same address.
            unsafe { libc::signal(libc::SIGINT, self.former) };
        }
    }
}

/// The bytes of a thread's name that the kernel keeps.
const LONGEST_NAME: usize = 15;

/// Names the calling thread, and by it the process if it is the first; cut to 15 bytes, but
/// never inside a character, and without zero bytes.
pub fn name_this_thread(name: &str) {
    let mut text = name.replace('\0', "");
    text.truncate(text.floor_char_boundary(LONGEST_NAME));
    if let Ok(text) = CString::new(text) {
        // SAFETY: reads a string that ends in zero, of at most 16 bytes.
        unsafe { libc::prctl(libc::PR_SET_NAME, text.as_ptr()) };
    }
}

/// How many threads this process has; `None` where `/proc` does not say.
pub fn thread_count() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}

/// Has `f` called when this process exits in order: after the return from `main`, or by `exit`. It
/// must not panic.
///
/// # Errors
///
/// When memory is short.
pub fn at_exit(f: extern "C" fn()) -> Result<(), OsError> {
    // SAFETY: the function lives as long as the code does.
    match unsafe { libc::atexit(f) } {
        0 => Ok(()),
        _ => Err(OsError::new("atexit", io::ErrorKind::OutOfMemory)),
    }
}

/// Ends this process at once: no destructors, no handlers, nothing flushed.
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: ends the process; nothing of it runs afterwards.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::clock::Deadline;
    use crate::descriptor::{receive, seqpacket_pair};
    use crate::process::{Pidfd, Status};

    #[test]
    fn own_image_gets_its_arguments_environment_and_nothing_else() {
        // libtest lists no test that matches, and ends well; the socket is inherited, and closed
        // at the end.
        let (here, there) = seqpacket_pair().expect("pair");
        let arguments = [c"program", c"--list", c"--exact", c"no-such-test"].map(CStr::to_owned);
        let environment = [c"A=1".to_owned()];
        let pid = start_own_image(&arguments, &environment, there.as_fd()).expect("it starts");
        let pidfd = Pidfd::open(pid).expect("our child");
        drop(there);
        assert_eq!(receive(here.as_fd(), &mut [0; 4]).expect("the end").0, 0);
        assert_eq!(
            pidfd.wait(Deadline::NEVER).expect("wait"),
            Some(Status::Exited(0))
        );
    }

    #[test]
    fn inherited_descriptor_must_exist() {
        // SAFETY: nobody owns a descriptor of this number: it lies above every limit.
        assert!(unsafe { take_inherited(i32::MAX) }.is_err());
    }

    #[test]
    fn long_name_is_cut_between_characters() {
        let named = |name: &'static str| {
            let thread = std::thread::spawn(move || {
                name_this_thread(name);
                fs::read_to_string("/proc/thread-self/comm").expect("/proc is there")
            });
            thread.join().expect("it does not panic")
        };
        assert_eq!(named("a\0b"), "ab\n");
        assert_eq!(named("123456789012345678"), "123456789012345\n");
        assert_eq!(named("12345678901234\u{e4}"), "12345678901234\n");
        assert_eq!(named("1234567890123\u{e4}x"), "1234567890123\u{e4}\n");
    }

    #[test]
    fn threads_are_counted() {
        assert!(thread_count().expect("/proc is there") >= 1);
    }
}
