//! What a new process sets in itself, before the user's code runs.
//!
//! Priority and processors are those of a thread, in Linux; threads that are started later have
//! them from the thread that starts them. Those that are there already are set one by one.

use std::fs;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::{Pid, getpriority_process, nice, setpgid, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::error::OsError;

/// The standard stream that a descriptor takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Number 0.
    Input,
    /// Number 1.
    Output,
    /// Number 2.
    Error,
}

/// The first number that is no standard stream's.
const FIRST_FREE: RawFd = 3;

/// Lowers the priority of this process by so many steps; 19 is the lowest priority, and what is
/// above or below the borders counts as the border. All its threads get the caller's.
///
/// # Errors
///
/// When the priority is to be raised, without the right to do so, or `/proc` is not there.
pub fn lower_priority(steps: i32) -> Result<(), OsError> {
    nice(steps).map_err(|e| OsError::new("nice", e))?;
    let priority = getpriority_process(None).map_err(|e| OsError::new("getpriority", e))?;
    for thread in threads()? {
        setpriority_process(Some(thread), priority).map_err(|e| OsError::new("setpriority", e))?;
    }
    Ok(())
}

/// The threads of this process.
fn threads() -> Result<Vec<Pid>, OsError> {
    let list = fs::read_dir("/proc/self/task").map_err(|e| OsError::new("open(/proc)", e))?;
    let numbers = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(numbers.filter_map(Pid::from_raw).collect())
}

/// Lets all threads of this process run on these processors only, by their numbers.
///
/// # Errors
///
/// When none of them is there, or a number is 1024 or more, or `/proc` is not there.
pub fn run_on(processors: &[u32]) -> Result<(), OsError> {
    let mut set = CpuSet::new();
    for number in processors {
        let number = *number as usize;
        if number >= CpuSet::MAX_CPU {
            return Err(OsError::new("sched_setaffinity", Errno::INVAL));
        }
        set.set(number);
    }
    for thread in threads()? {
        sched_setaffinity(Some(thread), &set).map_err(|e| OsError::new("sched_setaffinity", e))?;
    }
    Ok(())
}

/// Moves this process to a process group: that of this number, or for zero a new one of its own.
///
/// # Errors
///
/// When there is no such group in this session.
pub fn enter_group(group: u32) -> Result<(), OsError> {
    let refused = |e| OsError::new("setpgid", e);
    let number = i32::try_from(group).map_err(|_| refused(Errno::INVAL))?;
    setpgid(None, Pid::from_raw(number)).map_err(refused)
}

/// Puts a descriptor in the place of a standard stream, which programs that this process starts
/// get too.
///
/// # Errors
///
/// When the system refuses.
pub fn replace_stream(stream: Stream, descriptor: OwnedFd) -> Result<(), OsError> {
    let number = stream as RawFd;
    if descriptor.as_raw_fd() == number {
        // It has the number already, but is marked as closed on exec.
        // SAFETY: changes a flag of a descriptor that is ours.
        let code = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
        if code != 0 {
            return Err(OsError::last("fcntl(F_SETFD)"));
        }
        // The number is the stream's from now on, which nobody closes.
        let _ = descriptor.into_raw_fd();
        return Ok(());
    }
    // SAFETY: the new number is a standard stream's, which no owner closes; the old one is ours, and
    // closed by its owner afterwards.
    if unsafe { libc::dup2(descriptor.as_raw_fd(), number) } < 0 {
        return Err(OsError::last("dup2"));
    }
    Ok(())
}

/// Gives a descriptor a number that is no standard stream's. One that was received by a process
/// whose streams are closed may have such a number.
///
/// # Errors
///
/// When the process has too many.
pub fn above_streams(descriptor: OwnedFd) -> Result<OwnedFd, OsError> {
    if descriptor.as_raw_fd() >= FIRST_FREE {
        return Ok(descriptor);
    }
    rustix::io::fcntl_dupfd_cloexec(&descriptor, FIRST_FREE)
        .map_err(|e| OsError::new("fcntl(F_DUPFD_CLOEXEC)", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_runs_on_the_processors_that_it_is_given() {
        let thread = std::thread::spawn(|| {
            let all = rustix::thread::sched_getaffinity(None).expect("it is told");
            let number = (0..CpuSet::MAX_CPU).find(|number| all.is_set(*number));
            let number = number.expect("one of them runs this");
            run_on(&[number as u32]).expect("it is there");
            let now = rustix::thread::sched_getaffinity(None).expect("it is told");
            assert!(now.count() == 1 && now.is_set(number));
            assert!(run_on(&[]).is_err());
            assert!(run_on(&[u32::MAX]).is_err());
        });
        thread.join().expect("no panic");
    }

    #[test]
    fn descriptor_above_the_streams_keeps_its_number() {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let descriptor = OwnedFd::from(file);
        let number = descriptor.as_raw_fd();
        let same = above_streams(descriptor).expect("nothing is done");
        assert_eq!(same.as_raw_fd(), number);
    }
}
