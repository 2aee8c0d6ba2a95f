//! A pipe that kills its reader when the last writer is gone.
//!
//! The kernel does it, whatever the reader is at, without a thread that waits for it. It comes when the
//! writer's files are closed, after its memory was taken down.
//!
//! An open file has one owner whom it signals, and a fork has the open files of its parent; so each reader
//! needs one that was opened for it.

use std::fs::File;
use std::io::PipeReader;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::error::OsError;

/// Opens the reading end of a pipe once more: another open file of the same pipe.
///
/// # Errors
///
/// When this process, or the system, has too many files, or `/proc` is not there.
pub fn reopen(pipe: BorrowedFd<'_>) -> Result<PipeReader, OsError> {
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let file = File::open(path).map_err(|e| OsError::new("open(/proc/self/fd)", e))?;
    Ok(OwnedFd::from(file).into())
}

/// Has the kernel kill this process when nobody can write into the pipe any more, as long as this end of it
/// is open.
///
/// Who has gone before is not told: look whether the writer lives, afterwards. What is written kills too.
///
/// # Errors
///
/// When the system refuses.
pub fn die_with_writer(pipe: &PipeReader) -> Result<(), OsError> {
    let owner = std::process::id() as i32;
    set(pipe, "fcntl(F_SETOWN)", libc::F_SETOWN, owner)?;
    set(pipe, "fcntl(F_SETSIG)", F_SETSIG, libc::SIGKILL)?;
    set(pipe, "fcntl(F_SETFL)", libc::F_SETFL, libc::O_ASYNC)
}

/// Which signal an open file sends; Linux has had this number since 2.4, on all machines.
const F_SETSIG: i32 = 10;

fn set(pipe: &PipeReader, call: &'static str, what: i32, value: i32) -> Result<(), OsError> {
    // SAFETY: changes a setting of a descriptor that is open, and takes a number.
    match unsafe { libc::fcntl(pipe.as_fd().as_raw_fd(), what, value) } {
        -1 => Err(OsError::last(call)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::{Read, pipe};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    const READER: &str = "MANYHANDS_TEST_READER";
    const NAME: &str = "lifeline::tests::reader_is_killed_by_the_end_of_the_last_writer";

    #[test]
    fn reader_is_killed_by_the_end_of_the_last_writer() {
        if env::var_os(READER).is_some() {
            let own = reopen(std::io::stdin().as_fd()).expect("a pipe");
            die_with_writer(&own).expect("ours");
            println!("\nready");
            loop {
                std::thread::park();
            }
        }
        let (reader, writer) = pipe().expect("a pipe");
        let copy = writer.try_clone().expect("a copy");
        let mut child = Command::new("/proc/self/exe")
            .args(["--exact", NAME, "--nocapture"])
            .env(READER, "1")
            .stdin(reader)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut said = String::new();
        let mut output = child.stdout.take().expect("piped");
        while !said.contains("ready") {
            let mut byte = [0];
            output.read_exact(&mut byte).expect("it says so");
            said.push(byte[0].into());
        }
        drop(writer);
        assert_eq!(child.try_wait().expect("ours"), None, "one can write yet");
        drop(copy);
        let status = child.wait().expect("ours");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }
}
