//! A call that happens later, unless it is canceled.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use manyhands_sync::Event;

use crate::thread::{Thread, ThreadError};

/// A function that is called once, after a time.
///
/// Dropping the timer does not cancel the call.
///
/// # Examples
///
/// ```
/// use manyhands_process::Timer;
/// use std::time::{Duration, Instant};
///
/// let soon = Timer::after(Duration::from_millis(1), || "called")?;
/// assert_eq!(soon.join()?, Some("called"));
///
/// let late = Timer::after(Duration::from_secs(3600), || "called")?;
/// assert!(late.cancel());
/// assert_eq!(late.join()?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Python: `threading.Timer(interval, f)`, `start()`, `cancel()`.
#[derive(Debug)]
pub struct Timer<R> {
    thread: Thread<Option<R>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    canceled: Event,
    /// Claimed by whoever comes first: the call or its cancellation.
    is_decided: AtomicBool,
}

impl Shared {
    /// Whether the caller is the first to decide.
    fn decide(&self) -> bool {
        // Relaxed: the exchange chooses one side; nothing else is published by it.
        !self.is_decided.swap(true, Relaxed)
    }
}

impl<R: Send + 'static> Timer<R> {
    /// Calls `f` in a thread of its own when `delay` has passed.
    ///
    /// # Errors
    ///
    /// When the system has no more threads to give.
    pub fn after<F>(delay: Duration, f: F) -> io::Result<Self>
    where
        F: FnOnce() -> R + Send + 'static,
    {
        let shared = Arc::new(Shared {
            canceled: Event::new(),
            is_decided: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread = Thread::builder().name("timer").spawn(move || {
            let is_canceled = theirs.canceled.wait_timeout(delay) || !theirs.decide();
            (!is_canceled).then(f)
        })?;
        Ok(Self { thread, shared })
    }
}

impl<R> Timer<R> {
    /// Cancels the call; `false` when it has begun, or was canceled before.
    pub fn cancel(&self) -> bool {
        let is_first = self.shared.decide();
        if is_first {
            self.shared.canceled.set();
        }
        is_first
    }

    /// Waits until the call has returned or is canceled; `None` if it was canceled.
    ///
    /// # Errors
    ///
    /// [`ThreadError`]: the panic that ended the function, or that the value was taken before.
    pub fn join(&self) -> Result<Option<R>, ThreadError> {
        self.thread.join()
    }

    /// As [`join`](Self::join), but returns the outer `None` at once while the call has neither
    /// returned nor been canceled.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn try_join(&self) -> Result<Option<Option<R>>, ThreadError> {
        self.thread.try_join()
    }

    /// As [`join`](Self::join), but returns the outer `None` after `timeout`; the timer goes on.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<Option<Option<R>>, ThreadError> {
        self.thread.join_timeout(timeout)
    }

    /// As [`join`](Self::join), but returns the outer `None` at `deadline`; the timer goes on.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_deadline(&self, deadline: Instant) -> Result<Option<Option<R>>, ThreadError> {
        self.thread.join_deadline(deadline)
    }

    /// Whether the call may still come, or has not returned yet.
    pub fn is_alive(&self) -> bool {
        self.thread.is_alive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canceled_timer_never_calls() {
        let timer = Timer::after(Duration::from_secs(3600), || unreachable!("canceled"));
        let timer = timer.expect("it starts");
        assert!(timer.cancel());
        assert!(!timer.cancel());
        assert_eq!(timer.join(), Ok(None));
    }

    #[test]
    fn time_out_of_a_join_leaves_the_timer_alone() {
        let timer = Timer::after(Duration::from_secs(3600), || 5).expect("it starts");
        assert_eq!(timer.try_join(), Ok(None));
        let soon = Duration::from_millis(5);
        assert_eq!(timer.join_timeout(soon), Ok(None));
        assert_eq!(timer.join_deadline(Instant::now() + soon), Ok(None));
        assert!(timer.is_alive() && timer.cancel());
        let long = Duration::from_secs(60);
        assert_eq!(timer.join_timeout(long), Ok(Some(None)));
        assert_eq!(timer.try_join(), Err(ThreadError::Taken));
        assert!(!timer.is_alive());
    }

    #[test]
    fn timer_that_has_fired_cannot_be_canceled() {
        let timer = Timer::after(Duration::ZERO, || 5).expect("it starts");
        assert_eq!(timer.join(), Ok(Some(5)));
        assert!(!timer.cancel());
    }
}
