//! Where new clients leave their letters for the server.
//!
//! A letter is a parcel with the server's ends of two rings. It lies in shared memory until the
//! server picks it up; the client keeps the parcel's holds until the server has greeted it.
//!
//! A client may be killed at any point. With the lock in its hand: the next one to lock is told,
//! and finds the letters in order, because a letter is empty until its length is stored, last.
//! With a letter posted: the server finds that the ends in it were given up.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use manyhands_channel::Doorbell;
use manyhands_shm::arena::Participant;
use manyhands_shm::{NoSpace, Shareable, Shared};
use manyhands_sync::{Lock, LockGuard};
use serde::{Deserialize, Serialize};

/// How many clients can be waiting to be taken up.
const LETTERS: usize = 16;
/// The most bytes of a letter. Two ends of rings with a doorbell take some 60.
const LETTER_SIZE: usize = 508;

/// Where to find a manager.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) server: Participant,
    pub(crate) reception: Shared<Reception>,
    pub(crate) bell: Doorbell,
}

/// The letters that the server has not picked up.
#[repr(C)]
#[derive(Debug, Shareable)]
pub(crate) struct Reception {
    /// Not zero when a letter was posted since the server last looked.
    posted: AtomicU32,
    letters: Lock<[Letter; LETTERS]>,
}

#[repr(C)]
#[derive(Debug, Shareable)]
struct Letter {
    /// Zero for an empty place.
    length: AtomicU32,
    bytes: [u8; LETTER_SIZE],
}

/// Why a letter was not posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unposted {
    /// All places are taken; the server is busy.
    Full,
    /// No place is so large.
    TooLarge,
}

impl Reception {
    pub(crate) fn open() -> Result<Shared<Self>, NoSpace> {
        Shared::new(Self {
            posted: AtomicU32::new(0),
            letters: Lock::new([const { Letter::empty() }; LETTERS]),
        })
    }

    /// Leaves a letter. The doorbell is the caller's to ring.
    pub(crate) fn post(&self, bytes: &[u8]) -> Result<(), Unposted> {
        if bytes.is_empty() || bytes.len() > LETTER_SIZE {
            return Err(Unposted::TooLarge);
        }
        let mut letters = self.letters();
        let empty = letters
            .iter_mut()
            // Relaxed: ordered by the lock.
            .find(|letter| letter.length.load(Relaxed) == 0);
        let letter = empty.ok_or(Unposted::Full)?;
        letter.bytes[..bytes.len()].copy_from_slice(bytes);
        // Release: after the bytes in the order of this process too, should it be killed here.
        letter.length.store(bytes.len() as u32, Release);
        // Release: partner is the Acquire in `collect`. A client that dies just before leaves its
        // letter for the next one to announce; nobody waits for the answer.
        self.posted.store(1, Release);
        Ok(())
    }

    /// Picks up all letters.
    pub(crate) fn collect(&self) -> Vec<Vec<u8>> {
        // Before the lock is taken: the server comes by after every round of requests. Acquire:
        // partner is the Release in `post`; the one in `swap` orders nothing.
        if self.posted.load(Acquire) == 0 || self.posted.swap(0, AcqRel) == 0 {
            return Vec::new();
        }
        let mut letters = self.letters();
        let mut collected = Vec::new();
        for letter in letters.iter_mut() {
            // Acquire: the bytes were there before the length.
            let length = letter.length.load(Acquire) as usize;
            if length > 0 {
                collected.push(letter.bytes[..length.min(LETTER_SIZE)].to_vec());
                letter.length.store(0, Release);
            }
        }
        collected
    }

    fn letters(&self) -> LockGuard<'_, [Letter; LETTERS]> {
        self.letters.lock().unwrap_or_else(|error| {
            let guard = error.into_guard();
            let mut guard = guard.expect("a client or server holds no other shared lock here");
            // A letter that was being written is still empty; nothing is to be repaired.
            guard.mark_consistent();
            guard
        })
    }
}

impl Letter {
    const fn empty() -> Self {
        Self {
            length: AtomicU32::new(0),
            bytes: [0; LETTER_SIZE],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_collected_once_and_in_order() {
        let reception = Reception::open().expect("there is room");
        for number in 1..=3 {
            reception.post(&[number; 40]).expect("there is a place");
        }
        assert_eq!(reception.collect(), [vec![1; 40], vec![2; 40], vec![3; 40]]);
        assert!(reception.collect().is_empty());
    }

    #[test]
    fn full_reception_takes_no_letter_until_it_was_emptied() {
        let reception = Reception::open().expect("there is room");
        for _ in 0..LETTERS {
            reception.post(&[1]).expect("there is a place");
        }
        assert_eq!(reception.post(&[1]), Err(Unposted::Full));
        assert_eq!(reception.collect().len(), LETTERS);
        reception.post(&[1]).expect("there is a place");
        assert_eq!(
            reception.post(&[1; LETTER_SIZE + 1]),
            Err(Unposted::TooLarge)
        );
    }
}
