//! One function over many items: lazy, with a bound on the calls in flight.
//!
//! Both iterators take items only to keep `in_flight` calls going, so they work on endless input
//! and hold a bounded number of results. [`Map`] gives outcomes in the order of the items,
//! [`MapUnordered`] in the order in which the calls end. Dropping either cancels what is queued.

use std::collections::VecDeque;
use std::fmt;
use std::iter::Fuse;
use std::sync::Arc;

use manyhands_os::clock::Deadline;

use crate::error::{SubmitError, TaskError};
use crate::parker::Parker;
use crate::task::Task;
use crate::waiting::{first_settled, wait_tasks};

type Submit<'e, A, R> = Box<dyn FnMut(A) -> Result<Task<R>, SubmitError> + 'e>;

/// Outcomes in the order of the items; made by [`Executor::map`](crate::Executor::map).
pub struct Map<'e, I: Iterator, R> {
    feed: Feed<'e, I, R>,
    waiting: VecDeque<Result<Task<R>, SubmitError>>,
}

/// Outcomes in the order in which they come, each with the number of its item; made by
/// [`Executor::map_unordered`](crate::Executor::map_unordered).
pub struct MapUnordered<'e, I: Iterator, R> {
    feed: Feed<'e, I, R>,
    tasks: Vec<Task<R>>,
    numbers: Vec<usize>,
    refused: Option<(usize, SubmitError)>,
    next: usize,
    parker: Arc<Parker>,
}

/// The items that are left, and how each becomes a task.
struct Feed<'e, I: Iterator, R> {
    items: Fuse<I>,
    submit: Submit<'e, I::Item, R>,
    in_flight: usize,
}

impl<I: Iterator, R> Feed<'_, I, R> {
    fn next(&mut self) -> Option<Result<Task<R>, SubmitError>> {
        self.items.next().map(&mut self.submit)
    }
}

impl<'e, I: Iterator, R> Feed<'e, I, R> {
    /// Twice the width keeps each worker busy while the caller looks at an outcome.
    fn new(
        items: I,
        width: usize,
        submit: impl FnMut(I::Item) -> Result<Task<R>, SubmitError> + 'e,
    ) -> Self {
        let in_flight = width.saturating_mul(2).max(1);
        Self {
            items: items.fuse(),
            submit: Box::new(submit),
            in_flight,
        }
    }
}

impl<'e, I: Iterator, R> Map<'e, I, R> {
    pub(crate) fn new(
        items: I,
        width: usize,
        submit: impl FnMut(I::Item) -> Result<Task<R>, SubmitError> + 'e,
    ) -> Self {
        Self {
            feed: Feed::new(items, width, submit),
            waiting: VecDeque::new(),
        }
    }

    /// Sets how many items are taken beyond the outcomes given out (at least one); twice the
    /// executor's width otherwise.
    #[must_use]
    pub fn in_flight(mut self, calls: usize) -> Self {
        self.feed.in_flight = calls.max(1);
        self
    }
}

impl<I: Iterator, R> Iterator for Map<'_, I, R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.waiting.len() < self.feed.in_flight {
            match self.feed.next() {
                Some(task) => self.waiting.push_back(task),
                None => break,
            }
        }
        Some(match self.waiting.pop_front()? {
            Ok(task) => task.result(),
            Err(error) => Err(error.into()),
        })
    }
}

impl<I: Iterator, R> Drop for Map<'_, I, R> {
    fn drop(&mut self) {
        for task in self.waiting.iter().flatten() {
            task.cancel();
        }
    }
}

impl<'e, I: Iterator, R> MapUnordered<'e, I, R> {
    pub(crate) fn new(
        items: I,
        width: usize,
        submit: impl FnMut(I::Item) -> Result<Task<R>, SubmitError> + 'e,
    ) -> Self {
        let feed = Feed::new(items, width, submit);
        let parker = Arc::default();
        Self {
            feed,
            tasks: Vec::new(),
            numbers: Vec::new(),
            refused: None,
            next: 0,
            parker,
        }
    }

    /// Sets how many items are taken beyond the outcomes given out (at least one); twice the
    /// executor's width otherwise.
    #[must_use]
    pub fn in_flight(mut self, calls: usize) -> Self {
        self.feed.in_flight = calls.max(1);
        self
    }

    fn fill(&mut self) {
        while self.refused.is_none() && self.tasks.len() < self.feed.in_flight {
            let Some(task) = self.feed.next() else { break };
            match task {
                Ok(task) => {
                    self.tasks.push(task);
                    self.numbers.push(self.next);
                }
                Err(error) => self.refused = Some((self.next, error)),
            }
            self.next += 1;
        }
    }
}

impl<I: Iterator, R> Iterator for MapUnordered<'_, I, R> {
    type Item = (usize, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        self.fill();
        if let Some((number, error)) = self.refused.take() {
            return Some((number, Err(error.into())));
        }
        if self.tasks.is_empty() {
            return None;
        }
        wait_tasks(&self.tasks, 1, &self.parker, Deadline::NEVER);
        let index = first_settled(&self.tasks)?;
        let task = self.tasks.swap_remove(index);
        Some((self.numbers.swap_remove(index), task.result()))
    }
}

impl<I: Iterator, R> Drop for MapUnordered<'_, I, R> {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.cancel();
        }
    }
}

impl<I: Iterator, R> fmt::Debug for Map<'_, I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("waiting", &self.waiting.len())
            .field("in_flight", &self.feed.in_flight)
            .finish_non_exhaustive()
    }
}

impl<I: Iterator, R> fmt::Debug for MapUnordered<'_, I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapUnordered")
            .field("waiting", &self.tasks.len())
            .field("in_flight", &self.feed.in_flight)
            .finish_non_exhaustive()
    }
}
