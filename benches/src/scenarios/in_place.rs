//! Large messages that are written and read where they lie, and copied.
//!
//! Each has its number at both ends, and nothing else is written.

use ipc_channel::ipc::IpcSharedMemory;
use manyhands_channel::Queue;
use manyhands_channel::ring::{Consumer, Producer, RecvError, SendError, Slot, ring};
use serde::{Deserialize, Serialize};

use super::foreign::IpcChannel;
#[cfg(feature = "peers")]
use super::iceoryx::{Block, Iceoryx};
use super::queues::{Way, await_some, between};
use super::streams::{Blocks, Pipe, Socket};
use crate::{Contender, Role, Scenario};

/// A ring has room for so many messages of its scenario and their heads, less one: what is compared is
/// the size, and not how far one end may be ahead of the other.
pub(super) const MESSAGES: usize = 16;
pub(super) const LARGE: usize = 1 << 20;
const SMALL: usize = 64 << 10;

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let scenario = |name, contenders| Scenario {
        name,
        count: 1_000,
        rounds: 9,
        contenders,
        limit: None,
    };
    vec![
        scenario(
            "message one way, 1 MiB x 1k, 2 processes, each on its core",
            vec![
                rings("in place", Role::Ours, || {
                    Ring::make(LARGE, Manner::InPlace)
                }),
                between("Queue, in place", Role::Ours, 1, || InQueue::make(LARGE)),
                between("Queue, in place, 64 KiB", Role::Peer, 1, || {
                    InQueue::make(SMALL)
                }),
                rings("in place, 64 KiB", Role::Peer, || {
                    Ring::make(SMALL, Manner::InPlace)
                }),
                rings("by copy", Role::Peer, || Ring::make(LARGE, Manner::Copy)),
                between("ipc-channel, shared memory", Role::Peer, 1, || {
                    Shared(IpcChannel::make())
                }),
                between("pipe", Role::Peer, 1, || Blocks(Pipe::make())),
                between("unix socket", Role::Peer, 1, || Blocks(Socket::make())),
            ],
        ),
        Scenario {
            limit: Some(1.0),
            ..scenario(
                "message one way, 1 MiB x 1k, 2 processes that look and yield",
                vec![
                    rings("in place", Role::Ours, || {
                        Ring::make(LARGE, Manner::Looking)
                    }),
                    #[cfg(feature = "peers")]
                    between("iceoryx2, in place", Role::Peer, 1, Iceoryx::<Block>::make),
                ],
            )
        },
    ]
}

fn rings(name: &'static str, role: Role, make: fn() -> Ring) -> Contender {
    between(name, role, 1, make)
}

/// How a message gets into the ring and out of it.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Manner {
    InPlace,
    /// In place, by ends that never sleep.
    Looking,
    Copy,
}

/// A ring whose ends wait for those who use them.
#[derive(Clone, Serialize, Deserialize)]
struct Ring {
    entry: Queue<Producer>,
    exit: Queue<Consumer>,
    size: usize,
    manner: Manner,
}

impl Ring {
    fn make(size: usize, manner: Manner) -> Self {
        let (producer, consumer) = ring(MESSAGES * size).expect("the arena has room for a ring");
        let entry = Queue::bounded(1).expect("there is memory");
        let exit = Queue::bounded(1).expect("there is memory");
        entry.put(&producer).expect("it is open");
        exit.put(&consumer).expect("it is open");
        Self {
            entry,
            exit,
            size,
            manner,
        }
    }
}

impl Way for Ring {
    fn entry(&self) -> impl FnMut(u64) {
        let mut producer = self.entry.get().expect("it is open");
        let (size, manner) = (self.size, self.manner);
        let mut buffer = vec![0; size];
        let fill = |mut slot: Slot<'_>, number| {
            mark(&mut slot, number);
            slot.commit();
        };
        move |number| match manner {
            Manner::InPlace => fill(producer.reserve(size).expect("the other lives"), number),
            Manner::Looking => await_some(|| match producer.try_reserve(size) {
                Ok(slot) => {
                    fill(slot, number);
                    Some(())
                }
                Err(SendError::Full) => None,
                Err(error) => panic!("{error}"),
            }),
            Manner::Copy => {
                mark(&mut buffer, number);
                producer.send(&buffer).expect("the other lives");
            }
        }
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        let mut consumer = self.exit.get().expect("it is open");
        let manner = self.manner;
        let mut buffer = Vec::new();
        move || match manner {
            Manner::InPlace => marked(&consumer.recv_ref().expect("the other lives")),
            Manner::Looking => await_some(|| match consumer.try_recv_ref() {
                Ok(message) => Some(marked(&message)),
                Err(RecvError::Empty) => None,
                Err(error) => panic!("{error}"),
            }),
            Manner::Copy => {
                consumer.recv(&mut buffer).expect("the other lives");
                marked(&buffer)
            }
        }
    }
}

/// A queue whose messages are blocks that change hands.
#[derive(Clone, Serialize, Deserialize)]
struct InQueue {
    queue: Queue<Vec<u8>>,
    size: usize,
}

impl InQueue {
    fn make(size: usize) -> Self {
        let queue = Queue::bounded(MESSAGES).expect("there is memory");
        Self { queue, size }
    }
}

impl Way for InQueue {
    fn entry(&self) -> impl FnMut(u64) {
        let (queue, size) = (self.queue.clone(), self.size);
        move |number| {
            let mut slot = queue.reserve(size).expect("there is memory");
            mark(&mut slot, number);
            slot.commit().expect("it is open");
        }
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        let queue = self.queue.clone();
        move || marked(&queue.get_ref().expect("it is open"))
    }
}

/// Memory of its own for each message.
#[derive(Clone, Serialize, Deserialize)]
struct Shared(IpcChannel<IpcSharedMemory>);

impl Way for Shared {
    fn entry(&self) -> impl FnMut(u64) {
        let sender = self.0.sender();
        let mut buffer = vec![0; LARGE];
        move |number| {
            mark(&mut buffer, number);
            let sent = sender.send(IpcSharedMemory::from_bytes(&buffer));
            sent.expect("the other one lives");
        }
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        let mut recv = self.0.receiver();
        move || marked(&recv())
    }
}

/// Writes its number to both ends of a message.
pub(super) fn mark(message: &mut [u8], number: u64) {
    let number = number.to_ne_bytes();
    let end = message.len() - 8;
    message[..8].copy_from_slice(&number);
    message[end..].copy_from_slice(&number);
}

/// The number at both ends of a message.
pub(super) fn marked(message: &[u8]) -> u64 {
    let (first, last) = (message.first_chunk(), message.last_chunk());
    assert_eq!(first, last, "a message is whole");
    u64::from_ne_bytes(*first.expect("a number was written"))
}
