//! `SharedMemory` that goes with its owner: what Python has its resource tracker for.

use manyhands_os::names;
use manyhands_shm::named::{self, CreateError, OpenError, ShareableList, SharedMemory};

use crate::children::Actor;
use crate::{await_gone, name};

fn is_there(name: &str) -> bool {
    !matches!(SharedMemory::open(name), Err(OpenError::NotFound { .. }))
}

#[test]
fn shm_12_memory_of_a_killed_process_is_removed() {
    let name = name("shm12");
    let mut child = Actor::start();
    assert_eq!(child.ask(&format!("own {name}")), "owned");
    let ours = SharedMemory::open(&name).expect("its owner lives");
    named::sweep().expect("the folder can be read");
    assert!(is_there(&name), "its owner lives");
    child.kill();
    await_gone(&name);
    ours.write_at(0, b"who has it keeps it").expect("inside");
}

#[test]
fn shm_13_end_of_a_process_that_only_opened_it_removes_nothing() {
    let name = name("shm13");
    let memory = SharedMemory::create_owned(&name, 64).expect("room");
    let mut child = Actor::start();
    child.ask(&format!("memory {name} hello"));
    child.kill();
    named::sweep().expect("the folder can be read");
    assert!(is_there(&name), "its owner lives");
    drop(memory);
    assert!(!is_there(&name));
}

#[test]
fn shm_24_what_a_killed_process_left_is_told_and_what_is_gone_already_is_no_fault() {
    let [one, two, gone] = ["one", "two", "gone"].map(|each| name(&format!("shm24-{each}")));
    let mut child = Actor::start();
    for name in [&one, &two, &gone] {
        assert_eq!(child.ask(&format!("own {name}")), "owned");
    }
    SharedMemory::unlink_name(&gone).expect("it is there");
    // Somebody else's by now, and not to be removed.
    let other = SharedMemory::create(&gone, 8).expect("the name is free");
    let mut sweeper = Actor::start();
    child.kill();
    let told = sweeper.ask("sweep");
    for name in [&one, &two] {
        // Or a sweep of another test was quicker.
        assert!(told.contains(name.as_str()) || !is_there(name), "{told}");
        await_gone(name);
    }
    assert!(is_there(&gone));
    other.unlink().expect("it has its name");
}

#[test]
fn owned_memory_goes_when_it_is_dropped_unless_it_is_kept() {
    let (dropped, kept) = (name("owned-dropped"), name("owned-kept"));
    let mut child = Actor::start();
    child.ask(&format!("own {dropped}"));
    child.ask("close");
    assert!(!is_there(&dropped));
    let mut memory = SharedMemory::create_owned(&kept, 64).expect("room");
    memory.keep();
    drop(memory);
    SharedMemory::unlink_name(&kept).expect("it was kept");
    let list = ShareableList::create_owned(&kept, [1, 2]).expect("room");
    assert!(ShareableList::open(&kept).is_ok());
    list.set(0, 3).expect("it fits");
    drop(list);
    assert!(!is_there(&kept));
}

#[test]
fn name_that_is_taken_is_refused_and_leaves_no_record() {
    let name = name("owned-taken");
    let memory = SharedMemory::create(&name, 64).expect("room");
    let refused = SharedMemory::create_owned(&name, 64).expect_err("it is taken");
    assert!(matches!(refused, CreateError::AlreadyExists { .. }));
    assert!(is_there(&name));
    memory.unlink().expect("it has its name");
    let none = SharedMemory::create_owned(&name, 0).expect_err("no bytes");
    assert!(matches!(none, CreateError::NoBytes));
    let again = SharedMemory::create_owned(&name, 64).expect("the name is free");
    again.unlink().expect("it has its name");
    drop(again);
    assert!(names::facts_of(&name).expect("a look").is_none());
}
