//! The condition, in private and in shared memory.
//!
//! Planted bug `condition`: a notifier does not flip the ticket that it serves. Who lies down
//! between its wake and its commit sleeps for ever.

use std::sync::Arc;

use loom::thread::JoinHandle;
use manyhands_os::Deadline;

use super::{Guarding, LATER, beside, end, last_place};
use crate::primitive::{explore, time_passes};
use crate::raw::condition::{Enrolled, RawCondition};
use crate::{Condition, Lock, Shareable};

fn raw(shared: bool) -> RawCondition {
    let condition = RawCondition::new();
    if shared {
        condition.placed(last_place());
    }
    condition
}

fn waiter_sees_the_data_that_it_waits_for(shared: bool) {
    explore(5, move || {
        let both = Guarding::new((Lock::new(false), Condition::new()));
        if shared {
            both.object.placed(last_place());
        }
        let waiter = beside(&both, |both| {
            let (lock, condition) = &both.object;
            let mut is_done = lock.lock().expect("nobody dies");
            condition
                .wait_for(&mut is_done, |is_done| *is_done)
                .expect("nobody dies");
            both.value()
        });
        let (lock, condition) = &both.object;
        *lock.lock().expect("nobody dies") = {
            both.add_one();
            true
        };
        condition.notify_one();
        assert_eq!(end(waiter), 1);
        assert_eq!(condition.waiting(), 0);
    });
}

/// The first may give up while it is notified. If it does, the notification is the second's.
fn notification_is_not_lost_on_who_gives_up(shared: bool, preemptions: usize) {
    explore(preemptions, move || {
        let condition = Guarding::new(raw(shared));
        let first = condition.object.enroll();
        let second = condition.object.enroll();
        let deadline = Deadline::after(LATER);
        let first = beside(&condition, move |condition| {
            condition.object.wait(first, deadline)
        });
        let second = waiter(&condition, second);
        time_passes();
        condition.object.notify(1);
        if end(first) {
            condition.object.notify(1);
        }
        assert!(end(second));
        assert_eq!(condition.object.waiting(), 0);
    });
}

fn who_came_first_is_served_first(shared: bool) {
    explore(2, move || {
        let condition = Guarding::new(raw(shared));
        let places = [condition.object.enroll(), condition.object.enroll()];
        let [first, second] = places.map(|place| waiter(&condition, place));
        condition.object.notify(1);
        assert!(end(first));
        condition.object.notify(1);
        assert!(end(second));
    });
}

fn two_notifiers_serve_two(shared: bool) {
    explore(2, move || {
        let condition = Guarding::new(raw(shared));
        let places = [condition.object.enroll(), condition.object.enroll()];
        let waiters = places.map(|place| waiter(&condition, place));
        let other = beside(&condition, |condition| condition.object.notify(1));
        condition.object.notify(1);
        end(other);
        assert!(waiters.into_iter().all(end));
    });
}

/// A model has two tickets. Who finds none is woken by every notification.
fn who_found_no_ticket_is_woken_beside_the_first(shared: bool) {
    explore(2, move || {
        let condition = Guarding::new(raw(shared));
        let first = condition.object.enroll();
        condition.object.enroll();
        let third = condition.object.enroll();
        let waiters = [first, third].map(|place| waiter(&condition, place));
        condition.object.notify(1);
        assert!(waiters.into_iter().all(end));
        assert_eq!(condition.object.waiting(), 1);
    });
}

fn waiter(condition: &Arc<Guarding<RawCondition>>, place: Enrolled) -> JoinHandle<bool> {
    beside(condition, move |condition| {
        condition.object.wait(place, Deadline::NEVER)
    })
}

#[test]
fn loom_condition_shows_the_waiter_what_it_waits_for() {
    waiter_sees_the_data_that_it_waits_for(false);
    waiter_sees_the_data_that_it_waits_for(true);
}

#[test]
fn loom_condition_loses_no_notification_on_a_waiter_that_gives_up() {
    notification_is_not_lost_on_who_gives_up(false, 3);
    notification_is_not_lost_on_who_gives_up(true, 2);
}

#[test]
fn loom_condition_serves_first_who_came_first() {
    who_came_first_is_served_first(false);
    who_came_first_is_served_first(true);
}

#[test]
fn loom_condition_wakes_who_found_no_ticket() {
    who_found_no_ticket_is_woken_beside_the_first(false);
    who_found_no_ticket_is_woken_beside_the_first(true);
}

#[test]
fn loom_condition_serves_one_for_each_of_two_notifiers() {
    two_notifiers_serve_two(false);
    two_notifiers_serve_two(true);
}
