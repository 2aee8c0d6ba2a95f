//! What a sweep found, as one line and its faults.

use std::fmt;
use std::time::Duration;

use super::scene::{Trial, Trouble};
use super::{Scene, Subject};

/// One boundary that is not in order.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which boundary, or pair of boundaries.
    pub boundary: String,
    /// The instruction that the victim would have executed next.
    pub position: String,
    /// What went wrong.
    pub trouble: Trouble,
}

/// What a sweep found.
#[derive(Clone, Debug)]
pub struct Report {
    object: &'static str,
    operation: &'static str,
    scene: String,
    is_control: bool,
    /// How many kills.
    pub boundaries: u64,
    /// How many survivors were told that an owner had died.
    pub owner_died: u64,
    /// The boundaries that are not in order.
    pub faults: Vec<Fault>,
    /// How long the sweep took.
    pub elapsed: Duration,
}

impl Report {
    pub(super) fn new(subject: &dyn Subject, scene: Scene) -> Report {
        Report {
            object: subject.object(),
            operation: subject.operation(),
            scene: scene.letter().to_string(),
            is_control: subject.must_hang().contains(&scene),
            boundaries: 0,
            owner_died: 0,
            faults: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    pub(super) fn of_pairs(subject: &dyn Subject, scene: Scene) -> Report {
        Report {
            scene: format!("{}2", scene.letter()),
            ..Report::new(subject, scene)
        }
    }

    pub(super) fn add(&mut self, boundary: String, trial: &Trial) {
        self.owner_died += u64::from(*trial.result.as_ref().unwrap_or(&0));
        self.faults.extend(Fault::new(boundary, trial));
    }

    fn count(&self, matches: impl Fn(&Trouble) -> bool) -> usize {
        self.faults
            .iter()
            .filter(|fault| matches(&fault.trouble))
            .count()
    }

    /// Boundaries after which a survivor slept for ever.
    pub fn hangs(&self) -> usize {
        self.count(|trouble| matches!(trouble, Trouble::Hang(_) | Trouble::Late(_)))
    }

    /// Boundaries after which a promise was broken in silence.
    pub fn damages(&self) -> usize {
        self.count(|trouble| matches!(trouble, Trouble::Damage(_)))
    }

    /// Whether the actors did not even get into their places: the sweep proves nothing.
    pub fn is_broken(&self) -> bool {
        self.count(|trouble| matches!(trouble, Trouble::Setup(_))) > 0
    }

    /// Whether the sweep found what it should: nothing, or, in a control, a hang.
    pub fn is_as_expected(&self) -> bool {
        let is_sound = self.hangs() == 0 && self.damages() == 0;
        !self.is_broken() && self.boundaries > 1 && is_sound != self.is_control
    }

    /// The heading over [`Report`]s.
    pub fn heading() -> String {
        format!(
            "{:<24} {:<22} {:<5} {:>10} {:>6} {:>9} {:>10} {:>8}  verdict",
            "object",
            "operation",
            "scene",
            "boundaries",
            "hangs",
            "unflagged",
            "owner died",
            "time"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.is_as_expected(), self.is_control) {
            (true, false) => "ok",
            (true, true) => "ok: fails, as a control must",
            (false, true) => "WRONG: the control passed",
            (false, false) => "WRONG",
        };
        write!(
            formatter,
            "{:<24} {:<22} {:<5} {:>10} {:>6} {:>9} {:>10} {:>7.1}s  {verdict}",
            self.object,
            self.operation,
            self.scene,
            self.boundaries,
            self.hangs(),
            self.damages(),
            self.owner_died,
            self.elapsed.as_secs_f64(),
        )?;
        for fault in self
            .faults
            .iter()
            .take(if self.is_control { 1 } else { 20 })
        {
            write!(
                formatter,
                "\n    {}: {:?}; next instruction at {}",
                fault.boundary, fault.trouble, fault.position
            )?;
        }
        Ok(())
    }
}
