//! The arena of `manyhands-shm`: whatever the victim did, after the reaping each block is free or
//! has exactly the owner that it should have.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use manyhands_shm::{Block, Region, Seat, Shared, arena, handoff};

use super::family::{self, Letter};
use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};

/// What lies in the place beside the arena.
#[repr(C)]
struct Table {
    /// A block on its way.
    mailbox: AtomicU64,
    /// A region of the host's.
    region: Letter,
}

// SAFETY: atomics only; zero is empty; nothing to drop.
unsafe impl Placed for Table {}

/// What an actor keeps between two of its functions.
#[derive(Default)]
struct Kept {
    blocks: Vec<Block>,
    regions: Vec<Region>,
    parcel: Vec<u8>,
    seat: Option<Seat>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
    static OF_HOST: RefCell<Option<Region>> = const { RefCell::new(None) };
}

fn kept<R>(change: impl FnOnce(&mut Kept) -> R) -> R {
    KEPT.with_borrow_mut(change)
}

fn allocate(len: usize) -> Block {
    family::family().allocate(len).expect("the arena is large")
}

fn region(len: usize) -> Region {
    Region::new(len).expect("the arena is large")
}

/// One step of the arena. What it makes it forgets: the victim is about to die.
///
/// Blocks to be zeroed are short: each byte of a long string instruction would be a boundary.
struct Operation {
    object: &'static str,
    name: &'static str,
    is_long: bool,
    scenes: &'static [Scene],
    before: fn(&Table),
    act: fn(&Table),
    /// What the holder of scene g leaves behind.
    leave: fn(),
}

const NOTHING: fn(&Table) = |_| {};

const BLOCK: &str = "Arena block";
const REGION: &str = "Arena region";
const SEAT: &str = "Arena seat";

const COMMON: &[Scene] = &[Scene::Alone, Scene::Racing];

/// A block whose pages are given back when enough of its size are free.
const LARGE: usize = 2 << 20;

/// More than stays warm.
const TOO_LARGE: usize = 65 << 20;

static OPERATIONS: [Operation; 12] = [
    Operation {
        object: BLOCK,
        name: "allocate",
        is_long: false,
        scenes: COMMON,
        before: NOTHING,
        act: |_| std::mem::forget(allocate(100)),
        leave: || {},
    },
    Operation {
        object: BLOCK,
        name: "allocate 64 KiB",
        is_long: false,
        scenes: COMMON,
        before: NOTHING,
        act: |_| std::mem::forget(allocate(64 << 10)),
        leave: || {},
    },
    Operation {
        object: BLOCK,
        name: "free",
        is_long: false,
        scenes: COMMON,
        before: |_| kept(|kept| kept.blocks.push(allocate(100))),
        act: |_| kept(|kept| kept.blocks.clear()),
        leave: || {},
    },
    Operation {
        object: BLOCK,
        name: "allocate 2 MiB",
        is_long: false,
        scenes: COMMON,
        // One is free and warm, and others are in use.
        before: |_| {
            kept(|kept| kept.blocks.extend([LARGE, LARGE].map(allocate)));
            drop(allocate(LARGE));
        },
        act: |_| std::mem::forget(allocate(LARGE)),
        leave: || {},
    },
    Operation {
        object: BLOCK,
        name: "free 65 MiB",
        is_long: false,
        scenes: COMMON,
        before: |_| kept(|kept| kept.blocks.push(allocate(TOO_LARGE))),
        act: |_| kept(|kept| kept.blocks.clear()),
        leave: || {},
    },
    Operation {
        object: BLOCK,
        name: "give",
        is_long: false,
        scenes: COMMON,
        before: |_| kept(|kept| kept.blocks.push(allocate(100))),
        act: |table| {
            let block = kept(|kept| kept.blocks.pop()).expect("kept before");
            block
                .give(family::host(), &table.mailbox)
                .expect("the host lives");
        },
        leave: || {},
    },
    Operation {
        object: BLOCK,
        name: "accept",
        is_long: false,
        scenes: COMMON,
        before: |table| {
            allocate(100)
                .give(family::me(), &table.mailbox)
                .expect("alive")
        },
        act: |table| {
            let block = Block::accept(table.mailbox.load(Acquire)).expect("given before");
            std::mem::forget(block);
        },
        leave: || {},
    },
    Operation {
        object: REGION,
        name: "new",
        is_long: false,
        scenes: COMMON,
        before: NOTHING,
        act: |_| std::mem::forget(region(200)),
        leave: || {},
    },
    Operation {
        object: REGION,
        name: "drop",
        is_long: false,
        scenes: COMMON,
        before: |_| kept(|kept| kept.regions.push(region(200))),
        act: |_| kept(|kept| kept.regions.clear()),
        leave: || {},
    },
    Operation {
        object: REGION,
        name: "unpack, drop",
        is_long: false,
        scenes: COMMON,
        before: |table| kept(|kept| kept.parcel = table.region.read()),
        act: |_| {
            let region = kept(|kept| handoff::unpack::<Region>(&kept.parcel));
            drop(region.expect("the host lives"));
        },
        leave: || {},
    },
    Operation {
        object: SEAT,
        name: "release_seat",
        is_long: true,
        scenes: COMMON,
        before: |table| {
            let seat = family::family().reserve_seat().expect("there are seats");
            allocate(100)
                .give(seat.participant(), &table.mailbox)
                .expect("not ended");
            let region = region(100);
            region.hold_for(seat.participant()).expect("not ended");
            kept(|kept| kept.seat = Some(seat));
        },
        act: |_| {
            let seat = kept(|kept| kept.seat.take()).expect("kept before");
            family::family().release_seat(seat);
        },
        leave: || {},
    },
    Operation {
        object: SEAT,
        name: "reap_dead",
        is_long: true,
        scenes: &[Scene::Heir],
        before: NOTHING,
        act: |_| {
            family::family().reap_dead();
        },
        leave: || {
            kept(|kept| {
                kept.blocks.push(allocate(100));
                kept.regions.push(region(100));
                kept.seat = family::family().reserve_seat().ok();
            });
        },
    },
];

/// The victim joins the family.
struct Join;

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    let operations = OPERATIONS.iter().map(|operation| operation as &dyn Subject);
    operations.chain([&Join as &dyn Subject]).collect()
}

fn set_up(place: Place) {
    family::count();
    let region = region(200);
    family::send(&place.at::<Table>().region, &region);
    OF_HOST.set(Some(region));
}

/// Takes some of each kind, sees that none is there twice, and gives them back.
fn use_arena() -> Outcome {
    let blocks: Vec<Block> = [100, 100, 100, 64 << 10, LARGE, LARGE]
        .into_iter()
        .map(allocate)
        .collect();
    let regions: Vec<Region> = [200, 200, 100].into_iter().map(region).collect();
    let mut handles: HashSet<u64> = blocks
        .iter()
        .map(|block| block.handle().to_bits())
        .collect();
    handles.extend(regions.iter().map(|region| region.handle().to_bits()));
    let shared = Shared::new(7_u64).expect("the arena is large");
    if handles.len() != blocks.len() + regions.len() || *shared != 7 {
        return Outcome::Lost;
    }
    // What two owners have, two owners write.
    let mark = family::me().to_bits();
    let words: Vec<&AtomicU64> = blocks.iter().map(|block| word_of(block.as_ptr())).collect();
    words.iter().for_each(|word| word.store(mark, Relaxed));
    let is_ours = words.iter().all(|word| word.load(Relaxed) == mark);
    if is_ours {
        Outcome::Fine
    } else {
        Outcome::TwoOwners
    }
}

fn word_of<'a>(bytes: *mut u8) -> &'a AtomicU64 {
    // SAFETY: an atomic reference to the first eight bytes of a block.
    // - where: blocks are 64-byte aligned, have at least 64 bytes, and are mapped for ever.
    // - who: this process owns the block; if another one believes so too, atomics make it visible.
    // - what: any bytes are a `u64`.
    unsafe { AtomicU64::from_ptr(bytes.cast()) }
}

fn audit(place: Place) -> Outcome {
    let table: &Table = place.at();
    // Whether the victim came so far as to give the block or not: the mailbox must not lie.
    drop(Block::accept(table.mailbox.load(Acquire)));
    OF_HOST.set(None);
    family::audit()
}

impl Subject for Operation {
    fn object(&self) -> &'static str {
        self.object
    }

    fn operation(&self) -> &'static str {
        self.name
    }

    fn scenes(&self) -> &'static [Scene] {
        self.scenes
    }

    fn is_long(&self) -> bool {
        self.is_long
    }

    fn shared_file(&self) -> Option<File> {
        family::file()
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
        set_up(place);
    }

    fn audit(&self, place: Place) -> Outcome {
        audit(place)
    }

    fn reset(&self, _place: Place) {
        family::open();
    }

    fn before(&self, place: Place) {
        (self.before)(place.at());
    }

    fn act(&self, place: Place) {
        (self.act)(place.at());
    }

    fn peer(&self, _place: Place) -> Outcome {
        use_arena()
    }

    fn hold(&self, _place: Place) {
        (self.leave)();
    }
}

impl Subject for Join {
    fn object(&self) -> &'static str {
        SEAT
    }

    fn operation(&self) -> &'static str {
        "join"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::Alone]
    }

    fn is_long(&self) -> bool {
        true
    }

    fn shared_file(&self) -> Option<File> {
        family::file()
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

    fn victim_arrives(&self) -> bool {
        false
    }

    fn set_up(&self, place: Place) {
        set_up(place);
    }

    fn audit(&self, place: Place) -> Outcome {
        audit(place)
    }

    fn reset(&self, _place: Place) {
        family::open();
    }

    fn act(&self, _place: Place) {
        let (arena, seat) = family::invitation();
        drop(arena::join(arena, seat));
    }

    fn peer(&self, _place: Place) -> Outcome {
        use_arena()
    }
}
