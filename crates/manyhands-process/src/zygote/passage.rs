//! The way of an order's descriptors to a fork: a socket that all forks of this process's zygotes have.
//!
//! It holds the descriptors of one order at a time, and whoever gives an order takes back what was not
//! received. A fork closes its end when it has its order.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use manyhands_os::OsError;
use manyhands_os::descriptor::{self, is_readable, send, seqpacket_pair};
use manyhands_shm::arena::Seat;

/// Both ends.
#[derive(Debug)]
struct Passage {
    ours: OwnedFd,
    theirs: OwnedFd,
}

static PASSAGE: Mutex<Option<Passage>> = Mutex::new(None);

/// Calls `f` while nobody else has the passage.
fn with<R, E: From<OsError>>(f: impl FnOnce(&Passage) -> Result<R, E>) -> Result<R, E> {
    let mut passage = PASSAGE.lock().unwrap_or_else(PoisonError::into_inner);
    match &*passage {
        Some(passage) => f(passage),
        None => {
            let (ours, theirs) = seqpacket_pair()?;
            f(passage.insert(Passage { ours, theirs }))
        }
    }
}

/// The end of the forks, for a new zygote.
pub(super) fn end_of_forks() -> Result<OwnedFd, OsError> {
    with(|passage| {
        let end = passage.theirs.try_clone();
        end.map_err(|e| OsError::new("fcntl(F_DUPFD_CLOEXEC)", e))
    })
}

/// Sends descriptors to the fork that has this seat, and calls `give`, which gives it its order and returns
/// when it has received them, or has ended.
pub(crate) fn send_to<R, E: From<OsError>>(
    seat: Seat,
    descriptors: &[BorrowedFd<'_>],
    give: impl FnOnce() -> Result<R, E>,
) -> Result<R, E> {
    with(|passage| {
        send(passage.ours.as_fd(), &label(seat), descriptors)?;
        let given = give();
        while is_readable(passage.theirs.as_fd()).unwrap_or(false) {
            // Nobody will receive them any more. What is cut off was closed.
            let _ = descriptor::receive(passage.theirs.as_fd(), &mut label(seat));
        }
        given
    })
}

/// Receives the descriptors for the fork that has this seat, so many, and closes its end.
pub(crate) fn receive(end: OwnedFd, seat: Seat, count: usize) -> Result<Vec<OwnedFd>, OsError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut came = [0; LEN];
    let (len, descriptors) = descriptor::receive(end.as_fd(), &mut came)?;
    match len == LEN && came == label(seat) && descriptors.len() == count {
        true => Ok(descriptors),
        false => Err(OsError::new("recvmsg", io::ErrorKind::InvalidData)),
    }
}

const LEN: usize = 8;

/// What comes with the descriptors for the fork that has this seat.
fn label(seat: Seat) -> [u8; LEN] {
    seat.participant().to_bits().to_ne_bytes()
}
