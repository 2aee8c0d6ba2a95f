//! Values, slices and text in shared memory, changed by one process and seen by another.
//!
//! The numbers in names are those of the behaviors that CPython's own tests check.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, AtomicU64};

use manyhands_channel::{Pipe, Receiver, Sender};
use manyhands_process::Process;
use manyhands_shm::{Shareable, Shared, ShmString, ShmVec};
use manyhands_sync::{Lock, LockError};

use crate::LONG;

/// Locked values of the kinds that Python's `Value` has, and a raw one.
type Values = (
    Lock<i32>,
    Lock<f64>,
    Lock<i16>,
    Lock<i64>,
    Lock<char>,
    AtomicI64,
);

fn change_values(values: Shared<Values>) {
    let (int, double, short, long, character, raw) = &*values;
    *int.lock().expect("nobody died") -= 3;
    *double.lock().expect("nobody died") *= 2.0;
    *short.lock().expect("nobody died") = i16::MIN;
    *long.lock().expect("nobody died") <<= 40;
    *character.lock().expect("nobody died") = '\u{20ac}';
    raw.fetch_add(1, Relaxed);
}

#[test]
fn value_01_what_a_child_writes_is_seen_after_it_is_joined() {
    let values = Shared::new((
        Lock::new(7_i32),
        Lock::new(1.25),
        Lock::new(-5_i16),
        Lock::new(3_i64),
        Lock::new('a'),
        AtomicI64::new(-1),
    ));
    let values: Shared<Values> = values.expect("room");
    assert_eq!(*values.1.lock().expect("nobody died"), 1.25);
    let mut child = Process::spawn(change_values, (values.clone(),)).expect("a child");
    child
        .join_timeout(LONG)
        .expect("it returns")
        .expect("in time");
    assert_eq!(*values.0.lock().expect("nobody died"), 4);
    assert_eq!(*values.1.lock().expect("nobody died"), 2.5);
    assert_eq!(*values.2.lock().expect("nobody died"), i16::MIN);
    assert_eq!(*values.3.lock().expect("nobody died"), 3 << 40);
    assert_eq!(*values.4.lock().expect("nobody died"), '\u{20ac}');
    assert_eq!(values.5.load(Relaxed), 0);
}

fn add(total: Shared<Lock<u64>>, raw: Shared<[AtomicU64]>, times: u64) {
    for index in 0..times {
        *total.lock().expect("nobody died") += 1;
        raw[index as usize % raw.len()].fetch_add(1, SeqCst);
    }
}

#[test]
fn value_05_no_update_of_many_processes_is_lost() {
    let total = Shared::new(Lock::new(0)).expect("room");
    let raw = Shared::<[AtomicU64]>::zeroed(7).expect("room");
    let children: Vec<_> = (0..4)
        .map(|_| Process::spawn(add, (total.clone(), raw.clone(), 5_000)).expect("a child"))
        .collect();
    for mut child in children {
        child
            .join_timeout(LONG)
            .expect("it returns")
            .expect("in time");
    }
    assert_eq!(*total.lock().expect("nobody died"), 20_000);
    assert_eq!(
        raw.iter().map(|part| part.load(SeqCst)).sum::<u64>(),
        20_000
    );
}

/// A structure with a list and a text, as Python's `sharedctypes` test has it.
#[derive(Clone, PartialEq, Debug, Shareable)]
struct Record {
    count: i32,
    ratio: f64,
    numbers: ShmVec<f64, 10>,
    name: ShmString<20>,
}

fn double(record: Shared<Lock<Record>>, numbers: Shared<Lock<[f64]>>, step: Shared<AtomicI32>) {
    let mut record = record.lock().expect("nobody died");
    record.count *= 2;
    record.ratio *= 2.0;
    record.numbers.iter_mut().for_each(|number| *number *= 2.0);
    let twice = record.name.to_string().repeat(2);
    record.name.set(&twice).expect("it fits");
    let mut numbers = numbers.lock().expect("nobody died");
    numbers.iter_mut().for_each(|number| *number *= 2.0);
    step.fetch_add(1, SeqCst);
}

#[test]
fn value_06_07_structure_is_changed_in_place_and_a_copy_is_independent() {
    let record = Record {
        count: 7,
        ratio: 0.5,
        numbers: ShmVec::from_slice(&[1.0, 2.0, 3.0]).expect("it fits"),
        name: ShmString::default(),
    };
    let record = Shared::new(Lock::new(record)).expect("room");
    record
        .lock()
        .expect("nobody died")
        .name
        .set("hello")
        .expect("it fits");
    let copy = record.lock().expect("nobody died").clone();
    let numbers = Shared::<Lock<[f64]>>::from_fn(10, |index| index as f64).expect("room");
    let step = Shared::new(AtomicI32::new(0)).expect("room");
    let arguments = (record.clone(), numbers.clone(), step.clone());
    let mut child = Process::spawn(double, arguments).expect("a child");
    child
        .join_timeout(LONG)
        .expect("it returns")
        .expect("in time");

    let guard = record.lock().expect("nobody died");
    assert_eq!((guard.count, guard.ratio, step.load(SeqCst)), (14, 1.0, 1));
    assert_eq!(*guard.numbers, [2.0, 4.0, 6.0]);
    assert_eq!(guard.name.as_str(), "hellohello");
    let doubled = (0..10).map(|index| f64::from(index * 2));
    assert!(
        numbers
            .lock()
            .expect("nobody died")
            .iter()
            .copied()
            .eq(doubled)
    );
    assert_eq!((copy.count, copy.name.as_str()), (7, "hello"));
}

fn shorten(text: Shared<Lock<ShmString<20>>>) -> (String, usize) {
    let mut text = text.lock().expect("nobody died");
    let before = text.to_string();
    text.set("x").expect("it fits");
    (before, text.capacity())
}

#[test]
fn value_08_text_may_be_shorter_than_its_storage() {
    let text = Shared::new(Lock::new(ShmString::new())).expect("room");
    text.lock()
        .expect("nobody died")
        .set("quite short")
        .expect("it fits");
    let mut child = Process::spawn(shorten, (text.clone(),)).expect("a child");
    let (before, capacity) = child
        .join_timeout(LONG)
        .expect("it returns")
        .expect("in time");
    assert_eq!((before.as_str(), capacity), ("quite short", 20));
    assert_eq!(&*text.lock().expect("nobody died"), "x");
}

/// Frees another shared object when it is dropped.
#[derive(Shareable)]
struct Last {
    dropped: AtomicU8,
}

impl Drop for Last {
    fn drop(&mut self) {
        // Takes and gives back memory of the same class, inside of the drop of a block.
        let other = Shared::new(AtomicU8::new(1)).expect("room");
        assert_eq!(other.load(Relaxed), 1);
        *self.dropped.get_mut() = 1;
    }
}

#[test]
fn value_10_memory_may_be_freed_by_the_destructor_of_what_is_freed() {
    for _ in 0..100 {
        let last = Shared::new(Last {
            dropped: AtomicU8::new(0),
        });
        drop(last.expect("room"));
    }
}

fn write_for_ever(words: Shared<Lock<ShmVec<u64, 64>>>, mut ready: Sender<()>) {
    ready.send(&()).expect("the test listens");
    let mut number = 0_u64;
    loop {
        let mut guard = match words.lock() {
            Ok(guard) => guard,
            Err(LockError::OwnerDied { mut guard, .. }) => {
                guard.mark_consistent();
                guard
            }
            Err(error) => panic!("{error}"),
        };
        if guard.push(number).is_err() {
            guard.clear();
        }
        number += 1;
    }
}

#[test]
fn vector_of_a_killed_holder_has_whole_items_in_order() {
    let words = Shared::new(Lock::new(ShmVec::new())).expect("room");
    for _ in 0..30 {
        let (ready, mut listening): (Sender<()>, Receiver<()>) = Pipe::simplex().expect("room");
        let mut child = Process::spawn(write_for_ever, (words.clone(), ready)).expect("a child");
        listening.recv_timeout(LONG).expect("it says so");
        child.kill().expect("it lives");
        child.join_timeout(LONG).expect_err("it was killed");
        let mut guard = match words.lock() {
            Ok(guard) => guard,
            Err(LockError::OwnerDied { mut guard, .. }) => {
                guard.mark_consistent();
                guard
            }
            Err(error) => panic!("{error}"),
        };
        assert!(
            guard.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{guard:?}"
        );
        guard.clear();
    }
}
