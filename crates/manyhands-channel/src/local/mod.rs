#![doc = include_str!("README.md")]

mod error;
mod store;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_sync::Event;

pub use error::{GetError, PutError};
pub use store::{Heap, Stack, Store};

use crate::patience::Patience;
use crate::queue::{JoinError, QueueError, TaskDoneError};
use crate::select::{GetLocal, PutLocal, Room};

/// Values of the threads of one process, the last one first.
///
/// # Examples
///
/// ```
/// use manyhands_channel::LifoQueue;
///
/// let queue = LifoQueue::new();
/// queue.put("first")?;
/// queue.put("last")?;
/// assert_eq!(queue.get()?, "last");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `queue.LifoQueue`.
pub type LifoQueue<T> = LocalQueue<Stack<T>>;

/// Values of the threads of one process, the smallest one first; equal ones in the order of their
/// coming. For the greatest first, put [`Reverse`](std::cmp::Reverse)s.
///
/// # Examples
///
/// ```
/// use manyhands_channel::PriorityQueue;
///
/// let queue = PriorityQueue::new();
/// for value in [111, 333, 222] {
///     queue.put(value)?;
/// }
/// assert_eq!(queue.get()?, 111);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `queue.PriorityQueue`, where equal values come in any order.
pub type PriorityQueue<T> = LocalQueue<Heap<T>>;

/// A queue for the threads of one process; its clones are the same queue.
///
/// What the two kinds of it are for is said at [`LifoQueue`] and [`PriorityQueue`]. It can be
/// [waited for](crate::wait) among other things, as a [`Queue`](crate::Queue) can.
pub struct LocalQueue<S: Store> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    most: usize,
    state: Mutex<State<S>>,
    /// For who waits for a value, for room, and until all is done.
    items: Condvar,
    room: Condvar,
    done: Condvar,
    /// For who waits for other things too: set while a `get` would not wait. Made when somebody asks for
    /// it first, and changed only by who holds the lock.
    ready: OnceLock<Arc<Event>>,
    /// The same for who waits for room: set while a `put` would not wait.
    roomy: OnceLock<Arc<Event>>,
}

/// Whole whenever a value is compared, dropped or moved.
struct State<S> {
    store: S,
    /// How many values were taken and not reported.
    in_hand: usize,
    getting: usize,
    putting: usize,
    is_closed: bool,
}

/// What [`LocalQueue::stats`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalStats {
    /// The values in the queue.
    pub items: usize,
    /// The most values that can be in it; `usize::MAX` for no bound.
    pub most_items: usize,
    /// The values that [`LocalQueue::join`] waits for: in the queue, or taken and not reported.
    pub unfinished: usize,
    /// Those of them that were taken.
    pub in_hand: usize,
    /// How many threads wait for a value.
    pub consumers_wait: usize,
    /// How many threads wait for room.
    pub producers_wait: usize,
    /// Whether it was closed.
    pub is_closed: bool,
}

impl<S: Store> Default for LocalQueue<S> {
    fn default() -> Self {
        Self::of(usize::MAX)
    }
}

impl<S: Store> LocalQueue<S> {
    /// A queue without a bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// A queue for at most `items` values.
    ///
    /// # Errors
    ///
    /// [`QueueError::Size`], when `items` is zero.
    pub fn bounded(items: usize) -> Result<Self, QueueError> {
        match items {
            0 => Err(QueueError::Size { items, bytes: 0 }),
            _ => Ok(Self::of(items)),
        }
    }

    fn of(most: usize) -> Self {
        let state = State {
            store: S::default(),
            in_hand: 0,
            getting: 0,
            putting: 0,
            is_closed: false,
        };
        Self {
            shared: Arc::new(Shared {
                most,
                state: Mutex::new(state),
                items: Condvar::new(),
                room: Condvar::new(),
                done: Condvar::new(),
                ready: OnceLock::new(),
                roomy: OnceLock::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// The event that is set while a `get` would not wait.
    pub(crate) fn ready(&self) -> &Arc<Event> {
        self.event(&self.shared.ready, State::is_ready)
    }

    /// The event that is set while a `put` would not wait.
    pub(crate) fn roomy(&self) -> &Arc<Event> {
        let most = self.shared.most;
        self.event(&self.shared.roomy, |state| state.is_roomy(most))
    }

    fn event<'a>(
        &self,
        place: &'a OnceLock<Arc<Event>>,
        is_set: impl FnOnce(&State<S>) -> bool,
    ) -> &'a Arc<Event> {
        place.get().unwrap_or_else(|| {
            // Whoever changes the state has the lock, and sees the event from now on.
            let state = self.state();
            place.get_or_init(|| {
                let event = Event::new();
                if is_set(&state) {
                    event.set();
                }
                Arc::new(event)
            })
        })
    }

    /// Has the events tell how things are; after a change, by who holds the lock.
    fn tell(&self, state: &State<S>) {
        let tell = |place: &OnceLock<Arc<Event>>, is_set: bool| match place.get() {
            Some(event) if is_set => event.set(),
            Some(event) => event.clear(),
            None => {}
        };
        tell(&self.shared.ready, state.is_ready());
        tell(&self.shared.roomy, state.is_roomy(self.shared.most));
    }

    /// Something to [wait for](crate::wait) among other things: it is ready while there is room for a value,
    /// and when the queue is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::{LifoQueue, Queue, wait};
    ///
    /// let (jobs, results) = (LifoQueue::bounded(1)?, Queue::<u32>::new()?);
    /// jobs.put("first")?;
    /// results.put(&1)?;
    /// assert_eq!(wait(&[&jobs.room(), &results])?, [1]);
    /// jobs.get()?;
    /// assert_eq!(wait(&[&jobs.room(), &results])?, [0, 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn room(&self) -> Room {
        Room::new(Arc::clone(self.roomy()))
    }

    /// Puts a value; waits while there is no room.
    ///
    /// # Errors
    ///
    /// [`PutError::Closed`], with the value.
    pub fn put(&self, value: S::Value) -> Result<(), PutError<S::Value>> {
        self.put_patiently(value, Patience::Until(Deadline::NEVER))
    }

    /// Puts a value if there is room now.
    ///
    /// # Errors
    ///
    /// [`PutError::Full`] or [`PutError::Closed`], with the value.
    pub fn try_put(&self, value: S::Value) -> Result<(), PutError<S::Value>> {
        self.put_patiently(value, Patience::None)
    }

    /// Puts a value; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// [`PutError::TimedOut`] or [`PutError::Closed`], with the value.
    pub fn put_timeout(
        &self,
        value: S::Value,
        timeout: Duration,
    ) -> Result<(), PutError<S::Value>> {
        self.put_patiently(value, Patience::Until(Deadline::after(timeout)))
    }

    /// Puts a value; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`put_timeout`](Self::put_timeout).
    pub fn put_deadline(
        &self,
        value: S::Value,
        deadline: Instant,
    ) -> Result<(), PutError<S::Value>> {
        self.put_patiently(value, Patience::Until(Deadline::at(deadline)))
    }

    /// Puts a value, for `.await` on any runtime. Dropped before it is ready, it has put nothing, and the value
    /// is dropped with it.
    ///
    /// While it waits, a thread of the library sleeps on its behalf, as for
    /// [`Receiver::recv_async`](crate::Receiver::recv_async). Room for one value wakes all tasks that wait
    /// for room.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::PriorityQueue;
    ///
    /// async fn offer(jobs: &PriorityQueue<(u8, String)>) -> Option<(u8, String)> {
    ///     let job = (2, "sweep".to_owned());
    ///     // It comes back when the queue was closed.
    ///     let refused = jobs.put_async(job).await.err()?;
    ///     Some(refused.into_value())
    /// }
    /// # let jobs = PriorityQueue::bounded(1)?;
    /// # jobs.put((1, "put out the fire".to_owned()))?;
    /// # let mut offer = std::pin::pin!(offer(&jobs));
    /// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// # let mut poll = || std::future::Future::poll(offer.as_mut(), &mut context);
    /// # assert!(poll().is_pending());
    /// # jobs.get()?;
    /// # assert_eq!(poll(), std::task::Poll::Ready(None));
    /// # assert_eq!(jobs.get()?.0, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_async(&self, value: S::Value) -> PutLocal<'_, S> {
        PutLocal::new(self, value)
    }

    fn put_patiently(&self, value: S::Value, patience: Patience) -> Result<(), PutError<S::Value>> {
        let mut state = self.state();
        while !state.is_roomy(self.shared.most) {
            let Some(deadline) = patience.left() else {
                drop(state);
                return Err(match patience {
                    Patience::None => PutError::Full(value),
                    Patience::Until(_) => PutError::TimedOut(value),
                });
            };
            state.putting += 1;
            state = sleep(&self.shared.room, state, deadline);
            state.putting -= 1;
        }
        if state.is_closed {
            drop(state);
            return Err(PutError::Closed(value));
        }
        // If comparing panics, the room is still there, and its wake-up was ours.
        let again = OnUnwind(&self.shared.room);
        let place = state.store.place_for(&value);
        std::mem::forget(again);
        state.store.insert(value, place);
        self.tell(&state);
        wake_one(&self.shared.items, state.getting);
        Ok(())
    }

    /// Takes the first value in the queue's order; waits for one.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`], when the queue was closed and everything in it was taken.
    pub fn get(&self) -> Result<S::Value, GetError> {
        self.get_patiently(Patience::Until(Deadline::NEVER))
    }

    /// Takes the first value if there is one now.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), or [`GetError::Empty`].
    pub fn try_get(&self) -> Result<S::Value, GetError> {
        self.get_patiently(Patience::None)
    }

    /// Takes the first value; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), or [`GetError::TimedOut`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<S::Value, GetError> {
        self.get_patiently(Patience::Until(Deadline::after(timeout)))
    }

    /// Takes the first value; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), or [`GetError::TimedOut`].
    pub fn get_deadline(&self, deadline: Instant) -> Result<S::Value, GetError> {
        self.get_patiently(Patience::Until(Deadline::at(deadline)))
    }

    /// Takes the first value, for `.await` on any runtime. Dropped before it is ready, it has taken
    /// nothing.
    ///
    /// While it waits, a thread of the library sleeps on its behalf, as for
    /// [`Receiver::recv_async`](crate::Receiver::recv_async). A value that is put wakes all tasks that
    /// wait for one.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::PriorityQueue;
    ///
    /// async fn first(jobs: &PriorityQueue<(u8, String)>) -> Option<String> {
    ///     // None when it is closed and empty.
    ///     let (_, job) = jobs.get_async().await.ok()?;
    ///     Some(job)
    /// }
    /// # let jobs = PriorityQueue::new();
    /// # jobs.put((2, "sweep".to_owned()))?;
    /// # let mut first = std::pin::pin!(first(&jobs));
    /// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// # let ready = std::future::Future::poll(first.as_mut(), &mut context);
    /// # assert_eq!(ready, std::task::Poll::Ready(Some("sweep".to_owned())));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_async(&self) -> GetLocal<'_, S> {
        GetLocal::new(self)
    }

    fn get_patiently(&self, patience: Patience) -> Result<S::Value, GetError> {
        let mut state = self.state();
        loop {
            // If comparing panics, the value is still there, and its wake-up was ours.
            let again = OnUnwind(&self.shared.items);
            let value = state.store.pop();
            std::mem::forget(again);
            if let Some(value) = value {
                state.in_hand += 1;
                self.tell(&state);
                wake_one(&self.shared.room, state.putting);
                return Ok(value);
            }
            if state.is_closed {
                return Err(GetError::Closed);
            }
            let deadline = patience.left().ok_or(match patience {
                Patience::None => GetError::Empty,
                Patience::Until(_) => GetError::TimedOut,
            })?;
            state.getting += 1;
            state = sleep(&self.shared.items, state, deadline);
            state.getting -= 1;
        }
    }

    /// How many values are in the queue; old when it is read.
    pub fn len(&self) -> usize {
        self.state().store.len()
    }

    /// Whether no value is in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing can be put any more.
    pub fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Lets nobody put any more; what is in the queue can be got still, and then the end is told.
    ///
    /// Python: `Queue.shutdown()`.
    pub fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.tell(&state);
        drop(state);
        self.shared.items.notify_all();
        self.shared.room.notify_all();
    }

    /// As [`close`](Self::close), and drops what is in the queue; returns how many values.
    ///
    /// Python: `Queue.shutdown(immediate=True)`.
    pub fn shutdown(&self) -> usize {
        let mut state = self.state();
        state.is_closed = true;
        let dropped = std::mem::take(&mut state.store);
        self.tell(&state);
        drop(state);
        self.shared.items.notify_all();
        self.shared.room.notify_all();
        self.shared.done.notify_all();
        // Here, outside of the lock: a destructor may come back to this queue.
        dropped.len()
    }

    /// Reports one value that was taken as done; see [`join`](Self::join).
    ///
    /// # Errors
    ///
    /// [`TaskDoneError::TooMany`], when everything that was taken has been reported.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        let mut state = self.state();
        let left = state.in_hand.checked_sub(1);
        state.in_hand = left.ok_or(TaskDoneError::TooMany)?;
        if state.unfinished() == 0 {
            self.shared.done.notify_all();
        }
        Ok(())
    }

    /// Waits until everything that was put has been taken and [reported](Self::task_done), or was
    /// dropped by [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    ///
    /// None happens today.
    pub fn join(&self) -> Result<(), JoinError> {
        self.join_patiently(Patience::Until(Deadline::NEVER))
    }

    /// Whether everything is done now.
    ///
    /// # Errors
    ///
    /// [`JoinError::Unfinished`].
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.join_patiently(Patience::None)
    }

    /// As [`join`](Self::join), but gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// [`JoinError::TimedOut`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.join_patiently(Patience::Until(Deadline::after(timeout)))
    }

    /// As [`join`](Self::join), but gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// [`JoinError::TimedOut`].
    pub fn join_deadline(&self, deadline: Instant) -> Result<(), JoinError> {
        self.join_patiently(Patience::Until(Deadline::at(deadline)))
    }

    fn join_patiently(&self, patience: Patience) -> Result<(), JoinError> {
        let mut state = self.state();
        loop {
            let values = state.unfinished();
            if values == 0 {
                return Ok(());
            }
            let deadline = patience.left().ok_or(match patience {
                Patience::None => JoinError::Unfinished { values },
                Patience::Until(_) => JoinError::TimedOut { values },
            })?;
            state = sleep(&self.shared.done, state, deadline);
        }
    }

    /// What can be seen of the queue from outside, at once.
    pub fn stats(&self) -> LocalStats {
        let state = self.state();
        LocalStats {
            items: state.store.len(),
            most_items: self.shared.most,
            unfinished: state.unfinished(),
            in_hand: state.in_hand,
            consumers_wait: state.getting,
            producers_wait: state.putting,
            is_closed: state.is_closed,
        }
    }
}

impl<S: Store> State<S> {
    /// Whether a `get` would not wait.
    fn is_ready(&self) -> bool {
        self.is_closed || !self.store.is_empty()
    }

    /// Whether a `put` would not wait.
    fn is_roomy(&self, most: usize) -> bool {
        self.is_closed || self.store.len() < most
    }

    fn unfinished(&self) -> usize {
        self.store.len() + self.in_hand
    }
}

/// Sleeps until somebody wakes this, or the deadline; the caller looks at the state again either way,
/// before it gives up: a wake-up that came together with the deadline was for it.
fn sleep<'a, S>(
    place: &Condvar,
    state: MutexGuard<'a, State<S>>,
    deadline: Deadline,
) -> MutexGuard<'a, State<S>> {
    match deadline.remaining() {
        None => place.wait(state).unwrap_or_else(PoisonError::into_inner),
        Some(left) => {
            let woken = place.wait_timeout(state, left);
            woken.unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

/// Wakes one of so many; no system call where there is none.
fn wake_one(place: &Condvar, waiting: usize) {
    if waiting > 0 {
        place.notify_one();
    }
}

/// Passes a wake-up on when it is dropped, which only a panic does.
struct OnUnwind<'a>(&'a Condvar);

impl Drop for OnUnwind<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl<S: Store> Clone for LocalQueue<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S: Store> fmt::Debug for LocalQueue<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("LocalQueue")
            .field("items", &stats.items)
            .field("is_closed", &stats.is_closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
