//! Real processes that share an arena and are killed with `SIGKILL` at any point.
//!
//! This program starts itself again as its children; they get the arena as their standard input.
#![allow(
    unsafe_code,
    reason = "the processes check raw blocks and regions by hand"
)]

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manyhands_os::Deadline;
use manyhands_shm::arena::{self, Arena, Block, Participant, Seat};
use manyhands_shm::{Region, Shared, handoff};
use manyhands_sync::{Lock, LockError};

use common::{hex, variable};

const SEAT: &str = "MANYHANDS_TEST_SEAT";
const PARCEL: &str = "MANYHANDS_TEST_PARCEL";
const HANDS: usize = 4;
/// How many, unless the environment variable `MANYHANDS_TEST_KILLS` says.
const KILLS: usize = 60;
/// The exit code of a child that could not join.
const REFUSED: i32 = 3;

/// The tests take turns: they share one family, and count what is in it.
static TURN: Mutex<()> = Mutex::new(());

fn my_turn() -> Option<MutexGuard<'static, ()>> {
    // A child runs one of the other entries; when it was asked for all tests, that is a mistake.
    let is_child = std::env::var_os(SEAT).is_some();
    (!is_child).then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What all processes of the storm look at; a view of a region.
#[derive(Clone, Copy)]
struct Board<'a>(&'a [AtomicU64; HANDS * (HANDS + 3)]);

impl<'a> Board<'a> {
    const BYTES: usize = size_of::<[AtomicU64; HANDS * (HANDS + 3)]>();

    fn of(region: &'a Region) -> Board<'a> {
        // SAFETY: a reference needs valid, aligned memory for its life: the region has `BYTES`
        // bytes and is borrowed; all processes use them as atomics only.
        Board(unsafe { &*region.as_ptr().cast() })
    }

    /// Who sits in a place, as [`Participant::to_bits`].
    fn sitter(self, place: usize) -> &'a AtomicU64 {
        &self.0[place]
    }

    /// How many steps the process in a place has done.
    fn progress(self, place: usize) -> &'a AtomicU64 {
        &self.0[HANDS + place]
    }

    /// What a process found wrong, zero for nothing.
    fn fault(self, place: usize) -> &'a AtomicU64 {
        &self.0[2 * HANDS + place]
    }

    fn mailbox(self, from: usize, to: usize) -> &'a AtomicU64 {
        &self.0[3 * HANDS + from * HANDS + to]
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// The arena that all tests of this program share; in so small windows that the storm needs several.
fn family() -> &'static Arena {
    static FAMILY: LazyLock<&'static Arena> =
        LazyLock::new(|| arena::found(1 << 20, 255).expect("an arena"));
    *FAMILY
}

fn start(entry: &str, seat: Seat, parcel: &[u8]) -> Child {
    let arena = arena::family().expect("founded or joined");
    let fd: OwnedFd = arena.as_fd().try_clone_to_owned().expect("a descriptor");
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", entry, "--nocapture"])
        .env(SEAT, hex(&handoff::pack(&seat).expect("packable").bytes))
        .env(PARCEL, hex(parcel))
        .stdin(fd)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts")
}

/// In a child: joins the family; `None` in the test runner itself.
fn join() -> Option<(&'static Arena, Seat, Vec<u8>)> {
    let seat: Seat = handoff::unpack(&variable(SEAT)?).expect("a seat");
    let fd = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .expect("the arena");
    let Ok(arena) = arena::join(fd, seat) else {
        std::process::exit(REFUSED)
    };
    Some((arena, seat, variable(PARCEL)?))
}

type Luggage = (u64, Region, Shared<Lock<(u64, u64)>>);

/// The entry of a child of the storm; does nothing when run as a test.
#[test]
fn child_of_the_storm() {
    let Some((arena, seat, parcel)) = join() else {
        return;
    };
    let (place, region, pair): Luggage = handoff::unpack(&parcel).expect("held by the parent");
    let mut hand = Hand {
        arena,
        place: place as usize,
        board: Board::of(&region),
        random: Random(
            seat.participant()
                .to_bits()
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                | 1,
        ),
        blocks: Vec::new(),
        regions: Vec::new(),
    };
    loop {
        if let Err(fault) = hand.step(&pair) {
            hand.board.fault(hand.place).store(fault, Release);
            std::process::exit(1);
        }
        hand.board.progress(hand.place).fetch_add(1, Release);
    }
}

struct Hand<'a> {
    arena: &'static Arena,
    place: usize,
    board: Board<'a>,
    random: Random,
    blocks: Vec<Block>,
    regions: Vec<Region>,
}

impl Hand<'_> {
    fn step(&mut self, pair: &Shared<Lock<(u64, u64)>>) -> Result<(), u64> {
        match self.random.below(10) {
            0..3 if self.blocks.len() < 30 => {
                let len = 16 << self.random.below(11);
                let block = self.arena.allocate(len).map_err(|_| 1_u64)?;
                mark(&block);
                self.blocks.push(block);
            }
            3..5 => drop(self.blocks.pop().map(|block| check(&block)).transpose()?),
            5 => self.give()?,
            6 => self.accept()?,
            7 if self.regions.len() < 10 => {
                self.regions.push(Region::new(100).map_err(|_| 3_u64)?);
            }
            8 if self.random.below(50) == 0 => drop(self.arena.reap_dead()),
            8 => drop(self.regions.pop()),
            _ => count(pair)?,
        }
        Ok(())
    }

    fn give(&mut self) -> Result<(), u64> {
        let to = self.random.below(HANDS as u64) as usize;
        let mailbox = self.board.mailbox(self.place, to);
        let sitter = Participant::from_bits(self.board.sitter(to).load(Acquire));
        if let (0, Some(sitter)) = (mailbox.load(Acquire), sitter)
            && let Some(block) = self.blocks.pop()
        {
            check(&block)?;
            // A receiver that has died gives the block back, and it is dropped here.
            let _ = block.give(sitter, mailbox);
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), u64> {
        for from in 0..HANDS {
            let mailbox = self.board.mailbox(from, self.place);
            let value = mailbox.load(Acquire);
            if let Some(block) = Block::accept(value) {
                let _ = mailbox.compare_exchange(value, 0, AcqRel, Relaxed);
                check(&block)?;
            }
        }
        Ok(())
    }
}

/// Writes into a block what no other block has: its own handle, at both ends.
fn mark(block: &Block) {
    for place in ends(block) {
        // SAFETY: `write` needs a valid, aligned place: `ends` are inside of the block, which is
        // ours alone.
        unsafe { place.write(block.handle().to_bits()) };
    }
}

/// Whether a block still has what `mark` wrote: nobody else had it meanwhile.
fn check(block: &Block) -> Result<(), u64> {
    // SAFETY: as in `mark`.
    let unchanged = |place: *mut u64| unsafe { place.read() } == block.handle().to_bits();
    if ends(block).into_iter().all(unchanged) {
        Ok(())
    } else {
        Err(2)
    }
}

fn ends(block: &Block) -> [*mut u64; 2] {
    let first: *mut u64 = block.as_ptr().cast();
    [first, first.wrapping_add(block.len() / 8 - 1)]
}

fn count(pair: &Shared<Lock<(u64, u64)>>) -> Result<(), u64> {
    let mut guard = match pair.lock() {
        Ok(guard) => guard,
        Err(LockError::OwnerDied { mut guard, .. }) => {
            guard.1 = guard.0;
            guard.mark_consistent();
            guard
        }
        Err(_) => return Err(4),
    };
    if guard.0 != guard.1 {
        return Err(5);
    }
    guard.0 += 1;
    guard.1 += 1;
    Ok(())
}

struct Storm<'a> {
    arena: &'static Arena,
    board: Board<'a>,
    luggage: (&'a Region, &'a Shared<Lock<(u64, u64)>>),
    children: Vec<(Child, Participant)>,
}

impl Storm<'_> {
    fn start(&self, place: usize) -> (Child, Participant) {
        for other in 0..HANDS {
            self.board.mailbox(place, other).store(0, Release);
            self.board.mailbox(other, place).store(0, Release);
        }
        let seat = self.arena.reserve_seat().expect("a seat");
        let luggage = (place as u64, self.luggage.0, self.luggage.1);
        let parcel = handoff::pack(&luggage).expect("packable");
        self.board
            .sitter(place)
            .store(seat.participant().to_bits(), Release);
        // The storm holds all that is in the parcel anyway.
        (
            start("child_of_the_storm", seat, &parcel.bytes),
            seat.participant(),
        )
    }

    /// Waits until the process in a place has done so many steps more.
    fn await_progress(&self, place: usize, steps: u64) {
        let (progress, deadline) = (self.board.progress(place), self.deadline());
        let target = progress.load(Acquire) + steps;
        while progress.load(Acquire) < target {
            assert_eq!(
                self.board.fault(place).load(Acquire),
                0,
                "place {place} found a fault"
            );
            assert!(!deadline.has_passed(), "place {place} makes no progress");
            std::thread::yield_now();
        }
    }

    fn kill(&mut self, place: usize, reap: bool) {
        let (child, participant) = &mut self.children[place];
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        // One that was killed before it held its life word counts as coming until it is reaped.
        let reap = reap || participant.is_alive();
        assert_eq!(
            self.board.fault(place).load(Acquire),
            0,
            "place {place} found a fault"
        );
        if reap {
            self.arena.reap(*participant);
            assert!(participant.life().is_none());
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }
}

#[test]
fn nothing_is_lost_or_used_twice_when_processes_are_killed_at_random() {
    let Some(_turn) = my_turn() else { return };
    let seed = u64::from(std::process::id()) << 20 | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    let arena = family();
    let region = Region::new(Board::BYTES).expect("room");
    let pair = Shared::new(Lock::new((0, 0))).expect("room");
    let board = Board::of(&region);
    let mut storm = Storm {
        arena,
        board,
        luggage: (&region, &pair),
        children: Vec::new(),
    };
    for place in 0..HANDS {
        storm.children.push(storm.start(place));
    }
    let kills = std::env::var("MANYHANDS_TEST_KILLS")
        .map_or(KILLS, |text| text.parse().expect("a number of kills"));
    for _ in 0..kills {
        let place = random.below(HANDS as u64) as usize;
        storm.await_progress(place, random.below(300));
        // Sometimes a sibling or the end finds the dead.
        storm.kill(place, random.below(4) > 0);
        storm.children[place] = storm.start(place);
    }
    for place in 0..HANDS {
        storm.await_progress(place, 1000);
    }
    for place in 0..HANDS {
        storm.kill(place, false);
    }
    // A sibling may have reaped some, but at the end nobody else is there.
    arena.reap_dead();
    assert!(arena.stats().holders.iter().all(|holder| holder.is_alive));
    assert_eq!(arena.stats().holders.len(), 1);
    assert_eq!(arena.stats().holders[0].shared, 2);
    drop((pair, region));
    assert_eq!(arena.stats().used_blocks(), 0);
    assert!(arena.len() > 1 << 20, "one window was enough");
}

/// The entry of a child that starts a child; does nothing when run as a test.
#[test]
fn child_in_the_middle() {
    let Some((arena, _, parcel)) = join() else {
        return;
    };
    let region: Region = handoff::unpack(&parcel).expect("held by the parent");
    let board = Board::of(&region);
    let seat = arena.reserve_seat().expect("a seat");
    let never = arena
        .reserve_seat()
        .expect("a seat for a child that never comes");
    region.hold_for(never.participant()).expect("reserved");
    let parcel = handoff::pack(&region).expect("packable");
    let mut grandchild = start("grandchild", seat, &parcel.bytes);
    board
        .sitter(1)
        .store(never.participant().to_bits(), Release);
    board.sitter(0).store(seat.participant().to_bits(), Release);
    // For ever: this process is killed.
    grandchild.wait().expect("it is ours");
}

/// The entry of a grandchild; does nothing when run as a test.
#[test]
fn grandchild() {
    let Some((_, _, parcel)) = join() else { return };
    let region: Region = handoff::unpack(&parcel).expect("held by the parent");
    Board::of(&region).progress(0).store(1, Release);
    loop {
        std::thread::park();
    }
}

#[test]
fn grandchild_ends_when_its_parent_is_killed_and_both_leave_nothing() {
    let Some(_turn) = my_turn() else { return };
    let arena = family();
    let region = Region::new(Board::BYTES).expect("room");
    let board = Board::of(&region);
    let seat = arena.reserve_seat().expect("a seat");
    let parcel = handoff::pack(&region).expect("packable");
    let mut child = start("child_in_the_middle", seat, &parcel.bytes);
    let deadline = Deadline::after(Duration::from_secs(60));
    while board.progress(0).load(Acquire) == 0 || board.sitter(0).load(Acquire) == 0 {
        assert!(!deadline.has_passed(), "the grandchild does not come");
        std::thread::yield_now();
    }
    let who = |place| Participant::from_bits(board.sitter(place).load(Acquire)).expect("set");
    let (grandchild, never) = (who(0), who(1));
    assert!(grandchild.is_alive() && never.is_alive());
    let life = grandchild.life().expect("it has come");
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    assert!(
        life.wait_death(deadline),
        "the grandchild outlives its parent"
    );
    // Nobody here waits for the grandchild, so it may not have ended in all its threads yet.
    loop {
        arena.reap_dead();
        if grandchild.life().is_none() {
            break;
        }
        assert!(!deadline.has_passed(), "the grandchild never ends");
        std::thread::yield_now();
    }
    for participant in [seat.participant(), grandchild, never] {
        assert!(!participant.is_alive());
        assert!(participant.life().is_none());
    }
    drop((parcel, region));
    assert_eq!(arena.stats().used_blocks(), 0);
}

#[test]
fn child_whose_seat_was_released_is_refused() {
    let Some(_turn) = my_turn() else { return };
    let arena = family();
    let seat = arena.reserve_seat().expect("a seat");
    arena.release_seat(seat);
    let mut child = start("grandchild", seat, &[]);
    assert_eq!(child.wait().expect("it is ours").code(), Some(REFUSED));
}
