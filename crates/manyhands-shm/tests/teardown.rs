//! A killed process ends thread by thread; what it had must stay until the last one is gone.
//!
//! This program starts itself again as its child, which gets the arena as its standard input.
#![allow(
    unsafe_code,
    reason = "the survivor writes into raw blocks, to show who uses them"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use manyhands_os::Deadline;
use manyhands_shm::arena::{self, Block, Seat};
use manyhands_shm::{Shared, handoff};
use manyhands_sync::{Lock, LockTimeoutError};

const LUGGAGE: &str = "MANYHANDS_TEST_LUGGAGE";
const THREADS: usize = 48;
const ROUNDS: usize = 24;

/// What both processes have: a lock for each thread of the child, and how many are taken.
type Common = (Shared<[Lock<u64>; THREADS]>, Shared<AtomicU64>);

fn luggage() -> Option<Vec<u8>> {
    let text = std::env::var(LUGGAGE).ok()?;
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    Some((0..text.len()).step_by(2).map(byte).collect())
}

/// The entry of the child; does nothing when run as a test.
#[test]
fn child_with_many_threads() {
    let Some(bytes) = luggage() else { return };
    // The seat is in front: what is shared can be unpacked by a member only.
    let (seat, parcel) = bytes.split_at(usize::from(bytes[0]));
    let seat: Seat = handoff::unpack(&seat[1..]).expect("a seat");
    let fd = std::io::stdin().as_fd().try_clone_to_owned();
    arena::join(fd.expect("the arena"), seat).expect("the parent lives");
    let (locks, taken): Common = handoff::unpack(parcel).expect("held by the parent");
    std::thread::scope(|threads| {
        for lock in locks.iter() {
            threads.spawn(|| {
                // The second is the first on the thread's list, and lies in a block of our own.
                let own = Shared::new(Lock::new(0_u64)).expect("room");
                let _first = lock.lock().expect("nobody died");
                let _second = own.lock().expect("nobody died");
                taken.fetch_add(1, Release);
                loop {
                    std::thread::park();
                }
            });
        }
    });
}

#[test]
fn locks_of_a_killed_process_are_freed_though_its_blocks_are_wanted() {
    if luggage().is_some() {
        return;
    }
    let arena = arena::family().expect("an arena");
    for round in 0..ROUNDS {
        let deadline = Deadline::after(Duration::from_secs(60));
        let locks = Shared::new([const { Lock::new(0) }; THREADS]).expect("room");
        let common: Common = (locks, Shared::new(AtomicU64::new(0)).expect("room"));
        let seat = arena.reserve_seat().expect("a seat");
        let parcel = handoff::pack(&common).expect("packable");
        let mut bytes = handoff::pack(&seat).expect("packable").bytes;
        bytes.insert(0, u8::try_from(bytes.len() + 1).expect("short"));
        bytes.extend(&parcel.bytes);
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let fd: OwnedFd = arena.as_fd().try_clone_to_owned().expect("a descriptor");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child_with_many_threads", "--nocapture"])
            .env(LUGGAGE, text)
            .stdin(fd)
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        while common.1.load(Acquire) < THREADS as u64 {
            assert!(!deadline.has_passed(), "round {round}: the child is slow");
            std::thread::yield_now();
        }
        let life = seat.participant().life().expect("it has come");
        child.kill().expect("it is ours");
        // As soon as anything shows the death, what it had is taken and written all over.
        while life.is_alive() {
            std::hint::spin_loop();
        }
        arena.reap_dead();
        let blocks: Vec<Block> = (0..2 * THREADS)
            .map(|_| arena.allocate(size_of::<Lock<u64>>()).expect("room"))
            .collect();
        for block in &blocks {
            // SAFETY: `write_bytes` needs a valid, exclusive place: the block is ours, and as long.
            unsafe { block.as_ptr().write_bytes(0x5a, block.len()) };
        }
        for (thread, lock) in common.0.iter().enumerate() {
            let outcome = lock.lock_timeout(Duration::from_secs(20));
            let died = matches!(outcome, Err(LockTimeoutError::OwnerDied { .. }));
            assert!(died, "round {round}: the lock of thread {thread} is lost");
        }
        child.wait().expect("it is ours");
        arena.reap(seat.participant());
        drop((blocks, parcel, common));
        assert_eq!(arena.stats().used_blocks(), 0, "round {round}");
    }
}
