//! The queue of `manyhands-channel`: a value is there as a whole or not at all, once, and nobody who
//! waits is forgotten.
//!
//! There is always room for, or always somebody who takes, all that survivors put: so each of them
//! gets on, with the newcomer's help, whether or not the victim came to its end. But before it helps,
//! the newcomer looks whether they did what they could without it: a value that lies in the queue
//! while somebody sleeps for one is a wake-up that was lost.

mod cases;
mod leases;
mod tasks;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use manyhands_channel::{GetError, Pipe, PutError, Queue, Sender, wait, wait_timeout};
use manyhands_shm::Region;
use manyhands_sync::Event;
use serde::{Deserialize, Serialize};

use super::family::{self, Letter};
use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};

const PEERS: usize = 2;

/// How long survivors get for what they must do without help.
const GRACE: Duration = Duration::from_secs(2);

/// Who has put a value; its bytes tell whether it is whole.
const VICTIM: u8 = 0;
const PEER: u8 = 1;
const HOLDER: u8 = 2;
const NEWCOMER: u8 = 3;

/// With more bytes than its queue has room for, it is a block. A text, since that is encoded in few
/// instructions.
type Value = ([u8; 24], Extra, String);

/// What a message has to keep alive on its way.
#[derive(Serialize, Deserialize)]
enum Extra {
    Nothing,
    /// Makes the message a block that holds it.
    Region(Region),
    /// Its sender keeps it; it is unpacked in front of the queue.
    End(Box<Sender<u8>>),
}

/// An eighth of the bytes of a small queue is less.
const BULK: usize = 600;

/// What lies in the place beside the queue.
#[repr(C)]
struct Table {
    queue: Letter,
    /// Whether the victim's call has returned.
    returned: AtomicU64,
    /// How often a value of each was taken by somebody who lives.
    taken: [AtomicU64; 4],
    /// How many peers have finished.
    finished: AtomicU64,
}

// SAFETY: atomics only; zero is empty; nothing to drop.
unsafe impl Placed for Table {}

thread_local! {
    static QUEUE: RefCell<Option<Queue<Value>>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Put,
    Get,
    PutTwo,
    GetTwo,
    Close,
    /// Waits for the queue among other things, and looks.
    Select,
}

/// What is in the values beside a few bytes: in those that the host puts, and as a block in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Nothing,
    Region,
    /// The host keeps it until it is taken.
    End,
    Block,
    /// The same, and the victim is killed at each instruction: at a few of them only, its block lies in the
    /// queue and its message does not.
    BlockDense,
    BlockWithEnd,
}

struct Case {
    operation: &'static str,
    scenes: &'static [Scene],
    act: Act,
    peers: Act,
    /// The most values; `full` is whether as many are there at first.
    items: usize,
    full: bool,
    load: Load,
}

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    let cases = cases::CASES.iter().map(|case| case as &dyn Subject);
    cases
        .chain(tasks::subjects())
        .chain(leases::subjects())
        .collect()
}

fn bytes(who: u8) -> [u8; 24] {
    let mut bytes = [17 * who; 24];
    bytes[0] = who;
    bytes
}

/// What makes a value a block, if it is to be one.
fn bulk(number: u64, is_block: bool) -> String {
    let length = if is_block { BULK } else { 0 };
    number.to_string().repeat(length)
}

fn two(who: u8) -> [Value; 2] {
    [(); 2].map(|()| (bytes(who), Extra::Nothing, String::new()))
}

impl Table {
    fn queue(&self) -> Queue<Value> {
        family::receive(&self.queue)
    }

    /// Takes note of a value that was taken; whose it is, if it is whole.
    fn note(&self, (taken, _extra, bulk): &Value) -> Option<u8> {
        let who = taken[0];
        let is_whole = *taken == bytes(who) && bulk.bytes().all(|byte| byte == b'0' + who);
        let counter = self.taken.get(usize::from(who)).filter(|_| is_whole)?;
        counter.fetch_add(1, Relaxed);
        Some(who)
    }

    fn taken(&self, who: u8) -> u64 {
        self.taken[usize::from(who)].load(Relaxed)
    }
}

/// Gets as who waits for other things too.
fn select(queue: &Queue<Value>) -> Result<Value, GetError> {
    let other = Arc::new(Event::new());
    loop {
        assert_eq!(wait(&[&other, queue]).expect("words only"), [1]);
        match queue.try_get() {
            Err(GetError::Empty) => {}
            outcome => return outcome,
        }
    }
}

/// Waits until others have made the queue hold so many values.
fn comes_to(queue: &Queue<Value>, len: usize) -> bool {
    comes_true(|| queue.len() == len)
}

fn comes_true(what: impl Fn() -> bool) -> bool {
    let end = Instant::now() + GRACE;
    while !what() {
        if Instant::now() > end {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// Lets this process look through what it keeps for values that were not taken yet, which it does
/// when it puts others with handles.
fn let_go() {
    let queue = Queue::<Region>::new().expect("the arena is large");
    for _ in 0..3 {
        let region = Region::new(64).expect("the arena is large");
        queue.put(&region).expect("it is open");
        assert!(queue.get().is_ok());
    }
}

impl Case {
    /// How many values are there at first.
    fn first(&self) -> usize {
        if self.full { self.items } else { 0 }
    }

    fn queue(&self, items: usize) -> Queue<Value> {
        let queue = match self.load {
            Load::Nothing | Load::Region | Load::End => Queue::bounded(items),
            Load::Block | Load::BlockDense | Load::BlockWithEnd => {
                Queue::builder().items(items).bytes(4096).build()
            }
        };
        queue.expect("the arena is large")
    }

    fn value(&self, who: u8) -> Value {
        let bulk = bulk(who.into(), self.is_block());
        let extra = match self.load {
            // Survivors would keep theirs until they put again.
            Load::Region if matches!(who, VICTIM | HOLDER) => {
                Extra::Region(Region::new(64).expect("the arena is large"))
            }
            Load::End | Load::BlockWithEnd if who == HOLDER => {
                let (sender, _) = Pipe::simplex().expect("the arena is large");
                Extra::End(Box::new(sender))
            }
            _ => Extra::Nothing,
        };
        (bytes(who), extra, bulk)
    }

    fn is_block(&self) -> bool {
        matches!(
            self.load,
            Load::Block | Load::BlockDense | Load::BlockWithEnd
        )
    }

    /// Whether as many blocks lie in queues as there are values in this one: whoever puts takes back the block of
    /// one who was killed before its message was there.
    fn has_its_blocks(&self, queue: &Queue<Value>) -> bool {
        let deposited = || -> u64 {
            let classes = family::family().stats().classes;
            classes.iter().map(|class| class.deposited).sum()
        };
        !self.is_block() || comes_true(|| deposited() == queue.len() as u64)
    }

    fn has_end(&self) -> bool {
        matches!(self.load, Load::End | Load::BlockWithEnd)
    }

    fn put(&self, queue: &Queue<Value>, who: u8) {
        queue.put(&self.value(who)).expect("it is open");
    }

    fn get(&self, queue: &Queue<Value>) -> Result<Value, GetError> {
        match self.peers {
            Act::Select => select(queue),
            _ => queue.get(),
        }
    }

    /// Gets until `enough`, which is looked at after each value.
    fn get_until(
        &self,
        table: &Table,
        queue: &Queue<Value>,
        enough: impl Fn(u8) -> bool,
    ) -> Outcome {
        loop {
            match queue.get_timeout(GRACE).map(|value| table.note(&value)) {
                Ok(Some(who)) if enough(who) => return Outcome::Fine,
                Ok(Some(_)) => {}
                Ok(None) => return Outcome::Unflagged,
                // The victim has died with the end.
                Err(GetError::Undecodable(_)) if self.has_end() => {}
                Err(_) => return Outcome::Lost,
            }
        }
    }

    /// What the newcomer does for consumers that wait.
    fn feed(&self, table: &Table, queue: &Queue<Value>) -> Outcome {
        if !comes_to(queue, 0) {
            return Outcome::Lost;
        }
        (0..=PEERS).for_each(|_| self.put(queue, NEWCOMER));
        match self.get_until(table, queue, |_| true) {
            Outcome::Fine if !self.has_its_blocks(queue) => Outcome::Lost,
            outcome => outcome,
        }
    }

    /// What the newcomer does for producers that wait.
    fn drain(&self, table: &Table, queue: &Queue<Value>) -> Outcome {
        if table.taken(PEER) == 0 && !comes_to(queue, self.items) {
            return Outcome::Lost;
        }
        self.get_until(table, queue, |_| table.taken(PEER) == PEERS as u64)
    }
}

impl Subject for Case {
    fn object(&self) -> &'static str {
        "Queue"
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

    /// Much of it is encoding, which is the same wherever it stops; to begin anew with ends of pipes takes
    /// a hundred times as long.
    fn stride(&self) -> u32 {
        match self.act {
            _ if self.load == Load::BlockDense => 1,
            _ if self.has_end() => 97,
            _ if self.load == Load::Region => 61,
            _ if self.load != Load::Nothing => 29,
            // Waits through five thousand.
            Act::Select => 13,
            _ => 5,
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
        let queue = self.queue(self.items);
        (0..self.first()).for_each(|_| self.put(&queue, HOLDER));
        family::send(&place.at::<Table>().queue, &queue);
    }

    fn audit(&self, _place: Place) -> Outcome {
        if self.has_end() || self.load == Load::Region {
            let_go();
        }
        family::audit()
    }

    fn reset(&self, _place: Place) {
        family::open();
    }

    fn warm(&self, _spare: Place) {
        let queue = self.queue(1);
        self.put(&queue, VICTIM);
        assert!(queue.try_put(&self.value(VICTIM)).is_err());
        assert!(queue.get().is_ok());
        assert!(queue.try_get().is_err());
        assert!(queue.try_put_many(&two(VICTIM)).is_err());
        assert!(queue.get_many(2).is_ok_and(|values| values.len() == 1));
        self.put(&queue, VICTIM);
        assert!(select(&queue).is_ok());
        assert!(wait_timeout(&[&queue], Duration::from_micros(1)).is_ok());
        queue.close();
    }

    fn before(&self, place: Place) {
        QUEUE.set(Some(place.at::<Table>().queue()));
    }

    fn act(&self, place: Place) {
        QUEUE.with_borrow(|queue| {
            let queue = queue.as_ref().expect("made before");
            match self.act {
                Act::Put => self.put(queue, VICTIM),
                Act::Get => drop(queue.get().expect("a value comes")),
                Act::PutTwo => queue.put_many(&two(VICTIM)).expect("it is open"),
                Act::GetTwo => drop(queue.get_many(2).expect("two are there")),
                Act::Close => queue.close(),
                Act::Select => drop(select(queue).expect("a value comes")),
            }
        });
        place.at::<Table>().returned.store(1, Release);
    }

    fn peer(&self, place: Place) -> Outcome {
        let table: &Table = place.at();
        let queue = table.queue();
        let closes = self.act == Act::Close;
        let outcome = match self.peers {
            Act::Get | Act::Select => match self.get(&queue) {
                Ok(value) if table.note(&value).is_some() => Outcome::Fine,
                Ok(_) => Outcome::Unflagged,
                Err(GetError::Closed) if closes => Outcome::OwnerDied,
                Err(_) => Outcome::Refused,
            },
            Act::Put => match queue.put(&self.value(PEER)) {
                Ok(()) => Outcome::Fine,
                Err(PutError::Closed) if closes => Outcome::OwnerDied,
                Err(_) => Outcome::Refused,
            },
            Act::PutTwo | Act::GetTwo | Act::Close => Outcome::Refused,
        };
        table.finished.fetch_add(1, Relaxed);
        outcome
    }

    /// The newcomer looks whether it is.
    fn is_waiting_right(&self, _place: Place) -> bool {
        true
    }

    fn settle(&self, place: Place) -> Outcome {
        let table: &Table = place.at();
        let queue = table.queue();
        match (self.act, self.peers) {
            (Act::Close, _) => {
                // Of a queue that is closed all are told, without help.
                let all = || table.finished.load(Relaxed) == PEERS as u64;
                if queue.is_closed() && !comes_true(all) {
                    return Outcome::Lost;
                }
                queue.close();
                let is_full = queue.put(&self.value(NEWCOMER)).is_err();
                match queue.shutdown() <= 1 && is_full {
                    true => Outcome::Fine,
                    false => Outcome::Refused,
                }
            }
            (_, Act::Put) => self.drain(table, &queue),
            (..) => self.feed(table, &queue),
        }
    }

    fn hold(&self, place: Place) {
        if self.act == Act::Put {
            self.put(&place.at::<Table>().queue(), HOLDER);
        }
    }

    fn release(&self, place: Place) {
        let table: &Table = place.at();
        match self.act {
            Act::Put => drop(table.queue().get().expect("one is there")),
            _ => self.put(&table.queue(), HOLDER),
        }
    }

    fn rob(&self, place: Place) {
        let table: &Table = place.at();
        match self.act {
            Act::Put => self.put(&table.queue(), HOLDER),
            _ => drop(table.queue().get().expect("one is there")),
        }
    }

    fn end_robbery(&self, place: Place) {
        self.release(place);
    }

    fn check(&self, place: Place) -> Result<(), String> {
        let table: &Table = place.at();
        let all = [VICTIM, PEER, HOLDER, NEWCOMER].map(|who| table.taken(who));
        // Acquire: pairs with the Release store of the victim, which is dead.
        let returned = table.returned.load(Acquire);
        let many = match self.act {
            Act::PutTwo => 2,
            _ => 1,
        };
        let puts = matches!(self.act, Act::Put | Act::PutTwo);
        let is_lost = puts && all[0] < many * returned;
        // What is put at once comes as a whole, and what is taken at once goes as a whole.
        let is_parted = many == 2 && all[0] == 1 || self.act == Act::GetTwo && all[2] == 1;
        let is_lost = is_lost || is_parted;
        let first = self.first().max(1) as u64;
        let is_doubled = all[0] > many || all[1] > PEERS as u64 || all[2] > first;
        match is_lost || is_doubled {
            true => Err(format!("taken: {all:?}, returned: {returned}")),
            false => Ok(()),
        }
    }
}
