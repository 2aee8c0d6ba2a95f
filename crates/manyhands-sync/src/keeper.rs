//! The thread that holds the life words of its process, and watches those of others.
//!
//! A robust word is marked when its *thread* ends, so the word that stands for a whole process
//! must be held by a thread that lives as long as the process. There is one such thread a
//! process, `manyhands-keeper`, started when first needed. It blocks all signals, so that no
//! handler of the user's runs in it, and sleeps all the time.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::{error, fmt, io, thread};

use manyhands_os::Deadline;
use manyhands_os::process::incarnation;
use manyhands_os::signals;

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
    /// The keeper watches as many lives as one wait can.
    TooManyWatched,
}

impl fmt::Display for KeeperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(source) => write!(f, "cannot start the keeper thread: {source}"),
            Self::NotVacant => f.write_str("the life word is not vacant"),
            Self::TooManyWatched => write!(f, "the keeper watches {MAX_LIVES} lives already"),
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
    ask(Order::Hold(life))
}

/// Has the keeper call `then` once when that life has ended; at once when it has ended already.
///
/// `then` runs on the keeper's thread, with all signals blocked: it must be short, and must not
/// call this module.
///
/// # Errors
///
/// [`KeeperError`]; `then` will not be called then.
pub fn on_death(life: &'static LifeWord, then: fn()) -> Result<(), KeeperError> {
    ask(Order::OnDeath(life, then))
}

enum Order {
    Hold(&'static LifeWord),
    OnDeath(&'static LifeWord, fn()),
}

type Reply = SyncSender<Result<(), KeeperError>>;

/// What was asked and not yet done, and in which incarnation of the process a keeper runs.
struct Desk {
    orders: Vec<(Order, Reply)>,
    staffed_in: Option<u32>,
}

static DESK: Mutex<Desk> = Mutex::new(Desk {
    orders: Vec::new(),
    staffed_in: None,
});

/// Counts the orders; the keeper sleeps on it.
static BELL: AtomicU32 = AtomicU32::new(0);

fn ask(order: Order) -> Result<(), KeeperError> {
    let (reply, answer) = sync_channel(1);
    {
        let mut desk = DESK.lock().unwrap_or_else(PoisonError::into_inner);
        // A forked child has the parent's memory and not its threads.
        if desk.staffed_in != Some(incarnation()) {
            desk.orders.clear();
            start()?;
            desk.staffed_in = Some(incarnation());
        }
        desk.orders.push((order, reply));
    }
    // Release: pairs with the Acquire in `keep`.
    BELL.fetch_add(1, Release);
    futex::wake_all(&BELL, Scope::Private);
    match answer.recv() {
        Ok(done) => done,
        Err(_) => unreachable!("the keeper answers every order and never ends"),
    }
}

fn start() -> Result<(), KeeperError> {
    let builder = thread::Builder::new()
        .name("manyhands-keeper".into())
        .stack_size(64 << 10);
    signals::blocked(|| builder.spawn(keep))
        .map(drop)
        .map_err(KeeperError::Os)
}

fn keep() {
    let mut watched: Vec<(&'static LifeWord, fn())> = Vec::new();
    loop {
        // Acquire: pairs with the Release in `ask`.
        let seen = BELL.load(Acquire);
        let orders = {
            let mut desk = DESK.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut desk.orders)
        };
        for (order, reply) in orders {
            // The asker waits for the reply, so it can be sent.
            let _ = reply.send(obey(order, &mut watched));
        }
        let lives: Vec<&LifeWord> = watched.iter().map(|(life, _)| *life).collect();
        let bell = Watch {
            word: &BELL,
            expected: seen,
            scope: Scope::Private,
        };
        if let WaitEnd::Death(index) = wait(bell, &lives, Deadline::NEVER) {
            let (_, then) = watched.swap_remove(index);
            then();
        }
    }
}

fn obey(order: Order, watched: &mut Vec<(&'static LifeWord, fn())>) -> Result<(), KeeperError> {
    match order {
        Order::Hold(life) if life.hold() => Ok(()),
        Order::Hold(_) => Err(KeeperError::NotVacant),
        Order::OnDeath(..) if watched.len() == MAX_LIVES => Err(KeeperError::TooManyWatched),
        Order::OnDeath(life, then) => {
            watched.push((life, then));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
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
