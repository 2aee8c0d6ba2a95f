//! A page that this process shares with its zygote.

use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manyhands_os::OsError;
use manyhands_os::futex::{self, Scope, Watch};
use manyhands_os::memory::{Map, Memfd};

const LEN: u64 = 4096;

/// Two words, each with one writer.
#[derive(Debug)]
pub(super) struct Record {
    map: Map,
}

impl Record {
    /// Makes the page, and the file that the zygote maps it from.
    pub(super) fn create() -> Result<(Self, Memfd), OsError> {
        let file = Memfd::create("manyhands-zygote", LEN)?;
        let full = |_| OsError::new("fallocate", io::ErrorKind::OutOfMemory);
        file.reserve(0, LEN).map_err(full)?;
        let map = Map::shared(&file)?;
        Ok((Self { map }, file))
    }

    pub(super) fn attach(file: &Memfd) -> Result<Self, OsError> {
        let map = Map::shared(file)?;
        Ok(Self { map })
    }

    /// Where the system writes the id of the last fork, in one step with the fork; zero after the request.
    pub(super) fn forked(&self) -> &AtomicU32 {
        let [forked, _] = self.map.words();
        forked
    }

    /// How many requests were sent.
    fn requests(&self) -> &AtomicU32 {
        let [_, requests] = self.map.words();
        requests
    }

    /// Says that a request was sent.
    pub(super) fn ring(&self) {
        // Release: pairs with the Acquire in `has_request`; the message was sent before.
        self.requests().fetch_add(1, Release);
        futex::wake_all(self.requests(), Scope::Shared);
    }

    /// Whether a request was sent after so many.
    pub(super) fn has_request(&self, after: u32) -> bool {
        // Acquire: pairs with the Release in `ring`.
        self.requests().load(Acquire) != after
    }

    /// What to sleep on until then.
    pub(super) fn watch(&self, after: u32) -> Watch<'_> {
        Watch {
            word: self.requests(),
            expected: after,
            scope: Scope::Shared,
        }
    }

    /// The last fork since the last request, `None` when there is none yet.
    pub(super) fn last(&self) -> Option<u32> {
        // Relaxed: the number stands for itself.
        Some(self.forked().load(Relaxed)).filter(|pid| *pid != 0)
    }

    /// Forgets the last fork, before the next request.
    pub(super) fn clear(&self) {
        // Relaxed: the request comes behind.
        self.forked().store(0, Relaxed);
    }
}
