//! Descriptors of children: streams whose numbers other descriptors have in the parent, and those
//! that the parent opens for all programs while it starts processes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::read_to_string;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread::ScopedJoinHandle;

use manyhands_process::{Process, StartMethod, Stdio, inherited};

const METHODS: [StartMethod; 2] = [StartMethod::Exec, StartMethod::Zygote];

/// Closes its streams, starts a process with captured ones and an inherited descriptor, and tells
/// what came out of both.
fn closed(by_exec: bool) -> (String, String) {
    for stream in 0..3 {
        nix::unistd::close(stream).expect("it is open");
    }
    let method = METHODS[usize::from(!by_exec)];
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let builder = Process::builder().start_method(method).inherit(writer);
    let speak = || {
        use std::io::Write as _;
        // Received by a process without streams, it had the number of one, and was replaced by what
        // was chosen for that: a child that needed more memory then failed, at random.
        let has_arena = open().iter().any(|file| file.contains("manyhands-arena"));
        assert!(has_arena, "the descriptor of the arena is kept");
        writeln!(std::io::stdout(), "to the stream").expect("it is open");
        let mut file = File::from(inherited(0).expect("it was given"));
        file.write_all(b"to the pipe").expect("it is open");
    };
    // All that is free is taken: the input too, so that nothing of ours has its number.
    let chosen = builder
        .stdout(Stdio::Captured)
        .stdin(Stdio::Null)
        .stderr(Stdio::Null);
    let mut process = chosen.spawn(speak, ()).expect("it starts");
    drop(chosen);
    let output = read_to_string(process.take_stdout().expect("captured")).expect("the end");
    process.join().expect("a value");
    (output, read_to_string(reader).expect("the end"))
}

#[test]
fn parent_without_streams_gives_its_children_what_it_chose() {
    for method in METHODS {
        let builder = Process::builder().start_method(method);
        for by_exec in [true, false] {
            let mut process = builder.spawn(closed, (by_exec,)).expect("it starts");
            let texts = process.join().expect("a value");
            assert_eq!(
                texts,
                ("to the stream\n".to_owned(), "to the pipe".to_owned())
            );
        }
    }
}

/// What this process has open, but its streams and the list itself.
fn open() -> Vec<String> {
    let list = std::fs::read_dir("/proc/self/fd").expect("/proc is there");
    let beside = list.filter_map(|entry| {
        let entry = entry.ok()?;
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let target = std::fs::read_link(entry.path()).ok()?;
        let target = target.display().to_string();
        (number > 2 && !target.ends_with("/fd")).then_some(target)
    });
    beside.collect()
}

/// It also found that a fresh image which had finished was told as dead, when the fork of another start had a
/// copy of its socket at that moment, so that the socket showed no end.
#[test]
fn no_child_has_what_sixteen_threads_open_for_all_programs() {
    let stop = AtomicBool::new(false);
    let opened = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    // Not closed on exec.
                    drop(nix::unistd::pipe().expect("a pipe"));
                    opened.fetch_add(1, SeqCst);
                }
            });
        }
        let spawners: Vec<_> = (0..16)
            .map(|number| {
                scope.spawn(move || {
                    let method = METHODS[number % 2];
                    let builder = Process::builder().start_method(method);
                    let children = (0..10).map(|_| builder.spawn(open, ()).expect("it starts"));
                    let lists = children.map(|mut child| child.join().expect("a value"));
                    lists.collect::<Vec<_>>()
                })
            })
            .collect();
        let lists: Vec<_> = spawners.into_iter().map(ScopedJoinHandle::join).collect();
        stop.store(true, SeqCst);
        let mut lifelines = BTreeSet::new();
        for (number, lists) in lists.into_iter().enumerate() {
            for mut list in lists.expect("no panic") {
                if METHODS[number % 2] == StartMethod::Zygote {
                    let place = list.iter().position(|open| open.starts_with("pipe:"));
                    lifelines.insert(list.remove(place.expect("its lifeline")));
                }
                // The family's memory is all else that a child has.
                assert!(list.len() == 1 && list[0].contains("memfd"), "{list:?}");
            }
        }
        assert_eq!(lifelines.len(), 1, "one for all: {lifelines:?}");
    });
    assert!(opened.load(SeqCst) > 0);
}
