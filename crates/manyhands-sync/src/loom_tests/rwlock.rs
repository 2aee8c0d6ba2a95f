//! The readers-writer lock, in private and in shared memory.
//!
//! Planted bug `rwlock`: a reader that leaves wakes the writer, but does not move the sequence on.
//! A writer that has counted the readers, and is about to lie down, sleeps for ever.

use std::sync::Arc;

use super::{Guarding, LATER, beside, end, last_place};
use crate::primitive::{explore, time_passes};
use crate::{RwLock, Shareable};

fn rwlock(shared: bool) -> Arc<Guarding<RwLock<()>>> {
    let lock = Guarding::new(RwLock::new(()));
    if shared {
        lock.object.placed(last_place());
    }
    lock
}

fn add_one(lock: &Guarding<RwLock<()>>) {
    let guard = lock.object.write().expect("nobody dies");
    lock.add_one();
    drop(guard);
}

fn read(lock: &Guarding<RwLock<()>>) -> u32 {
    let guard = lock.object.read().expect("nobody dies");
    let value = lock.value();
    drop(guard);
    value
}

fn writer_excludes_reader(shared: bool, preemptions: usize) {
    explore(preemptions, move || {
        let lock = rwlock(shared);
        let reader = beside(&lock, |lock| [read(lock), read(lock)]);
        add_one(&lock);
        let [first, second] = end(reader);
        assert!(first <= second && second <= 1);
        assert_eq!(read(&lock), 1);
    });
}

fn writers_exclude_each_other_beside_a_reader(shared: bool) {
    explore(2, move || {
        let lock = rwlock(shared);
        let writer = beside(&lock, add_one);
        let reader = beside(&lock, read);
        add_one(&lock);
        end(writer);
        assert!(end(reader) <= 2);
        assert_eq!(read(&lock), 2);
    });
}

/// A writer that gives up has barred the gate already: who comes next must get through all the
/// same, and so must the writer behind it.
fn writer_that_gives_up_stands_in_nobodys_way(shared: bool) {
    explore(2, move || {
        let lock = rwlock(shared);
        let reading = lock.object.read().expect("nobody dies");
        let hurried = beside(&lock, |lock| {
            let guard = lock.object.write_timeout(LATER).ok();
            if guard.is_some() {
                lock.add_one();
            }
            u32::from(guard.is_some())
        });
        let patient = beside(&lock, |lock| {
            read(lock);
            add_one(lock);
        });
        time_passes();
        drop(reading);
        end(patient);
        let written = 1 + end(hurried);
        assert_eq!(read(&lock), written);
    });
}

#[test]
fn loom_rwlock_writer_excludes_a_reader() {
    writer_excludes_reader(false, 4);
    writer_excludes_reader(true, 4);
}

#[test]
fn loom_rwlock_writers_exclude_each_other_and_none_sleeps_for_ever() {
    writers_exclude_each_other_beside_a_reader(false);
    writers_exclude_each_other_beside_a_reader(true);
}

#[test]
fn loom_rwlock_writer_that_gives_up_stands_in_nobodys_way() {
    writer_that_gives_up_stands_in_nobodys_way(false);
    writer_that_gives_up_stands_in_nobodys_way(true);
}
