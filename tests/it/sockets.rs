//! Listeners and clients, with a real CPython at the other end: every version from 3.8 on that is
//! here. Where there is none, the test says so.
#![allow(
    clippy::print_stdout,
    reason = "a log of a run says which Pythons were there"
)]

use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use manyhands_channel::socket::{
    Address, AuthError, AuthKey, Client, ConnectError, Listener, Protocol, SocketConnection, Terms,
};

use crate::LONG;

/// What all scripts begin with.
const PROLOGUE: &str = "
import sys
from multiprocessing.connection import AuthenticationError, Client, Listener
kind, where, key = sys.argv[1:4]
key = key.encode()
def address():
    if kind == 'tcp':
        host, port = where.rsplit(':', 1)
        return (host, int(port))
    return '\\0' + where if kind == 'abstract' else where
";

/// The interpreters, by version, of those in the path and of pyenv's, if that is there.
fn pythons() -> Vec<(String, PathBuf)> {
    let named = (8..20).map(|minor| PathBuf::from(format!("python3.{minor}")));
    let mut all: Vec<PathBuf> = named.chain(["python3".into()]).collect();
    let root = Command::new("pyenv").arg("root").output();
    if let Ok(root) = root.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        && let Ok(versions) = std::fs::read_dir(PathBuf::from(root.trim()).join("versions"))
    {
        let folders = versions.filter_map(Result::ok);
        all.extend(folders.map(|folder| folder.path().join("bin/python3")));
    }
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for path in all {
        let version = "import sys; print('%d.%d' % sys.version_info[:2])";
        let told = Command::new(&path).args(["-c", version]).output();
        let Some(told) = told.ok().filter(|told| told.status.success()) else {
            continue;
        };
        let version = String::from_utf8_lossy(&told.stdout).trim().to_owned();
        let minor = version
            .strip_prefix("3.")
            .and_then(|minor| minor.parse::<u32>().ok());
        let is_known = found.iter().any(|(known, _)| *known == version);
        if minor.is_some_and(|minor| minor >= 8) && !is_known {
            found.push((version, path));
        }
    }
    if found.is_empty() {
        println!("skipped: no python3 of 3.8 or newer");
    }
    found
}

fn key(text: &str) -> AuthKey {
    AuthKey::new(text.as_bytes()).expect("not empty")
}

/// A name that nothing has had. One that was given back may be held a moment longer by a process that
/// another test is just starting.
fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    format!("manyhands-it-{}-{number}", std::process::id())
}

/// A free address of each family.
fn addresses() -> Vec<Address> {
    let name = name();
    vec![
        "127.0.0.1:0".parse().expect("an address"),
        Address::Unix(std::env::temp_dir().join(&name)),
        Address::Abstract(name.into_bytes()),
    ]
}

fn terms(address: &Address) -> Terms {
    Terms {
        protocol: Protocol::Python,
        ..Terms::for_address(address)
    }
}

fn start(python: &PathBuf, address: &Address, key: &str, script: &str) -> Child {
    let (kind, place) = match address {
        Address::Tcp(address) => ("tcp", address.to_string()),
        Address::Unix(path) => ("unix", path.display().to_string()),
        Address::Abstract(name) => ("abstract", String::from_utf8_lossy(name).into_owned()),
        other => panic!("no family of Python's: {other}"),
    };
    Command::new(python)
        .args(["-c", &format!("{PROLOGUE}{script}"), kind, &place, key])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// The first line that it prints, and no byte more.
fn first_line(child: &mut Child) -> String {
    let output = child.stdout.as_mut().expect("it is piped");
    let mut line = String::new();
    let read = BufReader::with_capacity(1, output).read_line(&mut line);
    read.expect("it prints text");
    line
}

/// What it printed after that.
fn finish(child: Child) -> String {
    let output = child.wait_with_output().expect("it is ours");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Messages of all kinds of lengths there and back, as the scripts below do.
fn echo(connection: &mut SocketConnection) {
    for len in [0, 1, 100, 16_384, 16_385, 70_000, 1 << 20] {
        let message: Vec<u8> = (0..len).map(|at: u32| (at / 3) as u8).collect();
        connection.send_bytes(&message).expect("it is open");
        let back = connection.recv_bytes_timeout(LONG).expect("an echo");
        assert!(back == message, "{len} bytes");
    }
    connection.send_bytes(b"end").expect("it is open");
}

const ECHO: &str = "
while True:
    message = connection.recv_bytes()
    if message == b'end':
        break
    connection.send_bytes(message)
connection.close()
print('done')
";

#[test]
fn python_clients_of_every_version_are_served() {
    for (version, python) in pythons() {
        for address in addresses() {
            let mut listener = Listener::bind_on(&address, &key("secret"), terms(&address))
                .expect("nobody listens there");
            let script = format!("connection = Client(address(), authkey=key){ECHO}");
            let child = start(&python, listener.address(), "secret", &script);
            let mut connection = listener.accept_timeout(LONG).expect("it comes");
            echo(&mut connection);
            assert_eq!(finish(child), "done", "Python {version} at {address}");
            let end = connection.recv_bytes_timeout(LONG);
            assert!(end.is_err(), "it has closed");
        }
        println!("Python {version}: served at a port, a file and an abstract name");
    }
}

#[test]
fn python_listeners_of_every_version_are_clients_of() {
    for (version, python) in pythons() {
        for address in addresses() {
            let script = format!(
                "listener = Listener(address(), authkey=key)
print('at', listener.address[1] if kind == 'tcp' else '', flush=True)
connection = listener.accept(){ECHO}"
            );
            let mut child = start(&python, &address, "secret", &script);
            let address = match (&address, first_line(&mut child).trim().strip_prefix("at ")) {
                (Address::Tcp(_), Some(port)) => {
                    format!("127.0.0.1:{port}").parse().expect("an address")
                }
                _ => address,
            };
            let mut connection = Client::connect_on(&address, &key("secret"), &terms(&address))
                .expect("it listens, and has the key");
            echo(&mut connection);
            assert_eq!(finish(child), "done", "Python {version} at {address}");
        }
        println!("Python {version}: its listener has let us in at all three");
    }
}

#[test]
fn python_client_with_another_key_is_refused_as_python_refuses() {
    for (version, python) in pythons() {
        let address = Address::Abstract(name().into_bytes());
        let mut listener = Listener::bind_on(&address, &key("secret"), terms(&address))
            .expect("nobody listens there");
        let script = "
try:
    Client(address(), authkey=key)
except AuthenticationError as error:
    print(error)
";
        let child = start(&python, &address, "other", script);
        while listener.stats().refused == 0 {
            let nobody = listener.accept_timeout(std::time::Duration::from_millis(10));
            assert!(nobody.is_err());
        }
        assert_eq!(
            finish(child),
            "digest sent was rejected",
            "Python {version}"
        );
    }
}

#[test]
fn python_before_3_12_is_let_in_by_the_terms_only() {
    for (version, python) in pythons() {
        let minor: u32 = version[2..].parse().expect("a number");
        let address = Address::Abstract(name().into_bytes());
        let strict = Terms {
            legacy_md5: false,
            ..terms(&address)
        };
        let script = "listener = Listener(address(), authkey=key)
print('at', flush=True)
try:
    connection = listener.accept()
    print('in')
except (AuthenticationError, EOFError, OSError):
    print('out')";
        let mut child = start(&python, &address, "secret", script);
        first_line(&mut child);
        let outcome = Client::connect_on(&address, &key("secret"), &strict);
        match minor < 12 {
            true => assert!(
                matches!(outcome, Err(ConnectError::Auth(AuthError::Legacy))),
                "Python {version}: {outcome:?}"
            ),
            false => assert!(outcome.is_ok(), "Python {version}: {outcome:?}"),
        }
        drop(outcome);
        assert_eq!(
            finish(child),
            if minor < 12 { "out" } else { "in" },
            "Python {version}"
        );
    }
}

#[test]
fn descriptors_go_to_pythons_of_every_version_and_come_from_them() {
    for (version, python) in pythons() {
        for address in addresses().split_off(1) {
            let mut listener = Listener::bind_on(&address, &key("secret"), terms(&address))
                .expect("nobody listens there");
            let script = "
import os
from multiprocessing import reduction
connection = Client(address(), authkey=key)
end = reduction.recv_handle(connection)
os.write(end, b'by the pipe of Rust')
os.close(end)
reader, writer = os.pipe()
connection.send_bytes(b'before')
reduction.send_handle(connection, writer, None)
connection.send_bytes(b'after')
os.close(writer)
print(os.read(reader, 100).decode())
connection.close()
";
            let child = start(&python, listener.address(), "secret", script);
            let mut connection = listener.accept_timeout(LONG).expect("it comes");
            let (mut reader, writer) = std::io::pipe().expect("descriptors");
            connection
                .send_descriptors_timeout(&[writer.as_fd()], LONG)
                .expect("it is open");
            drop(writer);
            let mut text = String::new();
            reader.read_to_string(&mut text).expect("text");
            assert_eq!(text, "by the pipe of Rust", "Python {version}");
            let message = connection.recv_bytes_timeout(LONG).expect("a message");
            assert_eq!(message, b"before", "Python {version}");
            let mut all = connection.recv_descriptors_timeout(LONG).expect("one");
            let message = connection.recv_bytes_timeout(LONG).expect("a message");
            assert_eq!((message, all.len()), (b"after".to_vec(), 1), "{version}");
            let mut writer = PipeWriter::from(all.remove(0));
            writer
                .write_all(b"by the pipe of Python")
                .expect("it reads");
            drop(writer);
            assert_eq!(finish(child), "by the pipe of Python", "Python {version}");
        }
        println!("Python {version}: descriptors both ways at a file and an abstract name");
    }
}
