//! Pipes of values: one that sends and one that receives, in threads and in processes.

use manyhands_channel::{Pipe, Queue, Receiver, Sender};
use serde::{Deserialize, Serialize};

use super::queues::{Narrow, Way, between};
use super::rings::{Put, Receive};
use super::streams::{self, Numbers};
use crate::{Role, Scenario};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![Scenario {
        name: "pipe of values, one way, 8 B x 500k, 2 processes, each on its core",
        count: 500_000,
        rounds: 11,
        contenders: vec![
            between("Pipe", Role::Ours, 1, Ends::make),
            between("bare ring of one and one", Role::Peer, 1, Narrow::make),
            between("pipe", Role::Peer, 1, || Numbers(streams::Pipe::make())),
        ],
        limit: None,
    }]
}

/// For the row of messages between threads.
pub(super) fn make_pipe() -> (Sender<u64>, Receiver<u64>) {
    Pipe::simplex().expect("the arena has room for a pipe")
}

impl Put for Sender<u64> {
    fn put(&mut self, number: u64) {
        self.send(&number).expect("the other end lives");
    }
}

impl Receive for Receiver<u64> {
    fn next(&mut self) -> u64 {
        self.recv().expect("the other end lives")
    }
}

/// A pipe on its way: whoever opens an end gets it out of a queue.
#[derive(Clone, Serialize, Deserialize)]
struct Ends {
    entry: Queue<Sender<u64>>,
    exit: Queue<Receiver<u64>>,
}

impl Ends {
    fn make() -> Self {
        let (sender, receiver) = make_pipe();
        let ends = Self {
            entry: Queue::new().expect("the arena has room for a queue"),
            exit: Queue::new().expect("the arena has room for a queue"),
        };
        ends.entry.put(&sender).expect("it is open");
        ends.exit.put(&receiver).expect("it is open");
        ends
    }
}

impl Way for Ends {
    fn entry(&self) -> impl FnMut(u64) {
        let mut sender = self.entry.get().expect("it was put");
        move |number| sender.put(number)
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        let mut receiver = self.exit.get().expect("it was put");
        move || receiver.next()
    }
}
