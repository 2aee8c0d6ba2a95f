//! The thread that holds the life words of its process, and watches those of others.
//!
//! A robust word is marked when its *thread* ends, so the word that stands for a whole process
//! must be held by a thread that lives as long as the process. There is one such thread a
//! process, `manyhands-keeper`, started when first needed. It blocks all signals, so that no
//! handler of the user's runs in it, sleeps all the time, and takes no memory of the allocator.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{error, fmt, io};

use manyhands_os::Deadline;
use manyhands_os::process::incarnation;
use manyhands_os::thread::{Resident, start_resident};

use crate::life::{LifeWord, MAX_LIVES, WaitEnd, wait};
use crate::primitive::AtomicU32;
use crate::primitive::futex::{self, Scope, Watch};

/// Why the keeper did not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeeperError {
    /// The system did not let the keeper thread start.
    Os(io::Error),
    /// Another process, or this one, holds the life word already.
    NotVacant,
    /// The keeper watches as many lives as it can.
    TooManyWatched,
}

impl fmt::Display for KeeperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(source) => write!(f, "cannot start the keeper thread: {source}"),
            Self::NotVacant => f.write_str("the life word is not vacant"),
            Self::TooManyWatched => write!(f, "the keeper watches {MOST_WATCHED} lives already"),
        }
    }
}

impl error::Error for KeeperError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Os(source) => Some(source),
            Self::NotVacant | Self::TooManyWatched => None,
        }
    }
}

/// Takes a life word for the calling process; it is alive when this returns.
///
/// # Errors
///
/// [`KeeperError`]; the word is as it was then.
///
/// # Examples
///
/// ```
/// use manyhands_sync::keeper;
/// use manyhands_sync::life::LifeWord;
///
/// static LIFE: LifeWord = LifeWord::new();
/// keeper::hold(&LIFE)?;
/// assert!(LIFE.is_alive());
/// # Ok::<(), keeper::KeeperError>(())
/// ```
pub fn hold(life: &'static LifeWord) -> Result<(), KeeperError> {
    let _asking = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
    {
        let mut desk = desk()?;
        desk.order = Some(life);
        desk.answer = None;
    }
    ring();
    loop {
        // Acquire: pairs with the Release in `read_desk`.
        let seen = ANSWERS.load(Acquire);
        let answer = {
            let mut desk = DESK.lock().unwrap_or_else(PoisonError::into_inner);
            desk.answer.take()
        };
        match answer {
            Some(true) => return Ok(()),
            Some(false) => return Err(KeeperError::NotVacant),
            // The keeper answers every order, and never ends.
            None => drop(futex::wait(&ANSWERS, seen, Scope::Private, Deadline::NEVER)),
        }
    }
}

/// Has the keeper call `then` once when that life has ended; at once when it has ended already.
///
/// `then` runs on the keeper's thread, with all signals blocked: it must be short, and must not
/// call this module. This does not wait for the keeper.
///
/// # Errors
///
/// [`KeeperError`]; `then` will not be called then.
pub fn on_death(life: &'static LifeWord, then: fn()) -> Result<(), KeeperError> {
    let mut desk = desk()?;
    let count = desk.count;
    *desk
        .watched
        .get_mut(count)
        .ok_or(KeeperError::TooManyWatched)? = (life, then);
    desk.count += 1;
    drop(desk);
    ring();
    Ok(())
}

/// A process watches its parent, and hardly anybody else.
const MOST_WATCHED: usize = 8;
const _: () = assert!(MOST_WATCHED <= MAX_LIVES);

/// A life to watch, and what to do at its end.
type Watched = (&'static LifeWord, fn());

/// What the keeper is to do, and in which incarnation of the process it runs. Of fixed size, for the
/// keeper takes no memory.
struct Desk {
    staffed_in: Option<u32>,
    /// To hold; one at a time.
    order: Option<&'static LifeWord>,
    /// Whether it is held.
    answer: Option<bool>,
    /// The first `count` are watched.
    watched: [Watched; MOST_WATCHED],
    count: usize,
}

const NOBODY: Watched = {
    static NEVER: LifeWord = LifeWord::new();
    fn nothing() {}
    (&NEVER, nothing)
};

static DESK: Mutex<Desk> = Mutex::new(Desk {
    staffed_in: None,
    order: None,
    answer: None,
    watched: [NOBODY; MOST_WATCHED],
    count: 0,
});

/// Held by who has an order on the desk.
static ASKING: Mutex<()> = Mutex::new(());

/// Counts what was laid on the desk; the keeper sleeps on it.
static BELL: AtomicU32 = AtomicU32::new(0);
/// Counts the answers; who asked sleeps on it.
static ANSWERS: AtomicU32 = AtomicU32::new(0);

static KEEPER: Resident = Resident {
    name: c"manyhands-keeper",
    life: keep,
};

/// The desk, with a keeper behind it.
fn desk() -> Result<MutexGuard<'static, Desk>, KeeperError> {
    let mut desk = DESK.lock().unwrap_or_else(PoisonError::into_inner);
    // A forked child has the parent's memory and not its threads.
    if desk.staffed_in != Some(incarnation()) {
        desk.order = None;
        desk.count = 0;
        start_resident(&KEEPER).map_err(|refused| KeeperError::Os(refused.source))?;
        desk.staffed_in = Some(incarnation());
    }
    Ok(desk)
}

fn ring() {
    // Release: pairs with the Acquire in `keep`.
    BELL.fetch_add(1, Release);
    futex::wake_all(&BELL, Scope::Private);
}

fn keep() -> ! {
    loop {
        // Acquire: pairs with the Release in `ring`.
        let seen = BELL.load(Acquire);
        let (watched, count) = read_desk();
        let bell = Watch {
            word: &BELL,
            expected: seen,
            scope: Scope::Private,
        };
        let lives = watched.map(|(life, _)| life);
        if let WaitEnd::Death(index) = wait(bell, &lives[..count], Deadline::NEVER) {
            forget(index);
            let (_, then) = watched[index];
            then();
        }
    }
}

/// Does what is ordered; gives what is to be watched.
fn read_desk() -> ([Watched; MOST_WATCHED], usize) {
    let mut desk = DESK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(life) = desk.order.take() {
        desk.answer = Some(life.hold());
        // Release: pairs with the Acquire in `hold`.
        ANSWERS.fetch_add(1, Release);
        futex::wake_all(&ANSWERS, Scope::Private);
    }
    (desk.watched, desk.count)
}

/// Takes one off the list; the keeper alone does, so that nothing before it has moved meanwhile.
fn forget(index: usize) {
    let mut desk = DESK.lock().unwrap_or_else(PoisonError::into_inner);
    desk.count -= 1;
    let last = desk.count;
    desk.watched.swap(index, last);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn word_held_by_the_keeper_outlives_the_thread_that_asked() {
        static LIFE: LifeWord = LifeWord::new();
        std::thread::spawn(|| hold(&LIFE))
            .join()
            .expect("no panic")
            .expect("held");
        assert!(LIFE.is_alive());
        assert!(matches!(hold(&LIFE), Err(KeeperError::NotVacant)));
    }

    #[test]
    fn keeper_calls_when_a_watched_life_ends() {
        static LIFE: LifeWord = LifeWord::new();
        static CALLED: AtomicU32 = AtomicU32::new(0);
        let (held, is_held) = sync_channel(0);
        let (end, ended) = sync_channel::<()>(0);
        let victim = std::thread::spawn(move || {
            assert!(LIFE.hold());
            held.send(()).expect("the test waits");
            let _ = ended.recv();
        });
        is_held.recv().expect("the victim runs");
        on_death(&LIFE, || {
            CALLED.store(1, Release);
            futex::wake_all(&CALLED, Scope::Private);
        })
        .expect("watched");
        assert_eq!(CALLED.load(Acquire), 0);
        drop(end);
        victim.join().expect("no panic");
        while CALLED.load(Acquire) == 0 {
            let _ = futex::wait(&CALLED, 0, Scope::Private, Deadline::NEVER);
        }
    }
}
