//! Waiting for many things at once, of whatever kinds.
//!
//! [`wait`] and its other forms tell which of several things are ready; [`Select`] gives one at a time,
//! and is fair. What can be waited for is [`Waitable`].
//!
//! What lies in memory (pipes, queues, events) is waited for by one call of the system that sleeps on
//! all of their words, and on the lives of the processes that may change them. Where a descriptor is
//! among them (a socket, the sentinel of a process), this thread polls, and a thread of the library
//! sleeps on the words. The same thread wakes the tasks that await a value
//! ([`recv_async`](crate::Receiver::recv_async), [`get_async`](crate::Queue::get_async)) or room for one
//! ([`send_async`](crate::Sender::send_async), [`put_async`](crate::Queue::put_async)), and sets the descriptors of [`Pollable`]s. Another one polls for the tasks that await something from a socket.

pub(crate) mod bed;
mod bridge;
mod future;
mod pollable;
mod poller;
mod sending;
pub(crate) mod source;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use manyhands_os::descriptor::{EventFd, poll_readable};
use manyhands_os::futex::{MAX_WATCHES, Watch};
use manyhands_os::{Deadline, OsError};
use manyhands_sync::life::{self, Seen};
use manyhands_sync::spin::Spin;

use bed::Bed;
use bridge::Registration;
use pollable::Flag;
use source::{InMemory, Kind, Source};

pub use future::{Accept, Get, GetLocal, Recv, RecvBytes};
pub use pollable::Pollable;
pub use sending::{Put, PutLocal, Sending};

/// What can be waited for among other things, by [`wait`] and [`Select`].
///
/// | what | is ready when |
/// |---|---|
/// | [`Connection`](crate::Connection), [`Receiver`](crate::Receiver), [`Consumer`](crate::ring::Consumer) | a message has come or begun to come, or the other end is closed or dead |
/// | [`Queue`](crate::Queue), [`LifoQueue`](crate::LifoQueue), [`PriorityQueue`](crate::PriorityQueue) | there is a value, or the queue is closed and empty |
/// | [`Sender`](crate::Sender), [`Producer`](crate::ring::Producer) | there is the room that `try_send` was refused last, or the other end is closed or dead |
/// | [`Room`], of a queue | there is room for a value, or the queue is closed |
/// | `Shared<Event>`, `Arc<Event>`, `&'static Event` | the event is set |
/// | [`SocketConnection`](crate::SocketConnection), [`SocketReceiver`](crate::SocketReceiver) | something has come, or the other end is closed |
/// | [`Listener`](crate::Listener) | somebody has come, or goes on with a handshake: `try_accept` |
/// | `BorrowedFd`, `OwnedFd`: the sentinel of a process, a file's `as_fd()` | it can be read, or is at its end |
/// | `Instant`, [`Deadline`] | it has come |
///
/// Ready means that a look is worth while, and nothing is taken. Another thread or process may be quicker;
/// of a long message the first part may be there only. Who must not wait calls `try_recv`, `try_get` or the like
/// then, and waits again if it has found nothing.
pub trait Waitable: Source {}

/// Room in a queue, to be waited for: [`Queue::room`](crate::Queue::room),
/// [`LocalQueue::room`](crate::LocalQueue::room). It keeps the queue.
#[derive(Debug)]
pub struct Room {
    place: Box<dyn InMemory + Send + Sync>,
}

impl Room {
    pub(crate) fn new(place: impl InMemory + Send + Sync + 'static) -> Self {
        let place = Box::new(place);
        Self { place }
    }
}

impl Source for Room {
    fn kind(&self) -> Kind<'_> {
        Kind::Memory(&*self.place)
    }
}

impl Waitable for Room {}

/// Why nothing could be waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The system refuses: there are too many descriptors, or it starts no thread.
    #[error("cannot wait for descriptors: {0}")]
    Os(#[from] OsError),
}

/// Waits until something is ready; the places of all that is, in order.
///
/// The same thing may be there twice. With nothing to wait for, it waits for ever.
///
/// # Errors
///
/// [`WaitError`], when there are descriptors among them. What is only in memory does not fail.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use manyhands_channel::{Pipe, Queue, wait};
///
/// let jobs = Queue::<u32>::new()?;
/// let (mut sender, receiver) = Pipe::simplex::<String>()?;
/// let soon = Instant::now() + Duration::from_millis(1);
/// assert_eq!(wait(&[&jobs, &receiver, &soon])?, [2]);
///
/// sender.send(&"hello".to_owned())?;
/// jobs.put(&7)?;
/// assert_eq!(wait(&[&jobs, &receiver])?, [0, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `multiprocessing.connection.wait`.
pub fn wait(things: &[&dyn Waitable]) -> Result<Vec<usize>, WaitError> {
    wait_until(things, Deadline::NEVER, &Spin::new())
}

/// The places of all that is ready now.
///
/// # Errors
///
/// As [`wait`].
pub fn try_wait(things: &[&dyn Waitable]) -> Result<Vec<usize>, WaitError> {
    wait_until(things, Deadline::now(), &Spin::new())
}

/// As [`wait`]; empty when nothing is ready after `timeout`.
///
/// # Errors
///
/// As [`wait`].
pub fn wait_timeout(things: &[&dyn Waitable], timeout: Duration) -> Result<Vec<usize>, WaitError> {
    wait_until(things, Deadline::after(timeout), &Spin::new())
}

/// As [`wait`]; empty when nothing is ready at `deadline`.
///
/// # Errors
///
/// As [`wait`].
pub fn wait_deadline(things: &[&dyn Waitable], deadline: Instant) -> Result<Vec<usize>, WaitError> {
    wait_until(things, Deadline::at(deadline), &Spin::new())
}

/// Chooses one of the things that are ready, and each in its turn.
///
/// It remembers whom it has chosen last and goes on behind it: of `n` things that are always ready each is
/// chosen in `n` calls. Give the things in the same order each time.
///
/// # Examples
///
/// ```
/// use manyhands_channel::{Queue, Select};
///
/// let (busy, other) = (Queue::<u32>::new()?, Queue::<u32>::new()?);
/// busy.put_many(&[1, 2, 3])?;
/// other.put(&10)?;
/// let mut select = Select::new();
/// let mut got = Vec::new();
/// while let Some(place) = select.try_ready(&[&busy, &other])? {
///     got.push([&busy, &other][place].try_get()?);
/// }
/// assert_eq!(got, [1, 10, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Select {
    /// The first to be looked at.
    next: usize,
    spin: Spin,
}

impl Select {
    /// One that begins with the first thing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until something is ready; the place of one that is.
    ///
    /// # Errors
    ///
    /// As [`wait`].
    pub fn ready(&mut self, things: &[&dyn Waitable]) -> Result<usize, WaitError> {
        loop {
            if let Some(place) = self.ready_until(things, Deadline::NEVER)? {
                return Ok(place);
            }
        }
    }

    /// The place of something that is ready now.
    ///
    /// # Errors
    ///
    /// As [`wait`].
    pub fn try_ready(&mut self, things: &[&dyn Waitable]) -> Result<Option<usize>, WaitError> {
        self.ready_until(things, Deadline::now())
    }

    /// As [`ready`](Self::ready); `None` when nothing is ready after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`wait`].
    pub fn ready_timeout(
        &mut self,
        things: &[&dyn Waitable],
        timeout: Duration,
    ) -> Result<Option<usize>, WaitError> {
        self.ready_until(things, Deadline::after(timeout))
    }

    /// As [`ready`](Self::ready); `None` when nothing is ready at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait`].
    pub fn ready_deadline(
        &mut self,
        things: &[&dyn Waitable],
        deadline: Instant,
    ) -> Result<Option<usize>, WaitError> {
        self.ready_until(things, Deadline::at(deadline))
    }

    fn ready_until(
        &mut self,
        things: &[&dyn Waitable],
        deadline: Deadline,
    ) -> Result<Option<usize>, WaitError> {
        let ready = wait_until(things, deadline, &self.spin)?;
        let behind = ready.iter().find(|place| **place >= self.next);
        let chosen = behind.or(ready.first()).copied();
        if let Some(place) = chosen {
            self.next = place + 1;
        }
        Ok(chosen)
    }
}

fn wait_until(
    things: &[&dyn Waitable],
    deadline: Deadline,
    spin: &Spin,
) -> Result<Vec<usize>, WaitError> {
    loop {
        let ready = look(things)?;
        if !ready.is_empty() || deadline.has_passed() {
            return Ok(ready);
        }
        spin.wait(
            deadline,
            || is_any_ready(things),
            || sleep(things, deadline),
        )
        .unwrap_or(Ok(()))?;
    }
}

/// What is ready now.
fn look(things: &[&dyn Waitable]) -> Result<Vec<usize>, OsError> {
    let (mut ready, mut places, mut descriptors) = (Vec::new(), Vec::new(), Vec::new());
    for (place, thing) in things.iter().enumerate() {
        match thing.kind() {
            Kind::Descriptors(those, limit) if !limit.has_passed() => {
                places.resize(places.len() + those.len(), place);
                descriptors.extend(those);
            }
            kind if kind.is_ready() => ready.push(place),
            _ => {}
        }
    }
    if !descriptors.is_empty() {
        let readable = poll_readable(&descriptors, Deadline::now())?;
        let readable = places.iter().zip(readable).filter(|(_, is)| *is);
        ready.extend(readable.map(|(place, _)| *place));
        ready.sort_unstable();
        ready.dedup();
    }
    Ok(ready)
}

/// Whether something is that needs no call of the system to be looked at.
fn is_any_ready(things: &[&dyn Waitable]) -> bool {
    things.iter().any(|thing| thing.kind().is_ready())
}

/// Sleeps until something may be ready, or until the deadline; perhaps less.
fn sleep(things: &[&dyn Waitable], deadline: Deadline) -> Result<(), WaitError> {
    let mut until = deadline;
    let mut descriptors = Vec::new();
    let mut beds = Vec::new();
    let _lying = Lying(things);
    for thing in things {
        match thing.kind() {
            Kind::Ready => return Ok(()),
            Kind::Time(limit) => until = until.earlier(limit),
            Kind::Descriptors(those, limit) => {
                until = until.earlier(limit);
                descriptors.extend(those);
            }
            Kind::Memory(place) => match place.lie_down(deadline) {
                Some(bed) => beds.push(bed),
                None => return Ok(()),
            },
        }
    }
    let size: usize = beds.iter().map(Bed::size).sum();
    if descriptors.is_empty() && size <= MAX_WATCHES {
        sleep_on_words(&beds, until);
        return Ok(());
    }
    sleep_on_descriptors(&descriptors, beds, until)
}

fn sleep_on_words(beds: &[Bed], until: Deadline) {
    let words: Vec<Watch<'_>> = beds.iter().map(Bed::watch).collect();
    let lives: Vec<Seen<'_>> = beds.iter().flat_map(|bed| bed.lives.clone()).collect();
    // How it ended does not matter: everything is looked at again.
    let _ = life::wait_any(&words, &lives, until);
}

fn sleep_on_descriptors(
    descriptors: &[BorrowedFd<'_>],
    beds: Vec<Bed>,
    until: Deadline,
) -> Result<(), WaitError> {
    if beds.is_empty() {
        poll_readable(descriptors, until)?;
        return Ok(());
    }
    let flag = Arc::new(Flag(EventFd::new()?));
    let _asleep = Registration::new(beds, &Waker::from(Arc::clone(&flag)))?;
    let all = [descriptors, &[flag.0.as_fd()]].concat();
    poll_readable(&all, until)?;
    Ok(())
}

/// Gets up from everything.
struct Lying<'a>(&'a [&'a dyn Waitable]);

impl Drop for Lying<'_> {
    fn drop(&mut self) {
        for thing in self.0 {
            if let Kind::Memory(place) = thing.kind() {
                place.get_up();
            }
        }
    }
}

#[cfg(test)]
mod tests;
