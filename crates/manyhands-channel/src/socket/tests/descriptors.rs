//! Descriptors over unix sockets, and what those may do who send them where none are expected.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use manyhands_os::descriptor::{self, MAX_DESCRIPTORS};
use proptest::prelude::*;

use super::*;

const PROTOCOLS: [Protocol; 2] = [Protocol::Python, Protocol::Sealed];

/// Two ends of a connection with an abstract name.
fn unix_pair(protocol: Protocol) -> (SocketConnection, SocketConnection) {
    let address = Address::Abstract(name("descriptors").into_bytes());
    let terms = terms(&address, protocol);
    let mut listener = Listener::bind_on(&address, &key(), terms.clone()).expect("a free name");
    let other = client(&listener, &terms, |connection| connection);
    let one = listener.accept_timeout(LONG).expect("it comes");
    (one, other.join().expect("no panic"))
}

/// Which file it is.
fn file_of(descriptor: impl Into<OwnedFd>) -> (u64, u64) {
    let facts = File::from(descriptor.into()).metadata();
    let facts = facts.expect("it is open");
    (facts.dev(), facts.ino())
}

/// Some pipes: their reading ends, and the others.
fn pipes(count: usize) -> (Vec<PipeReader>, Vec<PipeWriter>) {
    (0..count).map(|_| pipe().expect("descriptors")).unzip()
}

fn borrowed(all: &[PipeWriter]) -> Vec<BorrowedFd<'_>> {
    all.iter().map(AsFd::as_fd).collect()
}

/// Waits until nobody has the other ends any more.
fn assert_closed(readers: Vec<PipeReader>) {
    for mut reader in readers {
        assert!(descriptor::is_readable(&reader).expect("it is open"));
        assert_eq!(reader.read(&mut [0]).expect("it is open"), 0);
    }
}

#[test]
fn descriptors_pass_in_all_families_that_can_and_keep_their_place_among_messages() {
    for (mut listener, terms) in listeners() {
        if matches!(listener.address(), Address::Tcp(_)) {
            continue;
        }
        let other = client(&listener, &terms, |mut connection| {
            let (readers, writers) = pipes(MAX_DESCRIPTORS);
            connection.send_bytes(b"first").expect("it is open");
            connection
                .send_descriptors(&borrowed(&writers[..1]))
                .expect("room");
            connection.send_bytes(b"").expect("it is open");
            connection
                .send_descriptors(&borrowed(&writers[1..]))
                .expect("room");
            connection
                .send_descriptors(&borrowed(&writers))
                .expect("room");
            connection.send_bytes(b"last").expect("it is open");
            readers
        });
        let mut connection = listener.accept_timeout(LONG).expect("it comes");
        let readers = other.join().expect("no panic");
        assert_eq!(connection.recv_bytes().expect("a message"), b"first");
        let mut got = connection.recv_descriptors().expect("one");
        assert_eq!(connection.recv_bytes().expect("a message"), b"");
        got.extend(connection.try_recv_descriptors().expect("they are there"));
        let again = connection
            .recv_descriptors_timeout(LONG)
            .expect("once more");
        assert_eq!(connection.recv_bytes().expect("a message"), b"last");
        assert_eq!((got.len(), again.len()), (readers.len(), readers.len()));
        for ((reader, one), other) in readers.into_iter().zip(got).zip(again) {
            let file = file_of(reader);
            assert_eq!((file_of(one), file_of(other)), (file, file));
        }
        let end = connection.recv_descriptors_deadline(Instant::now() + LONG);
        assert!(matches!(end, Err(RecvError::Closed)), "{end:?}");
    }
}

/// What one end does: a message of so many bytes, or so many descriptors.
#[derive(Debug, Clone, Copy)]
enum Step {
    Message(usize),
    Descriptors(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..20_usize).prop_map(Step::Message),
        (0..40_000_usize).prop_map(Step::Message),
        (1..4_usize).prop_map(Step::Descriptors),
    ];
    prop::collection::vec(step, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn whatever_goes_comes_in_its_order(steps in steps(), is_sealed in any::<bool>()) {
        let (mut one, mut two) = unix_pair(PROTOCOLS[usize::from(is_sealed)]);
        let plan = steps.clone();
        let sender = thread::spawn(move || {
            let mut files = Vec::new();
            for (number, step) in plan.into_iter().enumerate() {
                match step {
                    Step::Message(len) => one.send_bytes(&vec![number as u8; len]).expect("room"),
                    Step::Descriptors(count) => {
                        let (readers, writers) = pipes(count);
                        one.send_descriptors(&borrowed(&writers)).expect("room");
                        files.extend(readers);
                    }
                }
            }
            files
        });
        let mut got = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Message(len) => {
                    let message = two.recv_bytes_timeout(LONG).expect("it comes");
                    prop_assert_eq!(message, vec![number as u8; len]);
                }
                Step::Descriptors(count) => {
                    let all = two.recv_descriptors_timeout(LONG).expect("they come");
                    prop_assert_eq!(all.len(), count);
                    got.extend(all);
                }
            }
        }
        let sent = sender.join().expect("no panic");
        let sent: Vec<_> = sent.into_iter().map(file_of).collect();
        let got: Vec<_> = got.into_iter().map(file_of).collect();
        prop_assert_eq!(sent, got);
    }
}

#[test]
fn message_in_the_place_of_descriptors_stays_and_descriptors_in_its_place_close() {
    for protocol in PROTOCOLS {
        let (mut one, mut two) = unix_pair(protocol);
        let nothing = two.try_recv_descriptors();
        assert!(matches!(nothing, Err(RecvError::WouldBlock)), "{nothing:?}");
        let late = two.recv_descriptors_timeout(Duration::from_millis(1));
        assert!(matches!(late, Err(RecvError::TimedOut)), "{late:?}");
        let (readers, writers) = pipes(3);
        one.send_bytes(b"a message").expect("room");
        one.send_descriptors(&borrowed(&writers)).expect("room");
        drop(writers);
        one.send_bytes(b"another").expect("room");
        for _ in 0..3 {
            let other = two.recv_descriptors();
            assert!(matches!(other, Err(RecvError::Message)), "{other:?}");
            assert!(two.poll_timeout(Duration::ZERO).expect("it is there"));
        }
        assert_eq!(two.recv_bytes().expect("it stays"), b"a message");
        let other = two.recv_bytes();
        assert!(matches!(other, Err(RecvError::Descriptors)), "{other:?}");
        assert_closed(readers);
        assert_eq!(two.recv_bytes().expect("the next one"), b"another");
    }
}

#[test]
fn descriptors_in_a_message_that_is_received_as_bytes_are_closed() {
    // With the length, with what fits into what is read ahead, and with more than that.
    for body in [0, 100, 30_000] {
        let (one, mut two) = unix_pair(Protocol::Python);
        let (readers, writers) = pipes(MAX_DESCRIPTORS);
        let head = (body as u32).to_be_bytes();
        descriptor::send(one.as_fd(), &head, &borrowed(&writers[..10])).expect("room");
        if body > 0 {
            let part = vec![7; body];
            descriptor::send(one.as_fd(), &part, &borrowed(&writers[10..])).expect("room");
        }
        drop(writers);
        assert_eq!(two.recv_bytes().expect("a message"), vec![7; body]);
        assert_closed(readers);
    }
}

#[test]
fn descriptors_that_lie_about_their_number_or_are_not_announced_break_the_connection() {
    for protocol in PROTOCOLS {
        let (one, mut two) = unix_pair(protocol);
        let (readers, writers) = pipes(3);
        let count = if protocol == Protocol::Python { 2 } else { 3 };
        descriptor::send(one.as_fd(), &[count], &borrowed(&writers)).expect("room");
        drop(writers);
        let wrong = two.recv_descriptors();
        assert!(matches!(wrong, Err(RecvError::Corrupt)), "{wrong:?}");
        assert_closed(readers);
        assert!(matches!(two.recv_bytes(), Err(RecvError::Corrupt)));
    }
}

#[test]
fn descriptors_of_a_stranger_are_closed_before_he_is_let_in() {
    for protocol in PROTOCOLS {
        let address = Address::Abstract(name("stranger").into_bytes());
        let terms = terms(&address, protocol);
        let mut listener = Listener::bind_on(&address, &key(), terms).expect("a free name");
        let there = UnixAddress::Abstract(address_name(&address));
        let socket = connect_unix(there, Deadline::after(LONG)).expect("it listens");
        let socket = socket.expect("there is room");
        // With each byte of a length, and with those of a message that goes on.
        let (mut readers, mut writers) = pipes(5 * MAX_DESCRIPTORS);
        for part in [&b"\0"[..], b"\0", b"\0", b"\x30", b"some bytes"] {
            let rest = writers.split_off(MAX_DESCRIPTORS);
            descriptor::send(socket.as_fd(), part, &borrowed(&writers)).expect("room");
            writers = rest;
        }
        assert!(matches!(
            listener.try_accept(),
            Err(AcceptError::WouldBlock)
        ));
        assert_closed(readers.split_off(0));
        // He is not put out for it, and may still say who he is.
        assert_eq!(
            (listener.stats().greeting, listener.stats().refused),
            (1, 0)
        );
    }
}

#[test]
fn tcp_passes_no_descriptors_and_says_so() {
    for protocol in PROTOCOLS {
        let (mut one, mut two) = pair(protocol);
        let (_, writers) = pipes(1);
        let refused = one.send_descriptors(&borrowed(&writers));
        assert!(matches!(refused, Err(SendError::NotOverTcp)), "{refused:?}");
        let refused = two.recv_descriptors();
        assert!(matches!(refused, Err(RecvError::NotOverTcp)), "{refused:?}");
        one.send_bytes(b"but messages").expect("it is open");
        assert_eq!(two.recv_bytes().expect("a message"), b"but messages");
    }
}

#[test]
fn none_and_too_many_are_refused_before_anything_is_sent() {
    for protocol in PROTOCOLS {
        let (mut one, mut two) = unix_pair(protocol);
        let (_, writers) = pipes(1);
        for wrong in [0, MAX_DESCRIPTORS + 1] {
            let refused = one.send_descriptors(&vec![writers[0].as_fd(); wrong]);
            assert!(matches!(
                refused,
                Err(SendError::DescriptorCount { count, most: MAX_DESCRIPTORS }) if count == wrong
            ));
        }
        one.send_bytes(b"whole").expect("it is open");
        assert_eq!(two.recv_bytes().expect("a message"), b"whole");
    }
}

#[test]
fn descriptors_that_find_no_room_go_later_though_the_callers_are_closed() {
    let (mut one, mut two) = unix_pair(Protocol::Python);
    let mut count = 0;
    // Empty messages, written past the connection, which has none that waits then.
    while descriptor::send(one.as_fd(), &[0; 4], &[]).is_ok() {
        count += 1;
    }
    let (mut readers, writers) = pipes(1);
    let late = one.try_send_descriptors(&borrowed(&writers));
    assert!(matches!(late, Err(SendError::WouldBlock)), "{late:?}");
    drop(writers);
    let receiver = thread::spawn(move || {
        for _ in 0..count {
            assert_eq!(two.recv_bytes_timeout(LONG).expect("a message"), b"");
        }
        let all = two.recv_descriptors_timeout(LONG).expect("they come");
        assert_eq!(two.recv_bytes_timeout(LONG).expect("a message"), b"after");
        all
    });
    one.send_bytes_timeout(b"after", LONG).expect("room by now");
    let mut all = receiver.join().expect("no panic");
    let reader = readers.pop().expect("one");
    assert_eq!(file_of(all.pop().expect("one")), file_of(reader));
}

#[test]
fn who_sends_descriptors_waits_for_room() {
    for protocol in PROTOCOLS {
        let (mut one, mut two) = unix_pair(protocol);
        let mut count = 0;
        while one.try_send_bytes(&[1; 1000]).is_ok() {
            count += 1;
        }
        let (_readers, writers) = pipes(2);
        let late = one.send_descriptors_timeout(&borrowed(&writers), Duration::from_millis(1));
        assert!(matches!(late, Err(SendError::TimedOut)), "{late:?}");
        let receiver = thread::spawn(move || {
            for _ in 0..=count {
                let message = two.recv_bytes_timeout(LONG).expect("a message");
                assert_eq!(message.len(), 1000);
            }
            two.recv_descriptors_timeout(LONG).map(|all| all.len())
        });
        one.send_descriptors(&borrowed(&writers))
            .expect("room by now");
        let received = receiver.join().expect("no panic");
        assert_eq!(received.expect("they come"), 2);
    }
}

#[test]
fn other_end_that_is_closed_is_told_to_who_sends_descriptors() {
    for protocol in PROTOCOLS {
        let (mut one, two) = unix_pair(protocol);
        drop(two);
        let (readers, writers) = pipes(1);
        let end = one.send_descriptors(&borrowed(&writers));
        assert!(matches!(end, Err(SendError::Closed)), "{end:?}");
        drop((one, writers));
        assert_closed(readers);
    }
}

#[test]
fn descriptors_work_at_the_other_end_as_here() {
    for protocol in PROTOCOLS {
        let (mut one, mut two) = unix_pair(protocol);
        let (mut reader, writer) = pipe().expect("descriptors");
        one.send_descriptors_deadline(&[writer.as_fd()], Instant::now() + LONG)
            .expect("room");
        drop(writer);
        let mut got = two.recv_descriptors().expect("it has come");
        let mut writer = PipeWriter::from(got.pop().expect("one"));
        writer.write_all(b"through").expect("it is open");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        assert_eq!(text, "through");
    }
}
