//! The event, in private and in shared memory.
//!
//! Planted bug `event`: in shared memory a set does not move the sequence on. Who has looked, and
//! is about to lie down, sleeps for ever.

use std::sync::Arc;

use manyhands_os::Deadline;

use super::{Guarding, beside, end, last_place};
use crate::primitive::explore;
use crate::{Event, Shareable};

fn event(shared: bool) -> Arc<Guarding<Event>> {
    let event = Guarding::new(Event::new());
    if shared {
        event.object.placed(last_place());
    }
    event
}

fn what_was_done_before_the_set_is_seen_after_the_wait(shared: bool) {
    explore(5, move || {
        let event = event(shared);
        let waiter = beside(&event, |event| {
            event.object.wait();
            event.value()
        });
        event.add_one();
        event.object.set();
        assert_eq!(end(waiter), 1);
    });
}

/// Nothing sets it again: who is not woken by the first set sleeps for ever.
fn set_and_clear_wake_all_who_waited_before(shared: bool, waiters: usize, preemptions: usize) {
    explore(preemptions, move || {
        let event = event(shared);
        let waiters: Vec<_> = (0..waiters)
            .map(|_| beside(&event, |event| event.object.wait_since(0, Deadline::NEVER)))
            .collect();
        event.object.set();
        event.object.clear();
        assert!(waiters.into_iter().all(end));
        assert!(!event.object.is_set());
    });
}

fn two_setters_set_it_once(shared: bool) {
    explore(2, move || {
        let event = event(shared);
        let others = [
            beside(&event, |event| event.object.set()),
            beside(&event, |event| event.object.wait()),
        ];
        event.object.set();
        others.into_iter().for_each(end);
        assert_eq!(event.object.inspect().times, 1);
    });
}

#[test]
fn loom_event_shows_what_was_done_before_the_set() {
    what_was_done_before_the_set_is_seen_after_the_wait(false);
}

#[test]
fn loom_event_in_shared_memory_shows_what_was_done_before_the_set() {
    what_was_done_before_the_set_is_seen_after_the_wait(true);
}

#[test]
fn loom_event_wakes_who_waited_when_it_is_cleared_at_once() {
    set_and_clear_wake_all_who_waited_before(false, 1, 5);
    set_and_clear_wake_all_who_waited_before(false, 2, 3);
}

#[test]
fn loom_event_in_shared_memory_wakes_who_waited_when_it_is_cleared_at_once() {
    set_and_clear_wake_all_who_waited_before(true, 1, 4);
    set_and_clear_wake_all_who_waited_before(true, 2, 2);
}

#[test]
fn loom_event_is_set_once_by_two_setters() {
    two_setters_set_it_once(false);
    two_setters_set_it_once(true);
}
