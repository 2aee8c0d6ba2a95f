//! Barriers: no meeting mixes with the next, and a death breaks the meeting instead of the party.
//!
//! There are as many parties as threads. So between the end of a meeting and a thread's next
//! arrival no other meeting can end, and a thread knows for sure which meeting it was in: the one
//! that the action of the last party has numbered.

use std::collections::HashSet;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use manyhands_sync::{Barrier, Broken, Shareable};

use super::driver::wait_until;
use super::section::{Fate, Room};
use super::{Balance, Game, MOST_KILLS, Player, SEATS, THREADS};
use crate::place::{Late, Placed, last_place};

/// No deadline that a test reaches.
const AN_HOUR: Duration = Duration::from_secs(3600);

/// What a party has come for that does not know how many meetings there were.
const UNKNOWN: u64 = u64::MAX;

/// How many meetings are remembered.
const MEMORY: usize = 64;

/// A barrier, and its meetings.
#[repr(C)]
#[derive(Debug)]
pub struct OfBarrier {
    barrier: Late<Barrier>,
    /// Where parties are: at the door while they wait, nowhere else ever.
    room: Room,
    /// How many meetings the actions have counted.
    meetings: AtomicU64,
    /// Which meeting the thread on a seat has come for, at least.
    come_for: [AtomicU64; SEATS],
    /// Which meeting the thread on a seat was in last; [`UNKNOWN`] after a break.
    was_in: [AtomicU64; SEATS],
    /// `meeting:48 | places:16` of the latest meetings: which places were given.
    places: [AtomicU64; MEMORY],
    /// How many parties have come out of a meeting.
    met: AtomicU64,
    /// Meetings that death has broken, as told to a party.
    told: AtomicU64,
    /// Who was blamed: process ids.
    blamed: [AtomicU32; MOST_KILLS],
    blames: AtomicU64,
    /// Who was killed: process ids.
    killed: [AtomicU32; MOST_KILLS],
    kills: AtomicU64,
    died_waiting: AtomicU64,
}

// SAFETY: all fields are `Placed`.
unsafe impl Placed for OfBarrier {}

impl OfBarrier {
    fn barrier(&self) -> &Barrier {
        // SAFETY: `set_up` filled it.
        unsafe { self.barrier.get() }
    }

    /// The last party numbers the meeting; all others wait.
    fn count(&self, player: &Player<'_>) {
        let before = self.meetings.load(SeqCst);
        (0..20).for_each(|_| std::hint::spin_loop());
        let is_alone = self.meetings.swap(before + 1, SeqCst) == before;
        player.demand(is_alone, "one party at a time acts");
    }

    /// The barrier has opened; `index` parties had come before this one.
    fn meet(&self, player: &Player<'_>, index: u32) {
        player.demand((index as usize) < SEATS, "a place is one of the parties'");
        let meeting = self.meetings.load(SeqCst);
        let last = self.was_in[player.seat].swap(meeting, SeqCst);
        // Not counted: the last party had no action. Or the thread is new, and cannot tell.
        if meeting == last || last == UNKNOWN {
            return;
        }
        player.demand(meeting == last + 1, "no meeting goes by without a party");
        for come_for in &self.come_for {
            let has_come = come_for.load(SeqCst) >= meeting;
            player.demand(has_come, "no meeting ends before all have come");
        }
        self.take_place(player, meeting, index);
    }

    fn take_place(&self, player: &Player<'_>, meeting: u64, index: u32) {
        let place = 1 << index;
        let take = |places: u64| {
            let taken = match places >> 16 == meeting {
                true => places & 0xffff,
                false => 0,
            };
            (taken & place == 0).then_some(meeting << 16 | taken | place)
        };
        let word = &self.places[meeting as usize % MEMORY];
        let is_free = word.fetch_update(SeqCst, SeqCst, take).is_ok();
        player.demand(is_free, "each place of a meeting is given once");
    }

    fn break_up(&self, player: &Player<'_>, why: Broken) {
        self.was_in[player.seat].store(UNKNOWN, SeqCst);
        match why {
            Broken::PartyDied(who) => {
                self.told.fetch_add(1, SeqCst);
                if let Some(who) = who {
                    self.blame(who.pid);
                }
            }
            // Somebody was late to reset what another one had reset already.
            Broken::Aborted => {}
            other => player.demand(false, &format!("only deaths break it, not {other:?}")),
        }
        if self.barrier().is_broken() && !player.is_over() {
            self.barrier().reset();
        }
    }

    fn blame(&self, process: u32) {
        let number = self.blames.fetch_add(1, SeqCst) as usize;
        self.blamed[number % MOST_KILLS].store(process, SeqCst);
    }
}

impl Game for OfBarrier {
    const IS_FAMILY: bool = true;
    const NEEDS_ALL: bool = true;

    fn set_up(&self) {
        let barrier = Barrier::new(SEATS as u32).expect("there are parties");
        // SAFETY: the driver forks the players later.
        unsafe { self.barrier.fill(barrier) };
        self.barrier().placed(last_place());
    }

    fn begin(&self, player: &mut Player<'_>) {
        self.was_in[player.seat].store(UNKNOWN, SeqCst);
    }

    fn play(&self, player: &mut Player<'_>) {
        let come_for = match self.was_in[player.seat].load(SeqCst) {
            UNKNOWN => UNKNOWN,
            last => last + 1,
        };
        self.come_for[player.seat].store(come_for, SeqCst);
        self.room.approach(player.seat);
        let end = if player.random.below(4) == 0 {
            self.barrier().wait()
        } else {
            self.barrier().wait_and(AN_HOUR, || self.count(player))
        };
        self.room.depart(player.seat);
        match end {
            Ok(index) => {
                self.meet(player, index);
                self.met.fetch_add(1, SeqCst);
                player.finish_round(0);
            }
            Err(why) => self.break_up(player, why),
        }
    }

    fn condemn(&self, player: &Player<'_>) {
        self.room.condemn(player.seat);
    }

    fn bury(&self, player: &Player<'_>) {
        if self.room.bury(player.seat) == Fate::Door {
            self.died_waiting.fetch_add(1, SeqCst);
        }
        let number = self.kills.fetch_add(1, SeqCst) as usize;
        self.killed[number / THREADS].store(player.process, SeqCst);
    }

    /// Either somebody is told of the death; or the dead had not come, and all others wait for their
    /// successors. The barrier must not count the dead in silence.
    fn go_on(&self) -> bool {
        let [told, met] = [&self.told, &self.met].map(|count| count.load(SeqCst));
        let survivors = (SEATS - THREADS) as u32;
        wait_until(|| {
            let all_wait =
                self.room.at_door() == survivors && self.barrier().waiting() == survivors;
            all_wait || self.told.load(SeqCst) != told || self.met.load(SeqCst) != met
        })
    }

    fn send_home(&self) {
        self.barrier().abort();
    }

    fn settle(&self, driver: &mut Player<'_>) -> Balance {
        let processes = |list: &[AtomicU32]| -> HashSet<u32> {
            let all = list.iter().map(|process| process.load(SeqCst));
            all.filter(|process| *process != 0).collect()
        };
        let (blamed, killed) = (processes(&self.blamed), processes(&self.killed));
        let are_right = blamed.is_subset(&killed);
        driver.demand(are_right, "only the dead are blamed");
        let told = self.told.load(SeqCst);
        Balance {
            recovered: blamed.len() as u64,
            details: format!(
                ", {told} told, {} threads died at the barrier, {} meetings",
                self.died_waiting.load(SeqCst),
                self.meetings.load(SeqCst)
            ),
        }
    }
}
