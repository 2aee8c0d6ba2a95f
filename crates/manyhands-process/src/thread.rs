//! A function that runs in a thread of its own.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use manyhands_os::{Deadline, fault, start};
use manyhands_sync::Event;

use crate::active_threads;
use crate::panics::{Panic, run_caught};
use crate::thread_hook;

/// A function that runs in another thread, and the value that it will return.
///
/// The thread goes on when the handle is dropped, and ends with the process. In a child its stack is
/// watched: an overflow is [`Exit::StackOverflow`](crate::Exit::StackOverflow) to the parent, and not
/// a `SIGSEGV`, as one of `std::thread` is there.
///
/// # Examples
///
/// ```
/// use manyhands_process::Thread;
///
/// let words = vec!["many", "hands"];
/// let thread = Thread::builder().name("counter").spawn(move || words.len())?;
/// assert_eq!(thread.join()?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `threading.Thread(target=f)`, `start()`; here the value comes back, and a panic is an
/// error and not a text on the terminal.
pub struct Thread<R> {
    shared: Arc<Shared<R>>,
    handle: Mutex<Option<JoinHandle<()>>>,
    id: ThreadId,
    name: Option<String>,
}

struct Shared<R> {
    done: Event,
    result: Mutex<Option<Result<R, Panic>>>,
}

/// Why [`Thread::join`] brought no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ThreadError {
    /// The function panicked.
    #[error(transparent)]
    Panicked(Panic),
    /// The value, or the panic, was taken by an earlier call.
    #[error("the result of the thread was taken already")]
    Taken,
    /// A thread that waits for its own end would wait for ever.
    #[error("a thread cannot join itself")]
    IsCurrent,
}

impl Thread<()> {
    /// Chooses more than the function: name and stack.
    pub fn builder() -> ThreadBuilder {
        ThreadBuilder {
            name: None,
            stack_size: None,
        }
    }
}

impl<R: Send + 'static> Thread<R> {
    /// Calls `f` in a new thread.
    ///
    /// # Errors
    ///
    /// When the system has no more threads to give.
    pub fn spawn<F>(f: F) -> io::Result<Self>
    where
        F: FnOnce() -> R + Send + 'static,
    {
        Thread::builder().spawn(f)
    }
}

impl<R> Thread<R> {
    /// Waits until the thread has ended; returns the function's value.
    ///
    /// Any number of threads may wait at once; one of them gets the value, the others learn that it
    /// was taken.
    ///
    /// # Errors
    ///
    /// [`ThreadError`]: the panic that ended the function, that the value was taken before, or that
    /// this is the thread itself.
    pub fn join(&self) -> Result<R, ThreadError> {
        loop {
            if let Some(value) = self.wait_value(Deadline::NEVER)? {
                return Ok(value);
            }
        }
    }

    /// As [`join`](Self::join), but returns `None` at once while the function runs.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn try_join(&self) -> Result<Option<R>, ThreadError> {
        self.wait_value(Deadline::now())
    }

    /// As [`join`](Self::join), but returns `None` after `timeout`; the thread can be joined again.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<Option<R>, ThreadError> {
        self.wait_value(Deadline::after(timeout))
    }

    /// As [`join`](Self::join), but returns `None` at `deadline`; the thread can be joined again.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_deadline(&self, deadline: Instant) -> Result<Option<R>, ThreadError> {
        self.wait_value(Deadline::at(deadline))
    }

    /// Whether the function has not returned yet.
    pub fn is_alive(&self) -> bool {
        !self.shared.done.is_set()
    }

    /// The thread's name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn wait_value(&self, deadline: Deadline) -> Result<Option<R>, ThreadError> {
        if self.id == thread::current().id() {
            return Err(ThreadError::IsCurrent);
        }
        if !self.wait_done(deadline) {
            return Ok(None);
        }
        let handle = self
            .handle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(handle) = handle {
            // The function's panic was caught; what is left are destructors of thread-locals,
            // whose panics end the process.
            let _ = handle.join();
        }
        let mut result = self
            .shared
            .result
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match result.take() {
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(panic)) => Err(ThreadError::Panicked(panic)),
            None => Err(ThreadError::Taken),
        }
    }

    fn wait_done(&self, deadline: Deadline) -> bool {
        match deadline.remaining() {
            Some(left) => self.shared.done.wait_timeout(left),
            None => {
                self.shared.done.wait();
                true
            }
        }
    }
}

impl<R> fmt::Debug for Thread<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("name", &self.name)
            .field("is_alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}

/// Everything about a thread that is to be started, except its function.
#[derive(Clone, Debug)]
#[must_use = "a builder starts nothing until `spawn`"]
pub struct ThreadBuilder {
    name: Option<String>,
    stack_size: Option<usize>,
}

impl ThreadBuilder {
    /// A name for the thread: in the system's lists (whole characters of it, up to 15 bytes) and in
    /// its panics. An empty one counts as none; zero bytes are left out.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The size of the thread's stack in bytes; what Rust's runtime chooses if not chosen.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Calls `f` in a new thread.
    ///
    /// # Errors
    ///
    /// When the system has no more threads to give.
    pub fn spawn<R, F>(&self, f: F) -> io::Result<Thread<R>>
    where
        R: Send + 'static,
        F: FnOnce() -> R + Send + 'static,
    {
        let mut builder = std::thread::Builder::new();
        // A name with a zero byte in it would make the standard library panic.
        let name = self.name.as_ref().map(|name| name.replace('\0', ""));
        let name = name.filter(|name| !name.is_empty());
        if let Some(name) = name.clone() {
            builder = builder.name(name);
        }
        if let Some(bytes) = self.stack_size {
            builder = builder.stack_size(bytes);
        }
        let shared = Arc::new(Shared {
            done: Event::new(),
            result: Mutex::new(None),
        });
        let theirs = Arc::clone(&shared);
        let theirs_name = name.clone();
        let handle = builder.spawn(move || {
            if let Some(name) = &theirs_name {
                // The standard library cuts inside of characters.
                start::name_this_thread(name);
            }
            let place = active_threads::enter(theirs_name);
            // Where it matters: in a process whose parent will ask what it died of. Without memory
            // for it, the thread runs all the same.
            let watched = fault::is_installed().then(fault::watch_until_dropped);
            let result = run_caught(f);
            if let Err(panic) = &result {
                thread_hook::call(panic);
            }
            drop(watched);
            drop(place);
            *theirs.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            theirs.done.set();
        })?;
        Ok(Thread {
            shared,
            id: handle.thread().id(),
            handle: Mutex::new(Some(handle)),
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_returns_the_value_once() {
        let thread = Thread::spawn(|| 42).expect("it starts");
        assert_eq!(thread.join(), Ok(42));
        assert!(!thread.is_alive());
        assert_eq!(thread.join(), Err(ThreadError::Taken));
    }

    #[test]
    fn thread_01_and_31_name_is_used_and_cut_between_characters() {
        let named = |name: &str| {
            let thread = Thread::builder().name(name).spawn(|| {
                let comm = std::fs::read_to_string("/proc/thread-self/comm");
                let name = thread::current().name().map(str::to_owned);
                (name, comm.expect("/proc is there"))
            });
            let thread = thread.expect("it starts");
            let (inside, comm) = thread.join().expect("it does not panic");
            assert_eq!(inside.as_deref(), thread.name());
            (inside, comm)
        };
        let long = "12345678901234\u{e4}56";
        assert_eq!(
            named(long),
            (Some(long.to_owned()), "12345678901234\n".to_owned())
        );
        assert_eq!(named("a\0b").0.as_deref(), Some("ab"));
        assert_eq!(named("").0, None);
    }

    #[test]
    fn thread_12_many_threads_join_one_and_one_has_the_value() {
        let gate = Event::new();
        let inner = Arc::new(Event::new());
        let theirs = Arc::clone(&inner);
        let thread = Thread::spawn(move || {
            theirs.wait();
            7
        });
        let thread = thread.expect("it starts");
        let results: Vec<_> = thread::scope(|scope| {
            let join = || {
                gate.wait();
                thread.join()
            };
            let joins: Vec<_> = (0..20).map(|_| scope.spawn(join)).collect();
            gate.set();
            inner.set();
            joins
                .into_iter()
                .map(|join| join.join().expect("no panic"))
                .collect()
        });
        assert_eq!(results.iter().filter(|result| **result == Ok(7)).count(), 1);
        let taken = |result: &&Result<i32, _>| **result == Err(ThreadError::Taken);
        assert_eq!(results.iter().filter(taken).count(), 19);
    }

    #[test]
    fn thread_16_join_of_itself_is_an_error_also_while_another_joins() {
        let (send, receive) = std::sync::mpsc::channel::<Arc<Thread<bool>>>();
        let thread = Thread::spawn(move || {
            let itself = receive.recv().expect("it is sent");
            itself.join() == Err(ThreadError::IsCurrent)
                && itself.try_join() == Err(ThreadError::IsCurrent)
        });
        let thread = Arc::new(thread.expect("it starts"));
        thread::scope(|scope| {
            let joins = scope.spawn(|| thread.join());
            send.send(Arc::clone(&thread)).expect("it is received");
            assert_eq!(joins.join().expect("no panic"), Ok(true));
        });
    }

    #[test]
    fn thread_20_what_the_function_holds_is_dropped_also_after_a_panic() {
        let held = Arc::new(());
        let (first, second) = (Arc::clone(&held), Arc::clone(&held));
        let returns = Thread::spawn(move || drop(first)).expect("it starts");
        let panics = Thread::spawn(move || {
            let _held = second;
            panic!("on purpose")
        });
        let panics: Thread<()> = panics.expect("it starts");
        assert!(returns.join().is_ok());
        assert!(panics.join().is_err());
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn join_with_a_time_out_leaves_the_thread_joinable() {
        let gate = Arc::new(Event::new());
        let theirs = Arc::clone(&gate);
        let thread = Thread::spawn(move || theirs.wait()).expect("it starts");
        assert_eq!(thread.try_join(), Ok(None));
        assert_eq!(thread.join_timeout(Duration::from_millis(1)), Ok(None));
        assert_eq!(thread.join_deadline(Instant::now()), Ok(None));
        gate.set();
        assert!(thread.join().is_ok());
    }

    #[test]
    fn panic_is_an_error_with_the_thread_named() {
        let thread = Thread::builder()
            .name("faulty")
            .spawn(|| panic!("broken {}", 1))
            .expect("it starts");
        let Err(ThreadError::Panicked(panic)) = thread.join() else {
            unreachable!("the function panics");
        };
        assert_eq!(panic.message, "broken 1");
        assert_eq!(panic.thread, "faulty");
    }
}
