//! One call in a thread pool, from the queue to its outcome.
//!
//! Whoever takes the closure out of a unit runs it: a thread of the pool that found the unit in
//! a queue, or the thread that waits for it, if that is itself a thread of the pool. So tasks
//! that wait for tasks of their own pool without a time limit cannot use up its threads.
//! Cancelling takes the closure out and drops it; the unit stays in the queue as an empty shell.

use std::sync::{Arc, Mutex};

use manyhands_os::clock::Deadline;

use crate::error::TaskError;
use crate::parker::{Parker, lock};
use crate::task::{Cell, Driver};
use crate::threads::crew::Crew;

/// What is to be done: run the call and fill the cell, or fill the cell with an error.
type Call = Box<dyn FnOnce(Order) + Send>;

/// What to do with a call.
#[derive(Debug, Clone)]
pub(super) enum Order {
    Run,
    Fail(TaskError),
}

/// One call in a thread pool.
pub(super) struct Unit {
    call: Mutex<Option<Call>>,
    crew: Arc<Crew>,
}

impl Unit {
    pub(super) fn new<R: Send + 'static>(
        crew: Arc<Crew>,
        cell: Arc<Cell<R>>,
        call: impl FnOnce() -> R + Send + 'static,
    ) -> Arc<Self> {
        let call: Call = Box::new(move |order| match order {
            Order::Fail(error) => {
                // The closure goes first: who sees the outcome sees its captures dropped.
                drop(call);
                cell.fill(Err(error));
            }
            Order::Run => {
                cell.set_running(true);
                cell.fill(manyhands_process::run_caught(call).map_err(TaskError::Panicked));
            }
        });
        Arc::new(Self {
            call: Mutex::new(Some(call)),
            crew,
        })
    }

    /// Runs the call unless somebody else has taken it.
    pub(super) fn run(&self) {
        if let Some(call) = self.take() {
            self.crew.begin();
            call(Order::Run);
            self.crew.end();
        }
    }

    /// Ends the task with `error` unless somebody has taken it; true when it did.
    pub(super) fn fail(&self, error: TaskError) -> bool {
        let Some(call) = self.take() else {
            return false;
        };
        self.crew.withdraw();
        call(Order::Fail(error));
        true
    }

    fn take(&self) -> Option<Call> {
        lock(&self.call).take()
    }
}

impl Driver for Unit {
    fn wait(&self, parker: &Arc<Parker>, ready: &mut dyn FnMut() -> bool, until: Deadline) -> bool {
        if until.is_never() {
            self.help();
        }
        while !ready() {
            if !parker.park(until) {
                return ready();
            }
        }
        true
    }

    fn help(&self) {
        if self.crew.is_mine() {
            self.run();
        }
    }

    fn cancel(&self, _number: u64, _running: bool) -> bool {
        self.fail(TaskError::Cancelled)
    }
}
