//! Reporting values as done, and waiting until all are.
//!
//! The count is no word of its own: it is what lies between the tail, which putting moves, and the
//! reports. So no kill can part a value from its being counted. A report is one store in the
//! consumers' section; who waits for the last one lies down there, and is woken before the store, as
//! everywhere in the queue. Dropping all values is one store of the head, which then says so.
//!
//! Who puts moves the goal away, and so wakes nobody.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use manyhands_os::Deadline;
use manyhands_os::futex::{self, Scope};

use super::layout::{DROPPED, Mark};
use super::place::{enter, lie_down, rouse_waiting};
use super::raw::RawQueue;
use super::{JoinError, Queue, TaskDoneError};
use crate::ring::Patience;

impl RawQueue {
    /// How many messages were taken; and how many are to be reported, those included. Messages that
    /// were dropped are in neither. Exact in the consumers' section.
    fn goals(&self) -> (u32, u32) {
        let head = self.head();
        // Acquire: partner is the store in `take`; what was written before the head said it.
        let bits = head.head.0.load(Acquire);
        if bits & DROPPED != 0 {
            // Relaxed: written before the head, in the same section, and not changed after.
            let taken = head.get.0.dropped_from.load(Relaxed);
            return (taken, taken);
        }
        // Relaxed: the count stands for itself.
        let tail = Mark::from_bits(head.tail.0.load(Relaxed));
        (Mark::from_bits(bits).messages(), tail.messages())
    }

    /// How many messages are not reported, and how many of them were taken; old when it is read.
    pub(super) fn tasks(&self) -> (u32, u32) {
        // Relaxed: for information. Read first: the reports never pass what was taken.
        let done = self.head().get.0.done.load(Relaxed);
        let (taken, all) = self.goals();
        (all.wrapping_sub(done), taken.wrapping_sub(done))
    }

    fn report(&self) -> Result<(), TaskDoneError> {
        let (side, tasks) = (&self.head().get.0, &self.head().tasks.0);
        let Some(_inside) = enter(&side.section, Deadline::NEVER) else {
            unreachable!("the deadline never passes");
        };
        let (taken, all) = self.goals();
        // Relaxed: changed in this section only.
        let done = side.done.load(Relaxed);
        if done == taken {
            return Err(TaskDoneError::TooMany);
        }
        let done = done.wrapping_add(1);
        let is_last = done == all;
        if is_last {
            rouse_waiting(tasks);
        }
        side.done.store(done, Relaxed);
        if is_last {
            tasks.waiting.store(0, Relaxed);
        }
        Ok(())
    }

    fn join(&self, patience: Patience) -> Result<(), JoinError> {
        loop {
            let (unfinished, expected) = self.lie_down_for_tasks();
            let values = unfinished as usize;
            match patience {
                _ if unfinished == 0 => return Ok(()),
                Patience::None => return Err(JoinError::Unfinished { values }),
                Patience::Until(deadline) if deadline.has_passed() => {
                    return Err(JoinError::TimedOut { values });
                }
                Patience::Until(deadline) => {
                    let sequence = &self.head().tasks.0.sequence;
                    futex::wait(sequence, expected, Scope::Shared, deadline);
                }
            }
        }
    }

    /// How many messages are not reported; and the sequence to sleep on until there is none.
    fn lie_down_for_tasks(&self) -> (u32, u32) {
        let Some(_inside) = enter(&self.head().get.0.section, Deadline::NEVER) else {
            unreachable!("the deadline never passes");
        };
        match self.tasks().0 {
            0 => (0, 0),
            unfinished => (unfinished, lie_down(&self.head().tasks.0)),
        }
    }
}

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
        self.raw.report()
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
        self.raw.join(Patience::Until(Deadline::NEVER))
    }

    /// Whether everything is done now.
    ///
    /// # Errors
    ///
    /// [`JoinError::Unfinished`].
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.raw.join(Patience::None)
    }

    /// As [`join`](Self::join), but gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// [`JoinError::TimedOut`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.raw.join(Patience::Until(Deadline::after(timeout)))
    }

    /// As [`join`](Self::join), but gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// [`JoinError::TimedOut`].
    pub fn join_deadline(&self, deadline: Instant) -> Result<(), JoinError> {
        self.raw.join(Patience::Until(Deadline::at(deadline)))
    }
}

#[cfg(test)]
mod tests {
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
