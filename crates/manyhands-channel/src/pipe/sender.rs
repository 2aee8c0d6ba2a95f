//! The sending half of a pipe.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_shm::Region;
use manyhands_shm::arena::Handle;
use manyhands_shm::handoff::{self, Holds};
use serde::{Deserialize, Serialize};

use crate::linger::Lingering;
use crate::patience::Patience;
use crate::pipe::error::SendError;
use crate::ring::{Producer, Progress};
use crate::select::Sending;

/// Sends values of type `T`. The other half is a [`Receiver`](crate::Receiver).
#[derive(Serialize, Deserialize)]
#[serde(bound = "", transparent)]
pub struct Sender<T> {
    pub(crate) producer: Producer,
    /// The encoding of the last value; kept for its memory.
    #[serde(skip)]
    buffer: Vec<u8>,
    /// What keeps handles alive that were sent and not received yet.
    #[serde(skip)]
    lingering: Lingering,
    #[serde(skip)]
    values: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    pub(crate) fn new(producer: Producer) -> Self {
        Self {
            producer,
            buffer: Vec::new(),
            lingering: Lingering::default(),
            values: PhantomData,
        }
    }

    /// The ring, for a message without handles.
    pub(crate) fn producer_mut(&mut self) -> &mut Producer {
        self.lingering.release();
        &mut self.producer
    }

    /// Closes this half. The receiver gets what was sent before, and then "closed".
    pub fn close(&mut self) {
        self.producer.close();
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends a value; waits while there is no room.
    ///
    /// Handles in the value stay alive until the receiver has them, also when this half is dropped
    /// or closed first, or this process is killed; ends of pipes and rings as long as this process lives.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`], [`SendError::PeerDied`], [`SendError::Unencodable`],
    /// [`SendError::Moved`] or [`SendError::Corrupt`].
    pub fn send(&mut self, value: &T) -> Result<(), SendError> {
        self.give(value, Patience::Until(Deadline::NEVER))
    }

    /// Sends a value if there is room for all of it now.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), or [`SendError::Full`], or [`SendError::TooLarge`] when it can
    /// never be sent so. An end of a ring or a connection in the value is closed by the failure.
    pub fn try_send(&mut self, value: &T) -> Result<(), SendError> {
        self.give(value, Patience::None)
    }

    /// Sends a value; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), or [`SendError::TimedOut`]. An end of a ring or a connection in the
    /// value is closed by the failure.
    pub fn send_timeout(&mut self, value: &T, timeout: Duration) -> Result<(), SendError> {
        self.give(value, Patience::Until(Deadline::after(timeout)))
    }

    /// Sends a value; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&mut self, value: &T, deadline: Instant) -> Result<(), SendError> {
        self.give(value, Patience::Until(Deadline::at(deadline)))
    }

    /// Sends a value, for `.await` on any runtime.
    ///
    /// Dropped before it is ready, it has sent nothing, and the receiver never sees a part of the value. An end
    /// of a ring or a connection in it is closed then, as by a failure; the value is encoded when the
    /// future is polled first. While it waits, a thread of the library sleeps on its behalf, as for
    /// [`Receiver::recv_async`](crate::Receiver::recv_async).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::{Pipe, SendError};
    ///
    /// async fn count() -> Result<u32, Box<dyn std::error::Error>> {
    ///     // Of few bytes: the sender has to wait.
    ///     let (mut sender, mut receiver) = Pipe::simplex_with_capacity::<u32>(64)?;
    ///     std::thread::spawn(move || while receiver.recv().is_ok_and(|number| number < 1000) {});
    ///     let mut number = 0;
    ///     loop {
    ///         match sender.send_async(&number).await {
    ///             Ok(()) => number += 1,
    ///             Err(SendError::Closed) => return Ok(number),
    ///             Err(error) => return Err(error.into()),
    ///         }
    ///     }
    /// }
    /// # use std::{pin::pin, sync::Arc, task::{Context, Poll, Wake}, thread};
    /// # struct Unpark(thread::Thread);
    /// # impl Wake for Unpark { fn wake(self: Arc<Self>) { self.0.unpark(); } }
    /// # let waker = Arc::new(Unpark(thread::current())).into();
    /// # let mut count = pin!(count());
    /// # let count = loop {
    /// #     match count.as_mut().poll(&mut Context::from_waker(&waker)) {
    /// #         Poll::Ready(count) => break count,
    /// #         Poll::Pending => thread::park(),
    /// #     }
    /// # };
    /// # assert!(count? > 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_async<'a>(&'a mut self, value: &'a T) -> Sending<'a, T> {
        Sending::new(self, value)
    }

    fn give(&mut self, value: &T, patience: Patience) -> Result<(), SendError> {
        let holds = self.encode(value)?;
        self.producer.send_patiently(&self.buffer, patience)?;
        self.keep(holds);
        Ok(())
    }

    /// Encodes a value, to be sent next, and returns what keeps it alive.
    pub(crate) fn encode(&mut self, value: &T) -> Result<Holds, SendError> {
        // Before encoding, which moves ends of rings away: nobody would get them.
        self.producer.check()?;
        self.lingering.release();
        self.buffer.clear();
        let mut holds = handoff::pack_into(value, &mut self.buffer)?;
        if !holds.is_empty()
            && let Some(deposit) = Deposit::of(&holds, self.producer.region())
        {
            holds.keep(deposit);
        }
        Ok(holds)
    }

    /// Sends as much of what was encoded as there is room for; true when all is sent.
    pub(crate) fn push(&mut self, progress: &mut Progress) -> Result<bool, SendError> {
        Ok(self.producer.push(&self.buffer, progress)?)
    }

    /// Keeps what the last message refers to until it was received.
    pub(crate) fn keep(&mut self, holds: Holds) {
        let position = self.producer.position();
        self.lingering.keep(position, holds, || {
            let progression = self.producer.progression();
            Box::new(move |position| progression.has_passed(position))
        });
    }
}

/// A block in the ring that holds what a message refers to, in case this process is killed: then it stays
/// until the ring goes. Otherwise it goes with this.
struct Deposit {
    region: Region,
    block: Handle,
}

impl Deposit {
    /// `None` when there is no room, or when only a process can hold such things (ends of rings): then
    /// the message has this process' holds only.
    fn of(holds: &Holds, region: &Region) -> Option<Self> {
        let block = handoff::to_block(&[], holds).ok().flatten()?;
        Some(Self {
            region: region.clone(),
            block: region.deposit(block),
        })
    }
}

impl Drop for Deposit {
    fn drop(&mut self) {
        // What cannot be reached goes with the ring.
        drop(self.region.withdraw(self.block));
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Sender")
            .field("producer", &self.producer)
            .finish()
    }
}
