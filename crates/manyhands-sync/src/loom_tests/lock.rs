//! The lock around the word, in private and in shared memory.
//!
//! The bug `word` is found here too: three threads of which two sleep.

use std::sync::Arc;

use manyhands_os::Deadline;

use super::{Guarding, beside, end, last_place};
use crate::primitive::{explore, explore_word};
use crate::raw::RawLock;

fn lock(shared: bool) -> Arc<Guarding<RawLock>> {
    let lock = Guarding::new(RawLock::new());
    if shared {
        lock.object.placed(last_place());
    }
    lock
}

/// Whether the lock was taken in time, and one was added.
fn add_one(lock: &Guarding<RawLock>, deadline: Deadline) -> u32 {
    if lock.object.lock(deadline).is_err() {
        return 0;
    }
    lock.add_one();
    // SAFETY: locked above.
    unsafe { lock.object.unlock() };
    1
}

/// Twice, since the second time there is a guess about the word.
fn add_two(lock: &Guarding<RawLock>) {
    add_one(lock, Deadline::NEVER);
    add_one(lock, Deadline::NEVER);
}

fn two_threads_exclude_each_other(shared: bool) {
    explore_word(3, move || {
        let lock = lock(shared);
        let other = beside(&lock, add_two);
        add_two(&lock);
        end(other);
        assert_eq!(lock.value(), 4);
        assert_eq!(lock.object.holder(), None);
    });
}

fn three_threads_exclude_each_other(shared: bool) {
    explore(2, move || {
        let lock = lock(shared);
        let others = [beside(&lock, add_two), beside(&lock, add_two)];
        add_one(&lock, Deadline::NEVER);
        others.into_iter().for_each(end);
        assert_eq!(lock.value(), 5);
    });
}

/// One lies down and gives up at once. The wake that comes meanwhile is the other's.
fn wake_is_not_lost_on_who_gives_up(shared: bool, preemptions: usize) {
    explore(preemptions, move || {
        let lock = lock(shared);
        let hurried = beside(&lock, |lock| add_one(lock, Deadline::now()));
        let patient = beside(&lock, |lock| add_one(lock, Deadline::NEVER));
        add_one(&lock, Deadline::NEVER);
        assert_eq!(end(patient), 1);
        let added = 2 + end(hurried);
        assert_eq!(lock.value(), added);
    });
}

#[test]
fn loom_lock_excludes_two_threads() {
    two_threads_exclude_each_other(false);
    two_threads_exclude_each_other(true);
}

#[test]
fn loom_lock_excludes_three_threads_and_none_sleeps_for_ever() {
    three_threads_exclude_each_other(false);
    three_threads_exclude_each_other(true);
}

#[test]
fn loom_lock_loses_no_wake_on_a_waiter_that_gives_up() {
    wake_is_not_lost_on_who_gives_up(false, 3);
    wake_is_not_lost_on_who_gives_up(true, 2);
}
