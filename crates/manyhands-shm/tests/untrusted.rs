//! A process that writes while another one reads, and one that tries to write what it may only read.
//!
//! This program starts itself again as its children.
#![allow(unsafe_code, reason = "the child writes through a raw pointer")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use manyhands_os::Deadline;
use manyhands_os::memory::{Map, Memfd};
use manyhands_shm::untrusted::{Board, BoardView};

const CHILD: &str = "MANYHANDS_TEST_CHILD";
const LEN: usize = 4096;

/// A child that runs one of the entries, with a descriptor as its standard input.
fn start(entry: &str, file: impl AsFd) -> Child {
    let fd = file.as_fd().try_clone_to_owned().expect("a descriptor");
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", entry, "--nocapture"])
        .env(CHILD, "1")
        .stdin(fd)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts")
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// The entry of a child that writes for ever; does nothing when run as a test.
#[test]
fn child_that_writes() {
    if !is_child() {
        return;
    }
    let fd = std::io::stdin().as_fd().try_clone_to_owned();
    let file = Memfd::from_fd(fd.expect("a descriptor")).expect("it is sealed");
    let map = Map::shared(&file).expect("room");
    // SAFETY: `from_ptr` needs an aligned place that is used atomically: a page that is mapped for
    // the rest of this process.
    let word = unsafe { AtomicU64::from_ptr(map.as_ptr().cast()) };
    for number in 0.. {
        // A length that is right, and one that is far too long.
        word.store(if number % 2 == 0 { 100 } else { u64::MAX }, Relaxed);
    }
}

#[test]
fn value_that_was_checked_stays_what_it_was_though_another_process_writes() {
    if is_child() {
        return;
    }
    let file = Memfd::create("test", LEN as u64).expect("a page");
    let fd = file.as_fd().try_clone_to_owned().expect("a descriptor");
    let view = BoardView::open(fd).expect("it is sealed against resizing");
    let mut child = start("child_that_writes", &file);
    let deadline = Deadline::after(Duration::from_secs(60));
    let (mut accepted, mut refused) = (0_u32, 0_u32);
    while accepted < 10_000 || refused < 10_000 {
        assert!(!deadline.has_passed(), "{accepted} and {refused}");
        let outcome = view.bytes().validated(0, |len: u64| {
            if len <= 1000 {
                // Looked at again and again: it is a copy.
                Ok((0..10).map(|_| std::hint::black_box(len)).max())
            } else {
                Err(len)
            }
        });
        match outcome {
            Ok(len) => {
                assert!(len == Some(100) || len == Some(0), "{len:?}");
                accepted += 1;
            }
            Err(_) => refused += 1,
        }
    }
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
}

/// The entry of a child that tries everything; does nothing when run as a test.
#[test]
fn child_that_may_only_read() {
    if !is_child() {
        return;
    }
    let stdin = std::io::stdin();
    let fd = || stdin.as_fd().try_clone_to_owned().expect("a descriptor");
    let file = Memfd::from_fd(fd()).expect("it is sealed");
    assert!(Map::shared(&file).is_err(), "mapped for writing");
    assert!(file.punch(0, LEN as u64).is_err(), "emptied");
    let mut again = std::fs::File::from(fd());
    assert!(again.write_all(&[1]).is_err(), "written");
    let opened = OpenOptions::new().write(true).open("/proc/self/fd/0");
    let written = opened.and_then(|mut file| file.write_all(&[1]));
    assert!(written.is_err(), "opened anew and written");
    let view = BoardView::open(fd()).expect("it may be read");
    assert_eq!(view.bytes().to_vec(0..5).as_deref(), Ok(&b"hello"[..]));
}

#[test]
fn board_cannot_be_written_by_another_process() {
    if is_child() {
        return;
    }
    let mut board = Board::create(LEN).expect("a page");
    board.write(0, b"hello").expect("it fits");
    let mut child = start("child_that_may_only_read", &board);
    assert!(child.wait().expect("it is ours").success());
    assert_eq!(board.bytes().to_vec(0..5).as_deref(), Ok(&b"hello"[..]));
    board.write(1, b"a").expect("it is ours still");
    assert_eq!(board.bytes().read::<u8>(1), Ok(b'a'));
}
