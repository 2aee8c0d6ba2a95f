//! The processes that this one has started and that have not ended, and those of them that its own
//! end waits for.

use std::os::fd::AsFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_os::descriptor::poll_readable;
use manyhands_os::process::Pidfd;
use manyhands_os::{Deadline, OsError, start};

use crate::abandoned;

/// A child that was running when it was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActiveChild {
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Its process id.
    pub id: u32,
    /// Whether it is killed when this process exits, and not waited for.
    pub is_daemon: bool,
}

/// A child in the list.
#[derive(Debug)]
struct Entry {
    child: ActiveChild,
    process: Arc<Pidfd>,
}

/// In the order of starting.
static CHILDREN: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

fn children() -> MutexGuard<'static, Vec<Entry>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processes that this one has started and that have not ended, in the order of starting: also
/// those whose handles were dropped.
///
/// # Examples
///
/// ```
/// use manyhands_process::{Process, active_children};
///
/// let forever = || loop {
///     std::thread::park();
/// };
/// let mut process: Process<()> = Process::builder().name("sleeper").spawn(forever, ())?;
/// let children = active_children();
/// assert_eq!(children[0].name.as_deref(), Some("sleeper"));
/// assert_eq!(children[0].id, process.id());
/// process.kill()?;
/// assert!(process.join().is_err());
/// assert!(active_children().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `multiprocessing.active_children()`.
pub fn active_children() -> Vec<ActiveChild> {
    abandoned::sweep();
    let list = children();
    let running = list.iter().filter(|entry| !entry.process.has_ended());
    running.map(|entry| entry.child.clone()).collect()
}

/// Lists a child that runs.
pub(crate) fn enter(child: ActiveChild, process: &Arc<Pidfd>) {
    let process = Arc::clone(process);
    children().push(Entry { child, process });
}

/// Takes a child that has ended out of the list.
pub(crate) fn leave(process: &Arc<Pidfd>) {
    children().retain(|entry| !Arc::ptr_eq(&entry.process, process));
}

/// The process that waits for its children when it exits: a fork of it has the handler too. Zero
/// before the first such child. Relaxed: forks come later than what their parents did.
static WAITING: AtomicU32 = AtomicU32::new(0);

/// Has this process wait at its exit for its children that are no daemons.
pub(crate) fn wait_at_exit() -> Result<(), OsError> {
    let me = std::process::id();
    if WAITING.swap(me, Relaxed) == me {
        return Ok(());
    }
    // A handler that was refused is asked for again the next time.
    start::at_exit(wait_for_children).inspect_err(|_| WAITING.store(0, Relaxed))
}

extern "C" fn wait_for_children() {
    if WAITING.load(Relaxed) != std::process::id() {
        return;
    }
    // Another thread may start one meanwhile.
    while let Some(process) = next_to_wait_for() {
        if poll_readable(&[process.as_fd()], Deadline::NEVER).is_err() {
            return;
        }
    }
}

fn next_to_wait_for() -> Option<Arc<Pidfd>> {
    let list = children();
    let mut waited_for = list.iter().filter(|entry| !entry.child.is_daemon);
    let running = waited_for.find(|entry| !entry.process.has_ended())?;
    Some(Arc::clone(&running.process))
}
