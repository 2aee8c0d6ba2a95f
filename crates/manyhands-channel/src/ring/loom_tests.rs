//! Every interleaving of two short histories, by the model checker.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release -p manyhands-channel --lib loom_`. The
//! memory of the ring is a vector of cells that loom watches for races, and the futex is a mutex
//! and a condition variable. With `MANYHANDS_PLANTED_BUG=parking` in the environment the sleeper does
//! not look again after it lay down, and the run must fail: loom reports a deadlock, and aborts on
//! the second one.

use std::sync::atomic::Ordering::Relaxed;

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::primitive::{AtomicU32, AtomicU64};
use crate::ring::cursor::{Memory, Reader, Writer};
use crate::ring::layout::{Header, Kind, LEAST_CAPACITY};
use crate::ring::loom_cells::Cells;
use crate::ring::parking::{Bunk, Parking, Woken};

/// A futex: whoever holds the mutex compares and lies down in one step, as the kernel does.
#[derive(Default)]
struct Futex {
    mutex: Mutex<()>,
    condition: Condvar,
}

impl Futex {
    fn wait(&self, word: &AtomicU32, expected: u32) {
        let guard = self.mutex.lock().expect("no thread panics inside");
        if word.load(Relaxed) == expected {
            drop(self.condition.wait(guard).expect("no thread panics inside"));
        }
    }

    fn wake(&self) {
        drop(self.mutex.lock().expect("no thread panics inside"));
        self.condition.notify_all();
    }
}

/// A ring of the smallest size on the heap.
struct Model {
    header: Header,
    cells: Cells,
    producer_futex: Futex,
    consumer_futex: Futex,
}

impl Model {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            header: Header::new(LEAST_CAPACITY),
            cells: Cells::new(LEAST_CAPACITY),
            producer_futex: Futex::default(),
            consumer_futex: Futex::default(),
        })
    }
}

impl Memory for Arc<Model> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn size(&self) -> u64 {
        LEAST_CAPACITY
    }

    fn store_head(&self, offset: u64, bits: u64) {
        self.cells.write(offset, &bits.to_ne_bytes());
    }

    fn load_head(&self, offset: u64) -> u64 {
        u64::from_ne_bytes(self.cells.read(offset))
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        self.cells.write(offset, bytes);
    }

    fn append(&self, offset: u64, length: u64, into: &mut Vec<u8>) {
        self.cells.append(offset, length, into);
    }

    fn wake(&self, word: &AtomicU32) {
        // The models know the word by its place, as the kernel does.
        let producer = std::ptr::from_ref(&self.header.producer_parking.0).addr();
        let size = size_of_val(&self.header.producer_parking.0);
        let place = std::ptr::from_ref(word).addr();
        if (producer..producer + size).contains(&place) {
            self.producer_futex.wake();
        } else {
            self.consumer_futex.wake();
        }
    }
}

/// Puts one message, sleeping while there is no room.
fn put(writer: &mut Writer<Arc<Model>>, message: &[u8]) {
    let wanted = 8 + message.len() as u64;
    while writer.room(wanted).expect("the ring is whole") < wanted {
        writer.announce(wanted);
        let model = writer.memory();
        model.header.producer_parking.0.parking.sleep(
            || !writer.has_room(wanted),
            |word, expected| model.producer_futex.wait(word, expected),
        );
    }
    let pending = writer.put(Kind::Whole, message);
    writer.publish(pending);
}

/// Takes one message, sleeping while there is none.
fn take(reader: &mut Reader<Arc<Model>>) -> Vec<u8> {
    loop {
        if let Some(record) = reader.next().expect("the ring is whole") {
            let mut message = Vec::new();
            reader.append(record, &mut message);
            reader.release(record);
            return message;
        }
        let model = reader.memory();
        model.header.consumer_parking.0.sleep(
            || !reader.has_record(),
            |word, expected| model.consumer_futex.wait(word, expected),
        );
    }
}

/// Runs a model of sleeping: with at most three preemptions each.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn loom_record_is_seen_whole_or_not_at_all() {
    loom::model(|| {
        let model = Model::new();
        let mut reader = Reader::attach(model.clone()).expect("the ring is new");
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(model).expect("the ring is new");
            for value in 1..=2 {
                let pending = writer.put(Kind::Whole, &[value; 16]);
                writer.publish(pending);
            }
        });
        let mut expected = 1;
        for _ in 0..3 {
            if let Some(record) = reader.next().expect("the ring is whole") {
                let mut message = Vec::new();
                reader.append(record, &mut message);
                assert_eq!(message, [expected; 16]);
                reader.release(record);
                expected += 1;
            }
        }
        producer.join().expect("the producer does not panic");
    });
}

#[test]
fn loom_place_is_written_again_only_after_it_was_read() {
    loom::model(|| {
        let model = Model::new();
        let mut reader = Reader::attach(model.clone()).expect("the ring is new");
        let mut writer = Writer::attach(model).expect("the ring is new");
        let pending = writer.put(Kind::Whole, &[1; 48]);
        writer.publish(pending);
        let producer = thread::spawn(move || {
            for _ in 0..2 {
                if writer.room(40).expect("the ring is whole") >= 40 {
                    let pending = writer.put(Kind::Whole, &[2; 32]);
                    writer.publish(pending);
                    break;
                }
            }
        });
        let record = reader
            .next()
            .expect("the ring is whole")
            .expect("one is there");
        let mut message = Vec::new();
        reader.append(record, &mut message);
        assert_eq!(message, [1; 48]);
        reader.release(record);
        producer.join().expect("the producer does not panic");
    });
}

#[test]
fn loom_consumer_that_sleeps_is_woken() {
    explore(|| {
        let model = Model::new();
        let mut reader = Reader::attach(model.clone()).expect("the ring is new");
        let producer = thread::spawn(move || {
            let mut writer = Writer::attach(model).expect("the ring is new");
            put(&mut writer, &[1; 8]);
            put(&mut writer, &[2; 8]);
        });
        assert_eq!(take(&mut reader), [1; 8]);
        assert_eq!(take(&mut reader), [2; 8]);
        producer.join().expect("the producer does not panic");
    });
}

#[test]
fn loom_producer_that_sleeps_is_woken_when_there_is_room_enough() {
    explore(|| {
        let model = Model::new();
        let mut reader = Reader::attach(model.clone()).expect("the ring is new");
        let mut writer = Writer::attach(model).expect("the ring is new");
        // Two small ones fill most of the ring: the large one needs both to be taken.
        for _ in 0..2 {
            let pending = writer.put(Kind::Whole, &[1; 16]);
            writer.publish(pending);
        }
        let producer = thread::spawn(move || put(&mut writer, &[2; 40]));
        for expected in [&[1; 16][..], &[1; 16], &[2; 40]] {
            assert_eq!(take(&mut reader), expected);
        }
        producer.join().expect("the producer does not panic");
    });
}

#[test]
fn loom_sleeper_is_woken_by_each_of_two_changers() {
    explore(|| {
        // A bell in miniature: two changers, each of which remembers whom it woke.
        let shared = Arc::new((Parking::new(), AtomicU64::new(0), Futex::default()));
        let changers: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let (parking, changes, futex) = &*shared;
                    changes.fetch_add(1, Relaxed);
                    parking.notify(&mut Woken::default(), || true, |_| futex.wake());
                })
            })
            .collect();
        let (parking, changes, futex) = &*shared;
        while changes.load(Relaxed) < 2 {
            parking.sleep(
                || changes.load(Relaxed) < 2,
                |word, expected| futex.wait(word, expected),
            );
        }
        for changer in changers {
            changer.join().expect("the changer does not panic");
        }
    });
}

#[test]
fn loom_those_who_sleep_on_behalf_are_woken_also_beside_the_owner() {
    explore(|| {
        let shared = Arc::new((Parking::new(), AtomicU64::new(0), Futex::default()));
        let wait_for = |count: u64, bunk: Bunk, shared: &(Parking, AtomicU64, Futex)| {
            let (parking, changes, futex) = shared;
            let nothing_yet = || changes.load(Relaxed) < count;
            while nothing_yet() {
                if let Some(expected) = parking.lie_down(bunk, nothing_yet) {
                    futex.wait(parking.word(), expected);
                }
                if bunk == Bunk::Own {
                    parking.get_up();
                }
            }
        };
        let on_behalf = {
            let shared = shared.clone();
            thread::spawn(move || wait_for(2, Bunk::Behalf, &shared))
        };
        let changer = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (parking, changes, futex) = &*shared;
                let mut woken = Woken::default();
                for _ in 0..2 {
                    changes.fetch_add(1, Relaxed);
                    parking.notify(&mut woken, || true, |_| futex.wake());
                }
            })
        };
        wait_for(1, Bunk::Own, &shared);
        changer.join().expect("the changer does not panic");
        on_behalf.join().expect("the sleeper does not panic");
    });
}

#[test]
fn loom_two_who_sleep_on_behalf_do_not_hide_each_other() {
    explore(|| {
        let shared = Arc::new((Parking::new(), AtomicU64::new(0), Futex::default()));
        let sleepers: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let (parking, changes, futex) = &*shared;
                    let nothing_yet = || changes.load(Relaxed) < 2;
                    while nothing_yet() {
                        if let Some(expected) = parking.lie_down(Bunk::Behalf, nothing_yet) {
                            futex.wait(parking.word(), expected);
                        }
                    }
                })
            })
            .collect();
        let (parking, changes, futex) = &*shared;
        let mut woken = Woken::default();
        for _ in 0..2 {
            changes.fetch_add(1, Relaxed);
            parking.notify(&mut woken, || true, |_| futex.wake());
        }
        for sleeper in sleepers {
            sleeper.join().expect("the sleeper does not panic");
        }
    });
}
