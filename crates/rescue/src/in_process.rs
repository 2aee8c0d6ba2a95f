//! The way without isolation: the file is decoded on the thread that asks.
//!
//! A panic is caught, as any thread pool does it. Nothing else is: a stack overflow, a decoder
//! that asks for more memory than there is, or one that never returns ends, or stops, it all.

use crate::decode::brief;
use crate::verdict::Verdict;
use crate::way::{Ending, Way};
use crate::work::{self, Job};
use manyhands::process::run_caught;

/// Runs files on the threads that ask.
#[derive(Debug)]
pub(crate) struct InProcess;

impl Way for InProcess {
    fn examine(&self, job: Job) -> Ending {
        match run_caught(|| work::examine(job)) {
            Ok(outcome) => outcome.into(),
            Err(panic) => Ending::Verdict(panicked(&panic.message, panic.location.as_deref())),
        }
    }

    fn restarts(&self) -> u64 {
        0
    }

    fn stop(&self) {}
}

/// The verdict on a panic; the place is told from the crate on, as `png-0.18.1/src/x.rs:7:9`.
pub(crate) fn panicked(message: &str, place: Option<&str>) -> Verdict {
    let place = place.map(|place| {
        let (_, in_registry) = place.split_once("/registry/src/").unwrap_or(("", place));
        let in_crate = if in_registry.len() < place.len() {
            in_registry
                .split_once('/')
                .map_or(in_registry, |(_, rest)| rest)
        } else {
            place
        };
        in_crate.to_owned()
    });
    Verdict::Panic {
        message: brief(message),
        place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_panic_begins_with_the_crate() {
        let place = "cargo/registry/src/index-0123abcd/png-0.18.1/src/lib.rs:3:5";
        let Verdict::Panic { place, .. } = panicked("no", Some(place)) else {
            panic!("a panic is a panic");
        };
        assert_eq!(place.as_deref(), Some("png-0.18.1/src/lib.rs:3:5"));
        let Verdict::Panic { place, .. } = panicked("no", Some("src/main.rs:1:1")) else {
            panic!("a panic is a panic");
        };
        assert_eq!(place.as_deref(), Some("src/main.rs:1:1"));
    }
}
