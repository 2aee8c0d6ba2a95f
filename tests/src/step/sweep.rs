//! All boundaries of one operation in one scene.

use std::time::{Duration, Instant};

use super::report::{Fault, Report};
use super::scene::{Stage, Trial, Trouble};
use super::victim::Reached;
use super::{Scene, Subject};

/// How long survivors may take.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// The same in a negative control, where most of the time is spent waiting for a hang; a survivor
/// that is late there, and not asleep, is given the time of the others.
const PATIENCE_WITH_CONTROLS: Duration = Duration::from_millis(40);

/// How long they may take when a boundary is repeated because they were late.
pub const GRACE: Duration = Duration::from_secs(3);

/// How often a boundary is repeated.
pub const REPEATS: u32 = 20;

/// An operation this long is a mistake in the subject.
const MOST_BOUNDARIES: u32 = 1_000_000;

/// How thorough a run is.
#[derive(Copy, Clone, Debug)]
pub struct Thoroughness {
    /// Every how many boundaries; 1 is all.
    pub stride: u32,
    /// Every boundary also of subjects that are sampled else, and of pairs; controls go on after the
    /// first hangs.
    pub is_long: bool,
}

impl Thoroughness {
    fn stride(self, subject: &dyn Subject) -> u32 {
        match self.is_long {
            true => self.stride,
            false => self.stride * subject.stride(),
        }
    }

    /// After how many hangs a sweep stops: a control has then shown what it is to show.
    fn enough(self, subject: &dyn Subject) -> usize {
        match (subject.must_hang().is_empty(), self.is_long) {
            (false, false) => 4,
            (true, false) => 12,
            (_, true) => usize::MAX,
        }
    }
}

/// Sweeps over the boundaries of the subject's operation.
pub fn run(subject: &dyn Subject, scene: Scene, thoroughness: Thoroughness) -> Report {
    let started = Instant::now();
    let mut report = Report::new(subject, scene);
    let mut stage = Stage::new(subject);
    let patience = match subject.must_hang().is_empty() {
        true => PATIENCE,
        false => PATIENCE_WITH_CONTROLS,
    };
    let stride = thoroughness.stride(subject);
    for count in (0..MOST_BOUNDARIES).step_by(stride as usize) {
        let trial = repeat_if_late(&mut stage, patience, |stage, patience| {
            match subject.is_long() {
                true => stage.trial_at_change(scene, count, patience),
                false => stage.trial(scene, count, patience),
            }
        });
        report.boundaries += 1;
        let what = if subject.is_long() {
            "change"
        } else {
            "instruction"
        };
        report.add(format!("{what} {count}"), &trial);
        let is_over = trial.reached != Reached::Boundary;
        if is_over || report.hangs() >= thoroughness.enough(subject) || report.is_broken() {
            break;
        }
    }
    report.elapsed = started.elapsed();
    report
}

/// Runs a trial; again, with more patience, when the machine may have been busy.
pub(super) fn repeat_if_late(
    stage: &mut Stage<'_>,
    patience: Duration,
    run: impl Fn(&mut Stage<'_>, Duration) -> Trial,
) -> Trial {
    let mut trial = run(stage, patience);
    for _ in 0..REPEATS {
        if trial.result.is_err() {
            stage.replace_survivors();
        }
        if !matches!(trial.result, Err(Trouble::Late(_) | Trouble::Setup(_))) {
            break;
        }
        trial = run(stage, GRACE);
    }
    trial
}

impl Fault {
    pub(super) fn new(boundary: String, trial: &Trial) -> Option<Fault> {
        let trouble = trial.result.as_ref().err()?.clone();
        Some(Fault {
            boundary,
            position: trial.position.clone(),
            trouble,
        })
    }
}
