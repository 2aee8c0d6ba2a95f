//! Limits that a process sets itself before it runs what it does not trust.
//!
//! Memory is limited twice. The kernel's `RLIMIT_DATA` counts private writable pages, of
//! anybody's code, and not the family's arena, which is shared and sparse (`RLIMIT_AS` would
//! count it). A [`CappedAllocator`], where the program has chosen it, counts the bytes that Rust
//! code holds; it knows how much was asked for when the limit was met.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::OsError;
use crate::fault::{Fault, installed};

/// The memory limit in bytes, zero for none. It is set once, before other threads run, so
/// Relaxed is enough wherever it is read.
static ALLOWED: AtomicU64 = AtomicU64::new(0);
/// The limit of processor time in seconds, zero for none; as `ALLOWED`.
static ALLOWED_TIME: AtomicU64 = AtomicU64::new(0);
/// The size of the last allocation that the system refused to a [`CappedAllocator`]; a hint.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// The memory limit in bytes, if one was set.
pub(crate) fn memory_limit() -> Option<u64> {
    nonzero(ALLOWED.load(Relaxed))
}

/// The bytes of the allocation that was refused, where known.
pub(crate) fn refused_bytes() -> Option<u64> {
    nonzero(REFUSED.load(Relaxed))
}

fn nonzero(value: u64) -> Option<u64> {
    (value != 0).then_some(value)
}

/// Limits this process's memory to `bytes` above what it has now.
///
/// What meets the limit ends the process with `SIGABRT` and a note
/// ([`Fault::MemoryLimit`]), if a note was installed.
///
/// # Errors
///
/// When the system refuses, or `/proc` does not tell the present size.
pub fn limit_memory(bytes: u64) -> Result<(), OsError> {
    let present = data_size()?;
    // Where the allocator counts, the kernel's limit is the net below, for what is not Rust's:
    // leave room for what the allocator itself wastes.
    let slack = if IS_CHOSEN.load(Relaxed) {
        (bytes / 4).max(16 << 20)
    } else {
        0
    };
    set_both(
        Resource::Data,
        present.saturating_add(bytes).saturating_add(slack),
        "setrlimit(RLIMIT_DATA)",
    )?;
    HELD.store(0, Relaxed);
    ALLOWED.store(bytes.max(1), Relaxed);
    Ok(())
}

/// The private writable memory of this process, in bytes, as `RLIMIT_DATA` counts it.
///
/// # Errors
///
/// When `/proc` does not tell.
pub fn data_size() -> Result<u64, OsError> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|e| OsError::new("open(/proc/self/status)", e))?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmData:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .ok_or_else(|| {
            let missing = std::io::Error::from(std::io::ErrorKind::InvalidData);
            OsError::new("read(/proc/self/status)", missing)
        })?;
    Ok(kibibytes << 10)
}

/// Limits the processor time of this process, in all its threads, from its start; rounded up to
/// seconds. What meets the limit ends with `SIGXCPU` and a note ([`Fault::ProcessorLimit`]), if a
/// note was installed; what ignores or blocks that signal is killed a second later.
///
/// # Errors
///
/// When the system refuses.
pub fn limit_processor_time(limit: Duration) -> Result<(), OsError> {
    let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    let seconds = seconds.max(1);
    // At the hard limit the kernel kills, and does not look at the soft one any more.
    let hard = seconds.saturating_add(1);
    set(Resource::Cpu, seconds, hard, "setrlimit(RLIMIT_CPU)")?;
    ALLOWED_TIME.store(seconds, Relaxed);
    Ok(())
}

/// The limit of processor time in seconds that was set here, or by whoever started this process.
///
/// Safe to call in a signal handler: at most one system call.
pub(crate) fn processor_limit() -> Option<u64> {
    // The kernel adds a second to the soft limit with each signal that it sends.
    nonzero(ALLOWED_TIME.load(Relaxed))
        .or_else(|| Some(getrlimit(Resource::Cpu).current?.saturating_sub(1)))
}

/// Limits the size of a core file, in bytes; zero writes none.
///
/// # Errors
///
/// When the system refuses.
pub fn limit_core(bytes: u64) -> Result<(), OsError> {
    set_both(Resource::Core, bytes, "setrlimit(RLIMIT_CORE)")
}

/// Limits the number of open descriptors.
///
/// # Errors
///
/// When the system refuses.
pub fn limit_descriptors(count: u64) -> Result<(), OsError> {
    set_both(Resource::Nofile, count, "setrlimit(RLIMIT_NOFILE)")
}

/// Sets the soft and the hard limit to one value.
fn set_both(resource: Resource, value: u64, call: &'static str) -> Result<(), OsError> {
    set(resource, value, value, call)
}

/// Sets the soft and the hard limit, never above the hard limit that is there.
fn set(resource: Resource, soft: u64, hard: u64, call: &'static str) -> Result<(), OsError> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit {
        current: Some(soft.min(most)),
        maximum: Some(hard.min(most)),
    };
    setrlimit(resource, limit).map_err(|e| OsError::new(call, e))
}

/// An allocator that counts, so that a memory limit is met exactly and can be told.
///
/// It costs one load an allocation until a limit is set, and one shared counter afterwards. A
/// program that uses it gets `MemoryLimit { asked: Some(..), .. }` instead of `asked: None`.
///
/// # Examples
///
/// ```
/// use manyhands_os::limits::CappedAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: CappedAllocator = CappedAllocator;
///
/// assert_eq!(vec![1, 2, 3].len(), 3);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CappedAllocator;

/// Whether the program's allocator is a [`CappedAllocator`].
static IS_CHOSEN: AtomicBool = AtomicBool::new(false);
/// The bytes allocated minus those freed since the limit was set; below zero when what was there
/// before is freed.
static HELD: AtomicI64 = AtomicI64::new(0);

impl CappedAllocator {
    /// Counts `bytes` more, and ends the process if they do not fit.
    fn charge(bytes: usize) {
        // Relaxed: a flag that only ever becomes true, and orders nothing.
        if !IS_CHOSEN.load(Relaxed) {
            IS_CHOSEN.store(true, Relaxed);
        }
        let Some(allowed) = memory_limit() else {
            return;
        };
        let bytes = bytes as i64;
        // Relaxed: a count; nothing is published by it.
        let held = HELD.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if u64::try_from(held).is_ok_and(|held| held > allowed) {
            end_at_limit(bytes as u64, allowed);
        }
    }

    fn discharge(bytes: usize) {
        if memory_limit().is_some() {
            // Relaxed: as in `charge`.
            HELD.fetch_sub(bytes as i64, Relaxed);
        }
    }

    fn checked(result: *mut u8, bytes: usize) -> *mut u8 {
        if result.is_null() {
            // Relaxed: read by the handler of the abort that follows on this thread, if at all.
            REFUSED.store(bytes as u64, Relaxed);
        }
        result
    }
}

#[cold]
fn end_at_limit(asked: u64, allowed: u64) -> ! {
    if let Some(note) = installed() {
        note.write(Fault::MemoryLimit {
            asked: Some(asked),
            allowed,
        });
    }
    std::process::abort()
}

// SAFETY: each method hands its arguments to `System`, an allocator, and returns what that
// returned; counting touches atomics only, and ending the process never returns or unwinds.
unsafe impl GlobalAlloc for CappedAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::charge(layout.size());
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        Self::checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::charge(layout.size());
        // SAFETY: as in `alloc`.
        Self::checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::discharge(layout.size());
        // SAFETY: the caller's promise that `pointer` came from here with this layout, hence from
        // `System`.
        unsafe { System.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() {
            Self::charge(size - layout.size());
        } else {
            Self::discharge(layout.size() - size);
        }
        // SAFETY: as in `dealloc`; the caller vouches for `size`.
        Self::checked(unsafe { System.realloc(pointer, layout, size) }, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_size_grows_with_what_is_allocated() {
        let before = data_size().expect("/proc is there");
        let memory = vec![1_u8; 64 << 20];
        let after = data_size().expect("/proc is there");
        assert!(after >= before + (32 << 20), "{before} {after}");
        drop(memory);
    }
}
