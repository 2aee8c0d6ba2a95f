//! The queue of values: encoding them, and keeping alive what they refer to.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_shm::arena::Block;
use manyhands_shm::handoff::{self, Holds};
use manyhands_shm::{Region, UnpackError};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{GetError, PutError, QueueError};
use super::layout::{Header, Kind, Mark};
use super::message::{Batch, Call, Taking};
use super::raw::{MOST_BYTES, Message, RawQueue, Stop};
use super::watch::QueueRoom;
use crate::linger::{self, Lingering};
use crate::patience::Patience;
use crate::ring::{Corrupt, block_of, bytes_in};
use crate::select::{Get, Put, Room};

/// The bytes of a queue, unless the caller says otherwise.
const BYTES: usize = 1 << 20;

/// A queue of values, for any number of threads and processes that put and that get.
///
/// Clone it for other threads, and send it to other processes inside of a parcel (as an argument of
/// a spawn, through a pipe, or through a queue): all have the same queue. It is there as long as
/// anybody has it.
///
/// Values come out in the order in which they were put; those of one producer in its order. A
/// producer that is killed has put a value whole or not at all; a consumer that is killed takes at
/// most the value with it that it had just taken.
///
/// # Examples
///
/// ```
/// use manyhands_channel::{GetError, Queue};
///
/// let jobs = Queue::<u32>::bounded(10)?;
/// let results = Queue::<u32>::new()?;
/// std::thread::scope(|threads| {
///     for _ in 0..3 {
///         threads.spawn(|| loop {
///             match jobs.get() {
///                 Ok(job) => results.put(&(job * job)).expect("it is open"),
///                 Err(GetError::Closed) => return,
///                 Err(error) => panic!("{error}"),
///             }
///         });
///     }
///     for job in 0..100 {
///         jobs.put(&job).expect("it is open");
///     }
///     jobs.close();
/// });
/// assert_eq!(results.len(), 100);
/// # Ok::<(), manyhands_channel::QueueError>(())
/// ```
///
/// Python: `queue.Queue`, `multiprocessing.Queue`.
pub struct Queue<T> {
    pub(crate) raw: RawQueue,
    /// What keeps handles alive that were put here and not taken yet.
    pub(super) lingering: Arc<Mutex<Lingering>>,
    values: PhantomData<fn(T) -> T>,
}

/// How a queue is to be; made by [`Queue::builder`].
#[derive(Clone, Debug)]
pub struct QueueBuilder<T> {
    items: usize,
    bytes: usize,
    values: PhantomData<fn(T) -> T>,
}

/// What [`Queue::stats`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// The values that can be got now; those that are leased are not among them.
    pub items: usize,
    /// The values of which somebody has a [lease](Queue::lease). They take room still.
    pub leased: usize,
    /// The most values that can be in it.
    pub most_items: usize,
    /// The most values that ever were in it at once, leased ones included.
    pub peak_items: usize,
    /// The bytes that messages take in the queue, leased ones included, 8 for each and padding included; of large
    /// ones only the handle lies here.
    pub bytes: usize,
    /// The most bytes.
    pub most_bytes: usize,
    /// Whether a consumer sleeps for a value; true a little longer than it does.
    pub consumers_wait: bool,
    /// Whether a producer sleeps for room; true a little longer than it does.
    pub producers_wait: bool,
    /// Whether it was closed.
    pub is_closed: bool,
    /// The values that [`Queue::join`] waits for: in the queue, or taken and not reported.
    pub unfinished: usize,
    /// Those of them that were taken or leased: their takers are at work, or have died. Means nothing where
    /// values are not reported.
    pub in_hand: usize,
}

impl<T> Queue<T> {
    /// A queue of 1 MiB, for as many values as fit.
    ///
    /// # Errors
    ///
    /// [`QueueError`], when there is no room for it.
    pub fn new() -> Result<Self, QueueError> {
        Self::builder().build()
    }

    /// A queue of 1 MiB, for at most `items` values.
    ///
    /// # Errors
    ///
    /// [`QueueError`], when there is no room for it, or when `items` is zero.
    pub fn bounded(items: usize) -> Result<Self, QueueError> {
        Self::builder().items(items).build()
    }

    /// Chooses the bounds.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::{PutError, Queue};
    ///
    /// let queue = Queue::builder().items(2).bytes(4096).build()?;
    /// queue.put(&1)?;
    /// queue.put(&2)?;
    /// assert!(matches!(queue.try_put(&3), Err(PutError::Full)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> QueueBuilder<T> {
        QueueBuilder {
            items: 1 << 31,
            bytes: BYTES,
            values: PhantomData,
        }
    }

    fn of(raw: RawQueue) -> Self {
        Self {
            raw,
            lingering: Arc::default(),
            values: PhantomData,
        }
    }

    /// How many values are in the queue; old when it is read. Leased ones are not.
    pub fn len(&self) -> usize {
        self.raw.available() as usize
    }

    /// Whether no value is in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing can be put any more.
    pub fn is_closed(&self) -> bool {
        self.raw.is_closed()
    }

    /// Lets nobody put any more; what is in the queue can be got still, and then the end is told.
    ///
    /// Python: `Queue.shutdown()`.
    pub fn close(&self) {
        self.raw.close();
    }

    /// As [`close`](Self::close), and drops what is in the queue, unread; returns how many values.
    ///
    /// Consumers are told of the end at once. Leases that are out can be committed still; those that are
    /// given back are dropped too.
    ///
    /// What they refer to in shared memory is let go by those who put it, at their next call, or when
    /// they drop the queue.
    ///
    /// Python: `Queue.shutdown(immediate=True)`.
    pub fn shutdown(&self) -> usize {
        self.raw.shut_down() as usize
    }

    /// Something to [wait for](crate::wait) among other things: it is ready while there is room for any one
    /// value, and when the queue is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use manyhands_channel::{Queue, wait, wait_timeout};
    ///
    /// let (jobs, results) = (Queue::<u32>::bounded(1)?, Queue::<u32>::new()?);
    /// jobs.put(&1)?;
    /// let room = jobs.room();
    /// let soon = Duration::from_millis(1);
    /// assert_eq!(wait_timeout(&[&room, &results], soon)?, []);
    /// jobs.get()?;
    /// assert_eq!(wait(&[&room, &results])?, [0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn room(&self) -> Room {
        Room::new(QueueRoom::for_any(&self.raw))
    }

    /// What can be seen of the queue from outside, at once.
    pub fn stats(&self) -> QueueStats {
        let (_, bytes) = self.raw.used();
        let (consumers_wait, producers_wait) = self.raw.waiting();
        let (unfinished, in_hand) = self.raw.tasks();
        QueueStats {
            items: self.raw.available() as usize,
            leased: self.raw.leased() as usize,
            most_items: self.raw.items() as usize,
            peak_items: self.raw.peak() as usize,
            bytes: bytes as usize,
            most_bytes: self.raw.bytes() as usize,
            consumers_wait,
            producers_wait,
            is_closed: self.raw.is_closed(),
            unfinished: unfinished as usize,
            in_hand: in_hand as usize,
        }
    }

    fn lingering(&self) -> std::sync::MutexGuard<'_, Lingering> {
        self.lingering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> QueueBuilder<T> {
    /// The most values at once; what is beyond waits.
    #[must_use]
    pub fn items(mut self, items: usize) -> Self {
        self.items = items;
        self
    }

    /// The bytes of the messages in it, rounded up to a power of two, at least 4096. Each message
    /// takes 8 more, and is padded to a multiple of 8. A value whose encoding is longer than an
    /// eighth of it travels in a block of its own.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Makes the queue.
    ///
    /// # Errors
    ///
    /// [`QueueError`], when there is no room for it, or there cannot be such a queue.
    pub fn build(&self) -> Result<Queue<T>, QueueError> {
        let Self { items, bytes, .. } = *self;
        let size = || QueueError::Size { items, bytes };
        let most = u32::try_from(items).ok().filter(|most| *most <= 1 << 31);
        let most = most.filter(|most| *most > 0).ok_or_else(size)?;
        let whole = bytes.max(LEAST_BYTES).checked_next_power_of_two();
        let whole = whole.filter(|whole| *whole as u64 <= MOST_BYTES);
        let whole = whole.ok_or_else(size)?;
        let region = Region::new(size_of::<Header>() + whole)?;
        let raw = RawQueue::make(region, whole as u64, most);
        raw.map(Queue::of).map_err(|Corrupt| QueueError::Corrupt)
    }
}

/// The smallest queue, in bytes.
const LEAST_BYTES: usize = 4096;

impl<T: Serialize> Queue<T> {
    /// Puts a value behind the others; waits while there is no room.
    ///
    /// Handles in the value stay alive until it was taken, whatever becomes of this process; ends of pipes
    /// and rings as long as this process lives.
    ///
    /// # Errors
    ///
    /// [`PutError::Closed`], [`PutError::Unencodable`], [`PutError::NoSpace`], and what cannot
    /// happen to those who keep to the rules.
    pub fn put(&self, value: &T) -> Result<(), PutError> {
        self.put_patiently(value, Patience::Until(Deadline::NEVER))
    }

    /// Puts a value if there is room now.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), or [`PutError::Full`]. An end of a ring or a connection in the value
    /// is closed by the failure.
    pub fn try_put(&self, value: &T) -> Result<(), PutError> {
        self.put_patiently(value, Patience::None)
    }

    /// Puts a value; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), or [`PutError::TimedOut`]. An end of a ring or a connection in the
    /// value is closed by the failure.
    pub fn put_timeout(&self, value: &T, timeout: Duration) -> Result<(), PutError> {
        self.put_patiently(value, Patience::Until(Deadline::after(timeout)))
    }

    /// Puts a value; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`put_timeout`](Self::put_timeout).
    pub fn put_deadline(&self, value: &T, deadline: Instant) -> Result<(), PutError> {
        self.put_patiently(value, Patience::Until(Deadline::at(deadline)))
    }

    /// Puts a value, for `.await` on any runtime.
    ///
    /// Dropped before it is ready, it has put nothing. An end of a ring or a connection in the value is closed
    /// then, as by a failure; the value is encoded when the future is polled first. While it waits, a
    /// thread of the library sleeps on its behalf, as for
    /// [`Receiver::recv_async`](crate::Receiver::recv_async). Room for one value wakes all who wait for room.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::{PutError, Queue};
    ///
    /// async fn offer(jobs: &Queue<u32>) -> Result<u32, PutError> {
    ///     let mut job = 0;
    ///     while job < 1000 {
    ///         // Waits while there are ten.
    ///         jobs.put_async(&job).await?;
    ///         job += 1;
    ///     }
    ///     Ok(job)
    /// }
    /// # use std::{pin::pin, sync::Arc, task::{Context, Poll, Wake}, thread};
    /// # struct Unpark(thread::Thread);
    /// # impl Wake for Unpark { fn wake(self: Arc<Self>) { self.0.unpark(); } }
    /// # let waker = Arc::new(Unpark(thread::current())).into();
    /// # let jobs = Queue::bounded(10)?;
    /// # let mut offer = pin!(offer(&jobs));
    /// # let taker = thread::spawn({
    /// #     let jobs = jobs.clone();
    /// #     move || (0..1000).all(|job| jobs.get().is_ok_and(|got| got == job))
    /// # });
    /// # let jobs = loop {
    /// #     match offer.as_mut().poll(&mut Context::from_waker(&waker)) {
    /// #         Poll::Ready(jobs) => break jobs,
    /// #         Poll::Pending => thread::park(),
    /// #     }
    /// # };
    /// # assert!(jobs? == 1000 && taker.join().is_ok_and(|all| all));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_async<'a>(&'a self, value: &'a T) -> Put<'a, T> {
        Put::new(self, value)
    }

    #[inline]
    fn put_patiently(&self, value: &T, patience: Patience) -> Result<(), PutError> {
        // Before encoding, which moves ends of rings away: nobody would get them.
        if self.is_closed() {
            return Err(PutError::Closed);
        }
        with_buffer(|buffer| {
            let holds = handoff::pack_into(value, buffer)?;
            self.put_packed(buffer, holds, patience)
        })
    }

    /// Puts an encoded value.
    #[inline]
    pub(super) fn put_packed(
        &self,
        bytes: &[u8],
        holds: Holds,
        patience: Patience,
    ) -> Result<(), PutError> {
        match holds.is_empty() && !self.is_long(bytes.len()) {
            true => Ok(self
                .put_formed(bytes, Kind::Plain, &mut None, patience)
                .map(drop)?),
            false => self.put_odd(bytes, holds, patience),
        }
    }

    /// Puts an encoded value that is long, or has handles in it.
    fn put_odd(&self, bytes: &[u8], holds: Holds, patience: Patience) -> Result<(), PutError> {
        let (kind, mut block) = self.form(bytes, &holds)?;
        let mark = self.put_formed(bytes, kind, &mut block, patience)?;
        self.keep(mark, holds);
        Ok(())
    }

    /// What message an encoded value is; and its block, if it is long, or has handles.
    pub(super) fn form(
        &self,
        bytes: &[u8],
        holds: &Holds,
    ) -> Result<(Kind, Option<Block>), PutError> {
        if !holds.is_empty() && !holds.has(self.raw.region()) {
            let block = handoff::to_block(bytes, holds)?;
            if block.is_some() {
                return Ok((Kind::Block, block));
            }
        }
        let is_long = self.is_long(bytes.len());
        let block = is_long.then(|| block_of(bytes)).transpose()?;
        let kind = match (is_long, holds.is_empty()) {
            (true, true) => Kind::Block,
            (true, false) => Kind::HoldingBlock,
            (false, true) => Kind::Plain,
            (false, false) => Kind::Holding,
        };
        Ok((kind, block))
    }

    /// Puts a message of either form; a block stays the caller's if it is not put.
    #[inline]
    pub(super) fn put_formed(
        &self,
        bytes: &[u8],
        kind: Kind,
        block: &mut Option<Block>,
        patience: Patience,
    ) -> Result<Mark, Stop> {
        if block.is_some() {
            return self.put_block(block, kind, patience);
        }
        let mut batch = Batch::one(kind, bytes);
        self.raw.put(&mut batch, block, patience)
    }

    /// Puts a message that is a block, and takes it; it stays the caller's if it is not put.
    pub(super) fn put_block(
        &self,
        block: &mut Option<Block>,
        kind: Kind,
        patience: Patience,
    ) -> Result<Mark, Stop> {
        let handle = block.as_ref().map_or(0, |block| block.handle().to_bits());
        let payload = handle.to_ne_bytes();
        self.raw
            .put(&mut Batch::one(kind, &payload), block, patience)
    }

    /// Whether an encoding of this length does not travel in the ring itself.
    #[inline]
    pub(super) fn is_long(&self, length: usize) -> bool {
        length as u64 > self.raw.longest()
    }

    /// Keeps what a message refers to until it was taken; and lets go of what was taken before.
    #[inline]
    pub(super) fn keep(&self, mark: Mark, holds: Holds) {
        if holds.is_empty() {
            return;
        }
        let mut lingering = self.lingering();
        let received = lingering.take_received();
        lingering.keep(mark.to_bits(), holds, || {
            let mut queue = self.raw.clone();
            Box::new(move |position| queue.has_passed(Mark::from_bits(position)))
        });
        drop(lingering);
        if !received.is_empty() {
            // A destructor may put into this very queue.
            drop(received);
            linger::sweep(None);
        }
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the first value; waits for one.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`], when the queue was closed and everything in it was taken;
    /// [`GetError::Undecodable`], and what cannot happen to those who keep to the rules.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_patiently(Patience::Until(Deadline::NEVER))
    }

    /// Takes the first value if there is one now.
    ///
    /// A value with an end of a pipe in it, which another consumer is just taking, is not there any more,
    /// and neither is what lies behind it, until that one has it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), or [`GetError::Empty`].
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_patiently(Patience::None)
    }

    /// Takes the first value; gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), or [`GetError::TimedOut`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_patiently(Patience::Until(Deadline::after(timeout)))
    }

    /// Takes the first value; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), or [`GetError::TimedOut`].
    pub fn get_deadline(&self, deadline: Instant) -> Result<T, GetError> {
        self.get_patiently(Patience::Until(Deadline::at(deadline)))
    }

    /// Takes the first value, for `.await` on any runtime. Dropped before it is ready, it has taken
    /// nothing.
    ///
    /// While it waits, a thread of the library sleeps on its behalf, as for
    /// [`Receiver::recv_async`](crate::Receiver::recv_async). A value that is put wakes all who wait for
    /// one.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_async(&self) -> Get<'_, T> {
        Get::new(self)
    }

    #[inline]
    fn get_patiently(&self, patience: Patience) -> Result<T, GetError> {
        with_buffer(|buffer| {
            let mut into = Taking::one(buffer);
            let message = self.raw.get(&mut into, Call::Take, patience)?;
            Ok(decode(&message, buffer)?)
        })
    }
}

/// The value of one message, whose bytes are given unless it is a block.
#[inline]
pub(super) fn decode<T: DeserializeOwned>(
    message: &Message<'_>,
    bytes: &[u8],
) -> Result<T, UnpackError> {
    let block = match message {
        Message::Block(block) => Some(block),
        Message::Seen(seen) => seen.block.as_ref(),
        Message::Taken | Message::Leased(_) => None,
    };
    handoff::unpack(block.map_or(bytes, bytes_in))
}

thread_local! {
    /// The encoding of the last value of this thread; kept for its memory. In a box, so that a pointer is
    /// all that moves.
    #[expect(clippy::box_collection, reason = "a vector that was just filled moves slowly")]
    static BUFFER: Cell<Option<Box<Vec<u8>>>> = const { Cell::new(None) };
}

/// What is not kept between calls.
const LARGE_BUFFER: usize = 1 << 20;

/// Runs `f` with an empty buffer; a call inside of `f` gets another one.
#[inline]
pub(super) fn with_buffer<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = BUFFER.take().unwrap_or_default();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= LARGE_BUFFER {
        BUFFER.set(Some(buffer));
    }
    result
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            raw: self.raw.clone(),
            lingering: Arc::clone(&self.lingering),
            values: PhantomData,
        }
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.region().serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let region = Region::deserialize(deserializer)?;
        RawQueue::attach(region).map(Queue::of).map_err(|Corrupt| {
            let reason = "the region is no queue";
            handoff::refuse(reason.to_owned());
            D::Error::custom(reason)
        })
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("Queue")
            .field("items", &stats.items)
            .field("bytes", &stats.bytes)
            .field("is_closed", &stats.is_closed)
            .finish_non_exhaustive()
    }
}
