//! Threads and processes that wait for each other in a circle: who is told of it, and who is not.

use std::sync::Barrier as ThreadBarrier;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Instant;

use manyhands::sync::deadlock::Cycle;
use manyhands::{
    Barrier, Event, Lock, LockError, LockGuard, Once, Process, RLock, RwLock, Shareable, Shared,
    Thread,
};

use crate::LONG;

/// Locks in a ring, and where their first holders wait for each other.
#[derive(Shareable)]
struct Ring {
    locks: [Lock<u32>; 3],
    together: Barrier,
}

impl Ring {
    fn new(parties: u32) -> Self {
        Self {
            locks: [(); 3].map(|()| Lock::new(0)),
            together: Barrier::new(parties).expect("some"),
        }
    }

    fn of(parties: u32) -> Shared<Self> {
        Shared::new(Self::new(parties)).expect("room")
    }
}

/// A thread of a circle as another process is told of it: process, name, site.
type Told = (u32, Option<String>, String);

fn told(cycle: &Cycle) -> Vec<Told> {
    let waits = cycle.waits().iter();
    waits
        .map(|wait| (wait.process.pid, wait.name.clone(), wait.site.clone()))
        .collect()
}

/// In a thread of its own: holds lock `mine`, meets the others, and takes the next lock too, until
/// it has both. Returns of which circles it was told, and in which line it waited.
fn take_two(ring: Shared<Ring>, mine: usize, of: usize) -> (Vec<Vec<Told>>, u32) {
    let work = move || {
        let mut circles = Vec::new();
        let next = &ring.locks[(mine + 1) % of];
        let mut first = ring.locks[mine].lock().expect("it is free");
        ring.together.wait_timeout(LONG).expect("all come");
        let (line, second) = if mine == 0 {
            (line!(), next.lock())
        } else {
            (line!(), next.lock())
        };
        match second {
            Ok(mut second) => {
                *second += 1;
                *first += 1;
            }
            Err(LockError::Deadlock { cycle }) => {
                circles.push(told(&cycle));
                drop(first);
                // One at a time now, so nobody can wait for this thread in a circle.
                *ring.locks[mine].lock().expect("no circle") += 1;
                *next.lock().expect("no circle") += 1;
            }
            Err(error) => panic!("{error}"),
        }
        (circles, line)
    };
    let thread = Thread::builder()
        .name(format!("taker {mine}"))
        .spawn(work)
        .expect("a thread");
    thread.join().expect("no panic")
}

/// `of` processes each hold one lock and want that of the next.
fn check_ring_of_processes(of: usize) {
    let ring = Ring::of(of as u32);
    let mut children: Vec<_> = (0..of)
        .map(|mine| Process::spawn(take_two, (ring.clone(), mine, of)).expect("a child"))
        .collect();
    let ends: Vec<_> = children
        .iter_mut()
        .map(|child| {
            let end = child.join_timeout(LONG).expect("no panic");
            end.expect("nobody waits for ever")
        })
        .collect();
    let waits: Vec<Told> = (0..of)
        .map(|mine| {
            let site = format!("tests/it/deadlocks.rs:{}:", ends[mine].1);
            (children[mine].id(), Some(format!("taker {mine}")), site)
        })
        .collect();
    let mut count = 0;
    for (mine, (circles, _)) in ends.iter().enumerate() {
        for circle in circles {
            count += 1;
            assert_eq!(circle.len(), of);
            for (step, (pid, name, site)) in circle.iter().enumerate() {
                // The one that is told is the first; then the holder of what it wants.
                let expected = &waits[(mine + step) % of];
                assert_eq!((pid, name), (&expected.0, &expected.1));
                assert!(site.contains(&expected.2), "{site} is not {}", expected.2);
            }
        }
    }
    assert!((1..=of).contains(&count), "{count} were told");
    for lock in &ring.locks[..of] {
        assert_eq!(*lock.lock().expect("nobody died"), 2);
    }
}

#[test]
fn two_processes_that_want_each_others_locks_are_told_who_waits_where() {
    for _ in 0..5 {
        check_ring_of_processes(2);
    }
}

#[test]
fn three_processes_in_a_ring_are_told_who_waits_where() {
    for _ in 0..5 {
        check_ring_of_processes(3);
    }
}

fn hold_one_and_wait_for_another(ring: Shared<Ring>) {
    let _first = ring.locks[1].lock().expect("it is free");
    let _second = ring.locks[0].lock();
}

#[test]
fn dead_process_is_told_as_dead_and_not_as_one_that_waits() {
    let ring = Ring::of(1);
    for _ in 0..10 {
        let first = ring.locks[0].lock().expect("it is free");
        let mut child =
            Process::spawn(hold_one_and_wait_for_another, (ring.clone(),)).expect("a child");
        let end = Instant::now() + LONG;
        while !ring.locks[0].inspect().waiters {
            assert!(Instant::now() < end, "the child never came");
            thread::yield_now();
        }
        let Err(LockError::Deadlock { cycle }) = ring.locks[1].lock() else {
            panic!("they wait for each other");
        };
        assert_eq!(told(&cycle)[1].0, child.id());
        child.kill().expect("it lives");
        child.join_timeout(LONG).expect_err("it was killed");
        // Its entry is still there.
        let Err(LockError::OwnerDied { mut guard, who }) = ring.locks[1].lock() else {
            panic!("its death must be told");
        };
        assert_eq!(who.map(|who| who.pid), Some(child.id()));
        guard.mark_consistent();
        drop(first);
    }
}

/// Locks of other kinds, each of which is held in turn.
#[derive(Shareable)]
struct Kinds {
    plain: Lock<u32>,
    again: RLock<u32>,
    many: RwLock<u32>,
    once: Once,
}

/// Two threads: `first` calls its argument while it holds something, `second` too; the arguments
/// take what the other holds, and tell whether they were told of a circle.
fn check_pair(
    first: impl FnOnce(&dyn Fn()) -> Option<Cycle> + Send,
    second: impl FnOnce(&dyn Fn()) -> Option<Cycle> + Send,
) {
    let both_hold = ThreadBarrier::new(2);
    let meet = || {
        both_hold.wait();
    };
    let told = thread::scope(|threads| {
        let other = threads.spawn(|| second(&meet));
        [first(&meet), other.join().expect("no panic")]
    });
    let cycles: Vec<_> = told.into_iter().flatten().collect();
    assert!(!cycles.is_empty());
    assert!(cycles.iter().all(|cycle| cycle.waits().len() == 2));
}

fn cycle_of<G>(result: Result<G, LockError<G>>) -> Option<Cycle> {
    match result {
        Ok(_) => None,
        Err(LockError::Deadlock { cycle }) => Some(cycle),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn circle_is_found_through_locks_of_every_kind() {
    let kinds = Shared::new(Kinds {
        plain: Lock::new(0),
        again: RLock::new(0),
        many: RwLock::new(0),
        once: Once::new(),
    });
    let kinds = &*kinds.expect("room");
    let hold_plain_and_write = |meet: &dyn Fn()| {
        let _held = kinds.plain.lock().expect("it is free");
        meet();
        cycle_of(kinds.many.write())
    };
    let write_and_take_again = |meet: &dyn Fn()| {
        let _held = kinds.many.write().expect("it is free");
        meet();
        cycle_of(kinds.again.lock())
    };
    check_pair(hold_plain_and_write, |meet: &dyn Fn()| {
        let _held = kinds.many.write().expect("it is free");
        meet();
        cycle_of(kinds.plain.lock())
    });
    check_pair(write_and_take_again, |meet: &dyn Fn()| {
        let _outer = kinds.again.lock().expect("it is free");
        let _inner = kinds.again.lock().expect("it is mine");
        meet();
        cycle_of(kinds.many.read())
    });
    check_pair(
        |meet: &dyn Fn()| {
            let mut cycle = None;
            let work = |_| {
                meet();
                cycle = cycle_of(kinds.plain.lock());
            };
            kinds.once.call(work).expect("it is free");
            cycle
        },
        |meet: &dyn Fn()| {
            let _held = kinds.plain.lock().expect("it is free");
            meet();
            match kinds.once.call(|_| panic!("the other does it")) {
                Err(manyhands::sync::OnceError::Deadlock { cycle }) => Some(cycle),
                other => {
                    other.expect("few locks");
                    None
                }
            }
        },
    );
}

/// How many pairs of locks each thread takes.
const STEPS: usize = 600;

/// A pair of different locks of three, from a number that grows in steps.
fn pair(step: usize) -> [usize; 2] {
    [step % 3, (step + 1 + step / 3 % 2) % 3]
}

/// Takes pairs of locks, the lower one first.
fn take_in_order(ring: Shared<Ring>) {
    ring.together.wait_timeout(LONG).expect("all come");
    for step in 0..STEPS {
        let mut pair = pair(step);
        pair.sort_unstable();
        let mut first = ring.locks[pair[0]].lock().expect("no circle");
        thread::yield_now();
        let mut second = ring.locks[pair[1]].lock().expect("no circle");
        *first += 1;
        *second += 1;
    }
}

/// Takes pairs of locks in any order; when it is told of a circle, it leaves what it has, and begins
/// again.
fn take_in_any_order(ring: Shared<Ring>) {
    ring.together.wait_timeout(LONG).expect("all come");
    for step in 0..STEPS {
        let [first, second] = pair(step);
        loop {
            let mut first = ring.locks[first].lock().expect("nothing is held");
            thread::yield_now();
            match ring.locks[second].lock() {
                Ok(mut second) => {
                    *first += 1;
                    *second += 1;
                    break;
                }
                Err(LockError::Deadlock { cycle }) => {
                    assert_eq!(cycle.waits()[0].process.pid, std::process::id());
                    assert!(cycle.waits().len() > 1, "{cycle}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Runs `work` in two threads here and, by `spawn`, in two processes, until all have their pairs.
fn in_threads_and_processes(work: fn(Shared<Ring>), spawn: impl Fn(Shared<Ring>) -> Process<()>) {
    let ring = Ring::of(4);
    let children = [(); 2].map(|()| spawn(ring.clone()));
    thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| work(ring.clone()));
        }
    });
    for mut child in children {
        let end = child.join_timeout(LONG).expect("no panic");
        end.expect("nobody waits for ever");
    }
    let sums = ring
        .locks
        .iter()
        .map(|lock| *lock.lock().expect("nobody died"));
    assert_eq!(sums.sum::<u32>() as usize, 4 * 2 * STEPS);
}

#[test]
fn nobody_is_told_of_a_circle_when_all_take_locks_in_the_same_order() {
    in_threads_and_processes(take_in_order, |ring| {
        Process::spawn(take_in_order, (ring,)).expect("a child")
    });
}

#[test]
fn who_leaves_its_locks_when_told_of_a_circle_lets_everybody_finish() {
    in_threads_and_processes(take_in_any_order, |ring| {
        Process::spawn(take_in_any_order, (ring,)).expect("a child")
    });
}

/// A ring whose users are killed.
#[derive(Shareable)]
struct Street {
    ring: Ring,
    stop: Event,
    pairs: AtomicU32,
    circles: AtomicU32,
}

/// The data, also after a death; `None` when it was told of a circle.
fn guard_of<'a>(
    taken: Result<LockGuard<'a, u32>, LockError<LockGuard<'a, u32>>>,
) -> Option<LockGuard<'a, u32>> {
    match taken {
        Ok(guard) => Some(guard),
        Err(LockError::OwnerDied { mut guard, .. }) => {
            guard.mark_consistent();
            Some(guard)
        }
        Err(LockError::Deadlock { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Takes pairs of locks until it is stopped.
fn go_on(street: Shared<Street>, in_order: bool) {
    for step in 0.. {
        if street.stop.is_set() {
            return;
        }
        let mut pair = pair(step);
        if in_order {
            pair.sort_unstable();
        }
        let locks = pair.map(|index| &street.ring.locks[index]);
        let first = guard_of(locks[0].lock());
        thread::yield_now();
        let second = guard_of(locks[1].lock());
        let count = if first.is_some() && second.is_some() {
            &street.pairs
        } else {
            &street.circles
        };
        count.fetch_add(1, Relaxed);
    }
}

/// Three processes take pairs of locks; two of them are killed again and again, at any point.
/// Returns how many circles were told.
fn kill_and_go_on(in_order: bool) -> u32 {
    let street = Street {
        ring: Ring::new(1),
        stop: Event::new(),
        pairs: AtomicU32::new(0),
        circles: AtomicU32::new(0),
    };
    let street = Shared::new(street).expect("room");
    let spawn = || Process::spawn(go_on, (street.clone(), in_order)).expect("a child");
    let mut survivor = spawn();
    let mut victims = [spawn(), spawn()];
    for round in 0..60 {
        // They come on a little, and not as much each time.
        let before = street.pairs.load(Relaxed);
        let end = Instant::now() + LONG;
        while street.pairs.load(Relaxed).wrapping_sub(before) < 1 + round % 7 {
            assert!(Instant::now() < end, "they wait for ever");
            thread::yield_now();
        }
        let victim = &mut victims[round as usize % 2];
        victim.kill().expect("it lives");
        *victim = spawn();
    }
    street.stop.set();
    for process in victims.iter_mut().chain([&mut survivor]) {
        let end = process.join_timeout(LONG).expect("no panic");
        end.expect("nobody waits for ever");
    }
    street.circles.load(Relaxed)
}

#[test]
fn nobody_is_told_of_a_circle_when_those_who_take_locks_in_order_are_killed() {
    assert_eq!(kill_and_go_on(true), 0);
}

#[test]
fn everybody_goes_on_when_some_are_killed_who_wait_in_a_circle() {
    kill_and_go_on(false);
}
