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
use crate::select::Recv;

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

    /// Receives a value, for `.await` on any runtime. Dropped before it is ready, it has taken nothing.
    ///
    /// While it waits, a thread of the library sleeps on its behalf, one for up to 127 such futures. (As
    /// long as the system starts no such thread, the task is woken all the time.) For a limit of time
    /// use the runtime's.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::{Pipe, RecvError};
    ///
    /// async fn sum() -> Result<u32, Box<dyn std::error::Error>> {
    ///     let (mut sender, mut receiver) = Pipe::simplex::<u32>()?;
    ///     std::thread::spawn(move || (0..10).for_each(|number| drop(sender.send(&number))));
    ///     let mut sum = 0;
    ///     loop {
    ///         match receiver.recv_async().await {
    ///             Ok(number) => sum += number,
    ///             Err(RecvError::Closed) => return Ok(sum),
    ///             Err(error) => return Err(error.into()),
    ///         }
    ///     }
    /// }
    /// # use std::{pin::pin, sync::Arc, task::{Context, Poll, Wake}, thread};
    /// # struct Unpark(thread::Thread);
    /// # impl Wake for Unpark { fn wake(self: Arc<Self>) { self.0.unpark(); } }
    /// # let waker = Arc::new(Unpark(thread::current())).into();
    /// # let mut sum = pin!(sum());
    /// # let sum = loop {
    /// #     match sum.as_mut().poll(&mut Context::from_waker(&waker)) {
    /// #         Poll::Ready(sum) => break sum,
    /// #         Poll::Pending => thread::park(),
    /// #     }
    /// # };
    /// # assert_eq!(sum?, 45);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_async(&mut self) -> Recv<'_, T> {
        Recv::new(self)
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
