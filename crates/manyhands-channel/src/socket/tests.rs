//! Real sockets of all families, both ends in this process.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_os::socket::{UnixAddress, connect_unix};

use super::*;

mod descriptors;
mod halves;
mod strangers;

const LONG: Duration = Duration::from_secs(60);

fn key() -> AuthKey {
    AuthKey::new(b"secret").expect("not empty")
}

/// A name that only one test of this run uses.
fn name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Relaxed);
    format!("manyhands-{what}-{}-{number}", std::process::id())
}

fn file(what: &str) -> PathBuf {
    std::env::temp_dir().join(name(what))
}

fn address_name(address: &Address) -> &[u8] {
    match address {
        Address::Abstract(name) => name,
        other => panic!("{other} is in a file system"),
    }
}

fn tcp() -> Address {
    "127.0.0.1:0".parse().expect("an address")
}

fn terms(address: &Address, protocol: Protocol) -> Terms {
    Terms {
        protocol,
        ..Terms::for_address(address)
    }
}

/// One of each family, by each protocol.
fn listeners() -> Vec<(Listener, Terms)> {
    let addresses = || {
        [
            tcp(),
            Address::Unix(file("socket")),
            Address::Abstract(name("socket").into_bytes()),
        ]
    };
    let all = [Protocol::Python, Protocol::Sealed].map(|protocol| {
        addresses().map(|address| {
            let terms = terms(&address, protocol);
            let listener = Listener::bind_on(&address, &key(), terms.clone());
            (listener.expect("nobody listens there"), terms)
        })
    });
    all.into_iter().flatten().collect()
}

/// A client on a thread of its own.
fn client<R: Send + 'static>(
    listener: &Listener,
    terms: &Terms,
    act: impl FnOnce(SocketConnection) -> R + Send + 'static,
) -> JoinHandle<R> {
    let (address, terms) = (listener.address().clone(), terms.clone());
    thread::spawn(move || {
        let connection = Client::connect_on(&address, &key(), &terms);
        act(connection.expect("it listens, and has the key"))
    })
}

/// Two ends of a connection.
fn pair(protocol: Protocol) -> (SocketConnection, SocketConnection) {
    let terms = terms(&tcp(), protocol);
    let mut listener = Listener::bind_on(&tcp(), &key(), terms.clone()).expect("a free port");
    let other = client(&listener, &terms, |connection| connection);
    let one = listener.accept_timeout(LONG).expect("it comes");
    (one, other.join().expect("no panic"))
}

#[test]
fn conn_01_17_messages_of_all_lengths_keep_their_boundaries_in_all_families() {
    for (mut listener, terms) in listeners() {
        let echo = client(&listener, &terms, |mut connection| {
            let mut count = 0;
            while let Ok(message) = connection.recv_bytes() {
                connection.send_bytes(&message).expect("it is open");
                count += 1;
            }
            count
        });
        let mut connection = listener.accept_timeout(LONG).expect("it comes");
        assert_eq!(connection.is_sealed(), terms.protocol == Protocol::Sealed);
        let lengths = [
            0, 1, 5, 0, 8191, 8192, 16_383, 16_384, 16_385, 65_535, 300_000, 0,
        ];
        for (number, len) in lengths.into_iter().enumerate() {
            let message: Vec<u8> = (0..len).map(|at| (at + number) as u8).collect();
            connection.send_bytes(&message).expect("it is open");
            let back = connection.recv_bytes_timeout(LONG).expect("an echo");
            assert!(back == message, "{len} bytes by {terms:?}");
        }
        drop(connection);
        assert_eq!(echo.join().expect("no panic"), lengths.len());
    }
}

#[test]
fn conn_05_sixteen_mebibytes_go_both_ways() {
    for protocol in [Protocol::Python, Protocol::Sealed] {
        let (mut one, mut two) = pair(protocol);
        let message: Vec<u8> = (0..16 << 20).map(|at: u32| (at >> 3) as u8).collect();
        let sent = message.clone();
        let sender = thread::spawn(move || {
            one.send_bytes(&sent).expect("it is open");
            one.recv_bytes().expect("it comes back")
        });
        let got = two.recv_bytes_timeout(LONG).expect("it comes");
        assert!(got == message);
        two.send_bytes(&got).expect("it is open");
        assert!(sender.join().expect("no panic") == message);
    }
}

#[test]
fn conn_04_16_19_poll_tells_of_a_message_and_takes_nothing() {
    for protocol in [Protocol::Python, Protocol::Sealed] {
        let (mut one, mut two) = pair(protocol);
        // The confirmation of the handshake may have been the last that came.
        assert!(matches!(two.try_recv_bytes(), Err(RecvError::WouldBlock)));
        assert!(!two.poll_timeout(Duration::ZERO).expect("a look"));
        let before = Instant::now();
        assert!(!two.poll_timeout(Duration::from_millis(20)).expect("a look"));
        assert!(before.elapsed() >= Duration::from_millis(20));
        for message in [&b""[..], b"a", b""] {
            one.send_bytes(message).expect("room");
        }
        for message in [&b""[..], b"a", b""] {
            for _ in 0..3 {
                assert!(two.poll_timeout(LONG).expect("a look"));
            }
            assert_eq!(two.recv_bytes().expect("it is there"), message);
        }
        let late = two.recv_bytes_timeout(Duration::from_millis(1));
        assert!(matches!(late, Err(RecvError::TimedOut)));
        drop(one);
        assert!(two.poll_timeout(LONG).expect("the end"));
        assert!(matches!(two.recv_bytes(), Err(RecvError::Closed)));
        assert!(matches!(two.recv_bytes(), Err(RecvError::Closed)));
    }
}

#[test]
fn values_of_one_type_are_none_of_another() {
    let (mut one, mut two) = pair(Protocol::Sealed);
    one.send(&("ann", 5_u32)).expect("room");
    one.send(&1_u8).expect("room");
    one.send_timeout(&[1_u16, 2], LONG).expect("room");
    assert_eq!(
        two.recv::<(String, u32)>().expect("such a value"),
        ("ann".into(), 5)
    );
    assert!(matches!(
        two.recv::<(u8, u8)>(),
        Err(RecvError::Undecodable(_))
    ));
    let other = two.recv_timeout::<u16>(LONG);
    assert!(matches!(other, Err(RecvError::Undecodable(_))), "{other:?}");
    one.send(&7_u8).expect("room");
    assert_eq!(two.recv::<u8>().expect("the next one"), 7);
}

#[test]
fn what_was_not_sent_as_a_whole_goes_before_the_next_message() {
    for protocol in [Protocol::Python, Protocol::Sealed] {
        let (mut one, mut two) = pair(protocol);
        let message = |number: u8| vec![number; 1 << 20];
        let mut number = 0;
        let late = loop {
            match one.try_send_bytes(&message(number)) {
                Ok(()) => number += 1,
                Err(late) => break late,
            }
            assert!(number < 200, "no socket takes so much");
        };
        assert!(matches!(late, SendError::WouldBlock));
        let late = one.send_bytes_timeout(b"not yet", Duration::from_millis(5));
        assert!(matches!(late, Err(SendError::TimedOut)));
        let reader = thread::spawn(move || {
            for expected in 0..=number {
                assert!(two.recv_bytes().expect("it comes") == message(expected));
            }
            two.recv_bytes().expect("it comes")
        });
        one.send_bytes_deadline(b"the last", Instant::now() + LONG)
            .expect("room by now");
        assert_eq!(reader.join().expect("no panic"), b"the last");
    }
}

#[test]
fn conn_06_other_end_that_is_closed_is_told_to_who_sends() {
    for protocol in [Protocol::Python, Protocol::Sealed] {
        let (mut one, two) = pair(protocol);
        drop(two);
        let end = loop {
            if let Err(end) = one.send_bytes(&[0; 1000]) {
                break end;
            }
        };
        assert!(matches!(end, SendError::Closed), "{end}");
    }
}

#[test]
fn listener_01_address_that_is_taken_is_refused_in_all_families() {
    for (listener, _) in listeners() {
        let again = Listener::bind(listener.address(), &key()).expect_err("it is taken");
        assert_eq!(
            again.source.kind(),
            std::io::ErrorKind::AddrInUse,
            "{again}"
        );
    }
}

#[test]
fn file_of_a_listener_goes_with_it_unless_it_is_anothers() {
    let path = file("goes");
    let address = Address::Unix(path.clone());
    let listener = Listener::bind(&address, &key()).expect("nobody listens there");
    assert!(path.exists());
    drop(listener);
    assert!(!path.exists());
    let nobody = Client::connect(&address, &key()).expect_err("nobody listens");
    assert!(matches!(nobody, ConnectError::Os(_)));
    let first = Listener::bind(&address, &key()).expect("nobody listens there");
    std::fs::remove_file(&path).expect("it is there");
    let second = Listener::bind(&address, &key()).expect("the name is free");
    drop(first);
    assert!(path.exists());
    drop(second);
    let too_long = Address::Unix("/tmp/".to_owned().repeat(100).into());
    assert!(Listener::bind(&too_long, &key()).is_err());
    assert!(Client::connect(&too_long, &key()).is_err());
}

#[test]
fn accept_has_four_forms() {
    let mut listener = Listener::bind(&tcp(), &key()).expect("a free port");
    assert!(matches!(
        listener.try_accept(),
        Err(AcceptError::WouldBlock)
    ));
    let late = listener.accept_timeout(Duration::from_millis(1));
    assert!(matches!(late, Err(AcceptError::TimedOut)));
    let late = listener.accept_deadline(Instant::now());
    assert!(matches!(late, Err(AcceptError::TimedOut)));
    let terms = Terms::for_address(&tcp());
    let friend = client(&listener, &terms, |connection| connection.is_sealed());
    let connection = listener.accept().expect("it comes");
    assert!(friend.join().expect("no panic") && connection.is_sealed());
}

#[test]
fn client_gives_up_on_a_listener_that_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = Address::Tcp(silent.local_addr().expect("an address"));
    for protocol in [Protocol::Python, Protocol::Sealed] {
        let terms = terms(&address, protocol);
        let soon = Duration::from_millis(20);
        let late = Client::connect_timeout(&address, &key(), &terms, soon);
        assert!(matches!(late, Err(ConnectError::TimedOut)));
        let past = Client::connect_deadline(&address, &key(), &terms, Instant::now());
        assert!(matches!(past, Err(ConnectError::TimedOut)));
    }
    drop(silent);
    let nobody = Client::connect(&address, &key()).expect_err("nobody listens");
    assert!(matches!(nobody, ConnectError::Os(_)));
}

#[test]
fn client_gives_up_on_a_unix_listener_whose_list_is_full() {
    let address = Address::Abstract(name("full").into_bytes());
    // It takes nobody out of its list.
    let _listener = Listener::bind(&address, &key()).expect("nobody listens there");
    let terms = Terms::for_address(&address);
    // Who goes again keeps its place in the list.
    let comes_in = |_: &u32| {
        let soon = Deadline::after(Duration::from_millis(1));
        let address = UnixAddress::Abstract(address_name(&address));
        connect_unix(address, soon).expect("it listens").is_some()
    };
    let places = (0..1_000_000).take_while(comes_in).count();
    assert!(places < 1_000_000, "the list is never full");
    let soon = Duration::from_millis(1);
    let late = Client::connect_timeout(&address, &key(), &terms, soon);
    assert!(matches!(late, Err(ConnectError::TimedOut)), "{late:?}");
}

#[test]
fn longer_messages_than_allowed_end_the_connection() {
    for protocol in [Protocol::Python, Protocol::Sealed] {
        let mut small = terms(&tcp(), protocol);
        small.most_bytes = 1000;
        let mut listener = Listener::bind_on(&tcp(), &key(), small.clone()).expect("a free port");
        let other = client(&listener, &small, |mut connection| {
            connection.send_bytes(&[1; 1000]).expect("it is open");
            connection.send_bytes(&[2; 1001]).expect("it is open");
        });
        let mut connection = listener.accept_timeout(LONG).expect("it comes");
        assert_eq!(
            connection.recv_bytes().expect("it may be so long").len(),
            1000
        );
        let refused = connection.recv_bytes();
        assert!(matches!(
            refused,
            Err(RecvError::TooLong {
                len: 1001,
                most: 1000
            })
        ));
        assert!(matches!(connection.recv_bytes(), Err(RecvError::Corrupt)));
        other.join().expect("no panic");
    }
}
