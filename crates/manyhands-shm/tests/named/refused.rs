//! What has the name, and may be somebody else's or nothing at all.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use manyhands_shm::named::{OpenError, Refusal, Segment, SharedMemory, unlink};

use crate::name;

/// A segment, its name, and the path of its file.
fn made(what: &str) -> (String, Segment, String) {
    let name = name(what);
    let segment = Segment::create(&name, 64).expect("room");
    let path = format!("/dev/shm/{}", segment.file_name());
    (name, segment, path)
}

fn refusal(name: &str) -> Refusal {
    match Segment::open(name).expect_err("refused") {
        OpenError::Refused { why, .. } => why,
        other => panic!("{other}"),
    }
}

#[test]
fn file_that_others_can_reach_is_refused() {
    let (name, segment, path) = made("mode");
    for mode in [0o640, 0o602, 0o666] {
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("it is ours");
        assert_eq!(refusal(&name), Refusal::Mode { mode });
    }
    let memory = SharedMemory::open(segment.file_name()).expect_err("refused");
    assert!(matches!(memory, OpenError::Refused { .. }), "{memory}");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("it is ours");
    assert!(Segment::open(&name).is_ok());
    segment.unlink().expect("it has its name");
}

#[test]
fn file_of_another_user_is_refused() {
    let (name, segment, path) = made("user");
    if chown(&path, Some(12345), None).is_err() {
        println!("skipped: only root can give files away");
    } else {
        assert_eq!(refusal(&name), Refusal::OtherUser { user: 12345 });
    }
    segment.unlink().expect("it has its name");
}

#[test]
fn planted_link_folder_and_second_name_are_refused_and_not_followed() {
    let (name, segment, path) = made("planted");
    let second = format!("{path}-second");
    fs::hard_link(&path, &second).expect("a second name");
    assert_eq!(refusal(&name), Refusal::Links { links: 2 });
    fs::remove_file(&path).expect("it is there");
    symlink(&second, &path).expect("a link");
    assert_eq!(refusal(&name), Refusal::NotPlain);
    assert!(
        Segment::create(&name, 64).is_err(),
        "a link is not overwritten"
    );
    assert!(Segment::attach_or_create(&name, 64).is_err());
    unlink(&name).expect("the link goes");
    assert!(fs::metadata(&second).is_ok(), "and not what it led to");
    fs::create_dir(&path).expect("a folder");
    assert_eq!(refusal(&name), Refusal::NotPlain);
    fs::remove_dir(&path).expect("it is there");
    fs::remove_file(&second).expect("it is there");
    drop(segment);
}

#[test]
fn damaged_and_foreign_headers_are_told_apart() {
    let (name, segment, _) = made("damaged");
    let file = SharedMemory::open(segment.file_name()).expect("it is there");
    let header = file.to_vec();
    let open_with = |at: usize, bytes: &[u8]| {
        file.write_at(0, &header).expect("inside");
        file.write_at(at, bytes).expect("inside");
        Segment::try_open(&name).expect_err("damaged")
    };
    let refused = open_with(0, b"x");
    assert!(
        matches!(refused, OpenError::NotASegment { .. }),
        "{refused}"
    );
    let refused = open_with(8, &7_u32.to_ne_bytes());
    assert!(
        matches!(refused, OpenError::Version { found: 7, .. }),
        "{refused}"
    );
    let refused = open_with(80, b"another");
    assert!(matches!(refused, OpenError::Collision { .. }), "{refused}");
    // Longer than the file.
    let refused = open_with(32, &65_u64.to_ne_bytes());
    assert!(
        matches!(refused, OpenError::NotASegment { .. }),
        "{refused}"
    );
    let refused = open_with(24, &u64::MAX.to_ne_bytes());
    assert!(
        matches!(refused, OpenError::NotASegment { .. }),
        "{refused}"
    );
    file.write_at(0, &header).expect("inside");
    assert!(Segment::try_open(&name).is_ok());
    segment.unlink().expect("it has its name");
}

#[test]
fn plain_memory_under_the_name_of_a_segment_is_no_segment() {
    let (name, segment, path) = made("plain");
    segment.unlink().expect("it has its name");
    for size in [1, 255, 4096] {
        let memory = SharedMemory::create(segment.file_name(), size).expect("room");
        let refused = Segment::open(&name).expect_err("no header");
        assert!(
            matches!(refused, OpenError::NotASegment { .. }),
            "{refused}"
        );
        memory.unlink().expect("it has its name");
    }
    fs::write(&path, "").expect("a file");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("it is ours");
    assert!(matches!(
        Segment::open(&name),
        Err(OpenError::NoBytes { .. })
    ));
    unlink(&name).expect("it is there");
}
