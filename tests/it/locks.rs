//! Locks between processes that live: who holds one, and who does not.
//!
//! The numbers in names are those of the behaviors that CPython's own tests check.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use manyhands_channel::{Pipe, Receiver, Sender};
use manyhands_process::{Process, StartMethod};
use manyhands_shm::Shared;
use manyhands_sync::{Lock, LockTimeoutError, RLock, TryLockError};

use crate::{LONG, SOON};

fn hold(lock: Shared<Lock<u64>>, mut ready: Sender<()>, mut go: Receiver<()>) {
    let mut guard = lock.lock().expect("nobody died");
    *guard += 1;
    ready.send(&()).expect("the test listens");
    let _ = go.recv_timeout(LONG);
}

#[test]
fn lock_17_18_20_lock_of_another_process_is_seen_and_named_until_it_is_left() {
    let lock = Shared::new(Lock::new(0_u64)).expect("room");
    let text = format!("{lock:?}");
    assert!(text.contains("locked: false") && text.contains("process: None"));
    let (ready, mut listening) = Pipe::simplex::<()>().expect("room");
    let (go, going) = Pipe::simplex::<()>().expect("room");
    let mut child = Process::spawn(hold, (lock.clone(), ready, going)).expect("a child");
    listening.recv_timeout(LONG).expect("it has the lock");

    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    let state = lock.inspect();
    assert_eq!(state.process.map(|who| who.pid), Some(child.id()));
    let who = state.process.expect("it is known").to_string();
    assert!(who.contains(&child.id().to_string()));
    match lock.lock_timeout(SOON) {
        Err(LockTimeoutError::TimedOut {
            process: Some(process),
            ..
        }) => assert_eq!(process.pid, child.id()),
        other => panic!("the child has it: {other:?}"),
    }
    drop(go);
    child.join_timeout(LONG).expect("it ends well");

    let guard = lock.lock().expect("nobody died");
    assert_eq!(*guard, 1);
    assert_eq!(
        lock.inspect().process.map(|who| who.pid),
        Some(std::process::id())
    );
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    drop(guard);
    assert!(lock.inspect().thread.is_none() && lock.try_lock().is_ok());
}

fn hold_twice(lock: Shared<RLock<AtomicU32>>, mut ready: Sender<()>, mut go: Receiver<()>) {
    let outer = lock.lock().expect("nobody died");
    let inner = lock.lock().expect("the owner may");
    ready.send(&()).expect("the test listens");
    let _ = go.recv_timeout(LONG);
    drop(outer);
    ready.send(&()).expect("the test listens");
    let _ = go.recv_timeout(LONG);
    inner.fetch_add(1, SeqCst);
}

#[test]
fn rlock_12_13_15_levels_of_another_process_are_seen_until_the_last_is_left() {
    let lock = Shared::new(RLock::new(AtomicU32::new(0))).expect("room");
    let (ready, mut listening) = Pipe::simplex::<()>().expect("room");
    let (mut go, going) = Pipe::simplex::<()>().expect("room");
    let mut child = Process::spawn(hold_twice, (lock.clone(), ready, going)).expect("a child");
    for depth in [2, 1] {
        listening.recv_timeout(LONG).expect("it has the lock");
        let state = lock.inspect();
        assert_eq!(state.process.map(|who| who.pid), Some(child.id()));
        assert_eq!(state.depth, depth);
        assert!(format!("{lock:?}").contains(&format!("locked: true, depth: {depth}")));
        assert!(!lock.is_mine());
        assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
        go.send(&()).expect("it listens");
    }
    child.join_timeout(LONG).expect("it ends well");
    assert_eq!((lock.inspect().depth, lock.inspect().thread), (0, None));
    let guards = [(); 3].map(|()| lock.lock().expect("the owner may"));
    assert!(lock.is_mine() && lock.inspect().depth == 3);
    assert_eq!(guards[0].load(SeqCst), 1);
}

/// Whether it is this process's, whether it can be taken, and who has it.
fn look(lock: Shared<RLock<AtomicU32>>) -> (bool, bool, Option<u32>) {
    let taken = lock.try_lock().is_ok() || lock.lock_timeout(Duration::from_millis(1)).is_ok();
    let owner = lock.inspect().process.map(|who| who.pid);
    (lock.is_mine(), taken, owner)
}

#[test]
fn child_of_the_holder_does_not_own_its_lock_however_it_was_started() {
    let lock = Shared::new(RLock::new(AtomicU32::new(0))).expect("room");
    let guard = lock.lock().expect("it is free");
    for method in [StartMethod::Zygote, StartMethod::Exec] {
        let mut child = Process::builder()
            .start_method(method)
            .spawn(look, (lock.clone(),))
            .expect("a child");
        let seen = child.join_timeout(LONG).expect("it ends well");
        assert_eq!(seen, Some((false, false, Some(std::process::id()))));
    }
    assert!(lock.is_mine());
    drop(guard);
    let mut child = Process::spawn(look, (lock.clone(),)).expect("a child");
    let seen = child.join_timeout(LONG).expect("it ends well");
    assert_eq!(seen, Some((false, true, None)));
}
