//! How long a call may wait.

use crate::primitive::Deadline;

/// How long a call may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Look, do not wait.
    None,
    /// Wait until the deadline.
    Until(Deadline),
}

impl Patience {
    /// The deadline to sleep until, `None` when there is nothing to wait for any more.
    pub(crate) fn left(self) -> Option<Deadline> {
        match self {
            Patience::None => None,
            Patience::Until(deadline) => (!deadline.has_passed()).then_some(deadline),
        }
    }
}
