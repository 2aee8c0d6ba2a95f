//! How each kind of thing is waited for.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use manyhands_os::Deadline;
use manyhands_shm::Shared;
use manyhands_sync::Event;

use super::Waitable;
use super::bed::{Bed, Place};
use crate::local::{LocalQueue, Store};
use crate::pipe::{Connection, Receiver, Sender};
use crate::queue::Queue;
use crate::ring::{Consumer, Producer};
use crate::socket::{Listener, SocketConnection, SocketReceiver};

/// What all that can be waited for has.
pub trait Source {
    fn kind(&self) -> Kind<'_>;
}

/// How to wait for something.
#[derive(Debug)]
pub enum Kind<'a> {
    /// By looking at memory, and sleeping on a word of it.
    Memory(&'a dyn InMemory),
    /// By asking the system, of each of them; it is ready at this time at the latest.
    Descriptors(Vec<BorrowedFd<'a>>, Deadline),
    /// By letting time pass.
    Time(Deadline),
    /// It is ready.
    Ready,
}

impl Kind<'_> {
    /// Whether it is ready now, as far as memory and time tell.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Memory(place) => place.is_ready(),
            Self::Descriptors(_, limit) | Self::Time(limit) => limit.has_passed(),
            Self::Ready => true,
        }
    }

    fn of_descriptor(descriptor: BorrowedFd<'_>) -> Kind<'_> {
        Kind::Descriptors(vec![descriptor], Deadline::NEVER)
    }
}

/// Something in memory.
pub trait InMemory: fmt::Debug {
    /// Whether it is ready now.
    fn is_ready(&self) -> bool;

    /// Makes sure that whoever makes it ready wakes who sleeps on the bed. `None` when the caller has to
    /// look again first, or when the deadline has passed.
    fn lie_down(&self, deadline: Deadline) -> Option<Bed>;

    /// Takes back what `lie_down` said, whether or not it gave a bed.
    fn get_up(&self) {}

    /// The same thing, to be looked at by others while its user goes on.
    fn remote(&self) -> Box<dyn InMemory + Send>;
}

macro_rules! impl_for_events {
    ($($type:ty => $place:expr),* $(,)?) => { $(
        impl InMemory for $type {
            fn is_ready(&self) -> bool {
                self.is_set()
            }

            fn lie_down(&self, deadline: Deadline) -> Option<Bed> {
                let watch = self.watch(deadline)?;
                Some(Bed {
                    place: $place(self.clone()),
                    expected: watch.expected,
                    scope: watch.scope,
                    lives: Vec::new(),
                })
            }

            fn remote(&self) -> Box<dyn InMemory + Send> {
                Box::new(self.clone())
            }
        }

        impl Source for $type {
            fn kind(&self) -> Kind<'_> {
                Kind::Memory(self)
            }
        }

        impl Waitable for $type {}
    )* };
}

impl_for_events! {
    Shared<Event> => Place::Shared,
    Arc<Event> => Place::Local,
    &'static Event => Place::Static,
}

impl<T> Source for Queue<T> {
    fn kind(&self) -> Kind<'_> {
        Kind::Memory(&self.raw)
    }
}

impl<S: Store> Source for LocalQueue<S> {
    fn kind(&self) -> Kind<'_> {
        self.ready().kind()
    }
}

impl Source for Producer {
    fn kind(&self) -> Kind<'_> {
        Kind::Memory(self)
    }
}

impl<T> Source for Sender<T> {
    fn kind(&self) -> Kind<'_> {
        Kind::Memory(&self.producer)
    }
}

impl Source for Consumer {
    fn kind(&self) -> Kind<'_> {
        Kind::Memory(self)
    }
}

impl<T> Source for Receiver<T> {
    fn kind(&self) -> Kind<'_> {
        Kind::Memory(&self.consumer)
    }
}

impl<S, R> Source for Connection<S, R> {
    fn kind(&self) -> Kind<'_> {
        self.receiver.kind()
    }
}

impl Source for SocketReceiver {
    fn kind(&self) -> Kind<'_> {
        if self.has_unseen() {
            Kind::Ready
        } else {
            Kind::of_descriptor(self.as_fd())
        }
    }
}

impl Source for SocketConnection {
    fn kind(&self) -> Kind<'_> {
        self.receiver.kind()
    }
}

impl Source for Listener {
    fn kind(&self) -> Kind<'_> {
        let (descriptors, limit) = self.waits_for();
        Kind::Descriptors(descriptors, limit)
    }
}

impl Source for BorrowedFd<'_> {
    fn kind(&self) -> Kind<'_> {
        Kind::of_descriptor(self.as_fd())
    }
}

impl Source for OwnedFd {
    fn kind(&self) -> Kind<'_> {
        Kind::of_descriptor(self.as_fd())
    }
}

impl Source for Deadline {
    fn kind(&self) -> Kind<'_> {
        Kind::Time(*self)
    }
}

impl Source for Instant {
    fn kind(&self) -> Kind<'_> {
        Kind::Time(Deadline::at(*self))
    }
}

impl<T> Waitable for Queue<T> {}
impl<S: Store> Waitable for LocalQueue<S> {}
impl Waitable for Producer {}
impl<T> Waitable for Sender<T> {}
impl Waitable for Consumer {}
impl<T> Waitable for Receiver<T> {}
impl<S, R> Waitable for Connection<S, R> {}
impl Waitable for SocketReceiver {}
impl Waitable for SocketConnection {}
impl Waitable for Listener {}
impl Waitable for BorrowedFd<'_> {}
impl Waitable for OwnedFd {}
impl Waitable for Deadline {}
impl Waitable for Instant {}
