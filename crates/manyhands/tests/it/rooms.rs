//! Every room is reachable through the facade, and what is reached works.

use manyhands::{Event, Lock, Manager, Pipe, Pool, Process, Shareable, Shared, Task, Thread};
use manyhands::{ProcessPoolExecutor, Shutdown, ThreadPoolExecutor};

use crate::LONG;

#[derive(Shareable)]
struct Desk {
    papers: Lock<u32>,
    bell: Event,
}

fn work_at(desk: Shared<Desk>) -> u32 {
    let mut papers = desk.papers.lock().expect("no owner dies");
    *papers += 1;
    desk.bell.set();
    *papers
}

#[test]
fn os_is_reachable() {
    let deadline = manyhands::os::Deadline::after(LONG);
    assert!(!deadline.has_passed());
    let me = manyhands::os::process::Identity::current();
    assert_eq!(me.pid, std::process::id());
}

#[test]
fn sync_is_reachable() {
    static NUMBER: Lock<u32> = Lock::new(1);
    *NUMBER.lock().unwrap() += 1;
    assert_eq!(*manyhands::sync::Lock::lock(&NUMBER).unwrap(), 2);
    assert!(!Event::new().is_set());
}

#[test]
fn shm_and_its_derive_are_reachable_without_naming_their_crates() {
    let desk = Shared::new(Desk {
        papers: Lock::new(0),
        bell: Event::new(),
    })
    .unwrap();
    assert_eq!(work_at(desk.clone()), 1);
    assert!(desk.bell.is_set());
    assert!(manyhands::shm::Region::new(100).unwrap().len() >= 100);
}

#[test]
fn process_is_reachable() {
    let desk = Shared::new(Desk {
        papers: Lock::new(41),
        bell: Event::new(),
    })
    .unwrap();
    let mut process = Process::spawn(work_at, (desk.clone(),)).unwrap();
    assert_eq!(process.join_timeout(LONG).unwrap(), Some(42));
    assert!(desk.bell.is_set());
    let thread = Thread::spawn(|| 7).unwrap();
    assert_eq!(thread.join().unwrap(), 7);
    assert!(!manyhands::process::in_child());
}

#[test]
fn channel_is_reachable() {
    let (mut here, mut there) = Pipe::duplex::<u32, String>().unwrap();
    here.send(&5).unwrap();
    assert_eq!(there.recv_timeout(LONG).unwrap(), 5);
    there.send(&"five".to_owned()).unwrap();
    assert_eq!(here.recv_timeout(LONG).unwrap(), "five");
    assert!(manyhands::channel::ring::ring(4096).is_ok());
}

#[test]
fn executor_is_reachable() {
    let threads = ThreadPoolExecutor::new(2).unwrap();
    let factor = 3;
    let task: Task<u32> = manyhands::Executor::submit(&threads, |x: u32| x + 1, (1,)).unwrap();
    assert_eq!(task.result_timeout(LONG).unwrap().unwrap(), 2);
    let scaled: Vec<u32> = threads
        .map(move |x: u32| x * factor, 0..3)
        .map(Result::unwrap)
        .collect();
    assert_eq!(scaled, [0, 3, 6]);

    let processes = ProcessPoolExecutor::builder().workers(1).build().unwrap();
    let task = manyhands::Executor::submit(&processes, u32::pow, (2, 10)).unwrap();
    assert_eq!(task.result_timeout(LONG).unwrap().unwrap(), 1024);
    manyhands::Executor::shutdown(&processes, Shutdown::Drain, LONG);
    assert_eq!(Pool::new(1).unwrap().apply(u32::pow, (3, 3)).unwrap(), 27);
}

#[test]
fn manager_is_reachable() {
    let manager = Manager::start().unwrap();
    let list = manager.list::<u32>().unwrap();
    list.push(5).unwrap();
    assert_eq!(list.snapshot().unwrap(), [5]);
    let number = manager.managed(1_u32).unwrap();
    let doubled = number.update(
        |number: &mut u32, times: u32| {
            *number *= times;
            *number
        },
        2,
    );
    assert_eq!(doubled.unwrap(), 2);
    manager.shutdown(LONG).unwrap();
}
