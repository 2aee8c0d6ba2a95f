//! Futures of what comes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use manyhands_os::Deadline;
use serde::de::DeserializeOwned;

use super::bridge::Registration;
use super::source::{InMemory, Kind, Source};
use crate::local::{self, LocalQueue, Store};
use crate::pipe::{Receiver, RecvError};
use crate::queue::{GetError, Queue};
use crate::socket::{self, AcceptError, Listener, SocketConnection, SocketReceiver};

/// So often a task looks at something that changes all the time before it lets others run.
const LOOKS: u32 = 4;

/// The next value of a pipe, by [`Receiver::recv_async`].
#[must_use = "a future does nothing until it is awaited"]
pub struct Recv<'a, T> {
    receiver: &'a mut Receiver<T>,
    asleep: Option<Registration>,
}

/// The first value of a queue, by [`Queue::get_async`].
#[must_use = "a future does nothing until it is awaited"]
pub struct Get<'a, T> {
    queue: &'a Queue<T>,
    asleep: Option<Registration>,
}

/// The first value of a queue of one process, by [`LocalQueue::get_async`].
#[must_use = "a future does nothing until it is awaited"]
pub struct GetLocal<'a, S: Store> {
    queue: &'a LocalQueue<S>,
    asleep: Option<Registration>,
}

impl<'a, T> Recv<'a, T> {
    pub(crate) fn new(receiver: &'a mut Receiver<T>) -> Self {
        let asleep = None;
        Self { receiver, asleep }
    }
}

impl<'a, T> Get<'a, T> {
    pub(crate) fn new(queue: &'a Queue<T>) -> Self {
        let asleep = None;
        Self { queue, asleep }
    }
}

impl<'a, S: Store> GetLocal<'a, S> {
    pub(crate) fn new(queue: &'a LocalQueue<S>) -> Self {
        let asleep = None;
        Self { queue, asleep }
    }
}

/// The next message of a socket connection, by [`SocketReceiver::recv_bytes_async`].
#[must_use = "a future does nothing until it is awaited"]
#[derive(Debug)]
pub struct RecvBytes<'a> {
    receiver: &'a mut SocketReceiver,
    asleep: Option<Registration>,
}

/// The next one who comes to a listener, by [`Listener::accept_async`].
#[must_use = "a future does nothing until it is awaited"]
#[derive(Debug)]
pub struct Accept<'a> {
    listener: &'a mut Listener,
    asleep: Option<Registration>,
}

impl<'a> RecvBytes<'a> {
    pub(crate) fn new(receiver: &'a mut SocketReceiver) -> Self {
        let asleep = None;
        Self { receiver, asleep }
    }
}

impl<'a> Accept<'a> {
    pub(crate) fn new(listener: &'a mut Listener) -> Self {
        let asleep = None;
        Self { listener, asleep }
    }
}

/// Something that can be tried, and slept for.
pub(super) trait Trial {
    type Output;

    /// `None` when there is nothing now.
    fn attempt(&mut self) -> Option<Self::Output>;

    fn thing(&self) -> &dyn Source;

    fn asleep(&mut self) -> &mut Option<Registration>;

    fn step(&mut self, context: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = context.waker();
        for _ in 0..LOOKS {
            if let Some(output) = self.attempt() {
                *self.asleep() = None;
                return Poll::Ready(output);
            }
            let renewed = |asleep: &mut Registration| asleep.renew(waker);
            if self.asleep().as_mut().is_some_and(renewed) {
                return Poll::Pending;
            }
            // It fired. What has come since it lay down is seen by the next attempt.
            *self.asleep() = None;
            let asleep = match self.thing().kind() {
                Kind::Memory(place) => match place.lie_down(Deadline::NEVER) {
                    Some(bed) => Registration::new(vec![bed], waker),
                    None => continue,
                },
                Kind::Descriptors(those, limit) => Registration::polled(&those, limit, waker),
                Kind::Ready | Kind::Time(_) => continue,
            };
            match asleep {
                Ok(asleep) => {
                    *self.asleep() = Some(asleep);
                    return Poll::Pending;
                }
                // There is no thread for it now.
                Err(_) => break,
            }
        }
        waker.wake_by_ref();
        Poll::Pending
    }
}

impl<T: DeserializeOwned> Trial for Recv<'_, T> {
    type Output = Result<T, RecvError>;

    fn attempt(&mut self) -> Option<Self::Output> {
        match self.receiver.try_recv() {
            Err(RecvError::Empty) => None,
            outcome => Some(outcome),
        }
    }

    fn thing(&self) -> &dyn Source {
        &*self.receiver
    }

    fn asleep(&mut self) -> &mut Option<Registration> {
        &mut self.asleep
    }
}

impl<T: DeserializeOwned> Trial for Get<'_, T> {
    type Output = Result<T, GetError>;

    fn attempt(&mut self) -> Option<Self::Output> {
        match self.queue.try_get() {
            Err(GetError::Empty) => None,
            outcome => Some(outcome),
        }
    }

    fn thing(&self) -> &dyn Source {
        self.queue
    }

    fn asleep(&mut self) -> &mut Option<Registration> {
        &mut self.asleep
    }
}

impl<S: Store> Trial for GetLocal<'_, S> {
    type Output = Result<S::Value, local::GetError>;

    fn attempt(&mut self) -> Option<Self::Output> {
        match self.queue.try_get() {
            Err(local::GetError::Empty) => None,
            outcome => Some(outcome),
        }
    }

    fn thing(&self) -> &dyn Source {
        self.queue
    }

    fn asleep(&mut self) -> &mut Option<Registration> {
        &mut self.asleep
    }
}

impl Trial for RecvBytes<'_> {
    type Output = Result<Vec<u8>, socket::RecvError>;

    fn attempt(&mut self) -> Option<Self::Output> {
        match self.receiver.try_recv_bytes() {
            Err(socket::RecvError::WouldBlock) => None,
            outcome => Some(outcome),
        }
    }

    fn thing(&self) -> &dyn Source {
        &*self.receiver
    }

    fn asleep(&mut self) -> &mut Option<Registration> {
        &mut self.asleep
    }
}

impl Trial for Accept<'_> {
    type Output = Result<SocketConnection, AcceptError>;

    fn attempt(&mut self) -> Option<Self::Output> {
        match self.listener.try_accept() {
            Err(AcceptError::WouldBlock) => None,
            outcome => Some(outcome),
        }
    }

    fn thing(&self) -> &dyn Source {
        &*self.listener
    }

    fn asleep(&mut self) -> &mut Option<Registration> {
        &mut self.asleep
    }
}

impl Future for RecvBytes<'_> {
    type Output = Result<Vec<u8>, socket::RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.step(context)
    }
}

impl Future for Accept<'_> {
    type Output = Result<SocketConnection, AcceptError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.step(context)
    }
}

impl<T: DeserializeOwned> Future for Recv<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.step(context)
    }
}

impl<T: DeserializeOwned> Future for Get<'_, T> {
    type Output = Result<T, GetError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.step(context)
    }
}

impl<S: Store> Future for GetLocal<'_, S> {
    type Output = Result<S::Value, local::GetError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.step(context)
    }
}

impl<T> Drop for Recv<'_, T> {
    fn drop(&mut self) {
        self.receiver.consumer.get_up();
    }
}

impl<T> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv")
            .field("receiver", self.receiver)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Get<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get")
            .field("queue", self.queue)
            .finish_non_exhaustive()
    }
}

impl<S: Store> fmt::Debug for GetLocal<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetLocal")
            .field("queue", self.queue)
            .finish_non_exhaustive()
    }
}
