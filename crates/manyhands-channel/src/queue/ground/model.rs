//! Loom's side: locks that nobody dies in, a futex of a mutex and a condition, bytes in cells.

use std::sync::atomic::Ordering::Relaxed;

use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::primitive::Deadline;
use crate::queue::layout::{Header, Notice, Place};
use crate::queue::raw::Stop;
use crate::ring::loom_cells::Cells;

/// The section of a side.
#[derive(Debug, Default)]
pub(in crate::queue) struct ShortLock(Mutex<()>);

/// The turn of a place.
#[derive(Debug, Default)]
pub(in crate::queue) struct Lock<T>(Mutex<T>);

pub(in crate::queue) type LockGuard<'a, T> = MutexGuard<'a, T>;

/// Being in a section.
pub(in crate::queue) type Section<'a> = MutexGuard<'a, ()>;

/// Spinning is off: to look again is no order of its own.
#[derive(Debug, Default)]
pub(in crate::queue) struct Spin;

impl Spin {
    pub(in crate::queue) fn wait<R>(
        &self,
        _: Deadline,
        _: impl FnMut() -> bool,
        sleep: impl FnOnce() -> R,
    ) -> Option<R> {
        Some(sleep())
    }
}

pub(in crate::queue) fn enter(
    section: &ShortLock,
    _: Deadline,
    _repair: impl FnOnce(),
) -> Option<Section<'_>> {
    Some(section.0.lock().expect("no thread panics inside"))
}

pub(in crate::queue) fn is_alive(_: u64) -> bool {
    true
}

pub(in crate::queue) fn turn(place: &Place, _: Deadline) -> Result<LockGuard<'_, ()>, Stop> {
    Ok(place.turn.0.lock().expect("no thread panics inside"))
}

/// A futex: whoever holds the mutex compares and lies down in one step, as the kernel does.
#[derive(Debug, Default)]
pub(in crate::queue) struct Bed {
    mutex: Mutex<()>,
    condition: Condvar,
}

pub(in crate::queue) fn wait(notice: &Notice, expected: u32, _: Deadline) {
    let bed = &notice.bed;
    let guard = bed.mutex.lock().expect("no thread panics inside");
    // Relaxed: whoever has woken before had the mutex before.
    if notice.sequence.load(Relaxed) == expected {
        drop(bed.condition.wait(guard).expect("no thread panics inside"));
    }
}

pub(in crate::queue) fn wait_beside(notice: &Notice, expected: u32, _: &[u64], end: Deadline) {
    wait(notice, expected, end);
}

pub(in crate::queue) fn wake_all(notice: &Notice) {
    drop(notice.bed.mutex.lock().expect("no thread panics inside"));
    notice.bed.condition.notify_all();
}

/// What the models do not have: they are about who wakes whom.
#[derive(Debug)]
pub(in crate::queue) enum Block {}

pub(in crate::queue) fn handle_of(block: &Block) -> u64 {
    match *block {}
}

pub(in crate::queue) fn deposit(_: &Memory, block: Block) {
    match block {}
}

pub(in crate::queue) fn withdraw(_: &Memory, _: u64) -> Result<Option<Block>, Stop> {
    Ok(None)
}

pub(in crate::queue) fn is_deposited(_: &Memory, _: u64) -> Result<bool, Stop> {
    Ok(false)
}

pub(in crate::queue) fn has_deposits(_: &Memory) -> bool {
    false
}

/// A queue on the heap.
#[derive(Clone, Debug)]
pub(in crate::queue) struct Memory(Arc<(Header, Cells)>);

impl Memory {
    pub(in crate::queue) fn new(bytes: u64) -> Self {
        Self(Arc::new((Header::default(), Cells::new(bytes))))
    }

    pub(in crate::queue) fn head(&self) -> &Header {
        &self.0.0
    }

    pub(in crate::queue) fn store_head(&self, offset: u64, bits: u64) {
        self.0.1.write(offset, &bits.to_ne_bytes());
    }

    pub(in crate::queue) fn load_head(&self, offset: u64) -> u64 {
        u64::from_ne_bytes(self.0.1.read(offset))
    }

    pub(in crate::queue) fn write(&self, offset: u64, bytes: &[u8]) {
        self.0.1.write(offset, bytes);
    }

    pub(in crate::queue) fn append(&self, offset: u64, length: u64, into: &mut Vec<u8>) {
        self.0.1.append(offset, length, into);
    }
}
