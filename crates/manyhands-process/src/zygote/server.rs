//! The zygote's own life: preload, then fork on demand until the parent is gone.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use manyhands_os::start::{self, Fork};

use crate::child;
use crate::message::{self, Preload, ZygoteReply};
use crate::panics::run_caught;

/// Serves until the parent closes the socket, by ending if not before.
pub(crate) fn main(socket: OwnedFd) -> ! {
    // An interrupt from the keyboard is for the parent and its children.
    let interrupts = start::ignore_interrupts();
    let Some((preloads, _)) = message::hear::<Vec<Preload>>(socket.as_fd()) else {
        start::exit_at_once(0);
    };
    let ready = match preload(preloads) {
        Ok(()) => ZygoteReply::Ready,
        Err(reason) => ZygoteReply::PreloadFailed(reason),
    };
    let is_ready = matches!(ready, ZygoteReply::Ready);
    if message::tell(socket.as_fd(), &ready, &[]).is_err() || !is_ready {
        start::exit_at_once(0);
    }
    loop {
        let Some((_request, descriptors)) = message::hear::<u8>(socket.as_fd()) else {
            start::exit_at_once(0);
        };
        let Some(child_socket) = descriptors.into_iter().next() else {
            continue;
        };
        // SAFETY: one thread only: this one is all that the program had when its constructor was
        // called, and `preload` has checked that no function left another.
        match unsafe { start::fork_sibling() } {
            Ok(Fork::New) => {
                // Before anything else: the parent must see the end of this socket when the
                // zygote ends.
                drop(socket);
                interrupts.restore();
                child::main(child_socket)
            }
            Ok(Fork::Original { pid, pidfd }) => {
                drop(child_socket);
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

fn preload(preloads: Vec<Preload>) -> Result<(), String> {
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
    child::prepare_in_zygote().map_err(|e| e.to_string())?;
    match start::thread_count() {
        Some(1) => Ok(()),
        Some(count) => Err(format!("{} threads were left behind", count - 1)),
        None => Err("/proc is not there to count threads".to_owned()),
    }
}
