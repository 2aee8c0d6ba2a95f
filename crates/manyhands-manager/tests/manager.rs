//! Managers with clients in other processes, and what becomes of either when the other is killed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use manyhands_channel::{Pipe, Sender};
use manyhands_manager::{
    CallError, Managed, ManagedDict, ManagedList, ManagedValue, Manager, ShutdownError,
};
use manyhands_os::process::Pidfd;
use manyhands_process::{Process, task};
use manyhands_shm::Shared;

/// Long enough for any machine; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(60);

fn kill(pid: u32) {
    const SIGKILL: i32 = 9;
    let process = Pidfd::open(pid).expect("it lives");
    process.signal(SIGKILL).expect("it is ours");
}

/// Waits until `condition`, by asking again and again.
fn await_that(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "it never came true");
        thread::yield_now();
    }
}

#[test]
fn five_processes_append_to_one_list() {
    let append = |list: ManagedList<u32>| list.push(1).expect("the manager lives");
    let manager = Manager::start().expect("a manager");
    let list = manager.list::<u32>().expect("it lives");
    let mut children: Vec<_> = (0..5)
        .map(|_| Process::spawn(append, (list.clone(),)).expect("a child"))
        .collect();
    for child in &mut children {
        assert_eq!(child.join_timeout(LONG).expect("it returns"), Some(()));
    }
    assert_eq!(list.snapshot().expect("it lives"), [1; 5]);
}

#[test]
fn no_increment_of_four_processes_is_lost() {
    let count = |counter: ManagedValue<u64>, scores: ManagedDict<String, u64>| {
        for _ in 0..1000 {
            counter
                .update(|count| *count += 1)
                .expect("the manager lives");
        }
        scores
            .update("all".to_owned(), |score| *score += 1000)
            .expect("the manager lives");
    };
    let manager = Manager::start().expect("a manager");
    let counter = manager.value(0_u64).expect("it lives");
    let scores = manager.dict().expect("it lives");
    let mut children: Vec<_> = (0..4)
        .map(|_| Process::spawn(count, (counter.clone(), scores.clone())).expect("a child"))
        .collect();
    for child in &mut children {
        assert_eq!(child.join_timeout(LONG).expect("it returns"), Some(()));
    }
    assert_eq!(counter.get().expect("it lives"), 4000);
    let expected = HashMap::from([("all".to_owned(), 4000)]);
    assert_eq!(scores.snapshot().expect("it lives"), expected);
}

#[test]
fn list_does_what_a_vector_does() {
    let manager = Manager::start().expect("a manager");
    let list = manager.list::<String>().expect("it lives");
    let text = |text: &str| text.to_owned();
    list.extend(["a", "b"].map(text)).expect("it lives");
    list.push(text("c")).expect("it lives");
    assert_eq!(list.len().expect("it lives"), 3);
    assert_eq!(list.get(1).expect("it lives"), Some(text("b")));
    assert_eq!(list.get(3).expect("it lives"), None);
    assert_eq!(list.set(0, text("z")).expect("it lives"), Some(text("a")));
    assert_eq!(list.set(9, text("z")).expect("it lives"), None);
    let longer = list.update(1, |item| {
        item.push('!');
        item.len()
    });
    assert_eq!(longer.expect("it lives"), Some(2));
    assert_eq!(list.pop().expect("it lives"), Some(text("c")));
    assert_eq!(list.snapshot().expect("it lives"), ["z", "b!"]);
    let sorted = list.object().update(
        |items, ()| {
            items.sort();
            items.concat()
        },
        (),
    );
    assert_eq!(sorted.expect("it lives"), "b!z");
    assert!(!list.is_empty().expect("it lives"));
}

#[test]
fn many_threads_use_one_proxy() {
    let manager = Manager::start().expect("a manager");
    let counter = manager.managed(0_u64).expect("it lives");
    thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                let mut last = 0;
                for _ in 0..500 {
                    let count = counter.update(
                        |count, by: u64| {
                            *count += by;
                            *count
                        },
                        2,
                    );
                    let count = count.expect("it lives");
                    assert!(count > last, "each gets its own answer");
                    last = count;
                }
            });
        }
    });
    assert_eq!(
        counter.read(|count, ()| *count, ()).expect("it lives"),
        8000
    );
}

#[test]
fn results_and_arguments_may_be_larger_than_the_rings() {
    let manager = Manager::start().expect("a manager");
    let list = manager.list::<u64>().expect("it lives");
    let numbers: Vec<u64> = (0..500_000).collect();
    list.extend(numbers.iter().copied()).expect("it lives");
    assert_eq!(list.snapshot().expect("it lives"), numbers);
}

#[test]
fn calls_in_flight_and_later_ones_fail_when_the_manager_is_killed() {
    let fastest = (0..5).map(|_| {
        let manager = Manager::start().expect("a manager");
        let counter = manager.value(0_u64).expect("it lives");
        let killed = thread::scope(|threads| {
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    threads.spawn(|| {
                        loop {
                            match counter.update(|count| *count += 1) {
                                Ok(()) => {}
                                Err(CallError::ManagerGone) => return Instant::now(),
                                Err(error) => panic!("{error}"),
                            }
                        }
                    })
                })
                .collect();
            await_that(|| counter.get().expect("it lives") > 100);
            kill(manager.id().expect("it runs"));
            let killed = Instant::now();
            let ends = callers
                .into_iter()
                .map(|caller| caller.join().expect("no panic"));
            let last = ends.max().expect("four of them");
            last.saturating_duration_since(killed)
        });
        assert!(matches!(counter.get(), Err(CallError::ManagerGone)));
        assert!(matches!(manager.list::<u8>(), Err(CallError::ManagerGone)));
        let ended = manager.shutdown(LONG);
        assert!(
            matches!(ended, Err(ShutdownError::EndedBefore { .. })),
            "{ended:?}"
        );
        killed
    });
    // The fastest of several, because a busy machine may stop us at any place.
    let fastest = fastest.min().expect("five of them");
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
}

#[test]
fn function_that_runs_for_ever_ends_with_the_manager() {
    let manager = Manager::start().expect("a manager");
    let value = manager.value(0_u64).expect("it lives");
    let pid = manager.id().expect("it runs");
    thread::scope(|threads| {
        let caller = threads.spawn(|| {
            value.update(|_| {
                loop {
                    std::hint::spin_loop();
                }
            })
        });
        kill(pid);
        let ended: Result<(), _> = caller.join().expect("no panic");
        assert!(matches!(ended, Err(CallError::ManagerGone)));
    });
}

/// Makes the proxy's reference one of this process, says so, and waits to be killed.
fn hold(list: ManagedList<u8>, mut here: Sender<bool>) {
    let alone = list.is_empty().expect("the manager lives");
    here.send(&alone).expect("somebody listens");
    loop {
        thread::park();
    }
}

#[test]
fn objects_of_a_killed_client_are_dropped_unless_somebody_else_has_them() {
    let manager = Manager::start().expect("a manager");
    let kept = manager.list::<u8>().expect("it lives");
    let mut children = Vec::new();
    for _ in 0..3 {
        let given = manager.list::<u8>().expect("it lives");
        let (here, mut there) = Pipe::simplex().expect("room");
        let child = Process::spawn(hold, (given, here)).expect("a child");
        assert!(there.recv_timeout(LONG).expect("it has it"));
        children.push(child);
    }
    let (here, mut there) = Pipe::simplex().expect("room");
    let child = Process::spawn(hold, (kept.clone(), here)).expect("a child");
    assert!(there.recv_timeout(LONG).expect("it has it"));
    children.push(child);
    assert_eq!(manager.object_count().expect("it lives"), 4);
    for child in &children {
        child.kill().expect("it lives");
    }
    await_that(|| manager.object_count().expect("it lives") == 1);
    assert!(kept.is_empty().expect("it lives"));
    drop(kept);
    await_that(|| manager.object_count().expect("it lives") == 0);
}

#[test]
fn clients_killed_at_any_time_leave_nothing_behind() {
    let busy = |list: ManagedList<u8>| {
        while list.clone().push(1).is_ok() {
            list.pop().expect("the manager lives");
        }
    };
    let manager = Manager::start().expect("a manager");
    for round in 0..100 {
        let list = manager.list::<u8>().expect("it lives");
        let child = Process::spawn(busy, (list.clone(),)).expect("a child");
        await_that(|| round % 4 == 0 || list.len().is_ok());
        child.kill().expect("it is never done");
        drop(list);
    }
    await_that(|| manager.object_count().expect("it lives") == 0);
    assert!(manager.shutdown(LONG).is_ok());
}

#[test]
fn panic_at_the_owner_is_told_to_its_caller_and_the_object_stays() {
    let manager = Manager::start().expect("a manager");
    let list = manager.managed(vec![1]).expect("it lives");
    let half = list.update(
        |list, item: i32| -> usize {
            list.push(item);
            panic!("no {item}");
        },
        2,
    );
    match half {
        Err(CallError::Panicked(panic)) => {
            assert_eq!(panic.message, "no 2");
            assert!(
                panic
                    .location
                    .is_some_and(|place| place.contains("manager.rs"))
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        list.read(|list, ()| list.clone(), ()).expect("it lives"),
        [1, 2]
    );
    let (first, second) = (String::from("carried"), 7);
    let made = manager
        .make(task!([first] |second: u8| (first, second)), (second,))
        .expect("it lives");
    assert_eq!(
        made.read(|pair, ()| pair.clone(), ()).expect("it lives"),
        (String::from("carried"), 7)
    );
    drop(made);
    let unmade = manager.make(|| -> u8 { panic!("never") }, ());
    assert!(matches!(unmade, Err(CallError::Panicked(_))));
    assert_eq!(manager.object_count().expect("it lives"), 1);
}

/// A value that is encoded as text and refuses to be decoded from anything but a number.
#[derive(Debug)]
struct Contrary;

impl serde::Serialize for Contrary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("text")
    }
}

impl<'de> serde::Deserialize<'de> for Contrary {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).and_then(|_| Err(serde::de::Error::custom("never")))
    }
}

#[test]
fn what_cannot_be_decoded_is_an_error_on_the_side_where_it_fails() {
    let manager = Manager::start().expect("a manager");
    let object = manager.managed(0_u8).expect("it lives");
    let arguments = object.update(|_, _: Contrary| (), Contrary);
    assert!(
        matches!(arguments, Err(CallError::ArgumentsUndecodable { .. })),
        "{arguments:?}"
    );
    let result = object.update(|_, ()| Contrary, ());
    assert!(
        matches!(result, Err(CallError::ResultUndecodable(_))),
        "{result:?}"
    );
    assert_eq!(object.read(|number, ()| *number, ()).expect("it lives"), 0);
}

#[test]
fn shared_objects_cross_both_ways_and_stay_alive() {
    let manager = Manager::start().expect("a manager");
    let list = manager
        .managed(Vec::<Shared<AtomicU64>>::new())
        .expect("it lives");
    for number in 0..10 {
        let shared = Shared::new(AtomicU64::new(number)).expect("room");
        list.update(|list, shared: Shared<AtomicU64>| list.push(shared), shared)
            .expect("lives");
    }
    let back = list
        .update(|list, ()| std::mem::take(list), ())
        .expect("it lives");
    let numbers: Vec<_> = back.iter().map(|number| number.load(SeqCst)).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    let none = list.read(|list, ()| list.len(), ()).expect("it lives");
    assert_eq!(none, 0);
}

#[test]
fn proxy_is_refused_as_an_argument_to_its_own_manager_and_taken_by_another() {
    let one = Manager::start().expect("a manager");
    let other = Manager::start().expect("a manager");
    let inner = one.managed(7_u8).expect("it lives");
    let outer = one.managed(Vec::<Managed<u8>>::new()).expect("it lives");
    let refused = outer.update(|list, proxy: Managed<u8>| list.push(proxy), inner.clone());
    assert!(
        matches!(refused, Err(CallError::ArgumentsUndecodable { .. })),
        "{refused:?}"
    );
    let outer = other.managed(Vec::<Managed<u8>>::new()).expect("it lives");
    outer
        .update(|list, proxy: Managed<u8>| list.push(proxy), inner)
        .expect("it lives");
    let sum = outer.read(
        |list, ()| {
            list.iter()
                .map(|proxy| proxy.read(|n, ()| *n, ()).unwrap_or(0))
                .sum::<u8>()
        },
        (),
    );
    assert_eq!(sum.expect("it lives"), 7);
    drop(outer);
    await_that(|| other.object_count().expect("it lives") == 0);
    await_that(|| one.object_count().expect("it lives") == 1);
}

#[test]
fn object_that_cannot_be_sent_is_made_at_the_owner() {
    let manager = Manager::start().expect("a manager");
    let (sender, file) = (thread::current().id(), manager.make(thread::current, ()));
    let elsewhere = file.expect("it lives");
    let process = elsewhere
        .read(|_, ()| std::process::id(), ())
        .expect("it lives");
    assert_eq!(Some(process), manager.id());
    assert_eq!(sender, thread::current().id());
}

#[test]
fn manager_that_is_shut_down_or_dropped_ends() {
    let manager = Manager::start().expect("a manager");
    let value = manager.value(1_u8).expect("it lives");
    let process = Pidfd::open(manager.id().expect("it runs")).expect("it lives");
    manager.shutdown(LONG).expect("it is idle");
    assert!(process.has_ended());
    assert!(matches!(value.get(), Err(CallError::ManagerGone)));

    let manager = Manager::start().expect("a manager");
    let process = Pidfd::open(manager.id().expect("it runs")).expect("it lives");
    drop(manager);
    assert!(process.has_ended());

    let manager = Manager::start().expect("a manager");
    let value = manager.value(1_u8).expect("it lives");
    thread::scope(|threads| {
        threads.spawn(|| {
            let endless: Result<(), _> = value.update(|_| {
                loop {
                    std::hint::spin_loop();
                }
            });
            assert!(matches!(endless, Err(CallError::ManagerGone)));
        });
        let killed = manager.shutdown(Duration::from_millis(50));
        match killed {
            Err(ShutdownError::Killed { within }) => {
                assert_eq!(within, Duration::from_millis(50));
            }
            // The request came later than the order to end, which is then a clean end.
            Ok(()) => {}
            other => panic!("{other:?}"),
        }
    });
}
