//! A child as its parent sees it, whatever its function returns.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manyhands_os::descriptor::poll_readable;
use manyhands_os::process::{Pidfd, Status};
use manyhands_os::{Deadline, OsError};
use manyhands_shm::arena::Block;
use manyhands_shm::handoff;
use manyhands_sync::life::{self, WaitEnd};

use crate::abandoned::{self, Abandoned, Place};
use crate::active_children::{self, ActiveChild};
use crate::exit::{Exit, signal_bit};
use crate::page::{Kind, Words, bytes_of};
use crate::panics::Panic;

/// How long a process that has handed its result over may take to exit before its caller goes on
/// without it.
const EXIT_TIME: Duration = Duration::from_secs(1);

/// A running or ended child.
#[derive(Debug)]
pub(crate) struct Member {
    pid: u32,
    /// `None` after the handle was dropped only.
    process: Option<Arc<Pidfd>>,
    place: Place,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    report: Option<Report>,
    /// The signals that reached it from here, as a set.
    sent: u64,
    /// How it ended, once its status was taken.
    exit: Option<Exit>,
}

/// What the child reported.
#[derive(Debug)]
pub(crate) enum Report {
    /// The encoded value, until it is taken.
    Value(Option<Block>),
    Panicked(Panic),
    Unencodable(String),
    NoSpace(u64),
}

/// What there is to tell of a child that has reported or ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Value(Block),
    Taken,
    Unencodable(String),
    NoSpace(u64),
    Ended(Exit),
}

impl Member {
    pub(crate) fn new(pid: u32, process: Pidfd, place: Place) -> Self {
        Self {
            pid,
            process: Some(Arc::new(process)),
            place,
            state: Mutex::default(),
        }
    }

    /// Lists it among the children that run.
    pub(crate) fn enlist(&self, name: Option<String>, is_daemon: bool) {
        let child = ActiveChild {
            name,
            id: self.pid,
            is_daemon,
        };
        active_children::enter(child, self.pidfd());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.pidfd().has_ended()
    }

    pub(crate) fn pidfd(&self) -> &Arc<Pidfd> {
        self.process
            .as_ref()
            .expect("there until the handle is dropped")
    }

    /// Waits until there is an outcome; `None` at the deadline.
    pub(crate) fn wait_outcome(&self, deadline: Deadline) -> Result<Option<Outcome>, OsError> {
        loop {
            let mut state = self.state();
            self.collect(&mut state);
            if let Some(outcome) = state.outcome() {
                return Ok(Some(outcome));
            }
            drop(state);
            if !self.sleep(deadline)? {
                return Ok(None);
            }
        }
    }

    /// After the value was unpacked: lets the child go, and waits for its end, but not for long.
    pub(crate) fn release(&self, deadline: Deadline) -> Result<(), OsError> {
        self.words().take();
        self.wait_end(deadline.earlier(Deadline::after(EXIT_TIME)))?;
        Ok(())
    }

    /// How the child ended, `None` while it runs.
    pub(crate) fn exit(&self) -> Option<Exit> {
        if self.wait_end(Deadline::now()).is_err() {
            return Some(Exit::Unknown);
        }
        self.state().exit.clone()
    }

    /// Waits for the end of the process and takes its status; `false` at the deadline.
    pub(crate) fn wait_end(&self, deadline: Deadline) -> Result<bool, OsError> {
        if self.state().exit.is_some() {
            return Ok(true);
        }
        if !poll_readable(&[self.as_fd()], deadline)?[0] {
            return Ok(false);
        }
        // Under the lock, because the status can be taken once only.
        let mut state = self.state();
        if state.exit.is_none() {
            let status = self.pidfd().wait(Deadline::now())?;
            self.collect(&mut state);
            let status = status.unwrap_or(Status::Unknown);
            state.exit = Some(self.exit_of(status, &state));
            active_children::leave(self.pidfd());
            self.place.clean();
        }
        drop(state);
        abandoned::sweep();
        Ok(true)
    }

    fn exit_of(&self, status: Status, state: &State) -> Exit {
        match &state.report {
            Some(Report::Panicked(panic)) => Exit::Panicked(panic.clone()),
            Some(_) => Exit::Finished,
            None => {
                let words = self.words();
                let fault = words.fault.read();
                Exit::of(status, fault, || words.panic.read(), state.sent)
            }
        }
    }

    /// Sleeps until the child reports or ends; `false` at the deadline.
    fn sleep(&self, deadline: Deadline) -> Result<bool, OsError> {
        if let Some(life) = self.place.seat.participant().life() {
            match life::wait(self.words().watch(), &[life], deadline) {
                WaitEnd::Woken => return Ok(true),
                WaitEnd::TimedOut => return Ok(false),
                WaitEnd::Death(_) => {}
            }
        }
        // Its threads are dead; the rest of it is being taken down.
        self.wait_end(deadline)
    }

    /// Takes a report out of the mailbox.
    fn collect(&self, state: &mut State) {
        if state.report.is_some() {
            return;
        }
        // What is refused is for whoever starts it.
        let reported = self
            .words()
            .reported()
            .filter(|kind| *kind != Kind::Refused);
        let Some(kind) = reported else {
            return;
        };
        state.report = Some(match (kind, self.words().accept()) {
            (Kind::NoSpace { len }, _) => Report::NoSpace(len),
            (Kind::Value, Some(block)) => Report::Value(Some(block)),
            (Kind::Panic, Some(block)) => Report::Panicked(panic_in(&block)),
            (Kind::Unencodable, Some(block)) => {
                let reason = handoff::unpack(&bytes_of(&block)).unwrap_or_default();
                Report::Unencodable(reason)
            }
            // A report without its block: the child was killed between the two. It is a death.
            (Kind::Refused, _) | (_, None) => return,
        });
    }

    /// Sends a signal, and remembers that it came from here, unless the child has ended already.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), OsError> {
        // Under the lock, so that whoever takes the status knows of the signal.
        let mut state = self.state();
        if state.exit.is_some() || self.pidfd().has_ended() {
            return Ok(());
        }
        self.pidfd().signal(signal)?;
        state.sent |= signal_bit(signal);
        Ok(())
    }

    /// Sends an interrupt that the child takes for its parent's.
    pub(crate) fn interrupt(&self) -> Result<(), OsError> {
        const SIGINT: i32 = 2;
        self.words().interrupt();
        self.signal(SIGINT)
    }

    fn words(&self) -> &Words {
        self.place.page.words()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn outcome(&mut self) -> Option<Outcome> {
        match &mut self.report {
            Some(Report::Value(value)) => Some(value.take().map_or(Outcome::Taken, Outcome::Value)),
            Some(Report::Panicked(panic)) => Some(Outcome::Ended(Exit::Panicked(panic.clone()))),
            Some(Report::Unencodable(reason)) => Some(Outcome::Unencodable(reason.clone())),
            Some(Report::NoSpace(len)) => Some(Outcome::NoSpace(*len)),
            None => self.exit.clone().map(Outcome::Ended),
        }
    }
}

/// A process that is dropped goes on, and is cleaned up after by whoever looks next.
impl Drop for Member {
    fn drop(&mut self) {
        // Nobody will take a report any more.
        self.words().take();
        let ended = self.state().exit.is_some();
        if let Some(pidfd) = self.process.take()
            && !ended
        {
            let place = Some(self.place.clone());
            abandoned::leave(Abandoned { pidfd, place });
        }
    }
}

impl AsFd for Member {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd().as_fd()
    }
}

fn panic_in(block: &Block) -> Panic {
    handoff::unpack(&bytes_of(block)).unwrap_or_else(|e| Panic {
        message: format!("the panic could not be decoded: {e}"),
        location: None,
        thread: String::new(),
        backtrace: None,
    })
}
