//! Objects of the arena: made, shared, sent, changed and dropped while holders are killed.
//!
//! Every object has a number written all over it, so one that two have by mistake, or that is
//! freed too early, shows. Between each pair of threads there is a mailbox: for a letter, which is
//! a parcel with some objects in it, and for a block. A letter stays until it is taken, or until
//! the driver has buried the receiver.

use std::cell::RefCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};

use manyhands_shm::handoff::{self, Holds};
use manyhands_shm::{Block, Participant};

use super::treasure::{self, DESTROYED_TWICE, Treasure};
use super::{Balance, Game, Player, SEATS};
use crate::place::Placed;
use crate::subjects::family::{self, Letter};

/// What a thread does in a round, and how often of a hundred.
const DEEDS: [(&str, u64, Deed); 11] = [
    ("allocate", 12, Objects::allocate),
    ("free", 8, Objects::free),
    ("give", 10, Objects::give),
    ("accept", 10, Objects::accept),
    ("make", 12, Objects::make),
    ("drop", 8, Objects::discard),
    ("clone", 8, Objects::clone),
    ("send", 12, Objects::send),
    ("receive", 10, Objects::receive),
    ("change", 9, Objects::change),
    ("hold for", 1, Objects::hold_for),
];

type Deed = fn(&Objects, &mut Player<'_>, &mut Hand);

/// More than so many are not kept by one thread.
const MOST_BLOCKS: usize = 8;
const MOST_TREASURES: usize = 16;

/// The mailboxes, and where everybody is.
#[repr(C)]
pub struct Objects {
    mailboxes: [[Mailbox; SEATS]; SEATS],
    /// The participants of the family, by the seats of their threads.
    participants: [AtomicU64; SEATS],
    /// What each thread is doing: one more than the place in [`DEEDS`].
    doing: [AtomicU32; SEATS],
    /// The last thread of each seat that is certainly dead.
    buried: [AtomicU32; SEATS],
    done: [AtomicU64; DEEDS.len()],
    died: [AtomicU64; DEEDS.len()],
    /// Letters that came, those that were lost with their sender, and blocks that came.
    received: AtomicU64,
    lost: AtomicU64,
    accepted: AtomicU64,
}

/// From one thread to another.
#[repr(C)]
struct Mailbox {
    /// Which letter is in it; zero for none. The upper half is the sender.
    stamp: AtomicU64,
    letter: Letter,
    /// The handle of a block, its number, and who gave it.
    block: AtomicU64,
    number: AtomicU64,
    giver: AtomicU32,
}

// SAFETY: atomics only; zero is empty; nothing to drop.
unsafe impl Placed for Objects {}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

/// What one thread has.
#[derive(Default)]
struct Hand {
    blocks: Vec<(Block, u64)>,
    treasures: Vec<Treasure>,
    /// What keeps the letters alive that are on their way, by receiver.
    sent: [Option<Holds>; SEATS],
    numbers: u32,
}

thread_local! {
    /// Never dropped: what a thread has when it ends, it leaves as one that is killed.
    static HAND: RefCell<ManuallyDrop<Hand>> = RefCell::default();
}

impl Hand {
    /// A number that nothing else ever has.
    fn next_number(&mut self, player: &Player<'_>) -> u64 {
        self.numbers += 1;
        u64::from(player.token) << 32 | u64::from(self.numbers)
    }
}

fn pick<T>(from: &mut Vec<T>, player: &mut Player<'_>) -> Option<T> {
    let len = from.len();
    (len > 0).then(|| from.swap_remove(player.random.below(len as u64) as usize))
}

fn any_seat(player: &mut Player<'_>) -> usize {
    player.random.below(SEATS as u64) as usize
}

impl Objects {
    fn allocate(&self, player: &mut Player<'_>, hand: &mut Hand) {
        if hand.blocks.len() < MOST_BLOCKS {
            let len = treasure::words(&mut player.random) * 8;
            let number = hand.next_number(player);
            match family::family().allocate(len) {
                Ok(block) => {
                    treasure::mark(&block, number);
                    hand.blocks.push((block, number));
                }
                Err(error) => player.demand(false, &error.to_string()),
            }
        }
    }

    fn free(&self, player: &mut Player<'_>, hand: &mut Hand) {
        if let Some((block, number)) = pick(&mut hand.blocks, player) {
            player.demand(treasure::is_marked(&block, number), "an own block is whole");
        }
    }

    fn give(&self, player: &mut Player<'_>, hand: &mut Hand) {
        let to = any_seat(player);
        let mailbox = &self.mailboxes[player.seat][to];
        let receiver = Participant::from_bits(self.participants[to].load(SeqCst));
        if let (0, Some(receiver)) = (mailbox.block.load(SeqCst), receiver)
            && let Some((block, number)) = pick(&mut hand.blocks, player)
        {
            let handle = block.handle().to_bits();
            mailbox.number.store(number, SeqCst);
            mailbox.giver.store(player.token, SeqCst);
            if let Err(error) = block.give(receiver, &mailbox.block) {
                // It is dead, and its successor must not find what it cannot accept.
                let _ = mailbox.block.compare_exchange(handle, 0, SeqCst, SeqCst);
                let is_whole = treasure::is_marked(&error.block, number);
                player.demand(is_whole, "a block that comes back is whole");
            }
        }
    }

    fn accept(&self, player: &mut Player<'_>, hand: &mut Hand) {
        let from = any_seat(player);
        let mailbox = &self.mailboxes[from][player.seat];
        let handle = mailbox.block.load(SeqCst);
        // Before the look at the block: whoever is buried gives nothing after it.
        let is_dead = mailbox.giver.load(SeqCst) <= self.buried[from].load(SeqCst);
        match Block::accept(handle) {
            Some(block) => {
                let number = mailbox.number.load(SeqCst);
                player.demand(
                    treasure::is_marked(&block, number),
                    "a given block is whole",
                );
                hand.blocks.push((block, number));
                hand.blocks.truncate(MOST_BLOCKS);
                self.accepted.fetch_add(1, Relaxed);
            }
            None if !is_dead => return,
            // It died before it gave the block.
            None => {}
        }
        let _ = mailbox.block.compare_exchange(handle, 0, SeqCst, SeqCst);
    }

    fn make(&self, player: &mut Player<'_>, hand: &mut Hand) {
        if hand.treasures.len() < MOST_TREASURES {
            let number = hand.next_number(player);
            match Treasure::make(number, &mut player.random) {
                Ok(treasure) => hand.treasures.push(treasure),
                Err(error) => player.demand(false, &error.to_string()),
            }
        }
    }

    fn discard(&self, player: &mut Player<'_>, hand: &mut Hand) {
        if let Some(treasure) = pick(&mut hand.treasures, player) {
            player.demand(treasure.is_whole(), "what one holds is whole");
        }
    }

    fn clone(&self, player: &mut Player<'_>, hand: &mut Hand) {
        if let Some(treasure) = pick(&mut hand.treasures, player) {
            player.demand(treasure.is_whole(), "what one holds is whole");
            if hand.treasures.len() + 1 < MOST_TREASURES {
                hand.treasures.push(treasure.clone());
            }
            hand.treasures.push(treasure);
        }
    }

    fn change(&self, player: &mut Player<'_>, hand: &mut Hand) {
        let number = hand.next_number(player);
        if let Some(mut treasure) = pick(&mut hand.treasures, player) {
            let is_whole = treasure.change(number).unwrap_or(true);
            player.demand(is_whole, "what one changes is nobody else's");
            hand.treasures.push(treasure);
        }
    }

    fn hold_for(&self, player: &mut Player<'_>, hand: &mut Hand) {
        let other = self.participants[any_seat(player)].load(SeqCst);
        if let (Some(other), Some(treasure)) = (
            Participant::from_bits(other),
            pick(&mut hand.treasures, player),
        ) {
            // It may have died.
            let _ = treasure.hold_for(other);
        }
    }

    fn send(&self, player: &mut Player<'_>, hand: &mut Hand) {
        let to = any_seat(player);
        let mailbox = &self.mailboxes[player.seat][to];
        if mailbox.stamp.load(SeqCst) != 0 {
            return;
        }
        // The one before was taken, or has died with its receiver.
        hand.sent[to] = None;
        let mut luggage = Vec::new();
        for _ in 0..player.random.below(4) {
            luggage.extend(pick(&mut hand.treasures, player));
        }
        let stamp = hand.next_number(player);
        let parcel = handoff::pack(&luggage).expect("handles can be packed");
        mailbox.letter.write(&parcel.bytes);
        hand.sent[to] = Some(parcel.holds);
        mailbox.stamp.store(stamp, SeqCst);
        // Half of them stay with the sender as well.
        luggage.truncate(luggage.len().min(MOST_TREASURES - hand.treasures.len()) / 2);
        hand.treasures.extend(luggage);
    }

    fn receive(&self, player: &mut Player<'_>, hand: &mut Hand) {
        let from = any_seat(player);
        let mailbox = &self.mailboxes[from][player.seat];
        let stamp = mailbox.stamp.load(SeqCst);
        if stamp == 0 {
            return;
        }
        let bytes = mailbox.letter.read();
        match handoff::unpack::<Vec<Treasure>>(&bytes) {
            Ok(luggage) => {
                let is_whole = luggage.iter().all(Treasure::is_whole);
                player.demand(is_whole, "what comes is whole");
                hand.treasures.extend(luggage);
                hand.treasures.truncate(MOST_TREASURES);
                self.received.fetch_add(1, Relaxed);
            }
            Err(error) => {
                let is_dead = player.is_condemned((stamp >> 32) as u32);
                player.demand(
                    is_dead,
                    &format!("what a living sender keeps comes: {error}"),
                );
                self.lost.fetch_add(1, Relaxed);
            }
        }
        let _ = mailbox.stamp.compare_exchange(stamp, 0, SeqCst, SeqCst);
    }
}

impl Game for Objects {
    const IS_FAMILY: bool = true;

    fn set_up(&self) {}

    fn begin(&self, player: &mut Player<'_>) {
        self.participants[player.seat].store(family::me().to_bits(), SeqCst);
    }

    fn play(&self, player: &mut Player<'_>) {
        let mut lot = player.random.below(100);
        let deed = DEEDS.iter().position(|(_, share, _)| {
            let is_it = lot < *share;
            lot = lot.saturating_sub(*share);
            is_it
        });
        let deed = deed.unwrap_or(0);
        self.doing[player.seat].store(deed as u32 + 1, SeqCst);
        HAND.with_borrow_mut(|hand| DEEDS[deed].2(self, player, hand));
        self.doing[player.seat].store(0, SeqCst);
        self.done[deed].fetch_add(1, Relaxed);
        let is_once = DESTROYED_TWICE.load(Relaxed) == 0;
        player.demand(is_once, "a value is destroyed once");
        player.finish_round(0);
    }

    fn condemn(&self, _player: &Player<'_>) {}

    fn bury(&self, player: &Player<'_>) {
        let seat = player.seat;
        let doing = self.doing[seat].swap(0, SeqCst) as usize;
        if let Some(died) = self.died.get(doing.wrapping_sub(1)) {
            died.fetch_add(1, Relaxed);
        }
        self.buried[seat].store(player.token, SeqCst);
        self.participants[seat].store(0, SeqCst);
        for other in 0..SEATS {
            self.mailboxes[other][seat].block.store(0, SeqCst);
            self.mailboxes[other][seat].stamp.store(0, SeqCst);
        }
        // What it has sent still comes: blocks whole, and letters unless what is in them is freed.
    }

    fn settle(&self, driver: &mut Player<'_>) -> Balance {
        let [received, lost, accepted] =
            [&self.received, &self.lost, &self.accepted].map(|count| count.load(Relaxed));
        driver.demand(received > 0 && accepted > 0, "letters and blocks come");
        let counts = DEEDS.iter().zip(self.done.iter().zip(&self.died));
        let deeds = counts.map(|((name, ..), (done, died))| {
            format!("{name} {}/{}", died.load(Relaxed), done.load(Relaxed))
        });
        let deeds: Vec<String> = deeds.collect();
        Balance {
            recovered: self.died.iter().map(|died| died.load(Relaxed)).sum(),
            details: format!(
                ", {received} letters came and {lost} died, {accepted} blocks came; killed in: {}",
                deeds.join(", ")
            ),
        }
    }
}
