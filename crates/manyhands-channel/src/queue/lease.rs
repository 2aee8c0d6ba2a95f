//! Values that come again unless whoever has them says that they are done.

use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use serde::de::DeserializeOwned;

use super::message::{Call, Taking, Ticket};
use super::raw::{Message, RawQueue, Stop};
use super::typed::{decode, with_buffer};
use super::{GetError, LeaseLost, Queue};
use crate::patience::Patience;

/// A value of a queue that nobody else gets, for now.
///
/// [`commit`](Self::commit) removes it for good. If the lease is dropped without that (by a panic, say),
/// or its process is killed, the value is in the queue again, in front of those that nobody has had yet.
///
/// It may go to another thread. One that is forgotten ends with its process.
///
/// # Examples
///
/// ```
/// use manyhands_channel::Queue;
///
/// let jobs = Queue::<String>::new()?;
/// jobs.put(&"paint".to_owned())?;
///
/// let job = jobs.lease()?;
/// assert!(*job == "paint" && job.redeliveries() == 0);
/// assert!(jobs.is_empty() && jobs.stats().leased == 1);
/// drop(job); // something went wrong
///
/// let job = jobs.lease()?;
/// assert!(*job == "paint" && job.redeliveries() == 1);
/// let painted: String = job.commit()?;
/// assert!(jobs.is_empty() && jobs.try_join().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lease<T> {
    value: T,
    hold: Hold,
}

/// What is in the queue again when this is dropped, unless it is committed.
struct Hold {
    queue: RawQueue,
    ticket: Ticket,
    is_over: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_over {
            self.queue.give_back(self.ticket);
        }
    }
}

impl Hold {
    fn commit(mut self) -> bool {
        self.is_over = true;
        self.queue.commit_lease(self.ticket)
    }
}

impl<T> Lease<T> {
    /// Removes the value from the queue for good, and reports it as [done](Queue::task_done): both
    /// happen, or none, whenever the process is killed.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`], with the value, when the lease is not this process' any more. That happens only
    /// where somebody writes into memory that is not theirs.
    pub fn commit(self) -> Result<T, LeaseLost<T>> {
        let Self { value, hold } = self;
        match hold.commit() {
            true => Ok(value),
            false => Err(LeaseLost { value }),
        }
    }

    /// Lets somebody else have the value, as dropping the lease does.
    pub fn give_back(self) {
        drop(self);
    }

    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// How often the value was leased before, and came back: by a death, a panic, or by choice.
    ///
    /// Who gets a value for the fifth time, say, may think that it is the value that kills, and put it
    /// away.
    pub fn redeliveries(&self) -> u32 {
        self.hold.ticket.deliveries.saturating_sub(1)
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("value", &self.value)
            .field("redeliveries", &self.redeliveries())
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes a lease of the first value; waits for one.
    ///
    /// The value comes again if the lease is not [committed](Lease::commit): at least once, and again
    /// only after a death, a panic or a choice. Values that came back go first, the oldest of them first;
    /// so the order of one producer's values is kept but for what was leased meanwhile.
    ///
    /// A leased value takes room as one in the queue does. Bytes are freed in the order of the queue: what
    /// was put behind a value that is leased for long, and is done, is free when that one is. A closed
    /// queue has not come to its end while a lease is out: who waits gets the value if it comes back.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), also what it says of a value that cannot be decoded, which is gone; or
    /// [`GetError::TooManyLeases`]. A panic while it is decoded gives it back.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::{GetError, Queue};
    ///
    /// let jobs = Queue::<u32>::new()?;
    /// jobs.put_many(&[1, 2, 3])?;
    /// jobs.close();
    /// let mut done = Vec::new();
    /// loop {
    ///     match jobs.lease() {
    ///         Ok(job) if *job == 2 && job.redeliveries() == 0 => drop(job),
    ///         Ok(job) => done.push(job.commit()?),
    ///         Err(GetError::Closed) => break,
    ///         Err(error) => return Err(error.into()),
    ///     }
    /// }
    /// assert_eq!(done, [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Python: no equal.
    pub fn lease(&self) -> Result<Lease<T>, GetError> {
        self.lease_patiently(Patience::Until(Deadline::NEVER))
    }

    /// Takes a lease of the first value if there is one now.
    ///
    /// # Errors
    ///
    /// As [`lease`](Self::lease), or [`GetError::Empty`].
    pub fn try_lease(&self) -> Result<Lease<T>, GetError> {
        self.lease_patiently(Patience::None)
    }

    /// As [`lease`](Self::lease), but gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`lease`](Self::lease), or [`GetError::TimedOut`].
    pub fn lease_timeout(&self, timeout: Duration) -> Result<Lease<T>, GetError> {
        self.lease_patiently(Patience::Until(Deadline::after(timeout)))
    }

    /// As [`lease`](Self::lease), but gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`lease_timeout`](Self::lease_timeout).
    pub fn lease_deadline(&self, deadline: Instant) -> Result<Lease<T>, GetError> {
        self.lease_patiently(Patience::Until(Deadline::at(deadline)))
    }

    fn lease_patiently(&self, patience: Patience) -> Result<Lease<T>, GetError> {
        with_buffer(|buffer| {
            let mut into = Taking::one(buffer);
            let message = self.raw.get(&mut into, Call::Lease, patience)?;
            let Message::Leased(ticket) = message else {
                return Err(GetError::from(Stop::Corrupt));
            };
            let hold = Hold {
                queue: self.raw.clone(),
                ticket,
                is_over: false,
            };
            if let Some(block) = ticket.block
                && !hold.queue.copy_leased(ticket, block, buffer)
            {
                return Err(GetError::from(Stop::Corrupt));
            }
            match decode(&message, buffer) {
                Ok(value) => Ok(Lease { value, hold }),
                Err(error) => {
                    hold.commit();
                    Err(error.into())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
