//! Many small values in one call: those that fit are committed by one store, and taken by one.

use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_shm::handoff;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{Batch, Call, Taking, begin_record, end_record, first_record};
use super::raw::Message;
use super::typed::{decode, with_buffer};
use super::{GetError, GetManyError, PutError, PutManyError, Queue};
use crate::patience::Patience;
use crate::ring::RECORD_HEAD;

/// So many bytes, about, and so many values are committed or taken at once: while one side does
/// that, the others of this side wait.
const BYTES: usize = 32 << 10;
const VALUES: usize = 1024;

impl<T: Serialize> Queue<T> {
    /// Puts values behind the others, in their order; waits while there is no room.
    ///
    /// Small ones without handles cost little more together than one. Values of other producers may
    /// come between them. If this process is killed meanwhile, the first few are in the queue, each
    /// of them whole, and the others are not.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), with the number of values that were put before.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::{PutError, Queue};
    ///
    /// let queue = Queue::bounded(3)?;
    /// queue.put_many(&[1, 2])?;
    /// let refused = queue.try_put_many(&[3, 4, 5]).expect_err("one fits");
    /// assert!(refused.put == 1 && matches!(refused.error, PutError::Full));
    /// assert_eq!(queue.get_many(10)?, [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Python: no equal.
    pub fn put_many(&self, values: &[T]) -> Result<(), PutManyError> {
        self.put_all(values, Patience::Until(Deadline::NEVER))
    }

    /// Puts the values for which there is room now.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many), or [`PutError::Full`]; what is said at
    /// [`try_put`](Self::try_put) of ends of rings is true of the first value that was not put.
    pub fn try_put_many(&self, values: &[T]) -> Result<(), PutManyError> {
        self.put_all(values, Patience::None)
    }

    /// Puts values; gives up after `timeout`, which is for all of them.
    ///
    /// # Errors
    ///
    /// As [`try_put_many`](Self::try_put_many), but [`PutError::TimedOut`].
    pub fn put_many_timeout(&self, values: &[T], timeout: Duration) -> Result<(), PutManyError> {
        self.put_all(values, Patience::Until(Deadline::after(timeout)))
    }

    /// Puts values; gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`put_many_timeout`](Self::put_many_timeout).
    pub fn put_many_deadline(&self, values: &[T], deadline: Instant) -> Result<(), PutManyError> {
        self.put_all(values, Patience::Until(Deadline::at(deadline)))
    }

    fn put_all(&self, values: &[T], patience: Patience) -> Result<(), PutManyError> {
        let mut put = 0;
        while put < values.len() {
            // Before encoding, which moves ends of rings away: nobody would get them.
            let some = match self.is_closed() {
                true => Err((0, PutError::Closed)),
                false => self.put_some(&values[put..], patience),
            };
            put += some.map_err(|(more, error)| PutManyError {
                put: put + more,
                error,
            })?;
        }
        Ok(())
    }

    /// Puts as many values as make one batch, and perhaps the one behind them, which is none for a
    /// batch. How many were put.
    fn put_some(&self, values: &[T], patience: Patience) -> Result<usize, (usize, PutError)> {
        with_buffer(|buffer| {
            let (mut many, mut plain, mut odd) = (0, 0, None);
            for value in values.iter().take(VALUES) {
                begin_record(buffer);
                let payload = buffer.len();
                let packed = handoff::pack_into(value, buffer);
                let length = buffer.len() - payload;
                if !packed.as_ref().is_ok_and(|holds| holds.is_empty()) || self.is_long(length) {
                    odd = Some(packed);
                    break;
                }
                end_record(buffer, plain);
                many += 1;
                plain = buffer.len();
                if plain >= BYTES || self.is_long(plain) {
                    break;
                }
            }
            if many > 0 {
                let mut batch = Batch::many(many, &buffer[..plain]);
                let put = self.raw.put(&mut batch, &mut None, patience);
                put.map_err(|stop| ((many - batch.size().0) as usize, stop.into()))?;
            }
            let many = many as usize;
            let Some(packed) = odd else {
                return Ok(many);
            };
            let odd_bytes = &buffer[plain + RECORD_HEAD as usize..];
            let put = packed
                .map_err(PutError::from)
                .and_then(|holds| self.put_packed(odd_bytes, holds, patience));
            put.map_err(|error| (many, error))?;
            Ok(many + 1)
        })
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the values that are there, at most `most`, in their order; waits for one.
    ///
    /// Small ones without handles cost little more together than one. One with handles in it, or a large one,
    /// comes alone. If this process is killed meanwhile, all that it had just taken are lost with it.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get). If one of several cannot be decoded, the error has the others.
    pub fn get_many(&self, most: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_some(most, Patience::Until(Deadline::NEVER))
    }

    /// Takes the values that are there now, at most `most`.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get), and as [`get_many`](Self::get_many).
    pub fn try_get_many(&self, most: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_some(most, Patience::None)
    }

    /// As [`get_many`](Self::get_many), but gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// As [`get_many`](Self::get_many), or [`GetError::TimedOut`].
    pub fn get_many_timeout(
        &self,
        most: usize,
        timeout: Duration,
    ) -> Result<Vec<T>, GetManyError<T>> {
        self.get_some(most, Patience::Until(Deadline::after(timeout)))
    }

    /// As [`get_many`](Self::get_many), but gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// As [`get_many_timeout`](Self::get_many_timeout).
    pub fn get_many_deadline(
        &self,
        most: usize,
        deadline: Instant,
    ) -> Result<Vec<T>, GetManyError<T>> {
        self.get_some(most, Patience::Until(Deadline::at(deadline)))
    }

    fn get_some(&self, most: usize, patience: Patience) -> Result<Vec<T>, GetManyError<T>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let nothing = |stop| GetManyError {
            values: Vec::new(),
            error: GetError::from(stop),
        };
        with_buffer(|buffer| {
            buffer.reserve(BYTES);
            let mut into = Taking::many(buffer, most.min(VALUES));
            let message = self.raw.get(&mut into, Call::Take, patience);
            let message = message.map_err(nothing)?;
            decode_all(&message, buffer, most.min(VALUES))
        })
    }
}

/// The values of messages, `most` at most, whose records these are.
fn decode_all<T: DeserializeOwned>(
    message: &Message<'_>,
    mut records: &[u8],
    most: usize,
) -> Result<Vec<T>, GetManyError<T>> {
    if records.is_empty() {
        // A block, which comes alone.
        let value = decode(message, records).map_err(|error| GetManyError {
            values: Vec::new(),
            error: GetError::Undecodable(error),
        });
        return Ok(vec![value?]);
    }
    let least = RECORD_HEAD as usize;
    let mut values = Vec::with_capacity(most.min(records.len() / least));
    let mut fault = None;
    while let Some(head) = first_record(records) {
        let end = least + head.length as usize;
        match decode(message, &records[least..end]) {
            Ok(value) => values.push(value),
            Err(error) => {
                fault.get_or_insert(GetError::Undecodable(error));
            }
        }
        records = &records[head.size() as usize..];
    }
    match fault {
        None => Ok(values),
        Some(error) => Err(GetManyError { values, error }),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use manyhands_shm::Shared;

    use super::*;
    use crate::queue::tests::{SOON, small, until};

    #[test]
    fn many_come_out_in_their_order_and_no_more_than_were_asked_for() {
        let queue = small(100);
        queue.put_many(&[]).expect("nothing to do");
        queue.put_many(&[1, 2, 3, 4, 5]).expect("room");
        queue.put(&6).expect("room");
        assert_eq!(queue.len(), 6);
        assert_eq!(queue.get_many(0).expect("nothing"), []);
        assert_eq!(queue.get_many(4).expect("some"), [1, 2, 3, 4]);
        assert_eq!(queue.try_get_many(usize::MAX).expect("some"), [5, 6]);
        let none = queue.try_get_many(3).expect_err("it is empty");
        assert!(matches!(none.error, GetError::Empty) && none.values.is_empty());
        let late = queue.get_many_timeout(3, SOON).expect_err("it is empty");
        assert!(matches!(late.error, GetError::TimedOut));
    }

    #[test]
    fn many_that_find_no_room_tell_how_many_did() {
        let queue = small(5);
        let full = queue.try_put_many(&[1, 2, 3, 4, 5, 6, 7]).expect_err("5");
        assert!(full.put == 5 && matches!(full.error, PutError::Full));
        let late = queue
            .put_many_timeout(&[6, 7], SOON)
            .expect_err("it is full");
        assert!(late.put == 0 && matches!(late.error, PutError::TimedOut));
        thread::scope(|threads| {
            let putting = threads.spawn(|| queue.put_many(&[6, 7, 8, 9, 10, 11]));
            until(|| queue.stats().producers_wait);
            assert_eq!(queue.get_many(2).expect("some"), [1, 2]);
            until(|| queue.len() == 5 && queue.stats().producers_wait);
            queue.close();
            let closed = putting.join().expect("no panic").expect_err("closed");
            assert!(closed.put == 2 && matches!(closed.error, PutError::Closed));
        });
        assert_eq!(queue.get_many(9).expect("some"), [3, 4, 5, 6, 7]);
        let closed = queue.put_many(&[1]).expect_err("closed");
        assert!(closed.put == 0 && matches!(closed.error, PutError::Closed));
        let end = queue.get_many(9).expect_err("closed and empty");
        assert!(matches!(end.error, GetError::Closed));
    }

    /// Through a queue that is smaller than the batches, with lengths that wrap and that do not fit.
    #[test]
    fn many_of_all_lengths_keep_their_order_among_single_ones() {
        let queue = Queue::<Vec<u8>>::builder().bytes(4096).build();
        let queue = queue.expect("room");
        let values = |from: usize| (from..from + 50).map(|n| vec![n as u8; n * 7 % 600]);
        thread::scope(|threads| {
            threads.spawn(|| {
                for from in (0..1000).step_by(50) {
                    let values: Vec<_> = values(from).collect();
                    queue.put_many(&values).expect("it is open");
                    queue.put(&values[7]).expect("it is open");
                }
                queue.close();
            });
            let mut all = Vec::new();
            loop {
                match queue.get_many(30) {
                    Ok(some) => all.extend(some),
                    Err(end) => break assert!(matches!(end.error, GetError::Closed)),
                }
                assert!(queue.len() <= 512);
            }
            let expected = (0..1000).step_by(50).flat_map(|from| {
                let seventh = values(from).nth(7);
                values(from).chain(seventh)
            });
            assert!(all.into_iter().eq(expected));
        });
    }

    #[test]
    fn values_with_handles_among_many_are_kept_until_they_are_taken() {
        let queue = Queue::<Option<Shared<u64>>>::new().expect("room");
        let shared = |number| Some(Shared::new(number).expect("room"));
        let values = [None, None, shared(1), None, shared(2)];
        queue.put_many(&values).expect("room");
        drop(values);
        let mut all = Vec::new();
        while all.len() < 5 {
            all.extend(queue.try_get_many(9).expect("more"));
        }
        let numbers = all.iter().map(|value| value.as_ref().map(|value| **value));
        assert!(numbers.eq([None, None, Some(1), None, Some(2)]));
    }

    #[test]
    fn one_of_many_that_cannot_be_decoded_leaves_the_others() {
        let queue = small(5);
        let parcel = handoff::pack(&queue).expect("in a parcel");
        let other: Queue<bool> = handoff::unpack(&parcel.bytes).expect("any type is believed");
        queue.put_many(&[1, 7, 0, 9]).expect("room");
        let fault = other.get_many(9).expect_err("two are no bool");
        assert_eq!(fault.values, [true, false]);
        assert!(matches!(fault.error, GetError::Undecodable(_)) && other.is_empty());
    }
}
