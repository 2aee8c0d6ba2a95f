//! Tasks that send, and what becomes of them when those who take are killed.

use manyhands_channel::{Pipe, Queue, Receiver, SendError};
use manyhands_process::Process;
use manyhands_shm::Shared;
use manyhands_sync::Event;

use super::select::{pause, runtime};

/// Receives and gets until it is killed.
fn receive_and_get(mut receiver: Receiver<Vec<u8>>, queue: Queue<u64>) {
    for count in 0.. {
        receiver.recv().expect("it lives");
        queue.get().expect("it is open");
        pause(count % 5 == 4);
    }
}

#[test]
fn tasks_that_send_are_told_the_death_of_who_receives() {
    for (moment, length) in [(1, 10), (2, 200), (7, 10), (8, 3000), (20, 200)] {
        let (mut sender, receiver) = Pipe::simplex_with_capacity(256).expect("room");
        let queue = Queue::<u64>::bounded(3).expect("room");
        let arguments = (receiver, queue.clone());
        let child = Process::spawn(receive_and_get, arguments).expect("a child");
        runtime().block_on(async {
            let bytes = vec![1; length];
            for count in 0.. {
                if count == moment {
                    child.kill().expect("it lives");
                }
                match sender.send_async(&bytes).await {
                    Ok(()) => {}
                    Err(SendError::PeerDied { who }) => {
                        assert_eq!(who.map(|who| who.pid), Some(child.id()));
                        assert!(count >= moment);
                        return;
                    }
                    Err(error) => panic!("{error}"),
                }
                // Nobody may take what is put after the death.
                if count < moment {
                    queue.put_async(&count).await.expect("it is open");
                }
            }
        });
    }
}

fn get_for_ever(queue: Queue<u64>, has_it: Shared<Event>) {
    while queue.get().is_ok() {
        has_it.set();
    }
}

/// Whoever takes the place of a consumer that was killed lets the task go on, and so does the end.
#[test]
fn task_that_waits_for_room_outlives_a_consumer_that_is_killed() {
    for is_closed in [false, true] {
        for _ in 0..20 {
            let queue = Queue::<u64>::bounded(2).expect("room");
            let has_it = Shared::new(Event::new()).expect("room");
            let arguments = (queue.clone(), has_it.clone());
            let mut child = Process::spawn(get_for_ever, arguments).expect("a child");
            runtime().block_on(async {
                let putter = queue.clone();
                let numbers = async move {
                    for number in 0.. {
                        if putter.put_async(&number).await.is_err() {
                            return number;
                        }
                        if number == 100 {
                            return number;
                        }
                    }
                    unreachable!("it ends before")
                };
                let tasks = tokio::task::LocalSet::new();
                let put = tasks.run_until(async {
                    let numbers = tokio::task::spawn_local(numbers);
                    while !has_it.is_set() {
                        tokio::task::yield_now().await;
                    }
                    child.kill().expect("it lives");
                    assert!(child.join().is_err());
                    while !queue.stats().producers_wait && !numbers.is_finished() {
                        tokio::task::yield_now().await;
                    }
                    match is_closed {
                        true => queue.close(),
                        false => {
                            let mut last = None;
                            let is_over = || numbers.is_finished() && queue.is_empty();
                            while last != Some(100) && !is_over() {
                                let next = queue.get_async().await.expect("it is open");
                                assert!(last.is_none_or(|last| last + 1 == next));
                                last = Some(next);
                            }
                        }
                    }
                    numbers.await.expect("no panic")
                });
                let put = put.await;
                assert!(is_closed || put == 100);
            });
        }
    }
}
