//! The queue between threads; what needs processes is in the tests of the workspace.

mod holding;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use manyhands_shm::{Region, handoff};
use proptest::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;
use crate::{Pipe, Sender};

/// A time-out that is to be seen passing.
pub(super) const SOON: Duration = Duration::from_millis(5);

pub(super) fn small(items: usize) -> Queue<u64> {
    Queue::bounded(items).expect("room")
}

#[test]
fn queue_01_new_one_is_empty_and_values_come_in_order() {
    let queue = small(10);
    assert!(queue.is_empty());
    for value in [111, 333, 222] {
        queue.put(&value).expect("room");
    }
    assert_eq!(queue.len(), 3);
    for value in [111, 333, 222] {
        assert_eq!(queue.get().expect("a value"), value);
    }
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
}

#[test]
fn queue_02_full_one_refuses_or_waits_and_goes_on_when_one_is_taken() {
    let queue = small(5);
    for value in 0..5 {
        queue.put(&value).expect("room");
    }
    assert!(matches!(queue.try_put(&5), Err(PutError::Full)));
    assert!(matches!(
        queue.put_timeout(&5, SOON),
        Err(PutError::TimedOut)
    ));
    let deadline = Instant::now() + SOON;
    let late = queue.put_deadline(&5, deadline);
    assert!(matches!(late, Err(PutError::TimedOut)) && Instant::now() >= deadline);
    for with_deadline in [false, true] {
        thread::scope(|threads| {
            let putting = threads.spawn(|| match with_deadline {
                false => queue.put(&9),
                true => queue.put_timeout(&9, Duration::from_secs(60)),
            });
            until(|| queue.stats().producers_wait);
            queue.get().expect("five are there");
            putting.join().expect("no panic").expect("room now");
        });
        assert_eq!(queue.len(), 5);
    }
}

#[test]
fn get_waits_for_a_value_or_until_its_deadline() {
    let queue = small(5);
    assert!(matches!(queue.get_timeout(SOON), Err(GetError::TimedOut)));
    let past = Instant::now();
    assert!(matches!(queue.get_deadline(past), Err(GetError::TimedOut)));
    thread::scope(|threads| {
        let getting = threads.spawn(|| queue.get_timeout(Duration::MAX));
        until(|| queue.stats().consumers_wait);
        queue.put(&7).expect("room");
        assert_eq!(getting.join().expect("no panic").expect("a value"), 7);
    });
}

#[test]
fn queue_10_11_closed_one_takes_nothing_and_gives_what_it_has() {
    let queue = small(5);
    queue.put(&1).expect("room");
    queue.close();
    queue.close();
    assert!(queue.is_closed());
    assert!(matches!(queue.put(&2), Err(PutError::Closed)));
    assert!(matches!(queue.try_put(&2), Err(PutError::Closed)));
    assert_eq!(queue.get().expect("it is there still"), 1);
    for _ in 0..2 {
        assert!(matches!(queue.get(), Err(GetError::Closed)));
        assert!(matches!(queue.try_get(), Err(GetError::Closed)));
        assert!(matches!(queue.get_timeout(SOON), Err(GetError::Closed)));
    }
}

#[test]
fn queue_12_15_immediate_shutdown_drops_what_is_there() {
    let queue = small(5);
    queue.put(&1).expect("room");
    queue.put(&2).expect("room");
    assert_eq!(queue.shutdown(), 2);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert_eq!((queue.shutdown(), queue.len()), (0, 0));
}

#[test]
fn queue_19_20_24_close_wakes_all_who_wait() {
    let (empty, full) = (small(1), small(1));
    full.put(&0).expect("room");
    thread::scope(|threads| {
        let getting = [(); 3].map(|()| threads.spawn(|| empty.get()));
        let putting = [(); 3].map(|()| threads.spawn(|| full.put(&1)));
        until(|| empty.stats().consumers_wait && full.stats().producers_wait);
        empty.close();
        full.close();
        for thread in getting {
            assert!(matches!(thread.join(), Ok(Err(GetError::Closed))));
        }
        for thread in putting {
            assert!(matches!(thread.join(), Ok(Err(PutError::Closed))));
        }
    });
    assert_eq!(full.get().expect("it was there"), 0);
}

#[test]
fn queue_18_of_three_getters_after_the_close_one_finds_the_end() {
    let queue = small(5);
    queue.put(&1).expect("room");
    queue.put(&2).expect("room");
    queue.close();
    let ends = AtomicU32::new(0);
    thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| match queue.get() {
                Ok(_) => {}
                Err(GetError::Closed) => drop(ends.fetch_add(1, SeqCst)),
                Err(error) => panic!("{error}"),
            });
        }
    });
    assert_eq!(ends.load(SeqCst), 1);
}

/// Through a queue of some few values, so that both sides wait often.
#[test]
fn simpleq_06_many_threads_lose_and_double_nothing_and_keep_the_order_of_each() {
    const EACH: u64 = 2_000;
    for items in [1, 3, 1000] {
        let queue = small(items);
        let sum = &AtomicU32::new(0);
        thread::scope(|threads| {
            let producers = [0, 1, 2, 3].map(|producer| {
                let queue = queue.clone();
                threads.spawn(move || {
                    for number in 0..EACH {
                        queue.put(&(producer << 32 | number)).expect("it is open");
                    }
                })
            });
            for _ in 0..3 {
                let queue = queue.clone();
                threads.spawn(move || {
                    let mut last = [None; 4];
                    loop {
                        let value = match queue.get() {
                            Ok(value) => value,
                            Err(GetError::Closed) => return,
                            Err(error) => panic!("{error}"),
                        };
                        let producer = (value >> 32) as usize;
                        let number = Some(value & 0xffff_ffff);
                        assert!(number > last[producer], "out of order");
                        last[producer] = number;
                        sum.fetch_add(1, Relaxed);
                    }
                });
            }
            for producer in producers {
                producer.join().expect("no panic");
            }
            queue.close();
        });
        assert_eq!(u64::from(sum.load(Relaxed)), 4 * EACH);
        assert!(queue.stats().peak_items <= items);
    }
}

#[test]
fn values_of_all_lengths_cross_also_those_longer_than_the_queue() {
    let queue = Queue::<Vec<u8>>::builder()
        .bytes(4096)
        .build()
        .expect("room");
    thread::scope(|threads| {
        threads.spawn(|| {
            for length in (0..600).chain([4_000, 5_000, 1 << 20, 0, 3]) {
                queue.put(&vec![length as u8; length]).expect("it is open");
            }
            queue.close();
        });
        for length in (0..600).chain([4_000, 5_000, 1 << 20, 0, 3]) {
            let value = queue.get().expect("one more");
            assert!(value.len() == length && value.iter().all(|byte| *byte == length as u8));
        }
        assert!(matches!(queue.get(), Err(GetError::Closed)));
    });
}

#[test]
fn queue_in_a_parcel_is_the_same_queue() {
    let queue = small(5);
    let parcel = handoff::pack(&queue).expect("in a parcel");
    let other: Queue<u64> = handoff::unpack(&parcel.bytes).expect("it is alive");
    other.put(&5).expect("room");
    assert_eq!(queue.get().expect("a value"), 5);
    drop(queue);
    other.put(&6).expect("room");
    assert_eq!(other.get().expect("a value"), 6);
}

/// Panics when it is decoded.
#[derive(Debug)]
struct Panics;

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // With a handle, so that it is decoded in front of the queue.
        Queue::<u8>::new().expect("room").serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("on purpose")
    }
}

#[test]
fn value_whose_decoding_panics_is_gone_and_the_queue_goes_on() {
    let queue = Queue::<Panics>::new().expect("room");
    queue.put(&Panics).expect("room");
    queue.put(&Panics).expect("room");
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.get()));
    assert!(caught.is_err() && queue.len() == 1);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.try_get()));
    assert!(caught.is_err() && queue.is_empty());
}

/// Gets once more while it is decoded.
struct Nested;

static NESTED: Mutex<Option<Queue<Nested>>> = Mutex::new(None);

impl Serialize for Nested {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // With an end of a pipe, so that it is decoded in front of the queue.
        let (sender, _receiver) = Pipe::simplex::<u8>().expect("room");
        sender.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Sender::<u8>::deserialize(deserializer)?;
        let queue = NESTED.lock().expect("no panic").clone();
        let inner = queue.expect("it is set").get();
        assert!(matches!(inner, Err(GetError::Reentered)));
        Ok(Nested)
    }
}

#[test]
fn decoding_that_gets_from_the_same_queue_is_an_error_and_no_deadlock() {
    let queue = Queue::<Nested>::new().expect("room");
    *NESTED.lock().expect("no panic") = Some(queue.clone());
    queue.put(&Nested).expect("room");
    assert!(queue.get().is_ok() && queue.is_empty());
    *NESTED.lock().expect("no panic") = None;
}

static WATCHED: Mutex<Option<Queue<Watched>>> = Mutex::new(None);

/// With an end of a pipe, and too long for its queue: so a block that is decoded in front of it.
struct Watched;

impl Serialize for Watched {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (sender, _receiver) = Pipe::simplex::<u8>().expect("room");
        (sender, "long".repeat(1000)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Watched {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let queue = WATCHED.lock().expect("no panic").clone();
        let queue = queue.expect("it is set");
        let others = || queue.try_get().is_err() && queue.try_lease().is_err();
        let nothing = thread::scope(|threads| threads.spawn(others).join().expect("no panic"));
        assert!(nothing && queue.len() == 1, "it is being decoded");
        <(Sender<u8>, String)>::deserialize(deserializer).map(|_| Watched)
    }
}

/// Another consumer took a block that was withdrawn and not decoded yet for one whose taker had died, and
/// passed over the message: its sender let the end in it go too early.
#[test]
fn message_that_is_decoded_in_front_of_the_queue_is_passed_over_by_nobody() {
    let queue = Queue::<Watched>::builder().bytes(4096).build();
    let queue = queue.expect("room");
    *WATCHED.lock().expect("no panic") = Some(queue.clone());
    queue.put(&Watched).expect("room");
    assert!(queue.get().is_ok() && queue.is_empty());
    *WATCHED.lock().expect("no panic") = None;
}

#[test]
fn value_that_cannot_be_decoded_is_told_and_gone() {
    let queue = small(5);
    let bytes = handoff::pack(&queue).expect("in a parcel");
    let other: Queue<String> = handoff::unpack(&bytes.bytes).expect("any type is believed");
    queue.put(&300).expect("room");
    queue.put(&0).expect("room");
    assert!(matches!(other.get(), Err(GetError::Undecodable(_))));
    assert_eq!(other.get().expect("an empty text"), "");
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for builder in [
        Queue::<u8>::builder().items(0),
        Queue::builder().items(1 << 32),
        Queue::builder().bytes(1 << 31),
        Queue::builder().bytes(usize::MAX),
    ] {
        assert!(matches!(builder.build(), Err(QueueError::Size { .. })));
    }
    let region = Region::new(10_000).expect("room");
    let parcel = handoff::pack(&region).expect("in a parcel");
    let error = handoff::unpack::<Queue<u8>>(&parcel.bytes).expect_err("it is none");
    assert!(error.to_string().contains("no queue"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn queue_does_as_a_deque_of_some_length_does(
        items in 1_usize..20,
        steps in prop::collection::vec((0..4, 0_usize..700), 1..300),
    ) {
        let queue = Queue::<Vec<u8>>::builder().items(items).bytes(4096).build().expect("room");
        let mut model = VecDeque::new();
        for (number, (kind, length)) in steps.into_iter().enumerate() {
            let value = |more| vec![(number + more) as u8; (length + 100 * more) % 700];
            let is_full = |values: usize, length| {
                let used = queue.stats().bytes;
                values == items || used + length + 18 > 4096
            };
            match kind {
                0 => match queue.try_put(&value(0)) {
                    Ok(()) => model.push_back(value(0)),
                    Err(PutError::Full) => prop_assert!(is_full(model.len(), value(0).len())),
                    Err(error) => panic!("{error}"),
                },
                1 => {
                    let values = [0, 1, 2, 3].map(value);
                    let put = match queue.try_put_many(&values) {
                        Ok(()) => values.len(),
                        Err(PutManyError { put, error: PutError::Full }) => put,
                        Err(error) => panic!("{error}"),
                    };
                    model.extend(values[..put].iter().cloned());
                    let refused = values.get(put).map(Vec::len);
                    prop_assert!(refused.is_none_or(|length| is_full(model.len(), length)));
                }
                2 => match queue.try_get() {
                    Ok(value) => prop_assert_eq!(Some(value), model.pop_front()),
                    Err(GetError::Empty) => prop_assert!(model.is_empty()),
                    Err(error) => panic!("{error}"),
                },
                _ => {
                    let most = 1 + length % 5;
                    let values = queue.try_get_many(most).unwrap_or_default();
                    // Long ones come alone.
                    prop_assert!(values.len() <= most && values.is_empty() == model.is_empty());
                    for value in values {
                        prop_assert_eq!(Some(value), model.pop_front());
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert!(model.len() <= items);
        }
    }
}

/// Waits until something is so, which another thread is about to make so.
pub(super) fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(Instant::now() < end, "it never came");
        thread::yield_now();
    }
}
