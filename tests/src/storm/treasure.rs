//! Objects in shared memory whose content tells which they are, and whether they are whole.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use manyhands_shm::{Block, NoSpace, Participant, Region, Shareable, Shared};
use manyhands_sync::{Lock, LockError, LockGuard};
use serde::{Deserialize, Serialize};

use super::Random;

/// Destructors that found the value destroyed already, in this process.
pub(super) static DESTROYED_TWICE: AtomicU64 = AtomicU64::new(0);

/// An object that a number of its own is written all over.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Treasure {
    number: u64,
    object: Object,
}

#[derive(Clone, Serialize, Deserialize)]
enum Object {
    Region(Region),
    Record(Shared<Record>),
    Slice(Shared<[u64]>),
    Text(Shared<str>),
    Locked(Shared<Lock<[u64]>>),
}

/// A value with a destructor.
#[derive(Shareable)]
#[repr(C)]
struct Record {
    number: u64,
    sum: u64,
    is_destroyed: AtomicU64,
}

impl Drop for Record {
    fn drop(&mut self) {
        DESTROYED_TWICE.fetch_add(self.is_destroyed.swap(1, SeqCst), Relaxed);
    }
}

/// What an object has at a place. Source of the numbers: Knuth, multiplicative hashing.
fn word(number: u64, index: usize) -> u64 {
    (number ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// How many words something new has: mostly few, and sometimes so many that its pages are given
/// back when it is freed.
pub(super) fn words(random: &mut Random) -> usize {
    let most = match random.below(400) {
        0 => 400_000,
        1..10 => 20_000,
        10..100 => 1000,
        _ => 60,
    };
    1 + random.below(most) as usize
}

impl Treasure {
    pub(super) fn make(number: u64, random: &mut Random) -> Result<Treasure, NoSpace> {
        let (kind, words) = (random.below(5), words(random));
        let object = match kind {
            0 => {
                let region = Region::new(words * 8)?;
                (0..words).for_each(|index| at(region.as_ptr(), index, word(number, index)));
                Object::Region(region)
            }
            1 => Object::Record(Shared::new(Record {
                number,
                sum: word(number, 0),
                is_destroyed: AtomicU64::new(0),
            })?),
            2 => Object::Slice(Shared::<[u64]>::from_fn(words, |index| {
                word(number, index)
            })?),
            3 => Object::Text(Shared::<str>::copy_of(&text(number, words % 500))?),
            _ => {
                let items = |index| if index == 0 { number } else { 0 };
                Object::Locked(Shared::<Lock<[u64]>>::from_fn(words, items)?)
            }
        };
        Ok(Treasure { number, object })
    }

    /// Whether it is what was made under its number.
    pub(super) fn is_whole(&self) -> bool {
        let number = self.number;
        match &self.object {
            Object::Region(region) => (0..region.len() / 8)
                .all(|index| look(region.as_ptr(), index) == word(number, index)),
            Object::Record(record) => {
                let content = (record.number, record.sum, record.is_destroyed.load(SeqCst));
                content == (number, word(number, 0), 0)
            }
            Object::Slice(items) => is_pattern(items, number),
            Object::Text(text) => **text == *self::text(number, text.len() / 16),
            Object::Locked(items) => enter(items).is_some_and(|guard| is_even(&guard, number)),
        }
    }

    /// Changes what may be changed: under its lock, or since nobody else has it. Whether it was
    /// whole, if there was something to change.
    pub(super) fn change(&mut self, next_number: u64) -> Option<bool> {
        let number = self.number;
        match &mut self.object {
            Object::Locked(items) => {
                let mut guard = enter(items)?;
                let is_whole = is_even(&guard, number);
                let value = guard.last().map_or(0, |last| last.wrapping_add(1));
                guard.iter_mut().skip(1).for_each(|item| *item = value);
                Some(is_whole)
            }
            Object::Slice(items) => {
                let items = Shared::get_mut(items)?;
                let is_whole = is_pattern(items, number);
                for (index, item) in items.iter_mut().enumerate() {
                    *item = word(next_number, index);
                }
                // Had somebody else come to it, they would both have written.
                let is_whole = is_whole && is_pattern(items, next_number);
                self.number = next_number;
                Some(is_whole)
            }
            _ => None,
        }
    }

    /// Whether another participant was there to be made a holder.
    pub(super) fn hold_for(&self, participant: Participant) -> bool {
        let outcome = match &self.object {
            Object::Region(region) => region.hold_for(participant),
            Object::Record(record) => Shared::hold_for(record, participant),
            Object::Slice(items) => Shared::hold_for(items, participant),
            Object::Text(text) => Shared::hold_for(text, participant),
            Object::Locked(items) => Shared::hold_for(items, participant),
        };
        outcome.is_ok()
    }
}

fn is_pattern(items: &[u64], number: u64) -> bool {
    let mut items = items.iter().enumerate();
    items.all(|(index, item)| *item == word(number, index))
}

/// The first item is the number; the others are equal, whenever nobody is inside.
fn is_even(items: &[u64], number: u64) -> bool {
    let [first, others @ ..] = items else {
        return false;
    };
    *first == number && others.windows(2).all(|pair| pair[0] == pair[1])
}

/// Takes the lock, and makes the items equal that a dead holder has left unequal.
fn enter(items: &Lock<[u64]>) -> Option<LockGuard<'_, [u64]>> {
    match items.lock() {
        Ok(guard) => Some(guard),
        Err(LockError::OwnerDied { mut guard, .. }) => {
            guard.iter_mut().skip(1).for_each(|item| *item = 0);
            guard.mark_consistent();
            Some(guard)
        }
        Err(_) => None,
    }
}

fn text(number: u64, times: usize) -> String {
    format!("{number:016x}").repeat(times)
}

/// Writes the number of a block all over it.
pub(super) fn mark(block: &Block, number: u64) {
    (0..block.len() / 8).for_each(|index| at(block.as_ptr(), index, word(number, index)));
}

/// Whether a block has still what [`mark`] wrote: nobody else had it meanwhile.
pub(super) fn is_marked(block: &Block, number: u64) -> bool {
    (0..block.len() / 8).all(|index| look(block.as_ptr(), index) == word(number, index))
}

fn at(start: *mut u8, index: usize, value: u64) {
    atomic(start, index).store(value, Relaxed);
}

fn look(start: *mut u8, index: usize) -> u64 {
    atomic(start, index).load(Relaxed)
}

fn atomic<'a>(start: *mut u8, index: usize) -> &'a AtomicU64 {
    let place = start.cast::<u64>().wrapping_add(index);
    // SAFETY: `from_ptr` needs an aligned place that lives long enough and is used atomically only.
    // - where: callers stay within the length of a block or a region that they have, which begins
    //   at a multiple of 64, and use the reference at once.
    // - who: a process that has it by mistake, which is to be found, reads and writes by this too.
    // - what: any bits are an integer.
    unsafe { AtomicU64::from_ptr(place) }
}
