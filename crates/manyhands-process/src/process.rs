//! A function that runs in a process of its own.

use std::fmt;
use std::future::Future;
use std::io::{PipeReader, PipeWriter};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use manyhands_os::{Deadline, OsError, tree};
use manyhands_shm::arena::Participant;
use manyhands_shm::handoff;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::builder::ProcessBuilder;
use crate::callable::Callable;
use crate::exit::{Exit, ProcessError, SpawnError};
use crate::member::{Member, Outcome};
use crate::page::bytes_of;
use crate::streams::Ends;
use crate::watcher::Registration;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// How long [`Process::stop`] waits for a process that it has killed.
const KILL_TIME: Duration = Duration::from_secs(5);

/// A function that runs in another process, and the value that it will return.
///
/// Dropping the handle lets the process go on; it is killed when this process ends.
///
/// It is also a future, on any runtime: what [`join`](Self::join) returns. To have the handle back
/// when something else comes first, await `&mut process`. One thread or two wake the tasks of all
/// processes that are awaited.
///
/// # Examples
///
/// ```
/// use manyhands_process::Process;
///
/// fn shout(times: usize, text: &str) -> String {
///     text.to_uppercase().repeat(times)
/// }
///
/// let mut process = Process::spawn(shout, (2, "ho"))?;
/// assert_eq!(process.join()?, "HOHO");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `multiprocessing.Process(target=f, args=args)`, `start()`.
pub struct Process<R> {
    member: Member,
    ends: Ends,
    /// The task that awaits it.
    awaited: Option<Registration>,
    value: PhantomData<fn() -> R>,
}

impl Process<()> {
    /// Chooses more than the function: name, start method, limits.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_process::{Process, StartMethod};
    ///
    /// let builder = Process::builder().name("adder").start_method(StartMethod::Exec);
    /// assert_eq!(builder.spawn(|a: i32, b: i32| a + b, (40, 2))?.join()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> ProcessBuilder {
        ProcessBuilder::new()
    }
}

impl<R> Process<R> {
    pub(crate) fn of((member, ends): (Member, Ends)) -> Self {
        Self {
            member,
            ends,
            awaited: None,
            value: PhantomData,
        }
    }

    /// Calls `f` with `arguments`, a tuple, in a new process.
    ///
    /// Returns when the process has unpacked the arguments, so what they refer to in shared
    /// memory is in its hands.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when the process could not be started or did not get as far as `f`.
    pub fn spawn<F, A>(f: F, arguments: A) -> Result<Self, SpawnError>
    where
        F: Callable<A, Output = R>,
        A: Serialize + Deserialize<'static>,
        R: Serialize + DeserializeOwned,
    {
        ProcessBuilder::new().spawn(f, arguments)
    }

    /// Waits until the function has returned and the process has ended; returns the value.
    ///
    /// A process that has handed its value over but does not exit (a handler of its exit hangs) is
    /// not waited for longer than a second.
    ///
    /// # Errors
    ///
    /// [`ProcessError`]: how the process ended without a value, or why the value did not arrive.
    ///
    /// Python: `Process.join()`, `exitcode`.
    pub fn join(&mut self) -> Result<R, ProcessError>
    where
        R: DeserializeOwned,
    {
        loop {
            if let Some(value) = self.wait_value(Deadline::NEVER)? {
                return Ok(value);
            }
        }
    }

    /// As [`join`](Self::join), but returns `None` at once while the function runs.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn try_join(&mut self) -> Result<Option<R>, ProcessError>
    where
        R: DeserializeOwned,
    {
        self.wait_value(Deadline::now())
    }

    /// As [`join`](Self::join), but returns `None` after `timeout`; the process goes on, and can
    /// be joined again.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>, ProcessError>
    where
        R: DeserializeOwned,
    {
        self.wait_value(Deadline::after(timeout))
    }

    /// As [`join`](Self::join), but returns `None` at `deadline`; the process goes on, and can be
    /// joined again.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_deadline(&mut self, deadline: Instant) -> Result<Option<R>, ProcessError>
    where
        R: DeserializeOwned,
    {
        self.wait_value(Deadline::at(deadline))
    }

    /// Asks the process to end, by `SIGTERM`.
    ///
    /// # Errors
    ///
    /// When the system refuses. A process that has ended is no error.
    pub fn terminate(&self) -> Result<(), OsError> {
        self.member.signal(SIGTERM)
    }

    /// Interrupts the process, by `SIGINT`, which ends it if it does nothing against. What the keyboard
    /// sends does not ([`OnInterrupt`](crate::OnInterrupt)).
    ///
    /// A program that was started with the signal ignored, as a shell starts what runs in the
    /// background of a script, has children that ignore it too.
    ///
    /// # Errors
    ///
    /// As [`terminate`](Self::terminate).
    ///
    /// Python: `Process.interrupt()`.
    pub fn interrupt(&self) -> Result<(), OsError> {
        self.member.interrupt()
    }

    /// Asks the process to end, by `SIGTERM`, and kills it if it has not ended after `grace`.
    ///
    /// Returns how it ended; `None` if the system has not ended it within five seconds of the kill,
    /// because it is stuck in a call of the kernel. A value that it had handed over before can still
    /// be joined.
    ///
    /// # Errors
    ///
    /// When the system refuses to signal or to wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use manyhands_process::{Exit, Process};
    ///
    /// let forever = || loop {
    ///     std::thread::park();
    /// };
    /// let process: Process<()> = Process::spawn(forever, ())?;
    /// let exit = process.stop(Duration::from_secs(5))?;
    /// assert!(matches!(exit, Some(Exit::Signaled { signal: 15, by_us: true, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(&self, grace: Duration) -> Result<Option<Exit>, OsError> {
        self.terminate()?;
        if !self.member.wait_end(Deadline::after(grace))? {
            self.kill()?;
            self.member.wait_end(Deadline::after(KILL_TIME))?;
        }
        Ok(self.exit())
    }

    /// Ends the process and all that it has started, by `SIGKILL`: also programs that know nothing of
    /// this library, and what they have started. Processes whose parent had ended before have left
    /// the tree, and are not found.
    ///
    /// # Errors
    ///
    /// As [`terminate`](Self::terminate), and when one of the others may not be signaled. The rest
    /// is killed all the same.
    pub fn kill_tree(&self) -> Result<(), OsError> {
        if !self.is_alive() {
            return Ok(());
        }
        let others = tree::kill_descendants(self.member.pidfd(), self.id());
        self.kill()?;
        others.map(drop)
    }

    /// Ends the process, by `SIGKILL`.
    ///
    /// # Errors
    ///
    /// As [`terminate`](Self::terminate).
    pub fn kill(&self) -> Result<(), OsError> {
        self.member.signal(SIGKILL)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.member.pid()
    }

    /// Which member of the family the process is.
    pub fn participant(&self) -> Participant {
        self.member.place().seat.participant()
    }

    /// Whether the process has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.member.is_alive()
    }

    /// How the process ended, `None` while it runs.
    pub fn exit(&self) -> Option<Exit> {
        self.member.exit()
    }

    /// A descriptor that becomes readable when the process has ended: for `poll` and its
    /// relatives.
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.member.as_fd()
    }

    /// The writing end of its input, if that is [`Stdio::Captured`](crate::Stdio::Captured) and was
    /// not taken before. The process sees the end of its input when this is dropped.
    pub fn take_stdin(&mut self) -> Option<PipeWriter> {
        self.ends.input.take()
    }

    /// The reading end of its output, if that is [`Stdio::Captured`](crate::Stdio::Captured) and was
    /// not taken before. For lines, put it into a [`BufReader`](std::io::BufReader).
    pub fn take_stdout(&mut self) -> Option<PipeReader> {
        self.ends.output.take()
    }

    /// As [`take_stdout`](Self::take_stdout), of its stream for errors.
    pub fn take_stderr(&mut self) -> Option<PipeReader> {
        self.ends.error.take()
    }

    fn wait_value(&mut self, deadline: Deadline) -> Result<Option<R>, ProcessError>
    where
        R: DeserializeOwned,
    {
        let pid = self.id();
        let os = |source| ProcessError::Os { pid, source };
        let Some(outcome) = self.member.wait_outcome(deadline).map_err(os)? else {
            return Ok(None);
        };
        let result = match outcome {
            Outcome::Value(block) => handoff::unpack(&bytes_of(&block))
                .map(Some)
                .map_err(|source| ProcessError::Undecodable { pid, source }),
            Outcome::Taken => return Err(ProcessError::Taken { pid }),
            Outcome::Unencodable(reason) => Err(ProcessError::Unencodable { pid, reason }),
            Outcome::NoSpace(len) => Err(ProcessError::NoSpace { pid, len }),
            Outcome::Ended(exit) => Err(ProcessError::Ended { pid, exit }),
        };
        self.member.release(deadline).map_err(os)?;
        result
    }
}

impl<R: DeserializeOwned> Future for Process<R> {
    type Output = Result<R, ProcessError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let process = &mut *self;
        if let Some(outcome) = process.try_join().transpose() {
            process.awaited = None;
            return Poll::Ready(outcome);
        }
        let renewed = |awaited: &Registration| awaited.renew(context.waker());
        if process.awaited.as_ref().is_some_and(renewed) {
            return Poll::Pending;
        }
        let (pidfd, page) = (process.member.pidfd(), &process.member.place().page);
        // What came since it was looked for calls the waker too.
        match Registration::new(pidfd, page, context.waker()) {
            Ok(registration) => process.awaited = Some(registration),
            Err(source) => {
                let pid = process.id();
                return Poll::Ready(Err(ProcessError::Os { pid, source }));
            }
        }
        Poll::Pending
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("id", &self.id())
            .field("participant", &self.participant())
            .finish_non_exhaustive()
    }
}
