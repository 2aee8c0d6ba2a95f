//! Queues of other crates, between processes. None of them survives the death of a user.

#![allow(unsafe_code, reason = "one of the peers is made by unsafe calls")]

use std::cell::Cell;
use std::fs::File;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;

use ipc_channel::ipc::{IpcOneShotServer, IpcReceiver, IpcSender};
use manyhands_channel::Queue;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shaq::mpmc::{Consumer, Producer, minimum_file_size};

use super::queues::{AT_ONCE, PLACES, Way, await_some};

/// A file that its maker keeps open, with shaq's queue of many and many in it. It has no sleep, so
/// whoever waits looks and yields. A producer waits for those before it without yielding: of two on
/// one core each stands still for the other's whole time slice, so this is for one and one.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Shaq(String);

thread_local! {
    /// The file of the last queue.
    static KEPT: Cell<Option<File>> = const { Cell::new(None) };
}

impl Shaq {
    pub(super) fn make() -> Self {
        let file = memfd_create("shaq", MemfdFlags::CLOEXEC).expect("there is memory");
        let file = File::from(file);
        let len = minimum_file_size::<u64>(PLACES);
        // SAFETY: the file is new, and nobody else initializes it; numbers are valid everywhere.
        drop(unsafe { Producer::<u64>::create(&file, len) }.expect("there is memory"));
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        KEPT.set(Some(file));
        Self(path)
    }

    fn file(&self) -> File {
        let file = File::options().read(true).write(true).open(&self.0);
        file.expect("its maker has it")
    }

    fn producer(&self) -> Producer<u64> {
        // SAFETY: it was made for numbers, in `make`.
        unsafe { Producer::join(&self.file()) }.expect("it was made")
    }

    fn consumer(&self) -> Consumer<u64> {
        // SAFETY: as above.
        unsafe { Consumer::join(&self.file()) }.expect("it was made")
    }
}

impl Way for Shaq {
    fn entry(&self) -> impl FnMut(u64) {
        let producer = self.producer();
        move |number| await_some(|| producer.try_write(number).ok())
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        let consumer = self.consumer();
        move || await_some(|| consumer.try_read())
    }
}

/// The same in batches.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ManyShaq(pub(super) Shaq);

impl Way for ManyShaq {
    fn entry(&self) -> impl FnMut(u64) {
        let producer = self.0.producer();
        let mut batch = Vec::with_capacity(AT_ONCE);
        move |number| {
            batch.push(number);
            if batch.len() == AT_ONCE {
                await_some(|| producer.try_write_slice(&batch).then_some(()));
                batch.clear();
            }
        }
    }

    fn exit(&self, count: u64) -> impl FnMut() -> u64 {
        let consumer = self.0.consumer();
        let (mut left, mut batch) = (count as usize, Vec::new().into_iter());
        move || {
            if let Some(number) = batch.next() {
                return number;
            }
            // Not more than its share: the others would wait for the rest for ever.
            let most = NonZeroUsize::new(left.min(AT_ONCE)).expect("more are to come");
            let some: Vec<u64> = await_some(|| {
                let batch = consumer.try_reserve_read_batch(most)?;
                Some(batch.iter().copied().collect())
            });
            left -= some.len();
            batch = some.into_iter();
            batch.next().expect("at least one")
        }
    }
}

/// The channel of ipc-channel, for one and one; the name goes by a queue of ours.
#[derive(Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub(super) struct IpcChannel<T> {
    name: Queue<String>,
    messages: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> IpcChannel<T> {
    pub(super) fn make() -> Self {
        Self {
            name: Queue::bounded(1).expect("there is memory"),
            messages: PhantomData,
        }
    }

    pub(super) fn sender(&self) -> IpcSender<T> {
        let name = self.name.get().expect("it is open");
        IpcSender::connect(name).expect("the other one listens")
    }

    pub(super) fn receiver(&self) -> impl FnMut() -> T + use<T> {
        let (server, name) = IpcOneShotServer::new().expect("there are descriptors left");
        self.name.put(&name).expect("it is open");
        let mut server = Some(server);
        let mut receiver: Option<IpcReceiver<T>> = None;
        move || match (&receiver, server.take()) {
            (None, Some(server)) => {
                let (then, first) = server.accept().expect("the other one comes");
                receiver = Some(then);
                first
            }
            (Some(receiver), _) => receiver.recv().expect("the other one lives"),
            (None, None) => unreachable!("a server makes a receiver"),
        }
    }
}

impl Way for IpcChannel<u64> {
    fn entry(&self) -> impl FnMut(u64) {
        let sender = self.sender();
        move |number| sender.send(number).expect("the other one lives")
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        self.receiver()
    }
}
