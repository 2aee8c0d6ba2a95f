//! The two ways to run a file, behind one trait: in a process of the pool, or in this one.

use crate::verdict::Verdict;
use crate::work::{Job, Outcome};

/// How a file is run. Many threads call it at once, one file each.
pub(crate) trait Way: Sync {
    /// Runs one file and waits for its end.
    fn examine(&self, job: Job) -> Ending;

    /// Workers started in the place of others.
    fn restarts(&self) -> u64;

    /// Ends what is running, where that can be ended.
    fn stop(&self);
}

/// How the run of one file ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// With a verdict.
    Verdict(Verdict),
    /// OUT cannot take any more.
    OutFailed(String),
    /// There is nobody left to run files.
    Broken(String),
}

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Ending {
        match outcome {
            Outcome::Made(made) => Ending::Verdict(Verdict::Ok(made)),
            Outcome::Refused(reason) => Ending::Verdict(Verdict::Error { reason }),
            Outcome::OutFailed(line) => Ending::OutFailed(line),
        }
    }
}
