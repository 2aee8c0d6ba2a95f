//! Futures of what comes in memory.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use manyhands_os::Deadline;
use serde::de::DeserializeOwned;

use super::bridge::Registration;
use super::source::InMemory;
use crate::pipe::{Receiver, RecvError};
use crate::queue::{GetError, Queue};

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

/// Something that can be tried, and slept for.
trait Trial {
    type Output;

    /// `None` when there is nothing now.
    fn attempt(&mut self) -> Option<Self::Output>;

    fn place(&self) -> &dyn InMemory;

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
            let Some(bed) = self.place().lie_down(Deadline::NEVER) else {
                continue;
            };
            match Registration::new(vec![bed], waker) {
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

    fn place(&self) -> &dyn InMemory {
        &self.receiver.consumer
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

    fn place(&self) -> &dyn InMemory {
        &self.queue.raw
    }

    fn asleep(&mut self) -> &mut Option<Registration> {
        &mut self.asleep
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
