//! Descriptors that come beside the bytes of a unix socket.
//!
//! They are sent with one byte, which is nothing but them: their number, modulo 256, as CPython's
//! `multiprocessing.reduction` does it. The system hands them out with the read that takes this byte,
//! and that read goes no further (`unix_stream_read_generic` in `net/unix/af_unix.c` of Linux). So they
//! belong to the last byte of what a read brought, however much was read ahead before it.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use super::error::RecvError;

/// What has come with a byte.
#[derive(Debug)]
pub(super) enum Passed {
    /// All that was sent.
    Whole(Vec<OwnedFd>),
    /// Some were lost, and the others were closed.
    Cut,
}

impl Passed {
    /// What to give to somebody who expects them; `mark` is the byte they came with.
    pub(super) fn expected(self, mark: u8) -> Result<Vec<OwnedFd>, RecvError> {
        match self {
            Self::Whole(all) if all.len() % 256 == usize::from(mark) => Ok(all),
            Self::Whole(_) => Err(RecvError::Corrupt),
            Self::Cut => Err(RecvError::DescriptorsLost),
        }
    }
}

/// Where bytes come from, and descriptors, if they can.
pub(super) trait Source: Read {
    /// Reads, and takes what came with the last byte that is read.
    fn read_passed(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Option<Passed>)> {
        Ok((self.read(buffer)?, None))
    }
}
