//! Runs a list of files, so many at a time, and hands each end to one place, in any order.

use crate::fatal::Fatal;
use crate::verdict::{Record, Verdict};
use crate::walk::Entry;
use crate::way::{Ending, Way};
use crate::work::Job;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How often [`Event::Tick`] comes when nothing else does.
const TICK: Duration = Duration::from_millis(200);

/// What the caller of [`drive`] is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A file has its verdict.
    Finished(Record),
    /// Time has passed.
    Tick,
}

/// An entry and what to do with it.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) entry: Entry,
    pub(crate) job: Job,
}

/// Runs `tasks` by `way`, `jobs` at the same time.
///
/// # Errors
///
/// The first of: what `told` returns, a full OUT, no workers. Files in flight are ended first.
pub(crate) fn drive(
    way: &dyn Way,
    tasks: &[Task],
    jobs: usize,
    mut told: impl FnMut(Event) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let stop = AtomicBool::new(false);
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..jobs.min(tasks.len()) {
            let sender = sender.clone();
            let drivers = thread::Builder::new()
                .name("rescue-driver".into())
                .stack_size(8 << 20);
            let (stop, next) = (&stop, &next);
            let spawned =
                drivers.spawn_scoped(scope, move || work(way, tasks, next, stop, &sender));
            if let Err(error) = spawned {
                stop.store(true, Ordering::Relaxed);
                return Err(Fatal::new(format!("cannot start a thread: {error}")));
            }
        }
        drop(sender);
        let outcome = loop {
            let told = match receiver.recv_timeout(TICK) {
                Ok(Ok(record)) => told(Event::Finished(record)),
                Ok(Err(fatal)) => Err(fatal),
                Err(RecvTimeoutError::Timeout) => told(Event::Tick),
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
            };
            if let Err(fatal) = told {
                break Err(fatal);
            }
        };
        if outcome.is_err() {
            // Relaxed: a driver that sees it late runs one more file, which changes nothing.
            stop.store(true, Ordering::Relaxed);
            way.stop();
        }
        outcome
    })
}

/// One thread: takes the next file, waits for its end, tells it.
fn work(
    way: &dyn Way,
    tasks: &[Task],
    next: &AtomicU64,
    stop: &AtomicBool,
    sender: &Sender<Result<Record, Fatal>>,
) {
    while !stop.load(Ordering::Relaxed) {
        // Relaxed: each index is given out once; the tasks were there before the threads.
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(task) = usize::try_from(index)
            .ok()
            .and_then(|index| tasks.get(index))
        else {
            return;
        };
        let start = Instant::now();
        let verdict = match task.entry.refused.clone() {
            Some(reason) => Ok(Verdict::Error { reason }),
            None => match way.examine(task.job.clone()) {
                Ending::Verdict(verdict) => Ok(verdict),
                Ending::OutFailed(line) => Err(Fatal::new(format!("cannot write {line}"))),
                Ending::Broken(line) => Err(Fatal::new(line)),
            },
        };
        let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let file = task.entry.name.clone();
        if sender
            .send(verdict.map(|verdict| Record {
                file,
                verdict,
                took_ms,
            }))
            .is_err()
        {
            return;
        }
    }
}
