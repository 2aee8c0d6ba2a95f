//! Tasks that await values, and descriptors that tell of them.

use std::task::{Context, Poll};

use manyhands_os::descriptor;

use super::*;

/// Runs one task on this thread.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn values_of_a_pipe_are_awaited_up_to_its_end() {
    let (mut sender, mut receiver) = Pipe::simplex_with_capacity::<Vec<u8>>(256).expect("room");
    let lengths = [0, 10, 3_000, 1, 900];
    thread::scope(|threads| {
        threads.spawn(move || {
            for length in lengths.into_iter().cycle().take(200) {
                sender.send(&vec![7; length]).expect("it is taken");
                thread::yield_now();
            }
        });
        block_on(async {
            for length in lengths.into_iter().cycle().take(200) {
                let bytes = receiver.recv_async().await.expect("a value");
                assert_eq!(bytes.len(), length);
            }
            let end = receiver.recv_async().await;
            assert!(matches!(end, Err(crate::RecvError::Closed)));
        });
    });
}

#[test]
fn future_that_is_dropped_has_taken_nothing() {
    let (mut sender, mut receiver) = Pipe::simplex::<u8>().expect("room");
    let queue = queue();
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut value = std::pin::pin!(receiver.recv_async());
        let mut number = std::pin::pin!(queue.get_async());
        assert!(value.as_mut().poll(&mut context).is_pending());
        assert!(number.as_mut().poll(&mut context).is_pending());
        sender.send(&1).expect("room");
        queue.put(&2).expect("room");
    }
    assert_eq!(receiver.try_recv().expect("it is there"), 1);
    assert_eq!(queue.try_get().expect("it is there"), 2);
    // And it hides nobody who sleeps for himself.
    thread::scope(|threads| {
        let sleeper = threads.spawn(|| receiver.recv_timeout(LONG));
        sender.send(&3).expect("room");
        assert_eq!(sleeper.join().expect("no panic").expect("it came"), 3);
    });
}

#[test]
fn tasks_and_threads_that_get_from_one_queue_get_each_value_once() {
    fn is_send(_: &impl Send) {}
    let queue = queue();
    is_send(&queue.get_async());
    let sum = std::sync::atomic::AtomicU64::new(0);
    thread::scope(|threads| {
        for is_task in [true, false, true] {
            let (queue, sum) = (&queue, &sum);
            let get = move || match is_task {
                true => block_on(queue.get_async()),
                false => queue.get(),
            };
            threads.spawn(move || {
                while let Ok(value) = get() {
                    sum.fetch_add(value, Relaxed);
                }
            });
        }
        for value in 1..=2_000 {
            queue.put(&value).expect("room");
            thread::yield_now();
        }
        queue.close();
    });
    assert_eq!(sum.into_inner(), 2_000 * 2_001 / 2);
}

#[test]
fn more_tasks_than_one_thread_sleeps_for_are_woken() {
    let queues: Vec<Queue<u64>> = (0..300).map(|_| queue()).collect();
    thread::scope(|threads| {
        let sums: Vec<_> = queues
            .chunks(100)
            .map(|chunk| {
                threads.spawn(move || {
                    let mut all: Vec<_> = chunk
                        .iter()
                        .map(|queue| Box::pin(queue.get_async()))
                        .collect();
                    let mut sum = 0;
                    block_on(std::future::poll_fn(|context| {
                        all.retain_mut(|get| match get.as_mut().poll(context) {
                            Poll::Ready(value) => {
                                sum += value.expect("it is open");
                                false
                            }
                            Poll::Pending => true,
                        });
                        if all.is_empty() {
                            Poll::Ready(())
                        } else {
                            Poll::Pending
                        }
                    }));
                    sum
                })
            })
            .collect();
        for queue in queues.iter().rev() {
            queue.put(&1).expect("room");
        }
        for sum in sums {
            assert_eq!(sum.join().expect("no panic"), 100);
        }
    });
}

#[test]
fn pollable_tells_of_each_kind() {
    let (queue, event) = (queue(), Arc::new(Event::new()));
    let (mut sender, receiver) = Pipe::simplex::<u8>().expect("room");
    let (other, mut stream) = UnixStream::pair().expect("a pair");
    let other = OwnedFd::from(other);
    let soon = Instant::now() + SOON;
    let pollables = [&queue as &dyn Waitable, &event, &receiver, &other, &soon]
        .map(|thing| Pollable::new(thing).expect("a descriptor"));
    let tells = |place: usize| {
        let readable = poll_readable(&[pollables[place].as_fd()], Deadline::after(LONG));
        assert!(readable.expect("a poll")[0]);
    };
    let is_silent = |place: usize| {
        pollables[place].arm().expect("a thread");
        !descriptor::is_readable(&pollables[place]).expect("a poll")
    };
    assert!((0..4).all(is_silent));
    queue.put(&1).expect("room");
    event.set();
    sender.send(&1).expect("room");
    stream.write_all(b"x").expect("room");
    (0..5).for_each(tells);
    assert!(!(0..5).any(is_silent));
    drop(queue.get());
    event.clear();
    assert!((0..2).all(is_silent));
    queue.close();
    tells(0);
    drop(sender);
    tells(2);
}

#[test]
fn receiver_and_its_pollables_do_not_hide_each_other() {
    let (mut sender, mut receiver) = Pipe::simplex::<u32>().expect("room");
    let pollables = [(); 2].map(|()| Pollable::new(&receiver).expect("a descriptor"));
    let is_over = &std::sync::atomic::AtomicBool::new(false);
    thread::scope(|threads| {
        for pollable in &pollables {
            threads.spawn(move || {
                while !is_over.load(Relaxed) {
                    let readable = poll_readable(&[pollable.as_fd()], Deadline::after(LONG));
                    assert!(readable.expect("a poll")[0], "it tells, of the end at last");
                    pollable.arm().expect("a thread");
                }
            });
        }
        threads.spawn(move || {
            for number in 0..400 {
                sender.send(&number).expect("it is taken");
                thread::yield_now();
            }
        });
        for number in 0..400 {
            assert_eq!(receiver.recv_timeout(LONG).expect("a value"), number);
        }
        is_over.store(true, Relaxed);
        assert!(matches!(
            receiver.recv_timeout(LONG),
            Err(crate::RecvError::Closed)
        ));
    });
}

#[test]
fn socket_connections_are_accepted_and_their_messages_awaited() {
    let key = AuthKey::random().expect("random bytes");
    let address = "127.0.0.1:0".parse().expect("an address");
    let mut listener = Listener::bind(&address, &key).expect("free");
    let address = listener.address().clone();
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut client = Client::connect(&address, &key).expect("it listens");
            for length in [0, 5, 3 << 20] {
                client.send_bytes(&vec![7; length]).expect("it is read");
            }
            client.send(&(7_u8, "seven")).expect("it is read");
        });
        block_on(async {
            let mut connection = listener.accept_async().await.expect("somebody");
            {
                // Begun and dropped: nothing of it is lost.
                let mut context = Context::from_waker(Waker::noop());
                let _ = std::pin::pin!(connection.recv_bytes_async()).poll(&mut context);
            }
            let mut lengths = Vec::new();
            while lengths.last() != Some(&(3 << 20)) {
                let message = connection.recv_bytes_async().await.expect("a message");
                lengths.push(message.len());
            }
            assert!([&[0, 5, 3 << 20][..], &[5, 3 << 20]].contains(&&lengths[..]));
            let value: (u8, String) = connection.recv_async().await.expect("a value");
            assert_eq!(value, (7, "seven".to_owned()));
            let end = connection.recv_bytes_async().await;
            assert!(
                matches!(end, Err(crate::socket::RecvError::Closed)),
                "{end:?}"
            );
        });
    });
}

#[test]
fn many_tasks_of_sockets_are_woken_one_by_one_in_any_order() {
    let key = AuthKey::random().expect("random bytes");
    let address = "127.0.0.1:0".parse().expect("an address");
    let mut listener = Listener::bind(&address, &key).expect("free");
    let address = listener.address().clone();
    let mut clients = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..20 {
        thread::scope(|threads| {
            let client = threads.spawn(|| Client::connect(&address, &key).expect("it listens"));
            connections.push(listener.accept().expect("somebody"));
            clients.push(client.join().expect("no panic"));
        });
    }
    thread::scope(|threads| {
        let sums: Vec<_> = connections
            .iter_mut()
            .map(|connection| {
                threads.spawn(move || {
                    let message = block_on(connection.recv_bytes_async());
                    message.expect("a message")[0]
                })
            })
            .collect();
        for (number, client) in clients.iter_mut().enumerate().rev() {
            client.send_bytes(&[number as u8]).expect("room");
        }
        for (number, sum) in sums.into_iter().enumerate() {
            assert_eq!(usize::from(sum.join().expect("no panic")), number);
        }
    });
}
