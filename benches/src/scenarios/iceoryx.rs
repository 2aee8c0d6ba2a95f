//! The publish-subscribe of iceoryx2, between two processes.
//!
//! A receiver of it looks, and a sender that finds no room tries again: neither sleeps. So both look
//! and yield here, as those of `foreign` do. It names its files and shared memory; they lie in a folder
//! of the run, and under a prefix that the look for leftovers knows.

#![allow(unsafe_code, reason = "memory is lent before it has a value")]

use std::cell::Cell;
use std::fmt::Debug;
use std::fs::DirEntry;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use iceoryx2::port::SendError;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;
use serde::{Deserialize, Serialize};

use super::in_place::{LARGE, MESSAGES, mark, marked};
use super::queues::{PLACES, Way, await_some};

/// The folder of one service, for one and one, and what goes through it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub(super) struct Iceoryx<T> {
    folder: String,
    messages: PhantomData<T>,
}

/// A message of 1 MiB.
pub(super) type Block = [u8; LARGE];

/// A folder that is removed when nobody needs it any more, with what it stands for in shared memory:
/// one name stays there when all have left.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let name = self.0.file_name().unwrap_or_default();
        let names = std::fs::read_dir("/dev/shm")
            .into_iter()
            .flatten()
            .flatten();
        let is_ours = |file: &DirEntry| {
            let bytes = file.file_name().into_encoded_bytes();
            bytes.starts_with(name.as_encoded_bytes())
        };
        // What cannot be removed is found by the look for leftovers.
        for file in names.filter(is_ours) {
            drop(std::fs::remove_file(file.path()));
        }
        drop(std::fs::remove_dir_all(&self.0));
    }
}

thread_local! {
    /// The folder of the last service.
    static KEPT: Cell<Option<Folder>> = const { Cell::new(None) };
}

impl<T: Debug + ZeroCopySend> Iceoryx<T> {
    pub(super) fn make() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only that no two are the same matters.
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("mh-iceoryx-{}-{number}-", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the name is new");
        let folder = path.display().to_string();
        KEPT.set(Some(Folder(path)));
        Self {
            folder,
            messages: PhantomData,
        }
    }

    /// The service, whose reader may be so many messages behind.
    fn service(&self, places: usize) -> PortFactory<ipc::Service, T, ()> {
        let mut config = Config::default();
        let root = Path::new(self.folder.as_bytes()).expect("a short path");
        config.global.set_root_path(&root);
        let (_, name) = self.folder.rsplit_once('/').expect("it is in a folder");
        config.global.prefix = FileName::new(name.as_bytes()).expect("a short name");
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .expect("the folder is there");
        node.service_builder(&"bench".try_into().expect("a short name"))
            .publish_subscribe::<T>()
            .enable_safe_overflow(false)
            .history_size(0)
            .subscriber_max_buffer_size(places)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
            .expect("both say the same of it")
    }

    fn publisher(&self, places: usize) -> Publisher<ipc::Service, T, ()> {
        let service = self.service(places);
        let publisher = service.publisher_builder().create();
        publisher.expect("there is one")
    }

    fn subscriber(&self, places: usize) -> Subscriber<ipc::Service, T, ()> {
        let service = self.service(places);
        let subscriber = service.subscriber_builder().create();
        subscriber.expect("there is one")
    }
}

/// Sends until it is taken: what comes while the reader does not know the writer, and finds no room, is
/// thrown away.
fn send(mut send: impl FnMut() -> Result<usize, SendError>) {
    await_some(|| (send().expect("the other one lives") == 1).then_some(()));
}

impl Way for Iceoryx<u64> {
    fn entry(&self) -> impl FnMut(u64) {
        let publisher = self.publisher(PLACES);
        move |number| {
            send(|| {
                let sample = publisher.loan_uninit().expect("a place is free");
                sample.write_payload(number).send()
            });
        }
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        let subscriber = self.subscriber(PLACES);
        move || *await_some(|| subscriber.receive().expect("the other one lives"))
    }
}

impl Way for Iceoryx<Block> {
    fn entry(&self) -> impl FnMut(u64) {
        let publisher = self.publisher(MESSAGES);
        move |number| {
            send(|| {
                let mut sample = publisher.loan_uninit().expect("a place is free");
                let place = sample.payload_mut().as_mut_ptr();
                // SAFETY: the sample lies in shared memory, whose bytes all have a value from the
                // start, and nobody else has it until it is sent.
                mark(unsafe { &mut *place }, number);
                // SAFETY: as above.
                unsafe { sample.assume_init() }.send()
            });
        }
    }

    fn exit(&self, _: u64) -> impl FnMut() -> u64 {
        let subscriber = self.subscriber(MESSAGES);
        move || marked(&await_some(|| subscriber.receive().expect("the other one lives"))[..])
    }
}
