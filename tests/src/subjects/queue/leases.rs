//! The leases of a queue: a value is there until it is committed, and for one at a time; a death lets
//! somebody else have it, without anybody's help.
//!
//! The queue has room for one value, or was closed, or nothing is in it: so producers and consumers
//! sleep for what the victim does with its lease.

mod cases;

use std::cell::RefCell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manyhands_channel::queue::Lease;
use manyhands_channel::{GetError, Queue, TaskDoneError};

use super::{GRACE, bulk, comes_true};
use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};
use crate::subjects::family::{self, Letter};

const PEERS: usize = 2;

/// Which it is, and more bytes if it is to be a block.
type Value = (u64, String);

/// The value that is there at first, and those of the others.
const FIRST: u64 = 1;
const PEER: u64 = 2;
const NEWCOMER: u64 = 3;

/// What lies in the place beside the queue.
#[repr(C)]
struct Table {
    queue: Letter,
    /// Whether the victim's call has returned.
    returned: AtomicU64,
    /// How often each value was got by somebody who lives.
    got: [AtomicU64; 4],
    /// How many peers have finished.
    finished: AtomicU64,
}

// SAFETY: atomics only; zero is empty; nothing to drop.
unsafe impl Placed for Table {}

thread_local! {
    static QUEUE: RefCell<Option<Queue<Value>>> = const { RefCell::new(None) };
    static LEASE: RefCell<Option<Lease<Value>>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Lease,
    Get,
    Commit,
    GiveBack,
    ShutDown,
}

/// Where the first value is when the victim begins, but for scenes with a holder, who has leased it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    InQueue,
    CameBack,
    LeasedByVictim,
    LeasedByHolder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peers {
    Put,
    Get,
}

struct Case {
    operation: &'static str,
    scenes: &'static [Scene],
    act: Act,
    first: First,
    peers: Peers,
    is_closed: bool,
    /// Whether the values are too long for the queue itself.
    is_block: bool,
}

/// The subjects of this file.
pub(super) fn subjects() -> impl Iterator<Item = &'static dyn Subject> {
    cases::CASES.iter().map(|case| case as &dyn Subject)
}

impl Table {
    fn queue(&self) -> Queue<Value> {
        family::receive(&self.queue)
    }

    fn note(&self, (value, text): Value) {
        assert!(text.is_empty() || text == bulk(value, true));
        self.got[value as usize].fetch_add(1, Relaxed);
    }

    fn got(&self, value: u64) -> u64 {
        self.got[value as usize].load(Relaxed)
    }

    fn all_finish(&self) -> bool {
        comes_true(|| self.finished.load(Relaxed) == PEERS as u64)
    }
}

fn lease(queue: &Queue<Value>) {
    let lease = queue.lease().expect("a value comes");
    LEASE.set(Some(lease));
}

impl Case {
    fn queue(&self, items: usize) -> Queue<Value> {
        let queue = match self.is_block {
            false => Queue::bounded(items),
            true => Queue::builder().items(items).bytes(4096).build(),
        };
        queue.expect("the arena is large")
    }

    fn value(&self, value: u64) -> Value {
        (value, bulk(value, self.is_block))
    }

    /// Lets the peers come to their end. What they can do alone, they do without help.
    fn help(&self, table: &Table, queue: &Queue<Value>) -> bool {
        match self.peers {
            Peers::Put => {
                while table.got(PEER) < PEERS as u64 {
                    match queue.get_timeout(GRACE) {
                        Ok(value) => table.note(value),
                        Err(_) => return false,
                    }
                }
            }
            Peers::Get => {
                let is_due = matches!(self.act, Act::Lease | Act::GiveBack);
                if is_due && !comes_true(|| table.got(FIRST) == 1) {
                    return false;
                }
                if queue.is_closed() {
                    return table.all_finish();
                }
                (0..PEERS).for_each(|_| drop(queue.put(&self.value(NEWCOMER))));
            }
        }
        table.all_finish()
    }

    /// Whether the reports are those that are due: what survivors have got, and perhaps the victim.
    fn is_counted(&self, table: &Table, queue: &Queue<Value>) -> bool {
        while let Ok(value) = queue.try_get() {
            table.note(value);
        }
        // Looks for the dead, too.
        let is_joined = queue.try_join().is_ok();
        let got: u64 = (FIRST..=NEWCOMER).map(|value| table.got(value)).sum();
        let in_hand = queue.stats().in_hand;
        let more = u64::from(self.act == Act::Get && table.got(FIRST) == 0);
        if !(got..=got + more).contains(&(in_hand as u64)) || is_joined != (in_hand == 0) {
            return false;
        }
        let reported = (0..in_hand).all(|_| queue.task_done().is_ok());
        let too_many = matches!(queue.task_done(), Err(TaskDoneError::TooMany));
        reported && too_many && queue.try_join().is_ok() && queue.stats().leased == 0
    }
}

impl Subject for Case {
    fn object(&self) -> &'static str {
        "Queue leases"
    }

    fn operation(&self) -> &'static str {
        self.operation
    }

    fn scenes(&self) -> &'static [Scene] {
        self.scenes
    }

    fn peers(&self) -> usize {
        PEERS
    }

    /// Who waits goes through a thousand boundaries or more, each after all before it.
    fn stride(&self) -> u32 {
        if self.first == First::LeasedByHolder {
            return 13;
        }
        if self.is_block {
            return 17;
        }
        match self.act {
            Act::Lease | Act::Get => 5,
            Act::Commit | Act::GiveBack | Act::ShutDown => 1,
        }
    }

    fn has_host(&self) -> bool {
        true
    }

    fn invite(&self) {
        family::invite();
    }

    fn arrive(&self) {
        family::arrive();
    }

    fn set_up(&self, place: Place) {
        family::count();
        let queue = self.queue(1);
        queue.put(&self.value(FIRST)).expect("room");
        if self.first == First::CameBack {
            drop(queue.lease().expect("a value"));
        }
        if self.is_closed {
            queue.close();
        }
        family::send(&place.at::<Table>().queue, &queue);
    }

    fn audit(&self, _place: Place) -> Outcome {
        family::audit()
    }

    fn reset(&self, _place: Place) {
        family::open();
    }

    fn warm(&self, _spare: Place) {
        let queue = self.queue(2);
        queue
            .put_many(&[self.value(FIRST), self.value(FIRST)])
            .expect("room");
        drop(queue.lease().expect("a value"));
        let again = queue.lease().expect("it came back");
        assert!(again.commit().is_ok() && queue.get().is_ok());
        assert!(queue.try_lease().is_err() && queue.try_get().is_err());
        assert_eq!(queue.shutdown(), 0);
    }

    fn before(&self, place: Place) {
        let queue = place.at::<Table>().queue();
        if self.first == First::LeasedByVictim {
            lease(&queue);
        }
        QUEUE.set(Some(queue));
    }

    fn act(&self, place: Place) {
        QUEUE.with_borrow(|queue| {
            let queue = queue.as_ref().expect("made before");
            match self.act {
                Act::Lease => lease(queue),
                Act::Get => drop(queue.get().expect("a value comes")),
                Act::Commit => drop(LEASE.take().map(Lease::commit)),
                Act::GiveBack => drop(LEASE.take()),
                Act::ShutDown => drop(queue.shutdown()),
            }
        });
        place.at::<Table>().returned.store(1, Release);
    }

    fn peer(&self, place: Place) -> Outcome {
        let table: &Table = place.at();
        let queue = table.queue();
        let is_fine = match self.peers {
            Peers::Put => queue.put(&self.value(PEER)).is_ok(),
            Peers::Get => match queue.get() {
                Ok(value) => {
                    table.note(value);
                    true
                }
                Err(error) => matches!(error, GetError::Closed),
            },
        };
        table.finished.fetch_add(1, Relaxed);
        match is_fine {
            true => Outcome::Fine,
            false => Outcome::Refused,
        }
    }

    /// The newcomer looks whether it is.
    fn is_waiting_right(&self, _place: Place) -> bool {
        true
    }

    fn settle(&self, place: Place) -> Outcome {
        let table: &Table = place.at();
        let queue = table.queue();
        match self.help(table, &queue) && self.is_counted(table, &queue) {
            true => Outcome::Fine,
            false => Outcome::Lost,
        }
    }

    fn hold(&self, place: Place) {
        lease(&place.at::<Table>().queue());
    }

    fn release(&self, _place: Place) {
        LEASE.take();
    }

    fn check(&self, place: Place) -> Result<(), String> {
        let table: &Table = place.at();
        // Acquire: pairs with the Release store of the victim, which is dead.
        let returned = table.returned.load(Acquire) == 1;
        let may_be = match self.act {
            Act::Lease | Act::GiveBack => 1..=1,
            Act::Commit | Act::Get if returned => 0..=0,
            Act::Commit | Act::Get | Act::ShutDown => 0..=1,
        };
        let got = table.got(FIRST);
        match may_be.contains(&got) {
            true => Ok(()),
            false => Err(format!("got {got} times, returned: {returned}")),
        }
    }
}
