//! `SharedMemory`: the numbered behaviors of Python's.

use manyhands_shm::named::{
    AttachError, CreateError, NameError, OpenError, SharedMemory, UnlinkError,
};

use crate::children::{Actor, to_hex};
use crate::name;

#[test]
fn shm_01_name_is_as_given_and_size_at_least_as_asked() {
    let name = name("shm01");
    let memory = SharedMemory::create(&name, 512).expect("room");
    assert_eq!(memory.name(), name);
    assert!(memory.size() >= 512 && memory.len() >= 512);
    assert_eq!(
        format!("{memory:?}"),
        format!("SharedMemory({name:?}, size={})", memory.size())
    );
    assert!(std::fs::metadata(format!("/dev/shm/{name}")).is_ok());
    memory.unlink().expect("it has its name");
}

#[test]
fn shm_02_second_one_who_opens_it_sees_the_bytes() {
    let name = name("shm02");
    let memory = SharedMemory::create(&name, 512).expect("room");
    memory.write_at(0, &[42]).expect("inside");
    let same = SharedMemory::open(&name).expect("it is there");
    assert_eq!((same.size(), same.to_vec()[0]), (memory.size(), 42));
    same.write_at(511, &[7]).expect("inside");
    assert_eq!(memory.to_vec()[511], 7);
    assert_eq!(
        std::fs::read(format!("/dev/shm/{name}")).expect("a file"),
        memory.to_vec()
    );
    memory.unlink().expect("it has its name");
}

#[test]
fn shm_05_second_unlink_finds_nothing() {
    let name = name("shm05");
    let memory = SharedMemory::create(&name, 16).expect("room");
    memory.unlink().expect("it has its name");
    assert!(matches!(memory.unlink(), Err(UnlinkError::NotFound { .. })));
    let again = SharedMemory::unlink_name(&name);
    assert!(matches!(again, Err(UnlinkError::NotFound { .. })));
    memory
        .write_at(0, b"who has it keeps it")
        .expect_err("16 bytes");
    memory.write_at(0, b"who has it").expect("inside");
}

#[test]
fn shm_06_used_name_exists_and_missing_name_is_not_found() {
    let name = name("shm06");
    assert!(matches!(
        SharedMemory::open(&name),
        Err(OpenError::NotFound { .. })
    ));
    let memory = SharedMemory::create(&name, 16).expect("room");
    let exists = SharedMemory::create(&name, 16).expect_err("the name is used");
    assert!(
        matches!(exists, CreateError::AlreadyExists { .. }),
        "{exists}"
    );
    assert!(matches!(
        SharedMemory::create(&name, 0),
        Err(CreateError::NoBytes)
    ));
    SharedMemory::unlink_name(&name).expect("it is there");
    drop(memory);
}

#[test]
fn shm_07_open_or_create_opens_what_exists_with_its_real_size() {
    let name = name("shm07");
    let made = SharedMemory::open_or_create(&name, 100).expect("room");
    let found = SharedMemory::open_or_create(&name, 5000).expect("it is there");
    assert_eq!(made.size(), found.size());
    made.unlink().expect("it has its name");
}

#[test]
fn shm_08_zero_byte_in_a_name_is_an_error() {
    let bad = "\0mh\0";
    assert!(matches!(
        SharedMemory::open(bad),
        Err(OpenError::Name(NameError::Nul))
    ));
    assert!(matches!(
        SharedMemory::create(bad, 8),
        Err(CreateError::Name(NameError::Nul))
    ));
    assert!(matches!(
        SharedMemory::unlink_name(bad),
        Err(UnlinkError::Name(NameError::Nul))
    ));
    let refused = SharedMemory::open_or_create("a/b", 8).expect_err("a slash");
    assert!(matches!(
        refused,
        AttachError::Open(OpenError::Name(NameError::Slash))
    ));
}

#[test]
fn shm_09_name_with_colons_and_newlines_will_do() {
    let name = name("shm09: a\nb:c");
    let memory = SharedMemory::create(&name, 8).expect("room");
    assert!(SharedMemory::open(&name).is_ok());
    memory.unlink().expect("it has its name");
}

#[test]
fn shm_11_child_writes_by_name_and_by_handle() {
    let name = name("shm11");
    let memory = SharedMemory::create(&name, 64).expect("room");
    let mut child = Actor::start();
    let told = child.ask(&format!("memory {name} by-name"));
    assert_eq!(told, format!("{memory:?}"));
    assert_eq!(&memory.to_vec()[..7], b"by-name");
    assert_eq!(
        child.ask(&format!("memory-by-handle {} handle", to_hex(&memory))),
        name
    );
    assert_eq!(&memory.to_vec()[..7], b"handlee");
    memory.unlink().expect("it has its name");
}

#[test]
fn unnamed_memory_has_a_name_of_python_s_pattern_that_nothing_has() {
    let all: Vec<_> = (0..20)
        .map(|_| SharedMemory::create_unnamed(1).expect("room"))
        .collect();
    let names: std::collections::BTreeSet<_> = all.iter().map(SharedMemory::name).collect();
    assert_eq!(names.len(), 20);
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("psm_") && name.len() < 14)
    );
    for memory in &all {
        memory.unlink().expect("it has its name");
    }
}

#[test]
fn unlink_leaves_memory_that_got_the_name_later() {
    let name = name("later");
    let first = SharedMemory::create(&name, 8).expect("room");
    SharedMemory::unlink_name(&name).expect("it is there");
    let second = SharedMemory::create(&name, 8).expect("the name is free");
    assert!(matches!(first.unlink(), Err(UnlinkError::NotFound { .. })));
    second.unlink().expect("it has its name");
}
