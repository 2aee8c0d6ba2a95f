//! Threads that would wait for themselves; circles of several need a family, and are in the package
//! `manyhands`.

use std::panic::Location;
use std::thread;

use manyhands_sync::deadlock::Cycle;
use manyhands_sync::{Lock, LockError, Once, OnceError, RwLock};

use crate::{LONG, SOON, each_placement};

/// Looks at the circle of one thread that a call just below `before` told.
fn check(cycle: &Cycle, before: &Location<'_>) {
    let [wait] = cycle.waits() else {
        panic!("one thread takes part: {cycle}");
    };
    assert_eq!(wait.process.pid, std::process::id());
    assert_eq!(wait.name.as_deref(), thread::current().name());
    let mut site = wait.site.rsplitn(3, ':').skip(1);
    let line: u32 = site
        .next()
        .and_then(|line| line.parse().ok())
        .expect("a line");
    assert!(before.file().ends_with(site.next().expect("a file")));
    assert!((1..4).contains(&(line - before.line())), "{cycle}");
    assert!(
        cycle.to_string().contains(&wait.site),
        "it is told to people"
    );
}

#[test]
fn thread_that_locks_twice_is_told_so_and_can_go_on() {
    each_placement(
        || Lock::new(0),
        |lock| {
            let first = lock.lock().expect("it is free");
            let here = Location::caller();
            let Err(LockError::Deadlock { cycle }) = lock.lock() else {
                panic!("it would wait for itself");
            };
            check(&cycle, here);
            // A deadline ends a wait as well.
            assert!(lock.lock_timeout(SOON).is_err());
            drop(first);
            assert!(lock.lock_timeout(LONG).is_ok());
        },
    );
}

#[test]
fn writer_that_reads_or_writes_again_is_told_so() {
    each_placement(
        || RwLock::new(0),
        |lock| {
            let first = lock.write().expect("it is free");
            let here = Location::caller();
            let Err(LockError::Deadlock { cycle }) = lock.read() else {
                panic!("it would wait for itself");
            };
            check(&cycle, here);
            let here = Location::caller();
            let Err(LockError::Deadlock { cycle }) = lock.write() else {
                panic!("it would wait for itself");
            };
            check(&cycle, here);
            drop(first);
            let shares = [lock.read().expect("it is free"), lock.read().expect("too")];
            assert!(lock.try_write().is_err());
            drop(shares);
            assert!(lock.write().is_ok());
        },
    );
}

#[test]
fn function_that_calls_its_own_once_is_told_so() {
    each_placement(Once::new, |once| {
        let outer = once.call(|_| {
            let here = Location::caller();
            let Err(OnceError::Deadlock { cycle }) = once.call(|_| ()) else {
                panic!("it would wait for itself");
            };
            check(&cycle, here);
        });
        assert!(outer.is_ok() && once.is_done());
    });
}
