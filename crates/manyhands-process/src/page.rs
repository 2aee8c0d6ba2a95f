//! The page that a process shares with its child: all that both tell each other.
//!
//! It is there before the child, and waits with it for an order. Each word has one writer. The region is
//! held by both, so whoever dies first leaves it to the other; zeroed memory is a page of a child that
//! has not come yet, and has no order.

use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use manyhands_os::Deadline;
use manyhands_os::fault::FaultNote;
use manyhands_os::futex::{self, Scope, Wake, Watch};
use manyhands_shm::arena::{Block, GiveError, Participant};
use manyhands_shm::{NoSpace, Region};

use crate::panics::Panic;

/// The shared words.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Words {
    /// Written by the child: how far it has come, as a [`Stage`]. A futex.
    stage: AtomicU32,
    /// Written by the parent: whether there is an order. A futex.
    call: AtomicU32,
    /// The block with the order's bytes.
    order: AtomicU64,
    /// Written by the child: whether the report is there. A futex.
    report: AtomicU32,
    /// Written by the child before `report`: what kind of report.
    kind: AtomicU32,
    /// Written by the parent: whether the report was taken. A futex.
    parent: AtomicU32,
    /// Written by the parent before it sends an interrupt, which is nothing without.
    pub(crate) interrupt: AtomicU32,
    /// The block with the report's bytes.
    mailbox: AtomicU64,
    /// The length of a result that found no space.
    len: AtomicU64,
    /// Written by the child: how many events of its logs found no room.
    pub(crate) lost_logs: AtomicU64,
    pub(crate) fault: FaultNote,
    pub(crate) panic: PanicNote,
}

/// How far a child has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It has not sat down yet.
    Coming,
    /// It sits, and waits for its order or looks at it.
    Seated,
    /// It has its order, and the descriptors that come with it.
    Ordered,
    /// It has its arguments.
    Running,
}

/// The parent has given an order.
const ORDERED: u32 = 1;
/// The parent needs this child no more.
const CANCELLED: u32 = 2;

const REPORTED: u32 = 1;

const KIND_VALUE: u32 = 1;
const KIND_PANIC: u32 = 2;
const KIND_UNENCODABLE: u32 = 3;
const KIND_NO_SPACE: u32 = 4;
const KIND_REFUSED: u32 = 5;

/// The parent has unpacked the report, or nobody ever will.
const TAKEN: u32 = 1;

/// What a child reports, by the bytes that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The encoded value.
    Value,
    /// An encoded [`Panic`].
    Panic,
    /// The encoder's words.
    Unencodable,
    /// No bytes, only their number.
    NoSpace { len: u64 },
    /// Why it did not get as far as its function, encoded.
    Refused,
}

/// A page, and the region that it lies in.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    region: Region,
}

impl Page {
    /// Makes a page.
    pub(crate) fn new() -> Result<Self, NoSpace> {
        let region = Region::new(size_of::<Words>())?;
        Ok(Self { region })
    }

    /// The page in a region that came from the parent; `None` if it is too short for one.
    pub(crate) fn attach(region: Region) -> Option<Self> {
        (region.len() >= size_of::<Words>()).then_some(Self { region })
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn words(&self) -> &Words {
        // SAFETY: makes a shared reference.
        // - where: a region is mapped for ever, aligned to 64, and not given to others while
        //   `self.region` holds it; its length was checked by the constructors.
        // - who: the words are atomics, all access goes through them.
        // - what: any bits are valid for integers.
        unsafe { &*self.region.as_ptr().cast::<Words>() }
    }

    /// Keeps the page for the whole life of this process.
    pub(crate) fn leak(self) -> &'static Self {
        Box::leak(Box::new(self))
    }
}

/// The parent's side.
impl Words {
    /// Gives the child its order. It may not have come yet.
    ///
    /// # Errors
    ///
    /// When the child is known to be dead.
    pub(crate) fn give_order(&self, order: Block, child: Participant) -> Result<(), GiveError> {
        order.give(child, &self.order)?;
        self.call(ORDERED);
        Ok(())
    }

    /// Has the child leave that has no order.
    pub(crate) fn cancel(&self) {
        self.call(CANCELLED);
    }

    fn call(&self, call: u32) {
        // Release: pairs with the Acquire in `wait_order`; the order was given before.
        self.call.store(call, Release);
        futex::wake_all(&self.call, Scope::Shared);
    }

    /// How far the child has come.
    pub(crate) fn stage(&self) -> Stage {
        // Acquire: pairs with the Release in `come`; what the child did before is seen.
        match self.stage.load(Acquire) {
            0 => Stage::Coming,
            1 => Stage::Seated,
            2 => Stage::Ordered,
            _ => Stage::Running,
        }
    }

    /// What to wait for until the child has come further than this.
    pub(crate) fn watch_stage(&self, stage: Stage) -> Watch<'_> {
        Watch {
            word: &self.stage,
            expected: stage as u32,
            scope: Scope::Shared,
        }
    }

    pub(crate) fn take(&self) {
        // Release: pairs with the Acquire loads in `wait_taken`.
        self.parent.store(TAKEN, Release);
        futex::wake_all(&self.parent, Scope::Shared);
    }

    /// Says that the interrupt which comes next is the parent's.
    pub(crate) fn interrupt(&self) {
        // Release: pairs with the Acquire load in the child's handler.
        self.interrupt.store(1, Release);
    }

    /// The report, once it is there.
    pub(crate) fn reported(&self) -> Option<Kind> {
        // Acquire: pairs with the Release store in `tell`; what is read below came before.
        if self.report.load(Acquire) != REPORTED {
            return None;
        }
        // Relaxed: published by the store above.
        Some(match self.kind.load(Relaxed) {
            KIND_VALUE => Kind::Value,
            KIND_PANIC => Kind::Panic,
            KIND_UNENCODABLE => Kind::Unencodable,
            KIND_REFUSED => Kind::Refused,
            _ => Kind::NoSpace {
                len: self.len.load(Relaxed),
            },
        })
    }

    /// The block of the report.
    pub(crate) fn accept(&self) -> Option<Block> {
        // Acquire: pairs with the Release of `Block::give`.
        Block::accept(self.mailbox.load(Acquire))
    }

    /// What to wait for until the report is there.
    pub(crate) fn watch(&self) -> Watch<'_> {
        Watch {
            word: &self.report,
            expected: 0,
            scope: Scope::Shared,
        }
    }
}

/// The child's side.
impl Words {
    /// Tells how far this process has come.
    pub(crate) fn come(&self, stage: Stage) {
        self.pass(stage);
        futex::wake_all(&self.stage, Scope::Shared);
    }

    /// As [`come`](Self::come), without waking who waits for what comes later.
    pub(crate) fn pass(&self, stage: Stage) {
        // Release: pairs with the Acquire in `stage`.
        self.stage.store(stage as u32, Release);
    }

    /// Waits for the order; `None` when there will be none. Without a deadline: a parent that dies takes
    /// the child along.
    pub(crate) fn wait_order(&self) -> Option<Block> {
        loop {
            // Acquire: pairs with the Release in `call`.
            match self.call.load(Acquire) {
                0 => {}
                // Relaxed: the handle was written before the call.
                ORDERED => return Block::accept(self.order.load(Relaxed)),
                _ => return None,
            }
            match futex::wait(&self.call, 0, Scope::Shared, Deadline::NEVER) {
                Wake::Woken | Wake::Changed | Wake::TimedOut => {}
            }
        }
    }

    /// Without a deadline: a parent that dies takes the child along.
    pub(crate) fn wait_taken(&self) {
        // Acquire: pairs with the Release in `take`.
        while self.parent.load(Acquire) != TAKEN {
            match futex::wait(&self.parent, 0, Scope::Shared, Deadline::NEVER) {
                Wake::Woken | Wake::Changed | Wake::TimedOut => {}
            }
        }
    }

    /// Gives a block to the parent and tells what it is.
    pub(crate) fn report(
        &self,
        kind: Kind,
        block: Block,
        parent: Participant,
    ) -> Result<(), GiveError> {
        block.give(parent, &self.mailbox)?;
        self.tell(kind);
        Ok(())
    }

    pub(crate) fn tell(&self, kind: Kind) {
        let number = match kind {
            Kind::Value => KIND_VALUE,
            Kind::Panic => KIND_PANIC,
            Kind::Unencodable => KIND_UNENCODABLE,
            Kind::Refused => KIND_REFUSED,
            Kind::NoSpace { len } => {
                // Relaxed: published by the store of `report`.
                self.len.store(len, Relaxed);
                KIND_NO_SPACE
            }
        };
        self.kind.store(number, Relaxed);
        // Release: pairs with the Acquire load in `reported`.
        self.report.store(REPORTED, Release);
        futex::wake_all(&self.report, Scope::Shared);
    }
}

/// Writes these one behind the other, from the beginning of a block.
pub(crate) fn copy_into(block: &Block, parts: &[&[u8]]) {
    let mut at = 0;
    for part in parts {
        assert!(
            block.len() - at >= part.len(),
            "the block was made for them"
        );
        // SAFETY: copies `part.len()` bytes.
        // - where: to a block, which is mapped for ever and long enough, as asserted.
        // - who: a block belongs to one process, which is this one; nobody else has its handle yet.
        // - what: bytes.
        unsafe {
            ptr::copy_nonoverlapping(part.as_ptr(), block.as_ptr().wrapping_add(at), part.len());
        }
        at += part.len();
    }
}

/// A private copy of a block's bytes: decoding never reads what others could still write.
pub(crate) fn bytes_of(block: &Block) -> Vec<u8> {
    let mut bytes = vec![0; block.len()];
    // SAFETY: copies `len` bytes.
    // - where: from a block, which is mapped for ever and `len` bytes long.
    // - who: the block was accepted, so this process alone has it.
    // - what: bytes.
    unsafe {
        ptr::copy_nonoverlapping(block.as_ptr(), bytes.as_mut_ptr(), bytes.len());
    }
    bytes
}

const MESSAGE: usize = 1024;
const LOCATION: usize = 256;
const THREAD: usize = 64;

/// The last panic of a process, for the case that it dies of it. Longer texts are cut.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct PanicNote {
    state: AtomicU32,
    message_len: AtomicU32,
    location_len: AtomicU32,
    thread_len: AtomicU32,
    message: [AtomicU8; MESSAGE],
    location: [AtomicU8; LOCATION],
    thread: [AtomicU8; THREAD],
}

const NOTE_EMPTY: u32 = 0;
const NOTE_BUSY: u32 = 1;
const NOTE_WRITTEN: u32 = 2;

impl PanicNote {
    /// Writes a panic over the last one; of two threads that panic at once, one does.
    pub(crate) fn write(&self, panic: &Panic) {
        // Acquire: keeps the writes below behind this step; the other side is the Release below.
        if self.state.swap(NOTE_BUSY, Acquire) == NOTE_BUSY {
            return;
        }
        write_text(&self.message, &self.message_len, &panic.message);
        let location = panic.location.as_deref().unwrap_or("");
        write_text(&self.location, &self.location_len, location);
        write_text(&self.thread, &self.thread_len, &panic.thread);
        // Release: pairs with the Acquire load in `read`.
        self.state.store(NOTE_WRITTEN, Release);
    }

    /// The last panic of a process that has ended.
    pub(crate) fn read(&self) -> Panic {
        // Acquire: pairs with the Release store in `write`.
        if self.state.load(Acquire) == NOTE_EMPTY {
            return Panic::lost();
        }
        let location = read_text(&self.location, &self.location_len);
        Panic {
            message: read_text(&self.message, &self.message_len),
            location: (!location.is_empty()).then_some(location),
            thread: read_text(&self.thread, &self.thread_len),
            backtrace: None,
        }
    }
}

fn write_text(place: &[AtomicU8], len: &AtomicU32, text: &str) {
    let cut = text.floor_char_boundary(place.len());
    for (cell, byte) in place.iter().zip(text[..cut].bytes()) {
        // Relaxed: the note's state publishes it.
        cell.store(byte, Relaxed);
    }
    len.store(cut as u32, Relaxed);
}

fn read_text(place: &[AtomicU8], len: &AtomicU32) -> String {
    // Relaxed: the note's state was read with Acquire.
    let len = len.load(Relaxed) as usize;
    let bytes: Vec<u8> = place
        .iter()
        .take(len)
        .map(|cell| cell.load(Relaxed))
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use manyhands_shm::arena;

    use super::*;

    #[test]
    fn order_comes_as_it_was_given() {
        let page = Page::new().expect("space");
        let arena = arena::family().expect("an arena");
        let order = arena.allocate(3).expect("space");
        copy_into(&order, &[b"y", b"", b"es"]);
        let given = page.words().give_order(order, arena.me());
        given.expect("this process lives");
        let other = Page::attach(page.region().clone()).expect("long enough");
        let came = other.words().wait_order().expect("an order");
        assert_eq!(bytes_of(&came), b"yes");
        assert!(Page::attach(Region::new(8).expect("space")).is_none());
    }

    #[test]
    fn child_that_is_not_needed_learns_it() {
        let page = Page::new().expect("space");
        page.words().cancel();
        assert!(page.words().wait_order().is_none());
    }

    #[test]
    fn stages_follow_each_other() {
        let page = Page::new().expect("space");
        let words = page.words();
        let mut last = words.stage();
        assert_eq!(last, Stage::Coming);
        for stage in [Stage::Seated, Stage::Ordered, Stage::Running] {
            assert_eq!(words.watch_stage(last).expected, last as u32);
            words.come(stage);
            assert!(words.stage() == stage && stage > last);
            last = stage;
        }
    }

    #[test]
    fn panic_note_keeps_the_last_panic_and_cuts_long_texts() {
        let page = Page::new().expect("space");
        let note = &page.words().panic;
        let mut panic = Panic {
            message: "\u{e9}".repeat(MESSAGE),
            location: Some("a.rs:1:2".into()),
            thread: "worker".into(),
            backtrace: None,
        };
        note.write(&panic);
        let read = note.read();
        assert_eq!(read.message, "\u{e9}".repeat(MESSAGE / 2));
        assert_eq!(read.location, panic.location);
        panic.location = None;
        panic.message = "short".into();
        note.write(&panic);
        assert_eq!(note.read(), panic);
    }

    #[test]
    fn report_is_there_after_it_was_told() {
        let page = Page::new().expect("space");
        assert_eq!(page.words().reported(), None);
        page.words().tell(Kind::NoSpace { len: 7 });
        assert_eq!(page.words().reported(), Some(Kind::NoSpace { len: 7 }));
        page.words().take();
        page.words().wait_taken();
    }
}
