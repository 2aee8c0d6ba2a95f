//! Bytes one after the other, by way of the kernel: a pipe and a unix socket.

use std::cell::Cell;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::in_place::{LARGE, mark, marked};
use super::queues::Way;

/// What bytes go through from process to process.
pub(super) trait Stream: Clone + Serialize + DeserializeOwned + 'static {
    fn writer(&self) -> impl Write;
    fn reader(&self) -> impl Read;
}

/// A stream of numbers.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Numbers<S>(pub(super) S);

impl<S: Stream> Way for Numbers<S> {
    fn entry(&self) -> impl FnMut(u64) {
        let mut writer = self.0.writer();
        move |number| {
            let put = writer.write_all(&number.to_ne_bytes());
            put.expect("the other end lives");
        }
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        let mut reader = self.0.reader();
        move || {
            let mut bytes = [0; 8];
            reader.read_exact(&mut bytes).expect("the other end lives");
            u64::from_ne_bytes(bytes)
        }
    }
}

/// A stream of large messages, all of one size.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Blocks<S>(pub(super) S);

impl<S: Stream> Way for Blocks<S> {
    fn entry(&self) -> impl FnMut(u64) {
        let mut writer = self.0.writer();
        let mut buffer = vec![0; LARGE];
        move |number| {
            mark(&mut buffer, number);
            writer.write_all(&buffer).expect("the other end lives");
        }
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        let mut reader = self.0.reader();
        let mut buffer = vec![0; LARGE];
        move || {
            reader.read_exact(&mut buffer).expect("the other end lives");
            marked(&buffer)
        }
    }
}

/// The ends of a pipe, which its maker keeps open, and others open by where they are.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Pipe {
    entry: String,
    exit: String,
}

impl Pipe {
    pub(super) fn make() -> Self {
        let (exit, entry) = std::io::pipe().expect("there are descriptors left");
        let path = |number| format!("/proc/{}/fd/{number}", std::process::id());
        let pipe = Self {
            entry: path(entry.as_raw_fd()),
            exit: path(exit.as_raw_fd()),
        };
        KEPT.set(Some((exit, entry)));
        pipe
    }
}

thread_local! {
    /// The ends of the last pipe.
    static KEPT: Cell<Option<(PipeReader, PipeWriter)>> = const { Cell::new(None) };
}

impl Stream for Pipe {
    fn writer(&self) -> impl Write {
        let file = File::options().write(true).open(&self.entry);
        file.expect("its maker has it")
    }

    fn reader(&self) -> impl Read {
        File::open(&self.exit).expect("its maker has it")
    }
}

/// The name of a socket, for one and one.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Socket(String);

impl Socket {
    pub(super) fn make() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only that no two are the same matters.
        let number = NUMBER.fetch_add(1, Relaxed);
        Self(format!("mh-bench-{}-{number}", std::process::id()))
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from_abstract_name(&self.0).expect("a short name")
    }
}

impl Stream for Socket {
    fn writer(&self) -> impl Write {
        UnixStream::connect_addr(&self.address()).expect("the other one listens")
    }

    fn reader(&self) -> impl Read {
        let listener = UnixListener::bind_addr(&self.address()).expect("the name is new");
        Accepting {
            listener,
            stream: None,
        }
    }
}

/// The end of a socket that lets the other one come when the first byte is asked for.
struct Accepting {
    listener: UnixListener,
    stream: Option<UnixStream>,
}

impl Read for Accepting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.stream.is_none() {
            self.stream = Some(self.listener.accept()?.0);
        }
        let stream = self.stream.as_mut().expect("it has just come");
        stream.read(buffer)
    }
}
