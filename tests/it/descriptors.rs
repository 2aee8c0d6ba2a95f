//! Descriptors over unix sockets to another process, and how many that one has open afterwards.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use manyhands_channel::socket::{
    Address, AuthKey, Client, Listener, Protocol, RecvError, SocketConnection, Terms,
};
use manyhands_channel::{Pipe, Receiver};
use manyhands_os::memory::Memfd;
use manyhands_os::socket::{UnixAddress, connect_unix};
use manyhands_os::{Deadline, limits};
use manyhands_process::Process;

use crate::LONG;

/// The most that Linux sends together (`SCM_MAX_FD`).
const MOST_OF_LINUX: usize = 253;
const PROTOCOLS: [Protocol; 2] = [Protocol::Python, Protocol::Sealed];

fn key() -> AuthKey {
    AuthKey::new(b"secret").expect("not empty")
}

fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    format!("manyhands-descriptors-{}-{number}", std::process::id())
}

fn terms(address: &Address, is_sealed: bool) -> Terms {
    Terms {
        protocol: PROTOCOLS[usize::from(is_sealed)],
        ..Terms::for_address(address)
    }
}

fn connect(name: String, is_sealed: bool) -> SocketConnection {
    let address = Address::Abstract(name.into_bytes());
    let connection = Client::connect_on(&address, &key(), &terms(&address, is_sealed));
    connection.expect("it listens, and has the key")
}

/// A connection to a process that does this with its end.
fn with_child<R>(
    is_sealed: bool,
    act: impl FnOnce(String) -> Process<R>,
) -> (SocketConnection, Process<R>) {
    let name = name();
    let address = Address::Abstract(name.clone().into_bytes());
    let listener = Listener::bind_on(&address, &key(), terms(&address, is_sealed));
    let mut listener = listener.expect("a free name");
    let child = act(name);
    let connection = listener.accept_timeout(LONG).expect("it comes");
    (connection, child)
}

/// How many descriptors this process has open.
fn open() -> usize {
    let list = std::fs::read_dir("/proc/self/fd").expect("/proc is there");
    list.count()
}

/// Sends a byte with as many descriptors as one likes.
fn send_many(socket: BorrowedFd<'_>, mark: u8, rights: &[BorrowedFd<'_>]) {
    let size = 16 + 4 * rights.len();
    let mut control = (size as u64).to_ne_bytes().to_vec();
    control.extend(libc::SOL_SOCKET.to_ne_bytes());
    control.extend(libc::SCM_RIGHTS.to_ne_bytes());
    for right in rights {
        control.extend(right.as_raw_fd().to_ne_bytes());
    }
    let mut words: Vec<u64> = control
        .chunks(8)
        .map(|part| {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            u64::from_ne_bytes(word)
        })
        .collect();
    let mut byte = [mark];
    let mut part = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    // SAFETY: zeros are a message without anything.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = words.as_mut_ptr().cast();
    message.msg_controllen = size;
    // SAFETY: all that the message points to lives until the call is over.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    assert_eq!(sent, 1, "{}", std::io::Error::last_os_error());
}

/// Writes into what it gets, and tells how many descriptors it had before and has afterwards.
fn work(name: String, is_sealed: bool) -> (usize, usize, String) {
    let mut connection = connect(name, is_sealed);
    let before = open();
    let all = connection
        .recv_descriptors_timeout(LONG)
        .expect("they come");
    assert_eq!((open(), all.len()), (before + 3, 3));
    let mut all = all.into_iter();
    let mut next = || all.next().expect("three");
    let (mut reader, mut writer) = (PipeReader::from(next()), PipeWriter::from(next()));
    let memory = File::from(next());
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("the end");
    writer.write_all(b"from the child").expect("it is open");
    memory.write_all_at(b"and in memory", 100).expect("room");
    drop((reader, writer, memory, all));
    (before, open(), text)
}

#[test]
fn pipes_and_memory_pass_to_another_process() {
    for is_sealed in [false, true] {
        let (mut connection, mut child) = with_child(is_sealed, |name| {
            Process::spawn(work, (name, is_sealed)).expect("a child")
        });
        let (there, mut ours) = pipe().expect("descriptors");
        let (mut answer, their) = pipe().expect("descriptors");
        let memory = Memfd::create("passed", 4096).expect("memory");
        connection
            .send_descriptors_timeout(&[there.as_fd(), their.as_fd(), memory.as_fd()], LONG)
            .expect("it is open");
        drop((there, their));
        ours.write_all(b"from the parent").expect("it reads");
        drop(ours);
        let mut text = String::new();
        answer.read_to_string(&mut text).expect("the end");
        assert_eq!(text, "from the child");
        let (before, after, read) = child.join_timeout(LONG).expect("a value").expect("it ends");
        assert_eq!((after, read.as_str()), (before, "from the parent"));
        let memory = memory.as_fd().try_clone_to_owned().expect("a descriptor");
        let mut bytes = [0; 13];
        let read = File::from(memory).read_exact_at(&mut bytes, 100);
        read.expect("it is there");
        assert_eq!(&bytes, b"and in memory");
    }
}

/// Expects two descriptors, gets too many of them, and tells how many it has open.
fn flooded(
    name: String,
    is_sealed: bool,
    mut all_sent: Receiver<()>,
) -> (usize, usize, Vec<String>) {
    let mut connection = connect(name, is_sealed);
    // Whoever finds nonsense hangs up, while the other end is still sending it.
    all_sent.recv_timeout(LONG).expect("it sends");
    let before = open();
    let said = [
        connection.recv_descriptors_timeout(LONG).map(drop),
        connection.recv_bytes_timeout(LONG).map(drop),
        connection.recv_bytes_timeout(LONG).map(drop),
    ];
    let said = said.map(|outcome| match outcome {
        Ok(()) => "ok".to_owned(),
        Err(RecvError::DescriptorsLost) => "lost".to_owned(),
        Err(RecvError::Descriptors) => "not wanted".to_owned(),
        Err(RecvError::Corrupt) => "corrupt".to_owned(),
        Err(error) => error.to_string(),
    });
    (before, open(), said.to_vec())
}

#[test]
fn flood_of_descriptors_is_closed_and_told() {
    for is_sealed in [false, true] {
        let (mut says, hears) = Pipe::simplex::<()>().expect("room");
        let (mut connection, mut child) = with_child(is_sealed, |name| {
            Process::spawn(flooded, (name, is_sealed, hears)).expect("a child")
        });
        let (mut reader, writer) = pipe().expect("descriptors");
        let many = vec![writer.as_fd(); MOST_OF_LINUX];
        send_many(connection.as_fd(), MOST_OF_LINUX as u8, &many);
        send_many(connection.as_fd(), MOST_OF_LINUX as u8, &many);
        drop(writer);
        connection.send_bytes(b"and a message").expect("it is open");
        says.send(&()).expect("it waits");
        let (before, after, said) = child.join_timeout(LONG).expect("a value").expect("it ends");
        assert_eq!(before, after);
        match is_sealed {
            false => assert_eq!(said, ["lost", "not wanted", "ok"]),
            true => assert_eq!(said, ["corrupt"; 3]),
        }
        // Whoever had one has closed it.
        assert_eq!(reader.read(&mut [0]).expect("the end"), 0);
    }
}

/// Has room for fewer descriptors than come.
fn crowded(name: String, is_sealed: bool) -> (usize, usize, bool, Vec<u8>, usize) {
    let mut connection = connect(name, is_sealed);
    let before = open();
    // Numbers up to this one are free or taken; the list of open ones needs one, too.
    limits::limit_descriptors(before as u64 + 4).expect("it may be less");
    connection.send_bytes(b"go").expect("it is open");
    let lost = connection.recv_descriptors_timeout(LONG);
    let is_lost = matches!(lost, Err(RecvError::DescriptorsLost));
    let after = open();
    let message = connection.recv_bytes_timeout(LONG).expect("a message");
    let few = connection.recv_descriptors_timeout(LONG).expect("they fit");
    (before, after, is_lost, message, few.len())
}

#[test]
fn descriptors_that_a_process_has_no_room_for_are_closed_and_told() {
    for is_sealed in [false, true] {
        let (mut connection, mut child) = with_child(is_sealed, |name| {
            Process::spawn(crowded, (name, is_sealed)).expect("a child")
        });
        let (mut reader, writer) = pipe().expect("descriptors");
        connection
            .recv_bytes_timeout(LONG)
            .expect("it has no room now");
        connection
            .send_descriptors(&[writer.as_fd(); 32])
            .expect("it is open");
        connection.send_bytes(b"and a message").expect("it is open");
        connection
            .send_descriptors(&[writer.as_fd()])
            .expect("it is open");
        drop(writer);
        let (before, after, is_lost, message, few) =
            child.join_timeout(LONG).expect("a value").expect("it ends");
        assert_eq!((before, is_lost, few), (after, true, 1));
        assert_eq!(message, b"and a message");
        assert_eq!(reader.read(&mut [0]).expect("the end"), 0);
    }
}

/// Listens to a stranger, and tells how many descriptors it had before and at most.
fn visited(name: String, is_sealed: bool) -> (usize, usize) {
    let address = Address::Abstract(name.into_bytes());
    let listener = Listener::bind_on(&address, &key(), terms(&address, is_sealed));
    let mut listener = listener.expect("a free name");
    let (before, mut most) = (open(), 0);
    while listener.stats().refused == 0 {
        let nobody = listener.accept_timeout(Duration::from_millis(1));
        assert!(nobody.is_err(), "he has no key");
        most = most.max(open());
    }
    (before, most)
}

#[test]
fn strangers_fill_nobodys_table() {
    for is_sealed in [false, true] {
        let name = name();
        let mut child = Process::spawn(visited, (name.clone(), is_sealed)).expect("a child");
        let there = UnixAddress::Abstract(name.as_bytes());
        let socket = loop {
            // Until it listens.
            match connect_unix(there, Deadline::after(LONG)) {
                Ok(socket) => break socket.expect("there is room"),
                Err(_) => std::thread::yield_now(),
            }
        };
        let (mut reader, writer) = pipe().expect("descriptors");
        let many = vec![writer.as_fd(); MOST_OF_LINUX];
        // The last one is a byte of a length that is none.
        for part in [255, 255, 255, 0] {
            send_many(socket.as_fd(), part, &many);
        }
        drop(writer);
        let (before, most) = child.join_timeout(LONG).expect("a value").expect("it ends");
        assert!(most <= before + 1, "{most} open, {before} before he came");
        assert_eq!(reader.read(&mut [0]).expect("the end"), 0);
    }
}
