//! Taking back what the dead have left.
//!
//! Everything here can be begun by several processes at once, be left half-done by a death, and be
//! begun again. Protocol: `README.md` beside this file, "Reaping".
//!
//! Nothing is taken from a process before all its threads are gone. A killed process ends thread by
//! thread: while its life word says that it is dead, others of its threads may still write, or the
//! kernel may still follow their lists of locks, whose nodes lie in its blocks.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use manyhands_os::process::Identity;

use super::block::Handle;
use super::layout::{HOLDER_WORDS, SEATS};
use super::word::{BlockState, BlockWord, SeatState, SeatWord, Who};
use super::{Arena, Participant};

/// How many entries are looked at under one hold of the arena's lock.
const BATCH: u32 = 1024;

/// The seats that are being ended, with their words at the time.
pub(super) type Endings = Vec<(u16, SeatWord)>;

impl Arena {
    /// Takes back everything that a dead process had: its blocks, its holds, the seats that it
    /// kept for children, and its own seat.
    ///
    /// The caller knows that the process is dead: its life word says so, or its pidfd did. Nothing
    /// happens when the participant was reaped already, or while it holds its life word. A shared
    /// value whose last holder was killed is freed without its destructor.
    ///
    /// A process that was killed needs some time to end in all its threads, and what it had is not
    /// touched before. Then this only begins, and a later reaping, or an allocation that finds no
    /// room, goes on. It is done at once when the pidfd told of the end.
    pub fn reap(&self, participant: Participant) {
        let Some(word) = self.seat_of(participant) else {
            return;
        };
        if self.memory.seat(participant.slot()).life.is_alive() {
            return;
        }
        self.end_seat(participant.slot(), word);
        self.sweep();
    }

    /// Looks at all seats and reaps those whose process is dead; returns how many were, in all their
    /// threads.
    ///
    /// Also ends the seats that a dead parent kept for children who have not come, and completes
    /// what another reaper left.
    pub fn reap_dead(&self) -> usize {
        let mut found = false;
        for slot in 0..SEATS {
            let word = self.seat_word(slot);
            if self.has_ended(slot, word) {
                self.end_seat(slot, word);
                found = true;
            }
        }
        if found { self.sweep() } else { 0 }
    }

    /// Whether the process of a seat is dead, or will never come.
    fn has_ended(&self, slot: u16, word: SeatWord) -> bool {
        let seat = self.memory.seat(slot);
        match word.state() {
            SeatState::Free => false,
            SeatState::Ending => true,
            SeatState::Reserved => self.is_over(word.parent()),
            SeatState::Taken if seat.life.is_dead() => true,
            // Joining: it sits here but does not hold its life word yet. If it died in between,
            // its identity tells.
            SeatState::Taken if seat.life.is_vacant() => {
                // Acquire: pairs with the Release in `take_seat`.
                let identity = Identity::unpack(seat.identity.load(Acquire));
                let running = identity.is_none_or(Identity::is_running);
                // Looked at again: it may have come to hold the word meanwhile.
                !running && seat.life.is_vacant() && self.seat_word(slot) == word
            }
            SeatState::Taken => false,
        }
    }

    /// Marks a seat as ending, so that nobody joins on it and nothing more is handed to it.
    pub(super) fn end_seat(&self, slot: u16, word: SeatWord) {
        if !matches!(word.state(), SeatState::Free | SeatState::Ending) {
            // When this fails, somebody else has ended the seat, or the child has come.
            self.change_seat(slot, word, word.with(SeatState::Ending));
        }
    }

    /// Whether the incarnation that a word names is over, or being ended.
    fn is_over(&self, who: Who) -> bool {
        let word = self.seat_word(who.slot());
        let present = matches!(word.state(), SeatState::Reserved | SeatState::Taken);
        !present || !who.is_incarnation(word.generation())
    }

    /// Whether the seat of the incarnation that a word names was freed: no thread of it is left.
    pub(super) fn has_left(&self, who: Who) -> bool {
        let word = self.seat_word(who.slot());
        word.state() == SeatState::Free || !who.is_incarnation(word.generation())
    }

    /// Whether no thread of the process on an ending seat is left.
    fn is_deserted(&self, slot: u16) -> bool {
        // Acquire: pairs with the Release in `take_seat`.
        let identity = Identity::unpack(self.memory.seat(slot).identity.load(Acquire));
        // Who runs this is not ending.
        identity.is_none_or(|identity| identity == Identity::current() || identity.has_ended())
    }

    /// Frees everything that belongs to ended seats whose process is gone, then the seats; returns
    /// how many there were.
    pub(super) fn sweep(&self) -> usize {
        let endings = self.endings();
        if endings.is_empty() {
            return 0;
        }
        loop {
            match self.pass(&endings) {
                // What is deposited in a block that was freed may lie before it.
                Some(pass) if pass.goes_on() => {}
                Some(_) => break,
                // The seats stay as they are: whoever has room for the window goes on.
                None => return 0,
            }
        }
        for (slot, word) in &endings {
            self.free_seat(*slot, *word);
        }
        endings.len()
    }

    /// Looks at all blocks; `None` when this process has no room for a part of the arena.
    fn pass(&self, endings: &Endings) -> Option<Pass> {
        let (mut pass, mut window) = (Pass::default(), 0);
        // Looked at again each time: whoever opens one gives nothing to the ending any more, but
        // may have before.
        while window < self.memory.opened() {
            self.memory.map_window(window).ok()?;
            for class in self.memory.classes() {
                self.sweep_class(window, class, endings, &mut pass);
            }
            window += 1;
        }
        Some(pass)
    }

    fn sweep_class(&self, window: u32, class: usize, endings: &Endings, pass: &mut Pass) {
        let mut next = self.memory.ready(window, class).start;
        while next < self.memory.ready(window, class).end {
            let end = self.memory.ready(window, class).end.min(next + BATCH);
            let _guard = self.lock();
            let ended = self.still_ending(endings);
            for index in next..end {
                self.reclaim(class, index, &ended, pass);
            }
            next = end;
        }
    }

    /// All ending seats whose process is gone, among them those reserved by a parent that is ending.
    fn endings(&self) -> Endings {
        let mut endings = Endings::new();
        for slot in 0..SEATS {
            let word = self.seat_word(slot);
            if word.state() == SeatState::Reserved && self.is_over(word.parent()) {
                self.end_seat(slot, word);
            }
            let word = self.seat_word(slot);
            if word.state() == SeatState::Ending && self.is_deserted(slot) {
                endings.push((slot, word));
            }
        }
        endings
    }

    /// A holder mask of the seats that nobody has finished meanwhile. Under the arena's lock, under
    /// which seats are finished: a seat that has passed to another must keep its bits.
    pub(super) fn still_ending(&self, endings: &Endings) -> [u64; HOLDER_WORDS] {
        let mut mask = [0; HOLDER_WORDS];
        for (slot, word) in endings {
            if self.seat_word(*slot) == *word {
                mask[word_of(*slot)] |= bit_of(*slot);
            }
        }
        mask
    }

    /// Frees a block that belongs to nobody any more; the caller holds the arena's lock.
    fn reclaim(&self, class: usize, index: u32, ended: &[u64; HOLDER_WORDS], pass: &mut Pass) {
        let entry = self.memory.entry(class, index);
        // Acquire: pairs with the Release of the one who made it owned, given or shared.
        let word = BlockWord::from_bits(entry.word.load(Acquire));
        let holders = self.memory.holders(class, index);
        match word.state() {
            BlockState::Free => return,
            // The giver may still be taking an inbox's back; the exchange below decides.
            BlockState::Owned | BlockState::Inbox | BlockState::Single => {
                let who = word.who();
                if !self.has_left(who) && ended[word_of(who.slot())] & bit_of(who.slot()) == 0 {
                    return;
                }
            }
            BlockState::Deposited => {
                if !self.is_orphan(entry) {
                    pass.has_deposits = true;
                    return;
                }
            }
            BlockState::Shared => {
                for (bits, ended) in holders.bits.iter().zip(ended) {
                    // Relaxed: the arena's lock orders all access to a shared block's set.
                    let before = bits.load(Relaxed);
                    if before & ended != 0 {
                        bits.store(before & !ended, Relaxed);
                    }
                }
                if !holders.is_empty() || entry.parcels() != 0 {
                    return;
                }
            }
        }
        // Relaxed: what its holders did to it came before their end.
        pass.has_freed |= entry.deposit.load(Relaxed) != 0;
        let Some(word) = self.let_go_first(class, index, word, pass) else {
            return;
        };
        let freed = word.freed().to_bits();
        // Release: pairs with the Acquire in `claim`. A failure means that the giver was faster.
        let _ = entry
            .word
            .compare_exchange(word.to_bits(), freed, AcqRel, Relaxed);
    }

    /// Lets go what a block holds that is about to be freed; its word then, unless somebody else has the
    /// block now. A death meanwhile leaves it to the sweep for this process.
    fn let_go_first(
        &self,
        class: usize,
        index: u32,
        word: BlockWord,
        pass: &mut Pass,
    ) -> Option<BlockWord> {
        if !word.is_holding() {
            return Some(word);
        }
        let entry = self.memory.entry(class, index);
        let mine = word.with(BlockState::Owned, self.me().who());
        entry
            .word
            .compare_exchange(word.to_bits(), mine.to_bits(), AcqRel, Relaxed)
            .ok()?;
        let parcel = Handle::new(class, index, word.generation());
        if self.let_go(parcel).is_none() {
            // Whoever has room for all of the arena goes on.
            entry.word.store(word.to_bits(), Release);
            return None;
        }
        // What nobody holds then is freed by the next pass.
        pass.has_let_go = true;
        Some(mine)
    }

    /// Makes an ended seat free, unless another reaper has done it.
    pub(super) fn free_seat(&self, slot: u16, word: SeatWord) {
        let _guard = self.lock();
        if self.seat_word(slot) != word {
            return;
        }
        let seat = self.memory.seat(slot);
        seat.life.clear();
        if !seat.life.is_vacant() {
            // It was reaped too early; the seat stays ended until it is dead.
            return;
        }
        // Release: whoever reserves the seat next finds no identity.
        seat.identity.store(0, Release);
        let free = SeatWord::new(word.generation(), Who::NOBODY, SeatState::Free);
        self.change_seat(slot, word, free);
    }
}

/// What a look at all blocks has found.
#[derive(Debug, Default)]
struct Pass {
    /// Blocks that are deposited in others, which were there when they were looked at.
    has_deposits: bool,
    /// Blocks were freed in which others may be deposited.
    has_freed: bool,
    /// Blocks were freed which held others.
    has_let_go: bool,
}

impl Pass {
    fn goes_on(&self) -> bool {
        self.has_deposits && self.has_freed || self.has_let_go
    }
}

/// Where the bit of a seat lies in a holder mask.
fn word_of(slot: u16) -> usize {
    usize::from(slot) / 64 % HOLDER_WORDS
}

fn bit_of(slot: u16) -> u64 {
    1 << (slot % 64)
}
