//! The calls of this process that wait for their answers.
//!
//! Many threads may wait, but the ring has one consumer. Whoever of them gets hold of it, the
//! *leader*, receives for all, until its own answer has come; then it wakes one that still waits,
//! which becomes the leader, or has its answer and wakes the next. So as long as somebody waits,
//! somebody leads or is about to, and a process with one thread needs no other.

use std::collections::HashMap;
use std::sync::Arc;

use manyhands_os::Deadline;
use manyhands_sync::{Event, Lock};

use crate::client::locked;
use crate::protocol::{Answer, CallNumber, GREETING};

/// What came back for a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The server's answer, and what was behind it.
    Answer(Answer, Vec<u8>),
    /// The server has ended.
    Gone,
}

/// A call that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) call: CallNumber,
    outcome: Lock<Option<Outcome>>,
    /// Set when the outcome is there, or when this call is to lead.
    event: Event,
}

impl Waiting {
    /// The outcome, once.
    pub(crate) fn take(&self) -> Option<Outcome> {
        locked(&self.outcome).take()
    }

    pub(crate) fn is_answered(&self) -> bool {
        locked(&self.outcome).is_some()
    }

    /// Sleeps until there is something to look at.
    pub(crate) fn sleep(&self, deadline: Deadline) {
        match deadline.remaining() {
            // Whether the time is over the caller sees for itself.
            Some(left) => drop(self.event.wait_timeout(left)),
            None => self.event.wait(),
        }
        // Before the caller looks: what is set from now on is for its next sleep.
        self.event.clear();
    }

    fn fill(&self, outcome: Outcome) {
        *locked(&self.outcome) = Some(outcome);
        self.event.set();
    }
}

/// All calls that wait.
#[derive(Debug)]
pub(crate) struct Pending {
    table: Lock<Table>,
}

#[derive(Debug)]
struct Table {
    last: CallNumber,
    waiting: HashMap<CallNumber, Arc<Waiting>>,
    gone: bool,
}

impl Pending {
    pub(crate) fn new() -> Self {
        Self {
            table: Lock::new(Table {
                last: GREETING,
                waiting: HashMap::new(),
                gone: false,
            }),
        }
    }

    /// A number for a new call, and its place in the table; `None` when the server is gone.
    pub(crate) fn register(&self) -> Option<Arc<Waiting>> {
        let mut table = locked(&self.table);
        if table.gone {
            return None;
        }
        table.last += 1;
        let waiting = Arc::new(Waiting {
            call: table.last,
            outcome: Lock::new(None),
            event: Event::new(),
        });
        table.waiting.insert(waiting.call, waiting.clone());
        Some(waiting)
    }

    /// Ends the wait of a call, and wakes another one, which may have to lead now.
    pub(crate) fn leave(&self, call: CallNumber) {
        let mut table = locked(&self.table);
        table.waiting.remove(&call);
        // Whoever is answered is out of the table.
        if let Some(next) = table.waiting.values().next() {
            next.event.set();
        }
    }

    /// Delivers an answer; false when nobody waits for it any more.
    pub(crate) fn deliver(&self, call: CallNumber, answer: Answer, body: &[u8]) -> bool {
        // Out of the table at once: an answer comes once, and `leave` need not look at it.
        let waiting = locked(&self.table).waiting.remove(&call);
        let Some(waiting) = waiting else {
            return false;
        };
        waiting.fill(Outcome::Answer(answer, body.to_vec()));
        true
    }

    /// Tells every call, now and later, that the server has ended.
    pub(crate) fn fail_all(&self) {
        let mut table = locked(&self.table);
        table.gone = true;
        for (_, waiting) in table.waiting.drain() {
            waiting.fill(Outcome::Gone);
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        locked(&self.table).gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_goes_to_the_call_that_asked() {
        let pending = Pending::new();
        let one = pending.register().expect("the server lives");
        let two = pending.register().expect("the server lives");
        assert!(pending.deliver(two.call, Answer::Done, b"two"));
        assert!(!one.is_answered());
        assert!(matches!(two.take(), Some(Outcome::Answer(Answer::Done, body)) if body == b"two"));
        assert!(!pending.deliver(two.call, Answer::Done, b"again"));
        assert!(!pending.deliver(99, Answer::Done, b"nobody"));
    }

    #[test]
    fn who_leaves_wakes_one_that_still_waits() {
        let pending = Pending::new();
        let one = pending.register().expect("the server lives");
        let two = pending.register().expect("the server lives");
        pending.leave(one.call);
        two.sleep(Deadline::NEVER);
        assert!(!two.is_answered());
    }

    #[test]
    fn every_call_ends_when_the_server_does() {
        let pending = Pending::new();
        let one = pending.register().expect("the server lives");
        pending.fail_all();
        one.sleep(Deadline::NEVER);
        assert!(matches!(one.take(), Some(Outcome::Gone)));
        assert!(pending.register().is_none());
        assert!(pending.is_gone());
    }
}
