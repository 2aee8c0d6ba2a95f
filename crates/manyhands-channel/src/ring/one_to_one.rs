//! Making a ring.

use std::sync::atomic::Ordering::Relaxed;

use manyhands_shm::Region;

use crate::ring::consumer::Consumer;
use crate::ring::cursor::{Corrupt, Memory, Reader, Writer};
use crate::ring::endpoint::Endpoint;
use crate::ring::error::RingError;
use crate::ring::layout::{Header, LEAST_CAPACITY, MOST_CAPACITY};
use crate::ring::memory::Mapped;
use crate::ring::producer::Producer;
use crate::ring::view::Side;

/// Makes a ring for `capacity` bytes of messages, each of which takes 8 bytes more and is padded to
/// a multiple of 8.
///
/// The capacity is rounded up to a power of two, at least 64. A message may be larger than the
/// ring. Both ends are ours at first; either is moved by sending it to another process.
///
/// # Errors
///
/// [`RingError`]: no arena, no room in it, or a capacity above 2 GiB.
///
/// # Examples
///
/// ```
/// use manyhands_channel::ring::{RecvError, ring};
///
/// let (mut producer, mut consumer) = ring(4096)?;
/// producer.send(b"one")?;
/// producer.send(b"two")?;
/// drop(producer);
///
/// let mut message = Vec::new();
/// consumer.recv(&mut message)?;
/// assert_eq!(message, b"one");
/// consumer.recv(&mut message)?;
/// assert_eq!(message, b"two");
/// assert_eq!(consumer.recv(&mut message), Err(RecvError::Closed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// An end has one user at a time, so two threads cannot share it:
///
/// ```compile_fail
/// let (producer, _consumer) = manyhands_channel::ring::ring(4096).unwrap();
/// let shared = &producer;
/// std::thread::scope(|threads| {
///     threads.spawn(|| shared.position());
/// });
/// ```
pub fn ring(capacity: usize) -> Result<(Producer, Consumer), RingError> {
    let too_large = RingError::TooLarge {
        asked: capacity,
        limit: MOST_CAPACITY,
    };
    if capacity as u64 > MOST_CAPACITY {
        return Err(too_large);
    }
    let size = (capacity as u64).next_power_of_two().max(LEAST_CAPACITY);
    let region = Region::new(size_of::<Header>() + size as usize)?;
    let memory = Mapped::new(region).map_err(unmade)?;
    // Relaxed: nobody else knows the region yet.
    memory.header().capacity.0.store(size, Relaxed);
    let producer = Endpoint::first(memory.clone(), Side::Producer)?;
    let consumer = Endpoint::first(memory.clone(), Side::Consumer)?;
    let writer = Writer::attach(memory.clone()).map_err(unmade)?;
    let reader = Reader::attach(memory).map_err(unmade)?;
    Ok((
        Producer::new(writer, producer),
        Consumer::new(reader, consumer),
    ))
}

/// A new region is not as it should be: somebody wrote into memory that was not theirs.
fn unmade(_: Corrupt) -> RingError {
    RingError::Corrupt
}
