//! A function that runs in a thread of its own.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_sync::Event;

use crate::panics::{Panic, run_caught};

/// A function that runs in another thread, and the value that it will return.
///
/// The thread goes on when the handle is dropped, and ends with the process.
///
/// # Examples
///
/// ```
/// use manyhands_process::Thread;
///
/// let words = vec!["many", "hands"];
/// let mut thread = Thread::builder().name("counter").spawn(move || words.len())?;
/// assert_eq!(thread.join()?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `threading.Thread(target=f)`, `start()`; here the value comes back, and a panic is an
/// error and not a text on the terminal.
pub struct Thread<R> {
    shared: Arc<Shared<R>>,
    handle: Option<JoinHandle<()>>,
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
    /// # Errors
    ///
    /// [`ThreadError`]: the panic that ended the function, or that the value was taken before.
    pub fn join(&mut self) -> Result<R, ThreadError> {
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
    pub fn try_join(&mut self) -> Result<Option<R>, ThreadError> {
        self.wait_value(Deadline::now())
    }

    /// As [`join`](Self::join), but returns `None` after `timeout`; the thread can be joined again.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<R>, ThreadError> {
        self.wait_value(Deadline::after(timeout))
    }

    /// As [`join`](Self::join), but returns `None` at `deadline`; the thread can be joined again.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_deadline(&mut self, deadline: Instant) -> Result<Option<R>, ThreadError> {
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

    fn wait_value(&mut self, deadline: Deadline) -> Result<Option<R>, ThreadError> {
        if !self.wait_done(deadline) {
            return Ok(None);
        }
        if let Some(handle) = self.handle.take() {
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
    /// A name for the thread: in the system's lists (15 bytes of it) and in its panics.
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
        if let Some(name) = self.name.clone().filter(|name| !name.contains('\0')) {
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
        let handle = builder.spawn(move || {
            let result = run_caught(f);
            *theirs.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            theirs.done.set();
        })?;
        Ok(Thread {
            shared,
            handle: Some(handle),
            name: self.name.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_returns_the_value_once() {
        let mut thread = Thread::spawn(|| 42).expect("it starts");
        assert_eq!(thread.join(), Ok(42));
        assert!(!thread.is_alive());
        assert_eq!(thread.join(), Err(ThreadError::Taken));
    }

    #[test]
    fn join_with_a_time_out_leaves_the_thread_joinable() {
        let gate = Arc::new(Event::new());
        let theirs = Arc::clone(&gate);
        let mut thread = Thread::spawn(move || theirs.wait()).expect("it starts");
        assert_eq!(thread.try_join(), Ok(None));
        assert_eq!(thread.join_timeout(Duration::from_millis(1)), Ok(None));
        assert_eq!(thread.join_deadline(Instant::now()), Ok(None));
        gate.set();
        assert!(thread.join().is_ok());
    }

    #[test]
    fn panic_is_an_error_with_the_thread_named() {
        let mut thread = Thread::builder()
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
