//! What becomes of a process whose parent has died.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use manyhands_os::process::Pidfd;
use manyhands_os::{Deadline, signals};
use manyhands_shm::ArenaError;
use manyhands_shm::arena::{Arena, Seat};
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

/// How long this process may go on without its parent.
static GRACE: OnceLock<Duration> = OnceLock::new();

/// Has this member of the family end as is chosen when its parent has died.
pub(crate) fn follow(
    arena: &Arena,
    seat: Seat,
    on_parent_death: OnParentDeath,
) -> Result<(), ArenaError> {
    match on_parent_death {
        OnParentDeath::Kill => arena.follow(seat, None),
        OnParentDeath::Terminate { grace } => {
            GRACE.get_or_init(|| grace);
            arena.follow(seat, Some(terminate))
        }
    }
}

/// Called by the keeper, which must go on; so the kill is left to another thread, or comes at once
/// if there is none.
fn terminate() {
    let Ok(myself) = Pidfd::open(std::process::id()) else {
        std::process::abort();
    };
    // A process may always signal itself.
    let _ = myself.signal(SIGTERM);
    let kill = move || {
        let grace = GRACE.get().copied().unwrap_or_default();
        // Ends with the process, if that ends before.
        let _ = myself.wait_end(Deadline::after(grace));
        let _ = myself.signal(SIGKILL);
    };
    let killer = thread::Builder::new().name("manyhands-orphan".into());
    if signals::blocked(|| killer.spawn(kill)).is_err() {
        std::process::abort();
    }
}
