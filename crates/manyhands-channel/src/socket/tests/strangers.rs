//! Those who have no key, say nothing, or stand on the way.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::*;

/// What a stranger gets who says something and then nothing.
fn answer_to(listener: &mut Listener, said: &[u8]) -> Vec<u8> {
    let Address::Tcp(address) = listener.address().clone() else {
        panic!("it is a port");
    };
    let mut stranger = TcpStream::connect(address).expect("it listens");
    stranger.write_all(said).expect("room");
    stranger.shutdown(Shutdown::Write).expect("it is open");
    let before = listener.stats();
    while listener.stats().refused + listener.stats().lost == before.refused + before.lost {
        let nobody = listener.accept_timeout(Duration::from_millis(10));
        assert!(matches!(nobody, Err(AcceptError::TimedOut)));
    }
    let mut answer = Vec::new();
    // A reset says the same as the end.
    let _ = stranger.read_to_end(&mut answer);
    answer
}

#[test]
fn listener_10_other_key_is_refused_and_the_next_one_is_let_in() {
    for (mut listener, terms) in listeners() {
        let (address, other) = (listener.address().clone(), terms.clone());
        let stranger = thread::spawn(move || {
            let other_key = AuthKey::new(b"secrets").expect("not empty");
            Client::connect_on(&address, &other_key, &other).expect_err("another key")
        });
        while listener.stats().refused == 0 {
            let nobody = listener.accept_timeout(Duration::from_millis(10));
            assert!(matches!(nobody, Err(AcceptError::TimedOut)));
        }
        let error = stranger.join().expect("no panic");
        assert!(
            matches!(error, ConnectError::Auth(AuthError::Rejected)),
            "{error:?}"
        );
        let friend = client(&listener, &terms, |mut connection| connection.recv_bytes());
        let mut connection = listener.accept_timeout(LONG).expect("it comes");
        connection.send_bytes(b"welcome").expect("it is open");
        assert_eq!(
            friend.join().expect("no panic").expect("a message"),
            b"welcome"
        );
        let stats = listener.stats();
        assert_eq!((stats.accepted, stats.refused, stats.lost), (1, 1, 0));
    }
}

#[test]
fn clients_of_another_protocol_are_told_so_or_give_up() {
    for (ours, theirs) in [
        (Protocol::Python, Protocol::Sealed),
        (Protocol::Sealed, Protocol::Python),
    ] {
        let mut listener =
            Listener::bind_on(&tcp(), &key(), terms(&tcp(), ours)).expect("a free port");
        let address = listener.address().clone();
        let stranger = thread::spawn(move || {
            let terms = terms(&address, theirs);
            let soon = Duration::from_millis(200);
            Client::connect_timeout(&address, &key(), &terms, soon).expect_err("another protocol")
        });
        while listener.stats().refused + listener.stats().lost == 0 {
            let nobody = listener.accept_timeout(Duration::from_millis(10));
            assert!(matches!(nobody, Err(AcceptError::TimedOut)));
        }
        match stranger.join().expect("no panic") {
            ConnectError::TimedOut => assert_eq!(ours, Protocol::Sealed),
            error => assert!(matches!(error, ConnectError::Auth(AuthError::Foreign(_)))),
        }
    }
}

#[test]
fn strangers_learn_nothing_but_that_they_failed() {
    for protocol in [Protocol::Python, Protocol::Sealed] {
        let mut listener =
            Listener::bind_on(&tcp(), &key(), terms(&tcp(), protocol)).expect("a free port");
        // A browser, a length of -7, 1 GiB announced, and an answer that is none.
        let wrong = [&[0, 0, 0, 48][..], &[7; 48]].concat();
        let all: [&[u8]; 4] = [
            b"GET / HTTP/1.1\r\n\r\n",
            &[255, 255, 255, 249, 1],
            &[64, 0, 0, 0, 1],
            &wrong,
        ];
        for said in all {
            let mut answer = answer_to(&mut listener, said);
            if protocol == Protocol::Python {
                assert_eq!(answer[..15], *b"\0\0\0\x3b#CHALLENGE#");
                answer.drain(..4 + 0x3b);
            }
            assert_eq!(answer, b"\0\0\0\x09#FAILURE#", "{said:?}");
        }
        assert_eq!(listener.stats().refused, 4);
        // Who hangs up in the middle is not answered at all.
        let answer = answer_to(&mut listener, &[0, 0]);
        assert!(!answer.ends_with(b"#FAILURE#"));
        assert_eq!((listener.stats().lost, listener.stats().accepted), (1, 0));
    }
}

#[test]
fn those_who_say_nothing_keep_nobody_out() {
    let mut terms = terms(&tcp(), Protocol::Python);
    let mut listener = Listener::bind_on(&tcp(), &key(), terms.clone()).expect("a free port");
    let Address::Tcp(address) = listener.address().clone() else {
        panic!("it is a port");
    };
    let silent = || TcpStream::connect(address).expect("it listens");
    let few: Vec<TcpStream> = (0..10).map(|_| silent()).collect();
    let friend = client(&listener, &terms, |connection| connection);
    listener.accept_timeout(LONG).expect("the friend comes in");
    friend.join().expect("no panic");
    assert_eq!(listener.stats().greeting, few.len());
    // As many as are let try at a time, and more.
    terms.handshake = Duration::from_millis(50);
    let mut listener = Listener::bind_on(&tcp(), &key(), terms.clone()).expect("a free port");
    let Address::Tcp(address) = listener.address().clone() else {
        panic!("it is a port");
    };
    let many: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(address).expect("it listens"))
        .collect();
    let patient = Terms {
        handshake: LONG,
        ..terms
    };
    // On a busy machine 50 ms may be too short for a friend, too, who then comes again.
    let friend = thread::spawn(move || {
        while Client::connect_on(&Address::Tcp(address), &key(), &patient).is_err() {}
    });
    listener.accept_timeout(LONG).expect("the friend comes in");
    friend.join().expect("no panic");
    assert!(listener.stats().lost >= 37, "{:?}", listener.stats());
    drop(many);
}

/// Between the two ends: passes on what the client says, and of what the listener says all but what
/// is changed or cut off after so many bytes.
fn between(listener: &Listener, bytes: usize, is_cut: bool) -> (Address, JoinHandle<()>) {
    let Address::Tcp(to) = listener.address().clone() else {
        panic!("it is a port");
    };
    let ear = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = Address::Tcp(ear.local_addr().expect("an address"));
    let thread = thread::spawn(move || {
        let (client, _) = ear.accept().expect("it comes");
        let server = TcpStream::connect(to).expect("it listens");
        let (mut from, mut into) = (
            client.try_clone().expect("a descriptor"),
            server.try_clone().expect("a descriptor"),
        );
        let forth = thread::spawn(move || std::io::copy(&mut from, &mut into));
        let passed = std::io::copy(&mut (&server).take(bytes as u64), &mut &client);
        assert_eq!(passed.expect("both are open"), bytes as u64);
        if !is_cut {
            let mut byte = [0];
            (&server).read_exact(&mut byte).expect("one more");
            (&client).write_all(&[byte[0] ^ 1]).expect("it reads");
            let _ = std::io::copy(&mut &server, &mut &client);
        }
        for stream in [&client, &server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(forth.join());
    });
    (address, thread)
}

/// What the listener says in a sealed handshake, in bytes with the length: an ephemeral key and a tag.
const HANDSHAKE: usize = 4 + 32 + 16;
/// What a message of five bytes takes in a sealed session.
const RECORD: usize = 2 + 8 + 5 + 16;

#[test]
fn sealed_session_tells_of_changes_and_cuts_on_the_way() {
    for is_cut in [false, true] {
        // In the second message, and between the two.
        for place in [HANDSHAKE + RECORD + 10, HANDSHAKE + RECORD] {
            let mut listener = Listener::bind(&tcp(), &key()).expect("a free port");
            let (address, man) = between(&listener, place, is_cut);
            let other = thread::spawn(move || {
                let mut connection = Client::connect(&address, &key()).expect("the key is right");
                let first = connection.recv_bytes().expect("not touched");
                (first, connection.recv_bytes().expect_err("touched"))
            });
            let mut connection = listener.accept_timeout(LONG).expect("it comes");
            connection.send_bytes(b"pay 5").expect("it is open");
            connection.send_bytes(b"pay 6").expect("it is open");
            drop(connection);
            let (first, error) = other.join().expect("no panic");
            assert_eq!(first, b"pay 5");
            match is_cut {
                true => assert!(matches!(error, RecvError::Cut), "{error}"),
                // A length that was changed waits for more, which is then cut.
                false => assert!(
                    matches!(error, RecvError::Corrupt | RecvError::Cut),
                    "{error}"
                ),
            }
            man.join().expect("no panic");
        }
    }
}

#[test]
fn python_wire_that_is_cut_in_a_message_is_told() {
    let terms = terms(&tcp(), Protocol::Python);
    let mut listener = Listener::bind_on(&tcp(), &key(), terms.clone()).expect("a free port");
    // Challenge, welcome and answer, each with its length; then a message and a half.
    let handshake = (4 + 59) + (4 + 9) + (4 + 40);
    let (address, man) = between(&listener, handshake + 9 + 6, true);
    let other = thread::spawn(move || {
        let mut connection = Client::connect_on(&address, &key(), &terms).expect("the same key");
        let first = connection.recv_bytes().expect("not touched");
        (first, connection.recv_bytes().expect_err("cut"))
    });
    let mut connection = listener.accept_timeout(LONG).expect("it comes");
    connection.send_bytes(b"first").expect("it is open");
    connection.send_bytes(b"second").expect("it is open");
    let (first, error) = other.join().expect("no panic");
    assert!(
        first == b"first" && matches!(error, RecvError::Cut),
        "{error}"
    );
    drop(connection);
    man.join().expect("no panic");
}
