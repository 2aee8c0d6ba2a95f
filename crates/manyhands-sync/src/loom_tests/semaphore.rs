//! The semaphore, in private and in shared memory.
//!
//! Planted bug `semaphore`: who hands a permit over wakes, but does not flip the word before. Who
//! has looked, and is about to lie down, sleeps for ever.

use std::sync::Arc;

use super::{Guarding, LATER, beside, end, last_place};
use crate::primitive::{explore, time_passes};
use crate::{Semaphore, Shareable};

fn semaphore(shared: bool, permits: u32) -> Arc<Guarding<Semaphore>> {
    let semaphore = Guarding::new(Semaphore::new(permits));
    if shared {
        semaphore.object.placed(last_place());
    }
    semaphore
}

fn add_one(semaphore: &Guarding<Semaphore>) {
    let permit = semaphore.object.acquire().expect("few locks are held");
    semaphore.add_one();
    drop(permit);
}

fn one_permit_excludes(shared: bool, others: u32, preemptions: usize) {
    explore(preemptions, move || {
        let semaphore = semaphore(shared, 1);
        let others: Vec<_> = (0..others).map(|_| beside(&semaphore, add_one)).collect();
        let all = 1 + others.len() as u32;
        add_one(&semaphore);
        others.into_iter().for_each(end);
        assert_eq!(semaphore.value(), all);
        assert_eq!(semaphore.object.inspect().free, 1);
    });
}

fn released_permit_reaches_the_waiter(shared: bool) {
    explore(4, move || {
        let semaphore = semaphore(shared, 0);
        let waiter = beside(&semaphore, |semaphore| {
            semaphore
                .object
                .acquire()
                .expect("few locks are held")
                .forget();
            semaphore.value()
        });
        semaphore.add_one();
        semaphore.object.release(1).expect("there is none");
        assert_eq!(end(waiter), 1);
        assert_eq!(semaphore.object.inspect().supply, 0);
    });
}

/// One of two waiters may give up while a permit comes. If it does, the permit is the other's.
fn permit_is_not_lost_on_who_gives_up(shared: bool, preemptions: usize) {
    explore(preemptions, move || {
        let semaphore = semaphore(shared, 0);
        let hurried = beside(&semaphore, |semaphore| {
            semaphore.object.acquire_timeout(LATER).is_ok()
        });
        let patient = beside(&semaphore, |semaphore| semaphore.object.acquire().is_ok());
        time_passes();
        semaphore.object.release(1).expect("there is none");
        // Who gets the permit gives it back at once.
        end(hurried);
        assert!(end(patient));
    });
}

/// A model has two tickets. Three wait, and each gives the permit back at once.
fn who_found_no_ticket_gets_a_permit(shared: bool, preemptions: usize) {
    explore(preemptions, move || {
        let semaphore = semaphore(shared, 0);
        let waiters = [(); 3].map(|()| beside(&semaphore, add_one));
        semaphore.object.release(1).expect("there is none");
        waiters.into_iter().for_each(end);
        assert_eq!(semaphore.value(), 3);
        assert_eq!(semaphore.object.inspect().free, 1);
    });
}

#[test]
fn loom_semaphore_of_one_permit_excludes() {
    one_permit_excludes(false, 1, 4);
    one_permit_excludes(true, 1, 4);
    one_permit_excludes(false, 2, 2);
    one_permit_excludes(true, 2, 2);
}

#[test]
fn loom_semaphore_released_permit_reaches_the_waiter() {
    released_permit_reaches_the_waiter(false);
    released_permit_reaches_the_waiter(true);
}

#[test]
fn loom_semaphore_loses_no_permit_on_a_waiter_that_gives_up() {
    permit_is_not_lost_on_who_gives_up(false, 3);
    permit_is_not_lost_on_who_gives_up(true, 2);
}

#[test]
fn loom_semaphore_serves_who_found_no_ticket() {
    who_found_no_ticket_gets_a_permit(false, 2);
    who_found_no_ticket_gets_a_permit(true, 2);
}
