//! The zygote's own life: preload, then fork on demand until the parent is gone, and end its children.

use std::io::{self, PipeReader, Write};
use std::os::fd::{AsFd, OwnedFd};

use manyhands_os::OsError;
use manyhands_os::lifeline;
use manyhands_os::memory::Memfd;
use manyhands_os::start::{self, Fork, InterruptAction};
use manyhands_shm::arena;

use crate::child;
use crate::message::{self, Preload, ZygoteReply, ZygoteStart};
use crate::panics::run_caught;
use crate::zygote::record::{Record, Request};

/// Serves until the parent ends, and ends its children then.
pub(crate) fn main(socket: OwnedFd) -> ! {
    // An interrupt from the keyboard is for the parent and its children.
    let interrupts = start::ignore_interrupts();
    let Some((ZygoteStart { functions, parent }, descriptors)) = message::hear(socket.as_fd())
    else {
        start::exit_at_once(0);
    };
    let (ready, given) = match preload(functions, descriptors) {
        Ok(given) => (ZygoteReply::Ready, Some(given)),
        Err(reason) => (ZygoteReply::PreloadFailed(reason), None),
    };
    let told = message::tell(socket.as_fd(), &ready, &[]);
    let (
        Some(Given {
            record,
            lifeline,
            passage,
        }),
        Ok(()),
    ) = (given, told)
    else {
        start::exit_at_once(0);
    };
    let mut zygote = Server {
        socket,
        record,
        next_lifeline: lifeline::reopen(lifeline.as_fd()),
        lifeline,
        passage,
        interrupts,
    };
    let mut served = 0_u32;
    loop {
        if let Some(request) = zygote.record.next(served) {
            served = served.wrapping_add(1);
            zygote = zygote.serve(&request, served);
        } else if !arena::watch_parent(zygote.record.watch(served), parent) {
            arena::end_children(parent);
            start::exit_at_once(0);
        }
    }
}

/// What a zygote was given for itself and its forks.
struct Given {
    record: Record,
    lifeline: PipeReader,
    passage: OwnedFd,
}

/// A zygote that is ready.
struct Server {
    socket: OwnedFd,
    record: Record,
    lifeline: PipeReader,
    /// That of the next fork, which does not wait for it then.
    next_lifeline: Result<PipeReader, OsError>,
    /// Where the descriptors of orders come.
    passage: OwnedFd,
    interrupts: InterruptAction,
}

impl Server {
    /// Does what was requested, which is the request of this number.
    fn serve(mut self, request: &Request, number: u32) -> Self {
        let forked = self.next_lifeline.and_then(|lifeline| {
            // SAFETY: one thread only: this one is all that the program had when its constructor was
            // called, and `preload` has checked that no function left another.
            let fork = unsafe { start::fork_sibling(self.record.forked()) };
            Ok((fork?, lifeline))
        });
        let refusal = match forked {
            Ok((Fork::New, lifeline)) => {
                // Before anything else: the parent must see the end of this socket when the zygote
                // ends.
                drop(self.socket);
                drop(self.lifeline);
                child::start_as_fork(self.passage, self.interrupts, request.berth(), lifeline)
            }
            Ok((Fork::Original { .. }, _)) => None,
            Err(error) => Some(error.source.raw_os_error().unwrap_or(0)),
        };
        if self.record.answer(number, refusal) {
            // A parent that is gone shows when there is no request.
            let _ = message::tell(self.socket.as_fd(), &ZygoteReply::News, &[]);
        }
        self.next_lifeline = lifeline::reopen(self.lifeline.as_fd());
        self
    }
}

/// Gets everything ready that is the same in all children.
fn preload(preloads: Vec<Preload>, descriptors: Vec<OwnedFd>) -> Result<Given, String> {
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
    let [arena, record, lifeline, passage] =
        <[OwnedFd; 4]>::try_from(descriptors).map_err(|_| "no arena came")?;
    arena::prepare(arena).map_err(|e| e.to_string())?;
    child::prepare_in_zygote().map_err(|e| e.to_string())?;
    let record = Memfd::from_fd(record).and_then(|file| Record::attach(&file));
    Ok(Given {
        record: record.map_err(|e| e.to_string())?,
        lifeline: lifeline.into(),
        passage,
    })
}
