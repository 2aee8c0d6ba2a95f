//! A descriptor for what has none.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use manyhands_os::descriptor::{EventFd, gather, timer};
use manyhands_os::{Deadline, OsError};

use super::bridge::Registration;
use super::source::{InMemory, Kind};
use super::{WaitError, Waitable};

/// A descriptor that can be read when something may be ready: for `poll`, `epoll`, and runtimes that are
/// built on them.
///
/// Of what lies in memory (pipes, queues, events) it tells once. It is *armed* when it is made; it can
/// be read as soon as there is something, then or later, and stays so until it is armed again. So the
/// order is: wait until it can be read, take what is there until there is no more, [`arm`](Self::arm),
/// wait again. What comes in between is not lost, for `arm` looks itself. It may tell for nothing.
///
/// Of what has a descriptor it is a copy, which can be read as long as there is something, and which keeps
/// it open; to arm it does nothing. That of a [`Listener`](crate::Listener) is made anew after each
/// `try_accept`. That of a socket connection is waited for only when `try_recv_bytes` has found nothing:
/// what was read ahead is in no descriptor.
///
/// It does not belong to what it was made of, which may be used meanwhile, also by another thread. When a
/// receiver is sent to another process, its pollable stays behind, of no use. Nobody reads or writes the
/// descriptor.
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
///
/// use manyhands_channel::{Pipe, Pollable};
/// use manyhands_os::Deadline;
/// use manyhands_os::descriptor::poll_readable;
///
/// let (mut sender, mut receiver) = Pipe::simplex::<u32>()?;
/// let pollable = Pollable::new(&receiver)?;
/// std::thread::scope(|threads| {
///     threads.spawn(move || (0..10).for_each(|number| drop(sender.send(&number))));
///     let mut sum = 0;
///     loop {
///         // Here a program's own loop of events would wait for other things too.
///         poll_readable(&[pollable.as_fd()], Deadline::NEVER).expect("one descriptor");
///         while let Ok(number) = receiver.try_recv() {
///             sum += number;
///         }
///         if sum == 45 {
///             return;
///         }
///         pollable.arm().expect("a thread has been started");
///     }
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pollable {
    form: Form,
}

enum Form {
    Given {
        descriptor: OwnedFd,
        /// Among those it tells of; it stays open for that.
        _timer: Option<OwnedFd>,
    },
    Memory {
        flag: Arc<Flag>,
        armed: Mutex<Armed>,
    },
}

impl Form {
    fn given(descriptor: OwnedFd) -> Self {
        let _timer = None;
        Self::Given { descriptor, _timer }
    }
}

struct Armed {
    place: Box<dyn InMemory + Send>,
    asleep: Option<Registration>,
}

impl Pollable {
    /// A descriptor for this thing.
    ///
    /// # Errors
    ///
    /// [`WaitError`].
    pub fn new(thing: &dyn Waitable) -> Result<Self, WaitError> {
        let form = match thing.kind() {
            Kind::Memory(place) => {
                let (place, asleep) = (place.remote(), None);
                Form::Memory {
                    flag: Arc::new(Flag(EventFd::new()?)),
                    armed: Mutex::new(Armed { place, asleep }),
                }
            }
            Kind::Descriptors(those, limit) => one_of(those, limit)?,
            Kind::Time(limit) => Form::given(timer(limit)?),
            Kind::Ready => Form::given(timer(Deadline::now())?),
        };
        let pollable = Self { form };
        pollable.arm()?;
        Ok(pollable)
    }

    /// Has it tell again: at once if something is there.
    ///
    /// # Errors
    ///
    /// [`WaitError`].
    pub fn arm(&self) -> Result<(), WaitError> {
        let Form::Memory { flag, armed } = &self.form else {
            return Ok(());
        };
        let mut armed = armed.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever is calling the waker just now sets it for nothing.
        armed.asleep = None;
        flag.0.clear();
        while !armed.place.is_ready() {
            if let Some(bed) = armed.place.lie_down(Deadline::NEVER) {
                let waker = Waker::from(Arc::clone(flag));
                armed.asleep = Some(Registration::new(vec![bed], &waker)?);
                return Ok(());
            }
        }
        flag.0.set();
        Ok(())
    }
}

fn one_of(descriptors: Vec<BorrowedFd<'_>>, limit: Deadline) -> Result<Form, OsError> {
    if let ([one], true) = (&descriptors[..], limit.is_never()) {
        let copy = one.try_clone_to_owned();
        let copy = copy.map_err(|e| OsError::new("fcntl(F_DUPFD_CLOEXEC)", e))?;
        return Ok(Form::given(copy));
    }
    let timer = timer(limit)?;
    let all = [&descriptors[..], &[timer.as_fd()]].concat();
    Ok(Form::Given {
        descriptor: gather(&all)?,
        _timer: Some(timer),
    })
}

impl AsFd for Pollable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.form {
            Form::Given { descriptor, .. } => descriptor.as_fd(),
            Form::Memory { flag, .. } => flag.0.as_fd(),
        }
    }
}

impl AsRawFd for Pollable {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Pollable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pollable")
            .field("descriptor", &self.as_raw_fd())
            .finish_non_exhaustive()
    }
}

/// A descriptor that can be read once its waker was called.
#[derive(Debug)]
pub(super) struct Flag(pub(super) EventFd);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.set();
    }
}
