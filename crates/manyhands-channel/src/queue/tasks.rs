//! Reporting values as done, and waiting until all are; `tally.rs` tells how they are counted.

use std::time::{Duration, Instant};

use manyhands_os::Deadline;

use super::{JoinError, Queue, TaskDoneError};
use crate::patience::Patience;

impl<T> Queue<T> {
    /// Reports one value that was taken as done; see [`join`](Self::join).
    ///
    /// Not whose it is, but how many were reported, is what counts: somebody else may report for
    /// whoever took it and died.
    ///
    /// # Errors
    ///
    /// [`TaskDoneError::TooMany`], when everything that was taken has been reported.
    ///
    /// Python: `Queue.task_done`, which errs later: it counts what is in the queue too.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        match self.raw.report() {
            true => Ok(()),
            false => Err(TaskDoneError::TooMany),
        }
    }

    /// Waits until everything that was put has been taken and [reported](Self::task_done), or was
    /// dropped by [`shutdown`](Self::shutdown).
    ///
    /// A value that came as [`Undecodable`](super::GetError::Undecodable) was taken too. One whose
    /// taker was killed stays unfinished, until somebody else reports it; so who waits for takers
    /// that may die waits with a time limit, and finds in [`stats`](Self::stats) how many values are
    /// in hand. When there is no taker any more, these are the lost ones.
    ///
    /// # Errors
    ///
    /// None happens today.
    ///
    /// # Examples
    ///
    /// ```
    /// use manyhands_channel::Queue;
    ///
    /// let jobs = Queue::<u32>::new()?;
    /// std::thread::scope(|threads| {
    ///     threads.spawn(|| while jobs.get().is_ok() {
    ///         jobs.task_done().expect("one was taken");
    ///     });
    ///     for job in 0..10 {
    ///         jobs.put(&job).expect("it is open");
    ///     }
    ///     jobs.join().expect("all are done");
    ///     assert_eq!(jobs.stats().unfinished, 0);
    ///     jobs.close();
    /// });
    /// # Ok::<(), manyhands_channel::QueueError>(())
    /// ```
    ///
    /// Python: `Queue.join`.
    pub fn join(&self) -> Result<(), JoinError> {
        self.join_patiently(Patience::Until(Deadline::NEVER))
    }

    /// Whether everything is done now.
    ///
    /// # Errors
    ///
    /// [`JoinError::Unfinished`].
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.join_patiently(Patience::None)
    }

    /// As [`join`](Self::join), but gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// [`JoinError::TimedOut`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.join_patiently(Patience::Until(Deadline::after(timeout)))
    }

    /// As [`join`](Self::join), but gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// [`JoinError::TimedOut`].
    pub fn join_deadline(&self, deadline: Instant) -> Result<(), JoinError> {
        self.join_patiently(Patience::Until(Deadline::at(deadline)))
    }

    fn join_patiently(&self, patience: Patience) -> Result<(), JoinError> {
        self.raw.join(patience).map_err(|unfinished| {
            let values = unfinished as usize;
            match patience {
                Patience::None => JoinError::Unfinished { values },
                Patience::Until(_) => JoinError::TimedOut { values },
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::thread;

    use super::*;
    use crate::queue::tests::{SOON, small, until};

    #[test]
    fn queue_07_report_without_a_value_that_was_taken_is_an_error() {
        let queue = small(5);
        assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
        queue.put(&1).expect("room");
        assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
        queue.get().expect("a value");
        queue.task_done().expect("one was taken");
        assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
    }

    #[test]
    fn join_waits_for_what_is_in_the_queue_and_in_hand_or_until_its_deadline() {
        let queue = small(5);
        queue.join().expect("nothing was put");
        queue.put(&1).expect("room");
        queue.put(&2).expect("room");
        queue.get().expect("a value");
        let stats = queue.stats();
        assert_eq!((stats.unfinished, stats.in_hand), (2, 1));
        let unfinished = queue.try_join();
        assert!(matches!(
            unfinished,
            Err(JoinError::Unfinished { values: 2 })
        ));
        let deadline = Instant::now() + SOON;
        let late = [queue.join_timeout(SOON), queue.join_deadline(deadline)];
        for late in late {
            assert!(matches!(late, Err(JoinError::TimedOut { values: 2 })));
        }
        assert!(Instant::now() >= deadline);
        thread::scope(|threads| {
            let joining = [(); 3].map(|()| threads.spawn(|| queue.join()));
            let timely = threads.spawn(|| queue.join_timeout(Duration::MAX));
            until(|| queue.raw.head().tasks.0.waiting.load(Relaxed) != 0);
            queue.task_done().expect("one was taken");
            assert!(queue.try_join().is_err());
            queue.get().expect("a value");
            queue.task_done().expect("one was taken");
            for joining in joining.into_iter().chain([timely]) {
                joining.join().expect("no panic").expect("all is done");
            }
        });
    }

    #[test]
    fn queue_15_21_immediate_shutdown_leaves_only_what_is_in_hand_to_join() {
        let queue = small(5);
        for value in 0..4 {
            queue.put(&value).expect("room");
        }
        queue.get().expect("a value");
        thread::scope(|threads| {
            let joining = threads.spawn(|| queue.join());
            until(|| queue.raw.head().tasks.0.waiting.load(Relaxed) != 0);
            assert_eq!(queue.shutdown(), 3);
            let stats = queue.stats();
            assert_eq!((stats.unfinished, stats.in_hand), (1, 1));
            queue.task_done().expect("one was taken");
            joining.join().expect("no panic").expect("all is done");
        });
        assert!(matches!(queue.task_done(), Err(TaskDoneError::TooMany)));
        assert_eq!(queue.shutdown(), 0);
        queue.try_join().expect("all is done still");
        let untouched = small(5);
        untouched.put(&1).expect("room");
        thread::scope(|threads| {
            let joining = threads.spawn(|| untouched.join());
            until(|| untouched.raw.head().tasks.0.waiting.load(Relaxed) != 0);
            assert_eq!(untouched.shutdown(), 1);
            joining.join().expect("no panic").expect("nothing is left");
        });
    }

    #[test]
    fn queue_21_22_join_goes_on_through_a_close_until_all_is_done() {
        let queue = small(1);
        queue.put(&1).expect("room");
        thread::scope(|threads| {
            let joining = threads.spawn(|| queue.join());
            let putting = threads.spawn(|| queue.put(&2));
            until(|| queue.stats().producers_wait);
            queue.close();
            assert!(putting.join().expect("no panic").is_err());
            assert_eq!(queue.stats().unfinished, 1);
            assert!(queue.try_join().is_err());
            queue.get().expect("it is there still");
            queue.task_done().expect("one was taken");
            joining.join().expect("no panic").expect("all is done");
        });
    }

    /// Joins again and again while others work: each time it returns, all that this thread had put
    /// before is done.
    #[test]
    fn queue_23_every_join_finds_what_was_put_before_it_done() {
        let queue = small(8);
        let done = std::sync::atomic::AtomicU32::new(0);
        thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    while queue.get().is_ok() {
                        done.fetch_add(1, Relaxed);
                        queue.task_done().expect("one was taken");
                    }
                });
            }
            for round in 1..=500 {
                queue.put_many(&[1, 2, 3]).expect("it is open");
                queue.join().expect("they work");
                assert_eq!(done.load(Relaxed), 3 * round);
            }
            queue.close();
        });
        queue.try_join().expect("all is done");
    }
}
