//! The receiving half of a pipe.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_shm::handoff;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::patience::Patience;
use crate::pipe::error::RecvError;
use crate::ring::Consumer;

/// Receives values of type `T`. The other half is a [`Sender`](crate::Sender).
#[derive(Serialize, Deserialize)]
#[serde(bound = "", transparent)]
pub struct Receiver<T> {
    pub(crate) consumer: Consumer,
    #[serde(skip)]
    values: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Self {
            consumer,
            values: PhantomData,
        }
    }

    /// Closes this half: the sender's next call fails with "closed".
    pub fn close(&mut self) {
        self.consumer.close();
    }

    /// Whether a value, or the end of all values, is there; waits up to `timeout` for it.
    ///
    /// # Errors
    ///
    /// [`RecvError::Moved`] or [`RecvError::Corrupt`].
    pub fn poll_timeout(&mut self, timeout: Duration) -> Result<bool, RecvError> {
        Ok(self.consumer.poll_timeout(timeout)?)
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives a value; waits for one.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] or [`RecvError::PeerDied`], both only when every value that was sent
    /// completely was received; [`RecvError::Undecodable`], [`RecvError::Moved`] or
    /// [`RecvError::Corrupt`].
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.take(Patience::Until(Deadline::NEVER))
    }

    /// Receives a value if there is one now.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), or [`RecvError::Empty`].
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.take(Patience::None)
    }

    /// Receives a value; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), or [`RecvError::TimedOut`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.take(Patience::Until(Deadline::after(timeout)))
    }

    /// Receives a value; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), or [`RecvError::TimedOut`].
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvError> {
        self.take(Patience::Until(Deadline::at(deadline)))
    }

    fn take(&mut self, patience: Patience) -> Result<T, RecvError> {
        // Unpacked before the sender learns that it was taken and lets go of the handles in it.
        let value = self
            .consumer
            .take(patience, |bytes| handoff::unpack(bytes))?;
        Ok(value?)
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Receiver")
            .field("consumer", &self.consumer)
            .finish()
    }
}
