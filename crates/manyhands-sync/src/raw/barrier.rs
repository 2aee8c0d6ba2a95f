//! A meeting point for a fixed number of parties.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use manyhands_os::Deadline;
use manyhands_os::process::Identity;

use crate::life::WaitEnd;
use crate::member::{self, Member};
use crate::primitive::futex::{self, Scope, Watch};
use crate::primitive::{AtomicU32, AtomicU64, is_planted};
use crate::raw::ledger::{Ledger, Lives};
use crate::raw::{ShortGuard, ShortLock};
use crate::shareable::LastPlace;
use crate::spin::Spin;

/// Who has arrived, and how the last generations ended.
///
/// # Protocol
///
/// Everything changes inside the short section. `phase` is `generation:32 | broken:32` and changes by
/// one store, which is the commit: before it, `sequence` is moved on and everybody is **woken**;
/// whoever is woken passes through the section before it believes the phase.
///
/// Who sleeps watches the lives of all who have arrived; so each arrival wakes the sleepers, who look
/// again. The last party does not arrive but opens, in one section, unless it has an action to run.
///
/// The arrivals (ledger and `unnamed`) belong to the generation that `counted` names. When that is
/// not the present one, they are void; so the commit need not clear them.
///
/// `outcomes` has a bit for each of the last 64 generations: whether it was broken. A party that
/// wakes late looks there.
#[repr(C)]
pub(crate) struct RawBarrier {
    section: ShortLock,
    phase: AtomicU64,
    outcomes: AtomicU64,
    /// The packed identity of the party whose death broke the barrier, zero for none.
    dead: AtomicU64,
    sequence: AtomicU32,
    counted: AtomicU32,
    /// Arrivals of threads in private memory, and of processes that are no members.
    unnamed: AtomicU32,
    parties: u32,
    reason: AtomicU32,
    shared: AtomicU32,
    spin: Spin,
    ledger: Ledger,
}

/// Why a barrier is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Broken {
    /// Somebody called `abort`, or `reset` while others waited.
    Aborted,
    /// A party's time was up.
    TimedOut,
    /// A party died while it waited: who, as far as known.
    PartyDied(Option<Identity>),
    /// The action of the last party panicked.
    ActionFailed,
}

const ABORTED: u32 = 0;
const TIMED_OUT: u32 = 1;
const PARTY_DIED: u32 = 2;
const ACTION_FAILED: u32 = 3;

/// A party's arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    generation: u32,
    /// How many came before, which is less than the parties.
    pub(crate) index: u32,
}

impl RawBarrier {
    pub(crate) const fn new(parties: u32) -> Self {
        Self {
            section: ShortLock::new(),
            phase: AtomicU64::new(0),
            outcomes: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            sequence: AtomicU32::new(0),
            counted: AtomicU32::new(0),
            unnamed: AtomicU32::new(0),
            parties,
            reason: AtomicU32::new(ABORTED),
            shared: AtomicU32::new(0),
            spin: Spin::new(),
            ledger: Ledger::new(),
        }
    }

    pub(crate) fn placed(&self, _: LastPlace) {
        // Relaxed: before anybody else can see it.
        self.shared.store(1, Relaxed);
    }

    /// Notes the arrival of a party; waits first while the present meeting is full.
    ///
    /// The last party opens the meeting at once, unless it `acts` first: then the caller opens it.
    pub(crate) fn arrive(&self, acts: bool, deadline: Deadline) -> Result<Arrival, Broken> {
        loop {
            let (expected, lives) = {
                let Some(_inside) = self.enter(deadline) else {
                    self.time_out(None)?;
                    continue;
                };
                self.look_for_dead();
                if self.is_broken() {
                    return Err(self.reason());
                }
                let arrival = Arrival {
                    generation: self.generation(),
                    index: self.arrived(),
                };
                if self.is_last(arrival) && !acts {
                    self.open_inside(arrival);
                    return Ok(arrival);
                }
                if arrival.index < self.parties {
                    // Those who sleep must come to watch this party's life too.
                    if self.is_shared() && arrival.index > 0 {
                        self.wake();
                    }
                    self.add_arrival();
                    return Ok(arrival);
                }
                (self.sequence.load(Relaxed), self.lives())
            };
            if self.sleep(expected, &lives, deadline) {
                self.time_out(None)?;
            }
        }
    }

    /// Whether an arrival completes its meeting.
    pub(crate) fn is_last(&self, arrival: Arrival) -> bool {
        arrival.index + 1 == self.parties
    }

    /// Opens the meeting that an arrival with an action completed, for all parties.
    pub(crate) fn open(&self, arrival: Arrival) -> Result<(), Broken> {
        let Some(_inside) = self.enter(Deadline::NEVER) else {
            return Err(self.reason());
        };
        if let Some(end) = self.end_of(arrival) {
            // Somebody broke it while the action ran.
            return end;
        }
        self.open_inside(arrival);
        Ok(())
    }

    fn open_inside(&self, arrival: Arrival) {
        self.wake();
        let bit = 1 << (arrival.generation % 64);
        self.outcomes
            .store(self.outcomes.load(Relaxed) & !bit, Relaxed);
        self.commit(arrival.generation.wrapping_add(1), false);
    }

    /// Waits for the end of the meeting.
    pub(crate) fn wait(&self, arrival: Arrival, deadline: Deadline) -> Result<(), Broken> {
        loop {
            let (expected, lives) = {
                let Some(_inside) = self.enter(deadline) else {
                    return self.time_out(Some(arrival));
                };
                if let Some(end) = self.end_of(arrival) {
                    return end;
                }
                self.look_for_dead();
                if let Some(end) = self.end_of(arrival) {
                    return end;
                }
                (self.sequence.load(Relaxed), self.lives())
            };
            if self.sleep(expected, &lives, deadline) {
                return self.time_out(Some(arrival));
            }
        }
    }

    /// Breaks the barrier, unless it is broken.
    pub(crate) fn break_for(&self, reason: Broken) {
        if let Some(_inside) = self.enter(Deadline::NEVER) {
            self.break_inside(reason);
        }
    }

    /// Makes a broken barrier usable; breaks the present meeting if anybody waits in it.
    pub(crate) fn reset(&self) {
        let Some(_inside) = self.enter(Deadline::NEVER) else {
            return;
        };
        let generation = self.generation();
        if self.arrived() > 0 && !self.is_broken() {
            self.set_reason(Broken::Aborted);
        }
        self.wake();
        let bit = 1 << (generation % 64);
        self.outcomes
            .store(self.outcomes.load(Relaxed) | bit, Relaxed);
        self.commit(generation.wrapping_add(1), false);
    }

    pub(crate) fn parties(&self) -> u32 {
        self.parties
    }

    /// How many wait, for information.
    pub(crate) fn waiting(&self) -> u32 {
        self.arrived()
    }

    /// Whether the barrier is broken.
    pub(crate) fn is_broken(&self) -> bool {
        // Acquire: pairs with the Release in `commit`.
        self.phase.load(Acquire) as u32 != 0
    }

    /// Why the barrier is broken, for information; `None` when it is not.
    pub(crate) fn broken(&self) -> Option<Broken> {
        self.is_broken().then(|| self.reason())
    }

    pub(crate) fn is_shared(&self) -> bool {
        // Relaxed: set before anybody else could see it.
        self.shared.load(Relaxed) != 0
    }

    /// Sleeps; whether the time was up.
    fn sleep(&self, expected: u32, lives: &Lives, deadline: Deadline) -> bool {
        let object = Watch {
            word: &self.sequence,
            expected,
            scope: Scope::Shared,
        };
        lives.wait(&self.ledger, &self.spin, object, deadline) == WaitEnd::TimedOut
    }

    /// A party's time is up: that breaks the barrier, unless its meeting has ended meanwhile.
    fn time_out(&self, arrival: Option<Arrival>) -> Result<(), Broken> {
        if let Some(_inside) = self.enter(Deadline::NEVER) {
            if let Some(end) = arrival.and_then(|arrival| self.end_of(arrival)) {
                return end;
            }
            self.break_inside(Broken::TimedOut);
        }
        Err(Broken::TimedOut)
    }

    fn break_inside(&self, reason: Broken) {
        if self.is_broken() {
            return;
        }
        self.set_reason(reason);
        self.wake();
        self.commit(self.generation(), true);
    }

    /// How the meeting of an arrival ended, `None` while it goes on.
    fn end_of(&self, arrival: Arrival) -> Option<Result<(), Broken>> {
        if self.generation() == arrival.generation {
            return self.is_broken().then(|| Err(self.reason()));
        }
        let bit = 1 << (arrival.generation % 64);
        let broken = self.outcomes.load(Relaxed) & bit != 0;
        Some(if broken { Err(self.reason()) } else { Ok(()) })
    }

    fn look_for_dead(&self) {
        if !self.is_shared() || self.is_broken() || self.counted.load(Relaxed) != self.generation()
        {
            return;
        }
        if let Some(dead) = self.ledger.first_dead() {
            self.break_inside(Broken::PartyDied(dead));
        }
    }

    /// Wakes everybody before the commit: whoever wakes waits for the section.
    fn wake(&self) {
        if !is_planted("barrier") {
            self.sequence
                .store(self.sequence.load(Relaxed).wrapping_add(1), Relaxed);
        }
        futex::wake_all(&self.sequence, Scope::Shared);
    }

    fn commit(&self, generation: u32, broken: bool) {
        let phase = u64::from(generation) << 32 | u64::from(broken);
        // Release: pairs with the Acquire of those who look without the section.
        self.phase.store(phase, Release);
    }

    fn generation(&self) -> u32 {
        (self.phase.load(Acquire) >> 32) as u32
    }

    fn arrived(&self) -> u32 {
        if self.counted.load(Relaxed) != self.generation() {
            return 0;
        }
        self.unnamed
            .load(Relaxed)
            .saturating_add(self.ledger.total() as u32)
    }

    fn add_arrival(&self) {
        let generation = self.generation();
        if self.counted.load(Relaxed) != generation {
            self.ledger.clear();
            self.unnamed.store(0, Relaxed);
            // Last: until then everything above is void anyway.
            self.counted.store(generation, Relaxed);
        }
        match self.me() {
            Some(me) => self.ledger.change(me, |share| share.saturating_add(1)),
            None => self
                .unnamed
                .store(self.unnamed.load(Relaxed).saturating_add(1), Relaxed),
        }
    }

    fn lives(&self) -> Lives {
        if self.is_shared() && self.counted.load(Relaxed) == self.generation() {
            self.ledger.lives()
        } else {
            Lives::NONE
        }
    }

    fn me(&self) -> Option<Member> {
        self.is_shared().then(member::current).flatten()
    }

    fn reason(&self) -> Broken {
        match self.reason.load(Relaxed) {
            TIMED_OUT => Broken::TimedOut,
            PARTY_DIED => Broken::PartyDied(Identity::unpack(self.dead.load(Relaxed))),
            ACTION_FAILED => Broken::ActionFailed,
            _ => Broken::Aborted,
        }
    }

    fn set_reason(&self, reason: Broken) {
        let (code, dead) = match reason {
            Broken::Aborted => (ABORTED, 0),
            Broken::TimedOut => (TIMED_OUT, 0),
            Broken::PartyDied(who) => (PARTY_DIED, who.map_or(0, Identity::pack)),
            Broken::ActionFailed => (ACTION_FAILED, 0),
        };
        self.dead.store(dead, Relaxed);
        self.reason.store(code, Relaxed);
    }

    fn enter(&self, deadline: Deadline) -> Option<ShortGuard<'_>> {
        self.section.lock_whole(deadline)
    }
}
