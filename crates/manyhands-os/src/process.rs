//! Which process, and how it ended.
//!
//! A process id is used again after its owner is gone; so nobody is signalled or waited for by
//! number. An [`Identity`] tells two owners of one number apart by their start time, and a
//! [`Pidfd`] refers to one process for ever.

use std::cell::Cell;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Once;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::path::Arg;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal,
    test_kill_process, waitid,
};
use rustix::time::{ClockId, clock_gettime};

use crate::clock::Deadline;
use crate::descriptor::is_readable;
use crate::error::OsError;
use crate::thread::{Own, own};

/// A process of this boot and process namespace: its number and the time at which it started.
///
/// # Examples
///
/// ```
/// use manyhands_os::process::Identity;
///
/// let me = Identity::current();
/// assert_eq!(me.pid, std::process::id());
/// assert!(me.is_running());
/// assert_eq!(Identity::unpack(me.pack()), Some(me));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// The start, in clock ticks (10 ms) since boot.
    pub start_time: u64,
}

/// Linux gives process ids below 2^22.
const PID_BITS: u32 = 22;

impl Identity {
    /// The calling process; it is looked up once, and again in a forked child.
    pub fn current() -> Self {
        let word = identity_word();
        Self::unpack(word).unwrap_or_else(Self::ask)
    }

    fn ask() -> Self {
        // The start time of the calling process is always there to read, unless /proc is not
        // mounted; then zero keeps the number as the only mark.
        let start_time = Stat::at(c"/proc/self/stat").map_or(0, |stat| stat.start_time);
        let pid = std::process::id();
        Self { pid, start_time }
    }

    /// The process that has this number now, `None` when nobody has it.
    pub fn of(pid: u32) -> Option<Self> {
        let start_time = Stat::of(pid)?.start_time;
        Some(Self { pid, start_time })
    }

    /// Whether that process, and not a later one of its number, exists (a zombie does).
    pub fn is_running(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Whether no thread of that process will ever run again: it is gone, or a zombie that nobody has
    /// waited for. Where `/proc` hides the process, it counts as running while its number is used.
    pub fn has_ended(self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let is_unused = || pid.is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH));
        // Asked first, for it is most often so, and cheap.
        is_unused()
            || match Stat::of(self.pid) {
                Some(stat) => stat.start_time != self.start_time || stat.is_over(),
                None => is_unused(),
            }
    }

    /// The identity in one word, which is never zero.
    pub fn pack(self) -> u64 {
        self.start_time << PID_BITS | u64::from(self.pid)
    }

    /// The identity behind a packed word, `None` behind zero.
    pub fn unpack(word: u64) -> Option<Self> {
        let pid = (word & ((1 << PID_BITS) - 1)) as u32;
        (word != 0).then_some(Self {
            pid,
            start_time: word >> PID_BITS,
        })
    }
}

/// What `/proc` tells of a process.
pub(crate) struct Stat {
    pub(crate) state: u8,
    pub(crate) parent: u32,
    threads: u32,
    pub(crate) start_time: u64,
}

impl Stat {
    /// The kernel gives the whole line at the first read, and no line is longer: 52 fields, all but
    /// the name numbers of at most 20 digits, and a space behind each.
    const LONGEST: usize = 52 * 21 + 64;

    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::at(format!("/proc/{pid}/stat"))
    }

    /// Of a process or of one of its threads, by its file.
    pub(crate) fn at(file: impl Arg) -> Option<Self> {
        let file = open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut buffer = [0; Self::LONGEST];
        let len = retry_on_intr(|| read(&file, &mut buffer)).ok()?;
        let stat = &buffer[..len];
        // The second field is a name in parentheses that may hold anything, parentheses included.
        let name_end = stat.iter().rposition(|byte| *byte == b')')?;
        let mut after_name = str::from_utf8(&stat[name_end + 1..])
            .ok()?
            .split_ascii_whitespace();
        Some(Self {
            state: *after_name.next()?.as_bytes().first()?,
            parent: after_name.next()?.parse().ok()?,
            threads: after_name.nth(15)?.parse().ok()?,
            start_time: after_name.nth(1)?.parse().ok()?,
        })
    }

    /// A first thread that has ended is a zombie too, for as long as the others run.
    fn is_over(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads <= 1
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It exited with this code.
    Exited(i32),
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether a core file was asked for.
        core_dumped: bool,
    },
    /// It has ended, and somebody else took the status: it was no child of ours, or another part
    /// of this program waits for all children.
    Unknown,
}

/// A descriptor that refers to one process, whatever becomes of its number.
#[derive(Debug)]
pub struct Pidfd {
    fd: OwnedFd,
}

/// `__WALL`: children made with another exit signal than `SIGCHLD` are waited for too.
const WAIT_ALL_KINDS: WaitIdOptions = WaitIdOptions::from_bits_retain(0x4000_0000);

impl Pidfd {
    /// Opens the process that has this number now.
    ///
    /// # Errors
    ///
    /// `ESRCH` when nobody has it, or the descriptors are used up.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_os::process::{Pidfd, Status};
    /// use manyhands_os::Deadline;
    ///
    /// let child = std::process::Command::new("false").spawn().expect("it starts");
    /// let pidfd = Pidfd::open(child.id())?;
    /// assert_eq!(pidfd.wait(Deadline::NEVER)?, Some(Status::Exited(1)));
    /// # Ok::<(), manyhands_os::OsError>(())
    /// ```
    pub fn open(pid: u32) -> Result<Self, OsError> {
        let refused = |e| OsError::new("pidfd_open", e);
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(Errno::INVAL);
        let fd = pid
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(refused)?;
        Ok(Self { fd })
    }

    /// Takes over a descriptor that `clone3` or a peer gave.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Whether the process has ended; for a child this is before its status is taken.
    pub fn has_ended(&self) -> bool {
        // A pidfd is always valid to poll.
        is_readable(&self.fd).unwrap_or(false)
    }

    /// Waits for the end and takes the status; `None` when the deadline passed first.
    ///
    /// # Errors
    ///
    /// When the system refuses to poll or to wait.
    pub fn wait(&self, deadline: Deadline) -> Result<Option<Status>, OsError> {
        if !self.wait_end(deadline)? {
            return Ok(None);
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WAIT_ALL_KINDS;
        match rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.fd.as_fd()), options)) {
            Ok(Some(status)) => Ok(Some(
                match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Status::Exited(code),
                    (None, Some(signal)) => Status::Signaled {
                        signal,
                        core_dumped: status.dumped(),
                    },
                    (None, None) => Status::Unknown,
                },
            )),
            Ok(None) | Err(Errno::CHILD) => Ok(Some(Status::Unknown)),
            Err(errno) => Err(OsError::new("waitid", errno)),
        }
    }

    /// Sends a signal, by its number; nothing happens to a process that has ended.
    ///
    /// # Errors
    ///
    /// When the number is no signal, or the caller has no right to send it.
    pub fn signal(&self, number: i32) -> Result<(), OsError> {
        let refused = |e| OsError::new("pidfd_send_signal", e);
        let signal = Signal::from_named_raw(number).ok_or_else(|| refused(Errno::INVAL))?;
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(refused(errno)),
        }
    }

    /// Waits for the end, and leaves the status to whom it belongs; `false` at the deadline.
    ///
    /// # Errors
    ///
    /// When the system refuses to poll.
    pub fn wait_end(&self, deadline: Deadline) -> Result<bool, OsError> {
        loop {
            let mut list = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut list, deadline.remaining_timespec().as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(OsError::new("poll", errno)),
            }
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The packed identity of this process, zero before it was asked for.
static IDENTITY: AtomicU64 = AtomicU64::new(0);

/// How many forks and raw clones lie between this process and its exec.
static INCARNATION: AtomicU32 = AtomicU32::new(0);

/// The packed identity of the calling process; read once, and again in a forked child.
#[inline]
pub fn identity_word() -> u64 {
    // Relaxed: the word stands for itself, and every thread would write the same.
    match IDENTITY.load(Relaxed) {
        0 => ask_identity(),
        word => word,
    }
}

/// The packed identity of the calling process, if it was asked for.
///
/// It never calls anything, so that the caller need not save a register.
#[inline]
pub fn known_identity_word() -> Option<u64> {
    // Relaxed: as in `identity_word`.
    let word = IDENTITY.load(Relaxed);
    (word != 0).then_some(word)
}

#[cold]
fn ask_identity() -> u64 {
    // The fork handler that forgets the word is registered with the thread id.
    thread_id();
    let word = Identity::ask().pack();
    IDENTITY.store(word, Relaxed);
    word
}

/// A number that differs between a process and the children it forks: what one of them started,
/// a thread say, is not there in the other.
pub fn incarnation() -> u32 {
    thread_id();
    INCARNATION.load(Relaxed)
}

/// The kernel's number of the calling thread; asked for once, and again in a forked child.
#[inline]
pub fn thread_id() -> u32 {
    own(Own::id).unwrap_or_else(ask_thread_id)
}

#[cold]
fn ask_thread_id() -> u32 {
    static AT_FORK: Once = Once::new();
    extern "C" fn forget_in_child() {
        become_another();
    }
    // SAFETY: `pthread_atfork` takes functions that stay valid: this one is static, and it
    // only writes a thread-local without a destructor, which is allowed in a forked child.
    AT_FORK.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(forget_in_child));
    });
    let id = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    own(|own| own.id.set(id));
    id
}

thread_local! {
    /// The token of this thread, and the incarnation of the process in which it was drawn.
    static TOKEN: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// A random number that names the calling thread among all threads of all processes; never zero.
///
/// Thread ids are not enough where memory is shared between process namespaces, whose ids
/// collide. A forked child's thread has another token than the thread that forked.
#[inline]
pub fn thread_token() -> u64 {
    let (token, drawn_in) = TOKEN.get();
    if token != 0 && drawn_in == incarnation() {
        token
    } else {
        draw_token()
    }
}

#[cold]
fn draw_token() -> u64 {
    let mut bytes = [0; 8];
    // The call fills eight bytes at once; where a filter forbids it, process and thread id are
    // still right outside of namespaces.
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    let random = u64::from_ne_bytes(bytes);
    let token = match drawn {
        Ok(8) if random != 0 => random,
        _ => identity_word().rotate_left(32) ^ u64::from(thread_id()) | 1 << 63,
    };
    TOKEN.set((token, incarnation()));
    token
}

/// Forgets what is cached of the parent: in a forked child, and in the child of a raw clone, in
/// which no fork handler runs.
pub(crate) fn become_another() {
    own(Own::forget);
    IDENTITY.store(0, Relaxed);
    INCARNATION.fetch_add(1, Relaxed);
}

/// A moment right before a fork, by which the child knows its start time without asking.
///
/// The kernel takes the start from the clock during the fork, and `/proc` tells it in ticks. When the
/// fork began and the child runs in one and the same tick, it is that one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BeforeFork(u64);

impl BeforeFork {
    pub(crate) fn now() -> Self {
        Self(since_boot())
    }

    /// In the child: keeps its identity, if the tick is beyond doubt; else it is looked up when needed.
    pub(crate) fn note_identity(self) {
        if let Some(start_time) = tick_of(self.0, since_boot()) {
            let pid = std::process::id();
            // Relaxed: as in `identity_word`.
            IDENTITY.store(Identity { pid, start_time }.pack(), Relaxed);
        }
    }
}

/// A tick of `/proc`, in nanoseconds.
const TICK: u64 = 10_000_000;
/// How far the clock that a program reads may be from the kernel's at that time, in nanoseconds: more
/// than it ever is.
const DOUBT: u64 = 10_000;

/// The tick that both times lie in.
fn tick_of(before: u64, after: u64) -> Option<u64> {
    let first = before.saturating_sub(DOUBT) / TICK;
    let last = after.saturating_add(DOUBT) / TICK;
    (first == last).then_some(first)
}

/// What the kernel reads as the start of a process: `CLOCK_BOOTTIME`, in nanoseconds.
fn since_boot() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
#[allow(
    clippy::zombie_processes,
    reason = "the tests take the status through the pidfd"
)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn identity_of_a_gone_process_is_not_running() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let identity = Identity::of(child.id()).expect("it runs");
        assert!(identity.is_running());
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(!identity.is_running());
        let other = Identity {
            start_time: 1,
            ..Identity::current()
        };
        assert!(!other.is_running());
    }

    #[test]
    fn zombie_and_gone_have_ended_and_the_living_have_not() {
        assert!(!Identity::current().has_ended());
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let identity = Identity::of(child.id()).expect("it runs");
        assert!(!identity.has_ended());
        let pidfd = Pidfd::open(child.id()).expect("open");
        child.kill().expect("kill");
        assert!(pidfd.wait_end(Deadline::NEVER).expect("poll"));
        assert!(identity.is_running() && identity.has_ended());
        child.wait().expect("wait");
        assert!(identity.has_ended());
        let earlier = Identity {
            start_time: 1,
            ..Identity::current()
        };
        assert!(earlier.has_ended());
    }

    #[test]
    fn tick_is_known_only_where_both_times_are_well_inside() {
        assert_eq!(tick_of(3 * TICK + DOUBT, 4 * TICK - DOUBT - 1), Some(3));
        assert_eq!(tick_of(3 * TICK + DOUBT - 1, 3 * TICK + DOUBT), None);
        assert_eq!(tick_of(3 * TICK + DOUBT, 4 * TICK - DOUBT), None);
    }

    #[test]
    fn identity_survives_packing() {
        let identity = Identity {
            pid: (1 << 22) - 1,
            start_time: (1 << 42) - 1,
        };
        assert_eq!(Identity::unpack(identity.pack()), Some(identity));
        assert_eq!(Identity::unpack(0), None);
    }

    #[test]
    fn waiter_learns_code_and_signal() {
        let child = Command::new("sh")
            .args(["-c", "exit 7"])
            .spawn()
            .expect("sh");
        let pidfd = Pidfd::open(child.id()).expect("open");
        assert_eq!(
            pidfd.wait(Deadline::NEVER).expect("wait"),
            Some(Status::Exited(7))
        );
        assert_eq!(
            pidfd.wait(Deadline::NEVER).expect("again"),
            Some(Status::Unknown)
        );

        let child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let pidfd = Pidfd::open(child.id()).expect("open");
        assert_eq!(
            pidfd
                .wait(Deadline::after(Duration::from_millis(2)))
                .expect("wait"),
            None
        );
        assert!(!pidfd.has_ended());
        pidfd.signal(libc::SIGKILL).expect("signal");
        let status = pidfd.wait(Deadline::NEVER).expect("wait");
        assert_eq!(
            status,
            Some(Status::Signaled {
                signal: 9,
                core_dumped: false
            })
        );
        pidfd
            .signal(libc::SIGKILL)
            .expect("a signal to the dead does nothing");
        assert!(pidfd.has_ended());
    }

    #[test]
    fn thread_id_differs_between_threads() {
        let here = thread_id();
        let there = std::thread::spawn(thread_id).join().expect("it returns");
        assert_ne!(here, there);
        assert_eq!(here, thread_id());
    }

    #[test]
    fn thread_token_stays_and_differs_between_threads() {
        let here = thread_token();
        let there = std::thread::spawn(thread_token).join().expect("it returns");
        assert!(here != there && here != 0 && here == thread_token());
    }

    #[test]
    fn bad_numbers_are_errors() {
        assert!(Pidfd::open(0).is_err());
        let me = Pidfd::open(std::process::id()).expect("open");
        assert!(me.signal(12345).is_err());
    }
}
