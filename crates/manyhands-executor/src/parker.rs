//! Where one thread waits until somebody has something for it.
//!
//! A parker is a token and a condition: [`Parker::unpark`] leaves the token, [`Parker::park`]
//! takes it or waits for it. A token left before the wait is not lost, so whoever registers a
//! parker somewhere and only then parks cannot miss the wake. It is a [`Wake`] too: what a
//! future hands out, a blocked thread hands out.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use manyhands_os::clock::Deadline;

/// One thread's place to wait.
#[derive(Debug, Default)]
pub(crate) struct Parker {
    token: Mutex<bool>,
    condition: Condvar,
}

impl Parker {
    /// Leaves the token; wakes the thread if it waits.
    pub(crate) fn unpark(&self) {
        *lock(&self.token) = true;
        self.condition.notify_one();
    }

    /// Waits for the token, at most until `until`, and takes it; false when there was none.
    pub(crate) fn park(&self, until: Deadline) -> bool {
        let mut token = lock(&self.token);
        while !*token {
            match wait_on(&self.condition, token, until) {
                (guard, true) => token = guard,
                (guard, false) => {
                    token = guard;
                    break;
                }
            }
        }
        std::mem::take(&mut *token)
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.unpark();
    }
}

/// Locks a mutex of this process. A panic below a lock of this room leaves nothing half done
/// that a later caller could not bear, so poison is passed over.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a notification, at most until `until`; false when that has passed.
pub(crate) fn wait_on<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    until: Deadline,
) -> (MutexGuard<'a, T>, bool) {
    match until.remaining() {
        None => (
            condition
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner),
            true,
        ),
        Some(left) if left.is_zero() => (guard, false),
        Some(left) => {
            let (guard, _) = condition
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner);
            (guard, true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn token_left_before_the_wait_is_found() {
        let parker = Parker::default();
        parker.unpark();
        assert!(parker.park(Deadline::after(Duration::from_secs(10))));
        assert!(!parker.park(Deadline::now()));
    }

    #[test]
    fn waiting_thread_is_woken_by_another() {
        let parker = Arc::new(Parker::default());
        let other = Arc::clone(&parker);
        let thread = std::thread::spawn(move || other.park(Deadline::NEVER));
        parker.unpark();
        assert!(thread.join().unwrap());
    }
}
