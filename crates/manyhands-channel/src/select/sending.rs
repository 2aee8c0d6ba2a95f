//! Futures of what is sent.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use manyhands_shm::handoff::Holds;
use serde::Serialize;

use super::bridge::Registration;
use super::future::Trial;
use super::source::{InMemory, Kind, Source};
use crate::local::{self, LocalQueue, Store};
use crate::pipe::{SendError, Sender};
use crate::queue::{Packed, PutError, Queue, QueueRoom};
use crate::ring::Progress;

/// A value on its way into a pipe, by [`Sender::send_async`].
#[must_use = "a future does nothing until it is awaited"]
pub struct Sending<'a, T> {
    sender: &'a mut Sender<T>,
    value: &'a T,
    /// What keeps the value alive, once it is encoded; its encoding is the sender's.
    holds: Option<Holds>,
    progress: Progress,
    asleep: Option<Registration>,
}

/// A value on its way into a queue, by [`Queue::put_async`].
#[must_use = "a future does nothing until it is awaited"]
pub struct Put<'a, T> {
    queue: &'a Queue<T>,
    value: &'a T,
    packed: Option<Packed>,
    /// The room that it needs.
    room: QueueRoom,
    asleep: Option<Registration>,
}

/// A value on its way into a queue of one process, by [`LocalQueue::put_async`].
#[must_use = "a future does nothing until it is awaited"]
pub struct PutLocal<'a, S: Store> {
    queue: &'a LocalQueue<S>,
    value: Option<S::Value>,
    asleep: Option<Registration>,
}

impl<'a, T> Sending<'a, T> {
    pub(crate) fn new(sender: &'a mut Sender<T>, value: &'a T) -> Self {
        Self {
            sender,
            value,
            holds: None,
            progress: Progress::default(),
            asleep: None,
        }
    }
}

impl<'a, T> Put<'a, T> {
    pub(crate) fn new(queue: &'a Queue<T>, value: &'a T) -> Self {
        Self {
            queue,
            value,
            packed: None,
            room: QueueRoom::for_any(&queue.raw),
            asleep: None,
        }
    }
}

impl<'a, S: Store> PutLocal<'a, S> {
    pub(crate) fn new(queue: &'a LocalQueue<S>, value: S::Value) -> Self {
        Self {
            queue,
            value: Some(value),
            asleep: None,
        }
    }
}

impl<T: Serialize> Trial for Sending<'_, T> {
    type Output = Result<(), SendError>;

    fn attempt(&mut self) -> Option<Self::Output> {
        let sent = match &self.holds {
            Some(_) => Ok(()),
            None => self.sender.encode(self.value).map(|holds| {
                self.holds = Some(holds);
                self.progress = Progress::default();
            }),
        };
        match sent.and_then(|()| self.sender.push(&mut self.progress)) {
            Ok(false) => None,
            Ok(true) => {
                self.sender.keep(self.holds.take().unwrap_or_default());
                Some(Ok(()))
            }
            Err(error) => Some(Err(error)),
        }
    }

    fn thing(&self) -> &dyn Source {
        &*self.sender
    }

    fn asleep(&mut self) -> &mut Option<Registration> {
        &mut self.asleep
    }
}

impl<T: Serialize> Put<'_, T> {
    fn try_put(&mut self) -> Result<(), PutError> {
        let packed = match &mut self.packed {
            Some(packed) => packed,
            none => none.insert(self.queue.pack(self.value)?),
        };
        self.room.size = packed.size();
        self.queue.try_put_message(packed)
    }
}

impl<T: Serialize> Trial for Put<'_, T> {
    type Output = Result<(), PutError>;

    fn attempt(&mut self) -> Option<Self::Output> {
        match self.try_put() {
            Err(PutError::Full) => None,
            outcome => {
                self.packed = None;
                Some(outcome)
            }
        }
    }

    fn thing(&self) -> &dyn Source {
        &self.room
    }

    fn asleep(&mut self) -> &mut Option<Registration> {
        &mut self.asleep
    }
}

impl<S: Store> Trial for PutLocal<'_, S> {
    type Output = Result<(), local::PutError<S::Value>>;

    fn attempt(&mut self) -> Option<Self::Output> {
        match self.queue.try_put(self.value.take()?) {
            Err(local::PutError::Full(value)) => {
                self.value = Some(value);
                None
            }
            outcome => Some(outcome),
        }
    }

    fn thing(&self) -> &dyn Source {
        self.queue.roomy()
    }

    fn asleep(&mut self) -> &mut Option<Registration> {
        &mut self.asleep
    }
}

impl Source for QueueRoom {
    fn kind(&self) -> Kind<'_> {
        Kind::Memory(self)
    }
}

impl<T: Serialize> Future for Sending<'_, T> {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.step(context)
    }
}

impl<T: Serialize> Future for Put<'_, T> {
    type Output = Result<(), PutError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.step(context)
    }
}

impl<S: Store> Future for PutLocal<'_, S> {
    type Output = Result<(), local::PutError<S::Value>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.step(context)
    }
}

/// The value is moved out of it, never pinned in it.
impl<S: Store> Unpin for PutLocal<'_, S> {}

impl<T> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        self.sender.producer.get_up();
    }
}

impl<T> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending")
            .field("sender", self.sender)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Put<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put")
            .field("queue", self.queue)
            .finish_non_exhaustive()
    }
}

impl<S: Store> fmt::Debug for PutLocal<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutLocal")
            .field("queue", self.queue)
            .finish_non_exhaustive()
    }
}
