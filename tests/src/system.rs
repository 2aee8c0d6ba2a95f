//! The system calls of the harness, and the looks into `/proc` that replace sleeping.
//!
//! Nothing here comes from the crates under test: a harness that waited with the futex it examines
//! would believe it too easily.

use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use nix::unistd::Pid;

/// Maps `len` zeroed bytes that this process and everything it forks share.
///
/// # Panics
///
/// Panics when the kernel has no memory left: no test could go on.
pub fn map_shared(len: usize) -> *mut u8 {
    // SAFETY: `mmap` of anonymous memory at an address of the kernel's choice.
    // - where: no address is given, so no existing mapping is replaced.
    // - who: nobody else knows the new address.
    // - what: the pages are zero.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert!(
        address != libc::MAP_FAILED,
        "mmap: {}",
        io::Error::last_os_error()
    );
    address.cast()
}

/// Maps a file's first `len` bytes, for reading and without reserving memory.
pub fn map_file(file: &File, len: usize) -> Option<*mut u8> {
    // SAFETY: a new mapping at an address of the kernel's choice; see `map_shared`.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ,
            libc::MAP_SHARED | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            0,
        )
    };
    (address != libc::MAP_FAILED).then_some(address.cast())
}

/// Sleeps while `word` is`expected`, at most `timeout`; may return early.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let time = timeout.map(|limit| libc::timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    let time: *const libc::timespec = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: FUTEX_WAIT reads the word and the time.
    // - where: `word` is a live reference; `time` is null or points to a local of this function.
    // - who: the kernel only reads.
    // - what: any value is a valid `u32`.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            time,
        )
    };
}

/// Wakes at most `count` sleepers of `word`.
pub fn futex_wake(word: &AtomicU32, count: i32) {
    // SAFETY: FUTEX_WAKE uses the address as a key; the word is a live reference.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// The calling thread's id as the kernel writes it into futex words.
///
/// # Panics
///
/// Never: the kernel's ids have 22 bits.
pub fn thread_id() -> u32 {
    // SAFETY: `gettid` has no arguments.
    let id = unsafe { libc::syscall(libc::SYS_gettid) };
    u32::try_from(id).expect("a thread id is positive and has 22 bits")
}

/// The address of the futex in which the main thread of `process` sleeps, if it sleeps in one.
///
/// The kernel answers with a system call only when the thread is off the processor, so `Some` means
/// that it is queued: a wake sent now finds it.
pub fn sleeps_in(process: Pid) -> Option<usize> {
    let text = fs::read_to_string(format!("/proc/{process}/syscall")).ok()?;
    let mut words = text.split_ascii_whitespace();
    let call: libc::c_long = words.next()?.parse().ok()?;
    let mut argument = || usize::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok();
    let (first, second) = (argument()?, argument()?);
    match call {
        libc::SYS_futex_waitv => Some(first),
        libc::SYS_futex if is_waiting_operation(second) => Some(first),
        _ => None,
    }
}

fn is_waiting_operation(operation: usize) -> bool {
    let bare = operation & 0x7f;
    [
        libc::FUTEX_WAIT,
        libc::FUTEX_WAIT_BITSET,
        libc::FUTEX_LOCK_PI,
    ]
    .into_iter()
    .any(|waiting| usize::try_from(waiting) == Ok(bare))
}

/// How often the main thread of `process` has left a processor: equal twice means it did not run.
pub fn switches(process: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    text.lines()
        .filter(|line| line.contains("ctxt_switches"))
        .map(|line| {
            line.rsplit(':')
                .next()
                .and_then(|count| count.trim().parse::<u64>().ok())
        })
        .sum()
}

/// The file that is mapped at `address` here, and the distance from where its mapping begins:
/// what `objdump` shows for a program that may lie anywhere.
pub fn name_of_code(address: usize) -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut module = (String::new(), 0);
    for line in maps.lines() {
        let Some((range, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((start, end)) = range.split_once('-') else {
            continue;
        };
        let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).unwrap_or(0));
        let name = rest.rsplit([' ', '/']).next().unwrap_or_default();
        if name != module.0 {
            module = (name.to_owned(), start);
        }
        if (start..end).contains(&address) {
            return format!("{}+{:#x}", module.0, address - module.1);
        }
    }
    format!("{address:#x}")
}

/// Where the main thread of `process` has its `struct robust_list_head`; 0: it has none.
pub fn robust_head(process: Pid) -> usize {
    let mut head = 0_usize;
    let mut len = 0_usize;
    // SAFETY: writes an address and a length into two locals.
    unsafe {
        libc::syscall(
            libc::SYS_get_robust_list,
            process.as_raw(),
            &raw mut head,
            &raw mut len,
        )
    };
    head
}

/// The parts of a sparse file that have data: from, and to.
pub fn extents(file: &File) -> Vec<(usize, usize)> {
    let seek = |from: i64, whence: libc::c_int| {
        // SAFETY: `lseek` touches no memory; the offset belongs to this description alone.
        let at = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
        usize::try_from(at).ok()
    };
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = seek(from, libc::SEEK_DATA) {
        let Some(end) = seek(start as i64, libc::SEEK_HOLE) else {
            break;
        };
        found.push((start, end));
        from = end as i64;
    }
    found
}

/// Asks the kernel to kill the calling process whenthe thread that forked it ends.
pub fn die_with_parent() {
    // SAFETY: `prctl(PR_SET_PDEATHSIG)` takes one integer and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Lets all others run before the calling thread, from now on.
pub fn yield_to_others() {
    // SAFETY: `setpriority` takes three integers; zero is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

/// Ends this process by SIGALRM if it lives that long.
pub fn end_after(seconds: u32) {
    // SAFETY: `alarm` takes one integer and touches no memory.
    unsafe { libc::alarm(seconds) };
}

/// Stops the calling, single-threadedprocess: the signal arrives before `kill` returns.
#[inline]
pub fn stop_here() {
    // SAFETY: `getpid` has no arguments.
    let process = unsafe { libc::getpid() };
    // SAFETY: the signal goes to this process itself.
    unsafe { libc::kill(process, libc::SIGSTOP) };
}

/// Binds the calling thread, and what it forks from now on, to the processor it runs on.
///
/// A single step is two switches between tracer and victim; on one processor it costs a tenth of
/// what it costs across two.
pub fn stay_here() {
    // SAFETY: `sched_getcpu` has no arguments.
    let here = unsafe { libc::sched_getcpu() };
    let Ok(here) = usize::try_from(here) else {
        return;
    };
    // SAFETY: `cpu_set_t` is a plain bit set; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `CPU_SET` writes one bit of a local set, and checks the index against its size.
    unsafe { libc::CPU_SET(here, &mut set) };
    set_affinity(&set);
}

/// Lets the calling thread run on every processor again.
pub fn go_anywhere() {
    // SAFETY: `cpu_set_t` is a plain bit set; any bytes are one.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for processor in 0..usize::try_from(libc::CPU_SETSIZE).unwrap_or(0) {
        // SAFETY: `CPU_SET` writes one bit of a local set; the index is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(processor, &mut set) };
    }
    set_affinity(&set);
}

fn set_affinity(set: &libc::cpu_set_t) {
    // SAFETY: the kernel reads a set of the given size; a refusal only costs time.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
}

/// A timer whose ticks interrupt a blocking wait of this thread; stops when dropped.
///
/// Without it the tracer would wait for ever for a victim whose next instruction is a system call
/// that sleeps.
#[derive(Debug)]
pub struct Ticks(());

impl Ticks {
    /// Starts the ticks, one every 10 ms.
    pub fn start() -> Ticks {
        extern "C" fn ignore(_signal: libc::c_int) {}
        let handler: extern "C" fn(libc::c_int) = ignore;
        // SAFETY: all-zero is a valid `sigaction`: no flags (so no SA_RESTART), empty mask.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = handler as libc::sighandler_t;
        // SAFETY: installs a handler that does nothing, so it is async-signal-safe.
        unsafe { libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()) };
        set_timer(10_000);
        Ticks(())
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        set_timer(0);
    }
}

fn set_timer(period_us: libc::suseconds_t) {
    let period = libc::timeval {
        tv_sec: 0,
        tv_usec: period_us,
    };
    let timer = libc::itimerval {
        it_interval: period,
        it_value: period,
    };
    // SAFETY: the kernel reads a local structure; the old timer is not asked for.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
}
