//! What processes own in shared semaphores, reader-writer locks and barriers, when they are killed.

use std::time::{Duration, Instant};

use manyhands_channel::{Pipe, Sender};
use manyhands_process::Process;
use manyhands_shm::Shared;
use manyhands_sync::{Barrier, Broken, Condition, Lock, LockError, RwLock, Semaphore};

/// Long enough for any machine; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(60);

/// Says that it has what it should have, and is killed while it sleeps for ever.
fn sleep_for_ever(mut ready: Sender<()>) -> ! {
    ready.send(&()).expect("the test listens");
    loop {
        std::thread::park();
    }
}

fn take_permits(semaphore: Shared<Semaphore>, count: u32, ready: Sender<()>) {
    let _permits: Vec<_> = (0..count)
        .map(|_| semaphore.acquire().expect("few locks"))
        .collect();
    sleep_for_ever(ready);
}

fn read(lock: Shared<RwLock<u64>>, ready: Sender<()>) {
    let _guard = lock.read().expect("nobody died");
    sleep_for_ever(ready);
}

fn write(lock: Shared<RwLock<u64>>, ready: Sender<()>) {
    let mut guard = lock.write().expect("nobody died");
    *guard = 1;
    sleep_for_ever(ready);
}

fn meet(barrier: Shared<Barrier>, mut ready: Sender<()>) {
    ready.send(&()).expect("the test listens");
    let _ = barrier.wait_timeout(LONG);
}

/// A child that has done the first part of `f`.
macro_rules! child {
    ($f:expr, $($argument:expr),+) => {{
        let (ready, mut listening) = Pipe::simplex::<()>().expect("room");
        let child = Process::spawn($f, ($($argument,)+ ready)).expect("a child");
        listening.recv_timeout(LONG).expect("it says so");
        child
    }};
}

#[test]
fn permits_of_a_killed_process_come_back_to_those_who_wait() {
    let semaphore = Shared::new(Semaphore::new(3)).expect("room");
    for _ in 0..20 {
        let child = child!(take_permits, semaphore.clone(), 2);
        let mine = semaphore.acquire_timeout(LONG).expect("one is left");
        assert!(semaphore.try_acquire().is_err());
        std::thread::scope(|threads| {
            let waiters =
                [(); 2].map(|()| threads.spawn(|| semaphore.acquire_timeout(LONG).is_ok()));
            child.kill().expect("it lives");
            assert!(
                waiters
                    .into_iter()
                    .all(|waiter| waiter.join().expect("no panic"))
            );
        });
        drop(mine);
        assert_eq!(
            (semaphore.inspect().free, semaphore.inspect().supply),
            (3, 3)
        );
    }
}

#[test]
fn try_acquire_counts_the_permits_of_the_dead() {
    let semaphore = Shared::new(Semaphore::new(1)).expect("room");
    let mut child = child!(take_permits, semaphore.clone(), 1);
    assert!(semaphore.try_acquire().is_err());
    child.kill().expect("it lives");
    child.join_timeout(LONG).expect_err("it was killed");
    assert!(semaphore.try_acquire().is_ok());
}

#[test]
fn writer_goes_on_when_a_reading_process_is_killed() {
    let lock = Shared::new(RwLock::new(0)).expect("room");
    for round in 0..20 {
        let child = child!(read, lock.clone());
        assert!(lock.try_write().is_err());
        std::thread::scope(|threads| {
            let writer =
                threads.spawn(|| *lock.write_timeout(LONG).expect("a reader's death") += 1);
            child.kill().expect("it lives");
            writer.join().expect("no panic");
        });
        assert_eq!(
            *lock.read().expect("a reader's death is not told"),
            round + 1
        );
    }
}

#[test]
fn death_of_a_writing_process_is_told_to_readers_until_repaired() {
    let lock = Shared::new(RwLock::new(0)).expect("room");
    let child = child!(write, lock.clone());
    let pid = child.id();
    child.kill().expect("it lives");
    let Err(LockError::OwnerDied { guard, who }) = lock.read() else {
        panic!("the death must be told");
    };
    assert_eq!((*guard, who.map(|who| who.pid)), (1, Some(pid)));
    drop(guard);
    let Err(LockError::OwnerDied { mut guard, .. }) = lock.write() else {
        panic!("nobody has repaired");
    };
    guard.mark_consistent();
    drop(guard);
    assert!(lock.read().is_ok());
}

#[test]
fn barrier_breaks_when_a_waiting_process_is_killed_and_names_it() {
    let barrier = Shared::new(Barrier::new(3).expect("three")).expect("room");
    for _ in 0..20 {
        let child = child!(meet, barrier.clone());
        let end = Instant::now() + LONG;
        while barrier.waiting() == 0 {
            assert!(Instant::now() < end, "the child never came");
            std::thread::yield_now();
        }
        std::thread::scope(|threads| {
            let waiter = threads.spawn(|| barrier.wait_timeout(LONG));
            child.kill().expect("it lives");
            match waiter.join().expect("no panic") {
                Err(Broken::PartyDied(who)) => {
                    assert!(who.is_none_or(|who| who.pid == child.id()));
                }
                other => panic!("{other:?}"),
            }
        });
        assert!(barrier.is_broken());
        barrier.reset();
    }
    let child = child!(meet, barrier.clone());
    let last = std::thread::scope(|threads| {
        let other = threads.spawn(|| barrier.wait_timeout(LONG));
        let mine = barrier.wait_timeout(LONG);
        (mine, other.join().expect("no panic"))
    });
    assert!(last.0.is_ok() && last.1.is_ok(), "{last:?}");
    drop(child);
}

fn wait_for_item(basket: Shared<(Lock<u32>, Condition)>, mut ready: Sender<()>) {
    let (items, filled) = &*basket;
    let mut guard = items.lock().expect("nobody died");
    ready.send(&()).expect("the test listens");
    let _ = filled.wait_timeout(&mut guard, LONG);
}

#[test]
fn death_of_a_waiting_process_wakes_those_who_wait_behind_it() {
    let basket = Shared::new((Lock::new(0_u32), Condition::new())).expect("room");
    let (items, filled) = &*basket;
    for _ in 0..20 {
        let child = child!(wait_for_item, basket.clone());
        std::thread::scope(|threads| {
            let behind = threads.spawn(|| {
                let mut guard = items.lock().expect("nobody died");
                filled.wait_timeout(&mut guard, LONG)
            });
            let end = Instant::now() + LONG;
            while filled.waiting() < 2 {
                assert!(Instant::now() < end, "both wait");
                std::thread::yield_now();
            }
            child.kill().expect("it lives");
            assert_eq!(behind.join().expect("no panic"), Ok(true));
        });
        filled.notify_all();
    }
}
