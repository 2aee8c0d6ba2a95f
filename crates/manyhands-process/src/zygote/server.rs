//! The zygote's own life: preload, then fork on demand until the parent is gone.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use manyhands_os::start::{self, Fork};
use manyhands_shm::arena;

use crate::child;
use crate::message::{self, Preload, RawOrder, ZygoteReply};
use crate::panics::run_caught;

/// Serves until the parent closes the socket, by ending if not before.
pub(crate) fn main(socket: OwnedFd) -> ! {
    // An interrupt from the keyboard is for the parent and its children.
    let interrupts = start::ignore_interrupts();
    let Some((preloads, arena)) = message::hear::<Vec<Preload>>(socket.as_fd()) else {
        start::exit_at_once(0);
    };
    let ready = match preload(preloads, arena) {
        Ok(()) => ZygoteReply::Ready,
        Err(reason) => ZygoteReply::PreloadFailed(reason),
    };
    let is_ready = matches!(ready, ZygoteReply::Ready);
    if message::tell(socket.as_fd(), &ready, &[]).is_err() || !is_ready {
        start::exit_at_once(0);
    }
    let mut order = RawOrder::new();
    loop {
        let Some(descriptors) = order.hear(socket.as_fd()) else {
            start::exit_at_once(0);
        };
        // SAFETY: one thread only: this one is all that the program had when its constructor was
        // called, and `preload` has checked that no function left another.
        match unsafe { start::fork_sibling() } {
            Ok(Fork::New) => {
                // Before anything else: the parent must see the end of this socket when the
                // zygote ends.
                drop(socket);
                interrupts.restore();
                child::start_as_fork(&order, descriptors)
            }
            Ok(Fork::Original { pid, pidfd }) => {
                drop(descriptors);
                let reply = ZygoteReply::Started { pid };
                // A parent that is gone shows at the next request.
                let _ = message::tell(socket.as_fd(), &reply, &[pidfd.as_fd()]);
            }
            Err(error) => {
                let errno = error.source.raw_os_error().unwrap_or(0);
                let _ = message::tell(socket.as_fd(), &ZygoteReply::Refused { errno }, &[]);
            }
        }
    }
}

fn preload(preloads: Vec<Preload>, arena: Vec<OwnedFd>) -> Result<(), String> {
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
    let arena = arena.into_iter().next().ok_or("no arena came")?;
    arena::prepare(arena).map_err(|e| e.to_string())?;
    child::prepare_in_zygote().map_err(|e| e.to_string())
}
