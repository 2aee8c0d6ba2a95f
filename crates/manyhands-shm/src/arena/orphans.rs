//! The end of a process's children when it has died, by a process without a seat: its zygote.
//!
//! A child sits down, and then looks whether its parent lives; the zygote sees the parent dead, and then
//! looks who sits. One of them sees the other, so no child is forgotten.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;

use manyhands_os::Deadline;
use manyhands_os::futex::Watch;
use manyhands_os::process::{Identity, Pidfd};
use manyhands_sync::life::{self, Seen, WaitEnd};

use super::layout::SEATS;
use super::memory::Memory;
use super::word::SeatState;
use super::{Arena, PREPARED, Participant, Seat, lock};
use crate::error::ArenaError;

const SIGKILL: i32 = 9;

/// Sleeps while the word of `object` holds its value, in a process that has [prepared](super::prepare) and
/// not joined; `false` when `parent` has died. It may also end for no reason.
pub fn watch_parent(object: Watch<'_>, parent: Participant) -> bool {
    let seen = look(|memory| memory.see(parent));
    match seen.flatten() {
        Some(seen) => {
            let end = life::wait_any(&[object], &[seen], Deadline::NEVER);
            !matches!(end, WaitEnd::Death(_))
        }
        None => false,
    }
}

/// Kills the children of `parent`, which has died, but for those that [follow](Arena::follow) it by
/// themselves; in a process that has [prepared](super::prepare) and not joined.
pub fn end_children(parent: Participant) {
    let children = look(|memory| memory.children(parent)).unwrap_or_default();
    for child in children {
        // What was opened is that child, if it has its start time then.
        if let Ok(process) = Pidfd::open(child.pid)
            && child.is_running()
        {
            // One that has ended feels nothing.
            let _ = process.signal(SIGKILL);
        }
    }
}

fn look<R>(f: impl FnOnce(&Memory) -> R) -> Option<R> {
    lock(&PREPARED).as_ref().map(f)
}

impl Arena {
    /// Looks whether the parent lives, for who has [joined](super::join_here) and leaves it to the parent's
    /// zygote to [end it](end_children).
    ///
    /// # Errors
    ///
    /// [`ArenaError::ParentGone`].
    pub fn check_parent(&self, seat: Seat) -> Result<(), ArenaError> {
        // Pairs with the fence in `children`: this process has sat down.
        fence(SeqCst);
        match self.is_alive(seat.parent()) {
            true => Ok(()),
            false => Err(ArenaError::ParentGone {
                slot: seat.participant().slot(),
            }),
        }
    }
}

impl Memory {
    fn see(&self, participant: Participant) -> Option<Seen<'static>> {
        let seen = Seen::new(self.life(participant)?);
        // Once more: it is not the life of the seat's next user.
        self.seat_of(participant).map(|_| seen)
    }

    /// The children of a dead participant that somebody else has to end.
    pub(super) fn children(&self, parent: Participant) -> Vec<Identity> {
        // Pairs with the fence in `check_parent`: the parent was seen dead.
        fence(SeqCst);
        let who = parent.who();
        let successor = self.seat_word(parent.slot()).generation();
        if successor != parent.generation() && who.is_incarnation(successor) {
            // Children that bear this name are another's.
            return Vec::new();
        }
        let children = (0..SEATS).filter_map(|slot| {
            let word = self.seat_word(slot);
            // Relaxed: see `Arena::follow`.
            let follows = self.seat(slot).follows.load(Relaxed) == word.generation();
            let is_child = word.state() == SeatState::Taken && word.parent() == who;
            let child = Participant::new(slot, word.generation());
            (is_child && !follows).then(|| self.identity(child))?
        });
        children.collect()
    }
}
