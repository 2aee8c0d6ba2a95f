//! What becomes of a process whose parent has died.

use std::io::PipeReader;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use manyhands_os::process::Pidfd;
use manyhands_os::{Deadline, OsError, lifeline, setup, signals};
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

/// What kills a fork that is left to its parent's zygote, if that is dead too.
static LIFELINE: Mutex<Option<PipeReader>> = Mutex::new(None);

/// Leaves it to the parent's zygote to kill this fork when its parent has died, and to the kernel when that
/// closes the parent's files: a zygote that was killed kills nobody. For both the parent must live when
/// this fork has its seat.
pub(crate) fn leave_to_zygote(lifeline: PipeReader) -> Result<(), OsError> {
    // A zygote without standard streams may have it under the number of one.
    let lifeline = PipeReader::from(setup::above_streams(lifeline.into())?);
    lifeline::die_with_writer(&lifeline)?;
    *LIFELINE.lock().unwrap_or_else(PoisonError::into_inner) = Some(lifeline);
    Ok(())
}

/// Has this process end by itself when its parent has died, by a thread that watches the parent.
pub(crate) fn follow(
    arena: &Arena,
    seat: Seat,
    on_parent_death: OnParentDeath,
) -> Result<(), ArenaError> {
    if let OnParentDeath::Terminate { grace } = on_parent_death {
        GRACE.get_or_init(|| grace);
    }
    arena.follow(seat, Some(end))?;
    let mut lifeline = LIFELINE.lock().unwrap_or_else(PoisonError::into_inner);
    // Nobody else may end it before its time.
    *lifeline = None;
    Ok(())
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
