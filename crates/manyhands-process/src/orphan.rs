//! What becomes of a process whose parent has died.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use manyhands_os::process::Pidfd;
use manyhands_os::{Deadline, signals};
use manyhands_shm::ArenaError;
use manyhands_shm::arena::{self, Arena, Seat};
use serde::{Deserialize, Serialize};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// What becomes of a process when its parent has died, by whatever cause.
///
/// It ends in any case: what it works for is gone, and so are its arguments' other owners and the
/// one who would take its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OnParentDeath {
    /// It is killed at once.
    #[default]
    Kill,
    /// It is asked to end, by `SIGTERM`, and killed after this time.
    Terminate {
        /// The time.
        grace: Duration,
    },
}

/// How long this process may go on without its parent; not at all if not chosen.
static GRACE: OnceLock<Duration> = OnceLock::new();

/// Has this member of the family end when its parent has died: at once as long as nothing else is
/// [chosen](choose).
pub(crate) fn follow(arena: &Arena, seat: Seat) -> Result<(), ArenaError> {
    arena.follow(seat, Some(end))
}

/// Chooses how this process ends when its parent has died.
pub(crate) fn choose(on_parent_death: OnParentDeath) {
    match on_parent_death {
        OnParentDeath::Kill => {}
        OnParentDeath::Terminate { grace } => {
            GRACE.get_or_init(|| grace);
        }
    }
}

/// Called by the keeper when the parent has died.
fn end() {
    match GRACE.get() {
        Some(grace) => terminate(*grace),
        None => arena::end_with_parent(),
    }
}

/// The keeper must go on; so the kill is left to another thread, or comes at once if there is none.
fn terminate(grace: Duration) {
    let Ok(myself) = Pidfd::open(std::process::id()) else {
        std::process::abort();
    };
    // A process may always signal itself.
    let _ = myself.signal(SIGTERM);
    let kill = move || {
        // Ends with the process, if that ends before.
        let _ = myself.wait_end(Deadline::after(grace));
        let _ = myself.signal(SIGKILL);
    };
    let killer = thread::Builder::new().name("manyhands-orphan".into());
    if signals::blocked(|| killer.spawn(kill)).is_err() {
        std::process::abort();
    }
}
