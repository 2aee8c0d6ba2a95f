//! Many readers or one writer.

use std::sync::atomic::Ordering::Relaxed;

use manyhands_os::Deadline;

use crate::life::WaitEnd;
use crate::member::{self, Member};
use crate::primitive::futex::{self, Scope, Watch};
use crate::primitive::{AtomicU32, is_planted};
use crate::raw::ledger::{Ledger, Lives};
use crate::raw::{Acquired, RawLock, RefusedLock, ShortGuard, ShortLock};
use crate::shareable::LastPlace;
use crate::spin::Spin;

/// A lock for readers and writers in private or shared memory.
///
/// # Protocol
///
/// The *gate* is a robust lock. A writer holds it for its whole section; so the death of a writer is
/// the death of a holder of a robust lock, and told as such. While the `barred` flag is set, readers
/// pass through the gate too, and so wait for writers in turn; else they only note themselves.
///
/// 1. Reading: in the short section, if not barred, add one to the own share of the ledger. If
///    barred: pass the gate, and inside it, when nobody died there, take the flag back; then add.
/// 2. Writing: take the gate; in the section, set the flag, and look whether any reader is noted. If
///    so, sleep on `sequence` and on the lives of the readers; look again. Who only tries, and finds
///    a reader, leaves the gate and sets no flag.
/// 3. A reader leaves: if the gate is held, it moves the sequence on and **wakes**; then it takes its
///    share back, by one store. A writer that leaves leaves the gate; the flag stays for the next
///    reader to take back.
///
/// Flag and ledger change inside the section only, the flag inside the gate as well. A death inside
/// the section leaves one of them changed or not, each of which is right.
#[repr(C)]
pub(crate) struct RawRwLock {
    section: ShortLock,
    sequence: AtomicU32,
    barred: AtomicU32,
    /// Readers in private memory, and those of processes that are no members.
    unnamed: AtomicU32,
    shared: AtomicU32,
    spin: Spin,
    gate: RawLock,
    ledger: Ledger,
}

impl RawRwLock {
    pub(crate) const fn new() -> Self {
        Self {
            section: ShortLock::new(),
            sequence: AtomicU32::new(0),
            barred: AtomicU32::new(0),
            unnamed: AtomicU32::new(0),
            shared: AtomicU32::new(0),
            spin: Spin::new(),
            gate: RawLock::new(),
            ledger: Ledger::new(),
        }
    }

    pub(crate) fn placed(&self, here: LastPlace) {
        // Relaxed: before anybody else can see it.
        self.shared.store(1, Relaxed);
        self.gate.placed(here);
    }

    /// Becomes a reader; is told of a writer that died in its section.
    pub(crate) fn read(&self, deadline: Deadline) -> Result<Acquired, RefusedLock> {
        match self.read_unbarred(deadline) {
            Some(true) => Ok(Acquired::SOUND),
            Some(false) => self.read_through(self.gate.pass(deadline)?),
            None => Err(RefusedLock::TimedOut),
        }
    }

    /// Becomes a reader unless there is a writer.
    pub(crate) fn try_read(&self) -> Result<Acquired, RefusedLock> {
        match self.read_unbarred(Deadline::NEVER) {
            Some(true) => Ok(Acquired::SOUND),
            _ => self.read_through(self.gate.try_pass()?),
        }
    }

    /// `None` when the deadline passed before the short section was entered.
    fn read_unbarred(&self, deadline: Deadline) -> Option<bool> {
        let _inside = self.enter(deadline)?;
        let open = self.barred.load(Relaxed) == 0;
        if open {
            self.add_reader();
        }
        Some(open)
    }

    /// Becomes a reader inside the gate, and leaves the gate.
    fn read_through(&self, passing: Acquired) -> Result<Acquired, RefusedLock> {
        if let Some(_inside) = self.enter(Deadline::NEVER) {
            // Who died in the gate is to be told to every reader until a writer has repaired.
            if passing.owner_died().is_none() {
                self.barred.store(0, Relaxed);
            }
            self.add_reader();
        }
        // SAFETY: this thread passed into the gate in `read` or `try_read`.
        unsafe { self.gate.unlock() };
        Ok(passing)
    }

    /// Stops being a reader.
    pub(crate) fn leave_read(&self) {
        if let Some(_inside) = self.enter(Deadline::NEVER) {
            if self.gate.holder().is_some() {
                if !is_planted("rwlock") {
                    self.sequence
                        .store(self.sequence.load(Relaxed).wrapping_add(1), Relaxed);
                }
                futex::wake_all(&self.sequence, Scope::Shared);
            }
            match self.me() {
                Some(me) => self.ledger.change(me, |share| share.saturating_sub(1)),
                None => self
                    .unnamed
                    .store(self.unnamed.load(Relaxed).saturating_sub(1), Relaxed),
            }
        }
    }

    /// Becomes the writer; is told of a writer that died in its section.
    pub(crate) fn write(&self, deadline: Deadline) -> Result<Acquired, RefusedLock> {
        // Passed first and signed later: a death among the readers' last damages nothing.
        let passing = self.gate.pass(deadline)?;
        if self.wait_for_readers(deadline) {
            self.gate.sign_now();
            return Ok(passing);
        }
        // SAFETY: this thread passed into the gate above.
        unsafe { self.gate.unlock() };
        Err(RefusedLock::TimedOut)
    }

    /// Becomes the writer if there are no readers and no writer.
    pub(crate) fn try_write(&self) -> Result<Acquired, RefusedLock> {
        let passing = self.gate.try_pass()?;
        if self.wait_for_readers(Deadline::now()) {
            self.gate.sign_now();
            return Ok(passing);
        }
        // SAFETY: this thread passed into the gate above.
        unsafe { self.gate.unlock() };
        Err(RefusedLock::TimedOut)
    }

    /// Bars the gate and waits until no reader is left; false when the deadline passed first.
    fn wait_for_readers(&self, deadline: Deadline) -> bool {
        loop {
            let (expected, lives) = {
                let Some(_inside) = self.enter(Deadline::NEVER) else {
                    return false;
                };
                if self.readers() > 0 && self.is_shared() {
                    self.ledger.drop_dead();
                }
                let is_free = self.readers() == 0;
                if !is_free && deadline.has_passed() {
                    // Who does not wait holds nobody back.
                    return false;
                }
                self.barred.store(1, Relaxed);
                if is_free {
                    return true;
                }
                let lives = if self.is_shared() {
                    self.ledger.lives()
                } else {
                    Lives::NONE
                };
                (self.sequence.load(Relaxed), lives)
            };
            let object = Watch {
                word: &self.sequence,
                expected,
                scope: Scope::Shared,
            };
            if lives.wait(&self.ledger, &self.spin, object, deadline) == WaitEnd::TimedOut {
                return false;
            }
        }
    }

    /// Stops being the writer.
    ///
    /// # Safety
    ///
    /// The calling thread must be the writer.
    pub(crate) unsafe fn leave_write(&self) {
        // SAFETY: the writer holds the gate.
        unsafe { self.gate.unlock() };
    }

    /// Declares the data consistent again; the calling thread is the writer.
    pub(crate) fn mark_consistent(&self) {
        self.gate.mark_consistent();
    }

    /// All readers, for information outside of the section.
    pub(crate) fn readers(&self) -> u64 {
        self.ledger.total() + u64::from(self.unnamed.load(Relaxed))
    }

    /// Whether readers pass through the gate, for information.
    pub(crate) fn is_barred(&self) -> bool {
        self.barred.load(Relaxed) != 0
    }

    /// The gate, for information: a writer, or who passes.
    pub(crate) fn gate(&self) -> &RawLock {
        &self.gate
    }

    pub(crate) fn is_shared(&self) -> bool {
        // Relaxed: set before anybody else could see it.
        self.shared.load(Relaxed) != 0
    }

    /// One more reader; inside the section.
    fn add_reader(&self) {
        match self.me() {
            Some(me) => self.ledger.change(me, |share| share.saturating_add(1)),
            None => self
                .unnamed
                .store(self.unnamed.load(Relaxed).saturating_add(1), Relaxed),
        }
    }

    fn me(&self) -> Option<Member> {
        self.is_shared().then(member::current).flatten()
    }

    fn enter(&self, deadline: Deadline) -> Option<ShortGuard<'_>> {
        self.section.lock_whole(deadline)
    }
}
