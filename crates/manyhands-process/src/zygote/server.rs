//! The zygote's own life: preload, then fork on demand until the parent is gone.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use manyhands_os::memory::{Map, Memfd};
use manyhands_os::start::{self, Fork};
use manyhands_shm::arena;

use crate::child;
use crate::message::{self, Preload, ZygoteReply, ZygoteRequest};
use crate::panics::run_caught;

/// Serves until the parent closes the socket, by ending if not before.
pub(crate) fn main(socket: OwnedFd) -> ! {
    // An interrupt from the keyboard is for the parent and its children.
    let interrupts = start::ignore_interrupts();
    let Some((ZygoteRequest::Preload(preloads), descriptors)) = message::hear(socket.as_fd())
    else {
        start::exit_at_once(0);
    };
    let (ready, record) = match preload(preloads, descriptors) {
        Ok(record) => (ZygoteReply::Ready, Some(record)),
        Err(reason) => (ZygoteReply::PreloadFailed(reason), None),
    };
    let told = message::tell(socket.as_fd(), &ready, &[]);
    let (Some(record), Ok(())) = (record, told) else {
        start::exit_at_once(0);
    };
    // A parent that is gone, or that needs no zygote any more, closes the socket.
    while let Some((ZygoteRequest::Fork(seat), descriptors)) = message::hear(socket.as_fd()) {
        let Some(of_fork) = descriptors.into_iter().next() else {
            break;
        };
        // SAFETY: one thread only: this one is all that the program had when its constructor was
        // called, and `preload` has checked that no function left another.
        let reply = match unsafe { start::fork_sibling(record.word()) } {
            Ok(Fork::New) => {
                // Before anything else: the parent must see the end of this socket when the zygote
                // ends.
                drop(socket);
                child::start_as_fork(of_fork, interrupts, seat)
            }
            Ok(Fork::Original { pid }) => ZygoteReply::Forked { pid },
            Err(error) => ZygoteReply::Refused {
                errno: error.source.raw_os_error().unwrap_or(0),
            },
        };
        // The fork's own now: the parent must see its end there.
        drop(of_fork);
        // A parent that is gone shows at the next request.
        let _ = message::tell(socket.as_fd(), &reply, &[]);
    }
    start::exit_at_once(0)
}

/// Gets everything ready that is the same in all children; gives the record of forks.
fn preload(preloads: Vec<Preload>, descriptors: Vec<OwnedFd>) -> Result<Map, String> {
    for preload in preloads {
        let function = preload.resolve()?;
        let arguments = [];
        let nothing = run_caught(|| function.call(&mut (), &arguments))
            .map_err(|panic| panic.to_string())?
            .map_err(|e| e.to_string())?;
        drop(nothing);
    }
    // What lies in the buffer would be printed by each child again. A stream that is closed has no
    // reader who could miss it.
    let _ = io::stdout().flush();
    match start::thread_count() {
        Some(1) => {}
        Some(count) => return Err(format!("{} threads were left behind", count - 1)),
        None => return Err("/proc is not there to count threads".to_owned()),
    }
    let [arena, record] = <[OwnedFd; 2]>::try_from(descriptors).map_err(|_| "no arena came")?;
    arena::prepare(arena).map_err(|e| e.to_string())?;
    child::prepare_in_zygote().map_err(|e| e.to_string())?;
    let record = Memfd::from_fd(record).map_err(|e| e.to_string())?;
    Map::shared(&record).map_err(|e| e.to_string())
}
