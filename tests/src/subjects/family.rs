//! Actors as one family with an arena, though all of them are forked by the tracer.
//!
//! The tracer itself must stay single-threaded, so it does not join. The *host* founds the arena;
//! the others open its descriptor through `/proc` and join on seats that the host has reserved.

#![allow(
    clippy::missing_panics_doc,
    reason = "a panic in an actor is the end of the test"
)]

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use manyhands_shm::handoff::{self, Holds};
use manyhands_shm::{Arena, Handoff, Participant, Seat, arena};

use crate::place::{Place, Placed};
use crate::step::Outcome;

/// Where the host tells the next guest how to join. Outside of the place: that is cleared.
#[repr(C)]
struct Reception {
    host: AtomicU32,
    descriptor: AtomicU32,
    participant: AtomicU64,
    seat: Letter,
}

// SAFETY: atomics only; zero is "no host yet"; nothing to drop.
unsafe impl Placed for Reception {}

/// The host's memory of what was there before the boundary.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Count {
    blocks: u64,
    processes: usize,
}

thread_local! {
    static INVITED: Cell<Option<Seat>> = const { Cell::new(None) };
    static BEFORE: Cell<Option<Count>> = const { Cell::new(None) };
    static SENT: RefCell<Vec<Holds>> = const { RefCell::new(Vec::new()) };
}

fn reception() -> &'static Reception {
    static RECEPTION: OnceLock<&'static Reception> = OnceLock::new();
    RECEPTION.get_or_init(|| Place::map(size_of::<Reception>()).at())
}

/// The tracer calls it before it forks anybody.
pub fn open() {
    reception();
}

/// The host reserves a seat.
pub fn invite() {
    let family = family();
    let seat = family.reserve_seat().expect("there are seats");
    INVITED.set(Some(seat));
    let reception = reception();
    let descriptor = family.as_fd().as_raw_fd().cast_unsigned();
    reception.descriptor.store(descriptor, Relaxed);
    reception.participant.store(family.me().to_bits(), Relaxed);
    write_seat(&reception.seat, seat);
    // Release: pairs with the Acquire in `arrive`; publishes all of the above.
    reception.host.store(std::process::id(), Release);
}

/// The newly forked process joins. (A guest that comes while the host makes another seat ready does
/// not exist: the tracer forks one after the other.)
pub fn arrive() {
    let (arena, seat) = invitation();
    arena::join(arena, seat).expect("the host lives");
}

/// As [`arrive`], on a seat that was reserved earlier.
pub fn arrive_on(seat: Seat) {
    let (arena, _) = invitation();
    arena::join(arena, seat).expect("the host lives");
}

/// The arena's file, for the tracer, which has not joined.
pub fn file() -> Option<File> {
    let reception = reception();
    let host = reception.host.load(Acquire);
    File::open(format!(
        "/proc/{host}/fd/{}",
        reception.descriptor.load(Relaxed)
    ))
    .ok()
}

/// What [`arena::join`] needs.
pub fn invitation() -> (OwnedFd, Seat) {
    let reception = reception();
    // Acquire: pairs with the Release in `invite`.
    let host = reception.host.load(Acquire);
    let path = format!("/proc/{host}/fd/{}", reception.descriptor.load(Relaxed));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("the host lives");
    let seat = read_seat(&reception.seat);
    (
        file.as_fd()
            .try_clone_to_owned()
            .expect("descriptors are left"),
        seat,
    )
}

/// Sends a seat to somebody who may not have joined yet.
pub fn write_seat(letter: &Letter, seat: Seat) {
    let parcel = handoff::pack(&seat).expect("a seat is plain data");
    letter.write(&parcel.bytes);
}

/// The seat that somebody has sent.
pub fn read_seat(letter: &Letter) -> Seat {
    handoff::unpack(&letter.read()).expect("somebody wrote a seat")
}

/// The arena that this process has joined, or founded.
pub fn family() -> &'static Arena {
    arena::family().expect("joined or founded")
}

/// The host counts, before it makes anything for the boundary.
pub fn count() {
    BEFORE.set(Some(look()));
}

fn look() -> Count {
    let stats = family().stats();
    Count {
        blocks: stats.used_blocks(),
        processes: stats.holders.len(),
    }
}

/// The host sends a value; it keeps what is in it until [`audit`].
pub fn send<T: Handoff>(letter: &Letter, value: &T) {
    let parcel = handoff::pack(value).expect("it can be packed");
    letter.write(&parcel.bytes);
    SENT.with_borrow_mut(|sent| sent.push(parcel.holds));
}

/// Somebody receives what the host has sent.
pub fn receive<T: Handoff>(letter: &Letter) -> T {
    handoff::unpack(&letter.read()).expect("the host wrote it")
}

/// The host takes back what the dead had; what is left must be what was there before.
#[allow(
    clippy::print_stderr,
    reason = "says what is lost, which the outcome alone does not"
)]
pub fn audit() -> Outcome {
    SENT.take();
    let family = family();
    if let Some(seat) = INVITED.take() {
        // One of the two does something, if the guest died on its way in. The tracer has waited
        // for it, so it is certainly dead, or it is alive and holds its life word.
        family.release_seat(seat);
        family.reap(seat.participant());
    }
    family.reap_dead();
    let (before, after) = (BEFORE.get(), look());
    // The last guest may be a survivor that replaces one who died.
    if before == Some(after) {
        return Outcome::Fine;
    }
    eprintln!("before: {before:?}, after: {after:?}, {:?}", family.stats());
    Outcome::Lost
}

/// The participant that the host is.
pub fn host() -> Participant {
    let bits = reception().participant.load(Relaxed);
    Participant::from_bits(bits).expect("the host has invited us")
}

/// The participant that the calling process is.
pub fn me() -> Participant {
    family().me()
}

/// Bytes in shared memory, written by one before the other reads.
#[repr(C)]
#[derive(Debug)]
pub struct Letter {
    len: AtomicU64,
    words: [AtomicU64; 64],
}

// SAFETY: atomics only; zero is an empty letter; nothing to drop.
unsafe impl Placed for Letter {}

impl Letter {
    /// Writes; the reader comes later.
    pub fn write(&self, bytes: &[u8]) {
        assert!(bytes.len() <= 8 * self.words.len(), "the letter is short");
        for (word, chunk) in self.words.iter().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(padded), Relaxed);
        }
        // Release: pairs with the Acquire in `read`.
        self.len.store(bytes.len() as u64, Release);
    }

    /// What was written.
    pub fn read(&self) -> Vec<u8> {
        // Acquire: pairs with the Release in `write`.
        let len = self.len.load(Acquire) as usize;
        let words = self
            .words
            .iter()
            .flat_map(|word| word.load(Relaxed).to_le_bytes());
        words.take(len).collect()
    }
}
