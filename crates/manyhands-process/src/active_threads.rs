//! The threads that run now.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// A thread that was running when it was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActiveThread {
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Its id among the threads of this process.
    pub id: ThreadId,
    /// Its id in the system's lists.
    pub system_id: u32,
}

/// By system id, so that the list has the order of starting as long as numbers do not wrap.
static ACTIVE: Mutex<BTreeMap<u32, ActiveThread>> = Mutex::new(BTreeMap::new());

fn active() -> MutexGuard<'static, BTreeMap<u32, ActiveThread>> {
    ACTIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads that were started by [`Thread`](crate::Thread) and [`Timer`](crate::Timer) and
/// whose functions run now. One that was joined is never among them.
///
/// The first thread of the process and those of other libraries are not listed; the system's
/// own list is `/proc/self/task`.
///
/// # Examples
///
/// ```
/// use manyhands_process::{Thread, active_threads};
///
/// let (send, receive) = std::sync::mpsc::channel::<()>();
/// let (started, has_started) = std::sync::mpsc::channel();
/// let thread = Thread::builder().name("reader").spawn(move || {
///     started.send(()).expect("somebody listens");
///     receive.recv().is_err()
/// })?;
/// has_started.recv()?;
/// assert_eq!(active_threads()[0].name.as_deref(), Some("reader"));
/// drop(send);
/// assert!(thread.join()?);
/// assert!(active_threads().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `threading.enumerate()`, `active_count()`.
pub fn active_threads() -> Vec<ActiveThread> {
    active().values().cloned().collect()
}

/// Whether the calling thread is the first of its process: the one that runs `main`, or in a child
/// its function.
///
/// # Examples
///
/// ```
/// use manyhands_process::{Process, Thread, in_main_thread};
///
/// assert!(Process::spawn(in_main_thread, ())?.join()?);
/// assert!(!Thread::spawn(in_main_thread)?.join()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `threading.current_thread() is threading.main_thread()`.
pub fn in_main_thread() -> bool {
    manyhands_os::process::thread_id() == std::process::id()
}

/// A thread's place in the list, until it is dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    system_id: u32,
}

/// Lists the calling thread.
pub(crate) fn enter(name: Option<String>) -> Entry {
    let system_id = manyhands_os::process::thread_id();
    let thread = ActiveThread {
        name,
        id: thread::current().id(),
        system_id,
    };
    active().insert(system_id, thread);
    Entry { system_id }
}

impl Drop for Entry {
    fn drop(&mut self) {
        active().remove(&self.system_id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use manyhands_sync::Event;

    use super::*;
    use crate::Thread;

    /// Other tests have threads too, so that only names of this one count.
    fn listed(name: &str) -> Vec<ActiveThread> {
        let mut threads = active_threads();
        threads.retain(|thread| thread.name.as_deref() == Some(name));
        threads
    }

    #[test]
    fn thread_05_11_and_33_threads_are_listed_from_their_start_to_their_end() {
        const NAME: &str = "listed";
        let (gate, started) = (Arc::new(Event::new()), Arc::new(Event::new()));
        let (their_gate, their_start) = (Arc::clone(&gate), Arc::clone(&started));
        let thread = Thread::builder().name(NAME).spawn(move || {
            their_start.set();
            their_gate.wait();
            thread::current().id()
        });
        let thread = thread.expect("it starts");
        started.wait();
        let found = listed(NAME);
        assert_eq!(found.len(), 1);
        gate.set();
        assert_eq!(thread.join(), Ok(found[0].id));
        assert_eq!(listed(NAME), []);
        for _ in 0..100 {
            let thread = Thread::builder().name(NAME).spawn(|| ());
            assert_eq!(thread.expect("it starts").join(), Ok(()));
            assert_eq!(listed(NAME), []);
        }
        let panics = Thread::builder().name(NAME).spawn(|| panic!("on purpose"));
        assert!(panics.expect("it starts").join().is_err());
        assert_eq!(listed(NAME), []);
    }
}
