//! A page that this process shares with its zygote: what it requests, and what came of it.

use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use manyhands_os::OsError;
use manyhands_os::futex::{self, Scope, Watch};
use manyhands_os::memory::{Map, Memfd};

const LEN: u64 = 4096;
/// An encoded berth, which is five numbers, is shorter.
const BERTH: usize = 64;
const BERTH_WORDS: usize = BERTH / size_of::<u32>();

/// Words with one writer each.
#[derive(Debug)]
pub(super) struct Record {
    map: Map,
}

/// A fork that was requested, as the zygote has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    bytes: [u8; BERTH],
    len: usize,
}

impl Request {
    /// The berth of the fork, encoded.
    pub(super) fn berth(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The id of the fork.
    Forked(u32),
    /// The system refused to fork, with this error number.
    Refused(i32),
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
        &self.map.words::<1>()[0]
    }

    /// How many forks were requested. A futex.
    fn requests(&self) -> &AtomicU32 {
        &self.map.words::<2>()[1]
    }

    /// Written by the zygote: how many requests it has dealt with.
    fn answers(&self) -> &AtomicU32 {
        &self.map.words::<3>()[2]
    }

    /// Written by the zygote: the error number of the last request, if it was refused.
    fn refusal(&self) -> &AtomicU32 {
        &self.map.words::<4>()[3]
    }

    /// Whether the parent waits for the answer, and is to be told that it is there.
    fn is_awaited(&self) -> &AtomicU32 {
        &self.map.words::<5>()[4]
    }

    /// The length of the berth, and its bytes.
    fn berth(&self) -> (&AtomicU32, &[AtomicU32]) {
        let words = self.map.words::<{ 6 + BERTH_WORDS }>();
        (&words[5], &words[6..])
    }

    /// Requests a fork, with its encoded berth, when the last request has its answer.
    pub(super) fn request(&self, berth: &[u8]) {
        let mut bytes = [0; BERTH];
        bytes[..berth.len()].copy_from_slice(berth);
        let (len, words) = self.berth();
        // Relaxed: published by the number of requests.
        self.forked().store(0, Relaxed);
        self.is_awaited().store(0, Relaxed);
        len.store(berth.len() as u32, Relaxed);
        for (word, bytes) in words.iter().zip(bytes.as_chunks().0) {
            word.store(u32::from_ne_bytes(*bytes), Relaxed);
        }
        // Release: pairs with the Acquire in `next`.
        self.requests().fetch_add(1, Release);
        futex::wake_all(self.requests(), Scope::Shared);
    }

    /// The request after so many, once it is there. It stays until it has its answer.
    pub(super) fn next(&self, after: u32) -> Option<Request> {
        // Acquire: pairs with the Release in `request`.
        if self.requests().load(Acquire) == after {
            return None;
        }
        let (len, words) = self.berth();
        let mut bytes = [0; BERTH];
        for (word, bytes) in words.iter().zip(bytes.as_chunks_mut().0) {
            *bytes = word.load(Relaxed).to_ne_bytes();
        }
        let len = (len.load(Relaxed) as usize).min(BERTH);
        Some(Request { bytes, len })
    }

    /// What the zygote sleeps on until then.
    pub(super) fn watch(&self, after: u32) -> Watch<'_> {
        Watch {
            word: self.requests(),
            expected: after,
            scope: Scope::Shared,
        }
    }

    /// Says that so many requests were dealt with, the last one with this error number unless it has a fork; whether
    /// the parent waits to be told.
    pub(super) fn answer(&self, answers: u32, refusal: Option<i32>) -> bool {
        if let Some(number) = refusal {
            // Relaxed: published by the number of answers.
            self.refusal().store(number as u32, Relaxed);
        }
        // SeqCst, as in `wait_answer`: one of the two sees what the other one wrote.
        self.answers().store(answers, SeqCst);
        self.is_awaited().load(SeqCst) != 0
    }

    /// What came of the last request, once it is known. A fork is known before the zygote has said so.
    pub(super) fn answered(&self) -> Option<Answer> {
        if let Some(pid) = self.last() {
            return Some(Answer::Forked(pid));
        }
        // Relaxed: this process alone requests.
        let requests = self.requests().load(Relaxed);
        // SeqCst: see `answer`.
        if self.answers().load(SeqCst) != requests {
            return None;
        }
        // Once more: the system has written it before the answer.
        let refused = || Answer::Refused(self.refusal().load(Relaxed) as i32);
        Some(self.last().map_or_else(refused, Answer::Forked))
    }

    /// Says that this process waits for the answer; it may have come before.
    pub(super) fn wait_answer(&self) {
        self.is_awaited().store(1, SeqCst);
    }

    /// The last fork since the last request, `None` when there is none yet.
    pub(super) fn last(&self) -> Option<u32> {
        // Relaxed: the number stands for itself.
        Some(self.forked().load(Relaxed)).filter(|pid| *pid != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_and_answers_follow_each_other() {
        let (ours, file) = Record::create().expect("a page");
        let theirs = Record::attach(&file).expect("the same");
        assert!(theirs.next(0).is_none());
        ours.request(b"here");
        assert_eq!(theirs.next(0).expect("a request").berth(), b"here");
        assert!(theirs.next(1).is_none() && ours.answered().is_none());
        assert!(!theirs.answer(1, Some(11)));
        assert_eq!(ours.answered(), Some(Answer::Refused(11)));

        ours.request(&[7; BERTH]);
        assert_eq!(theirs.next(1).expect("a request").berth(), [7; BERTH]);
        assert!(ours.answered().is_none());
        ours.wait_answer();
        theirs.forked().store(5, Relaxed);
        assert_eq!(ours.answered(), Some(Answer::Forked(5)));
        assert!(theirs.answer(2, None));
        assert_eq!(ours.answered(), Some(Answer::Forked(5)));
    }
}
