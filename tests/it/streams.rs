//! Streams of children whose parent has closed its own, so that other descriptors have their
//! numbers.

use std::fs::File;
use std::io::read_to_string;

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
