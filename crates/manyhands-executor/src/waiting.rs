//! Waiting for one or all of many tasks.
//!
//! The waiting thread drives the executor that the tasks belong to, as it does for a single
//! task. Tasks of several executors can be mixed; then each executor drives itself.
//!
//! Python: `concurrent.futures.wait` and `as_completed`.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use manyhands_os::clock::Deadline;

use crate::parker::Parker;
use crate::task::{Driver, Task};

/// When [`wait`] has waited enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Until {
    /// One task is done.
    FirstDone,
    /// All tasks are done.
    AllDone,
}

/// Waits for tasks; returns how many are done.
///
/// # Examples
///
/// ```
/// use manyhands_executor::{Executor, ThreadPoolExecutor, Until, wait};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let tasks = [pool.submit(|| 1, ())?, pool.submit(|| 2, ())?];
/// assert_eq!(wait(&tasks, Until::AllDone), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wait<T>(tasks: &[Task<T>], until: Until) -> usize {
    wait_tasks(
        tasks,
        enough(tasks, until),
        &Arc::default(),
        Deadline::NEVER,
    )
}

/// Like [`wait`], for at most `timeout`.
pub fn wait_timeout<T>(tasks: &[Task<T>], until: Until, timeout: Duration) -> usize {
    wait_tasks(
        tasks,
        enough(tasks, until),
        &Arc::default(),
        Deadline::after(timeout),
    )
}

/// Like [`wait`], until `deadline` at most.
pub fn wait_deadline<T>(tasks: &[Task<T>], until: Until, deadline: Instant) -> usize {
    wait_tasks(
        tasks,
        enough(tasks, until),
        &Arc::default(),
        Deadline::at(deadline),
    )
}

fn enough<T>(tasks: &[Task<T>], until: Until) -> usize {
    match until {
        Until::FirstDone => tasks.len().min(1),
        Until::AllDone => tasks.len(),
    }
}

/// Gives out tasks as they become done, each with its place in the input.
///
/// # Examples
///
/// ```
/// use manyhands_executor::{Executor, ThreadPoolExecutor, as_completed};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let tasks = (0..4_u32).map(|n| pool.submit(|n: u32| n + 1, (n,))).collect::<Result<Vec<_>, _>>()?;
/// let mut results: Vec<(usize, u32)> =
///     as_completed(tasks).map(|(index, task)| (index, task.result().expect("adds"))).collect();
/// results.sort();
/// assert_eq!(results, [(0, 1), (1, 2), (2, 3), (3, 4)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_completed<T>(tasks: impl IntoIterator<Item = Task<T>>) -> AsCompleted<T> {
    let tasks: Vec<_> = tasks.into_iter().collect();
    let places = (0..tasks.len()).collect();
    AsCompleted {
        tasks,
        places,
        parker: Arc::default(),
    }
}

/// Tasks in the order in which they become done; made by [`as_completed`].
#[derive(Debug)]
pub struct AsCompleted<T> {
    tasks: Vec<Task<T>>,
    places: Vec<usize>,
    parker: Arc<Parker>,
}

impl<T> AsCompleted<T> {
    /// The next done task, waited for until `deadline` at most; `None` when none has come.
    pub fn next_deadline(&mut self, deadline: Instant) -> Option<(usize, Task<T>)> {
        self.next_until(Deadline::at(deadline))
    }

    fn next_until(&mut self, until: Deadline) -> Option<(usize, Task<T>)> {
        wait_tasks(&self.tasks, 1, &self.parker, until);
        let index = first_settled(&self.tasks)?;
        Some((
            self.places.swap_remove(index),
            self.tasks.swap_remove(index),
        ))
    }
}

impl<T> Iterator for AsCompleted<T> {
    type Item = (usize, Task<T>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.tasks.is_empty() {
            None
        } else {
            self.next_until(Deadline::NEVER)
        }
    }
}

/// Waits until `enough` tasks are done or `until` has passed; returns how many are.
///
/// The parker is registered with each pending task and stays so: callers that wait repeatedly
/// for the same tasks bring the same one.
pub(crate) fn wait_tasks<T>(
    tasks: &[Task<T>],
    enough: usize,
    parker: &Arc<Parker>,
    until: Deadline,
) -> usize {
    let mut done = count_settled(tasks);
    if done >= enough {
        return done;
    }
    let waker = Waker::from(Arc::clone(parker));
    for task in tasks {
        task.watch(&waker);
    }
    if until.is_never() {
        // On a thread of a pool whose other threads may all wait like this one.
        for task in tasks {
            if count_settled(tasks) < enough {
                task.driver().help();
            }
        }
    }
    let mut ready = || {
        done = count_settled(tasks);
        done >= enough
    };
    match common_driver(tasks) {
        Some(driver) => {
            driver.wait(parker, &mut ready, until);
        }
        None => while !ready() && parker.park(until) {},
    }
    count_settled(tasks)
}

/// The place of the first task that is done.
pub(crate) fn first_settled<T>(tasks: &[Task<T>]) -> Option<usize> {
    tasks.iter().position(Task::is_settled)
}

fn count_settled<T>(tasks: &[Task<T>]) -> usize {
    tasks.iter().filter(|task| task.is_settled()).count()
}

fn common_driver<T>(tasks: &[Task<T>]) -> Option<&dyn Driver> {
    let first = tasks.first()?.driver();
    let same = tasks.iter().all(|task| Arc::ptr_eq(task.driver(), first));
    same.then(|| &**first)
}
