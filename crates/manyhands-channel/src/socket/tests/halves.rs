//! The two halves of a connection, and buffers of the caller's.

use super::*;

const COUNT: u32 = 2000;

#[test]
fn halves_send_and_receive_on_two_threads_at_once() {
    for protocol in [Protocol::Python, Protocol::Sealed] {
        let ends = pair(protocol);
        let (one, two) = (ends.0.split(), ends.1.split());
        thread::scope(|threads| {
            for mut sender in [one.0, two.0] {
                // Larger than what a socket holds, in all: both directions are full at times.
                threads.spawn(move || {
                    for number in 0..COUNT {
                        let message = [number; 256];
                        sender.send(&message.as_slice()).expect("it is open");
                    }
                });
            }
            for mut receiver in [one.1, two.1] {
                threads.spawn(move || {
                    for number in 0..COUNT {
                        let message: Vec<u32> = receiver.recv_timeout(LONG).expect("it comes");
                        assert_eq!(message, [number; 256]);
                    }
                    let end = receiver.recv_bytes_timeout(LONG);
                    assert!(matches!(end, Err(RecvError::Closed)), "{end:?}");
                });
            }
        });
    }
}

#[test]
fn other_end_of_a_dropped_sender_reads_the_end_and_can_still_answer() {
    for (mut listener, terms) in listeners() {
        let client = client(&listener, &terms, |connection| {
            let (mut sender, mut receiver) = connection.split();
            sender.send_bytes(b"all there is").expect("it is open");
            drop(sender);
            receiver.recv_bytes_timeout(LONG).expect("an answer")
        });
        let mut connection = listener.accept_timeout(LONG).expect("it comes");
        let message = connection.recv_bytes_timeout(LONG).expect("it comes");
        assert_eq!(message, b"all there is");
        for _ in 0..2 {
            let end = connection.recv_bytes_timeout(LONG);
            assert!(matches!(end, Err(RecvError::Closed)), "{end:?}");
        }
        connection.send_bytes(b"thanks").expect("it listens");
        assert_eq!(client.join().expect("no panic"), b"thanks");
    }
}

#[test]
fn conn_02_03_message_that_is_longer_than_the_buffer_is_not_lost() {
    for protocol in [Protocol::Python, Protocol::Sealed] {
        let (mut one, mut two) = pair(protocol);
        for message in [&b"12345"[..], b"", b"1234567"] {
            one.send_bytes(message).expect("room");
        }
        let mut buffer = [b'x'; 6];
        let len = two.recv_bytes_into_timeout(&mut buffer, LONG);
        assert_eq!((len.expect("it fits"), &buffer), (5, b"12345x"));
        assert_eq!(two.recv_bytes_into(&mut buffer).expect("it fits"), 0);
        let deadline = Instant::now() + LONG;
        match two.recv_bytes_into_deadline(&mut buffer, deadline) {
            Err(RecvError::BufferTooShort { message }) => assert_eq!(message, b"1234567"),
            other => panic!("{other:?}"),
        }
        let nothing = two.try_recv_bytes_into(&mut buffer);
        assert!(matches!(nothing, Err(RecvError::WouldBlock)));
    }
}
