//! All pairs of two successive deaths: the one who cleans up after a death dies too.

use std::time::{Duration, Instant};

use super::report::Report;
use super::scene::{Stage, Trial, Trouble};
use super::sweep::{Thoroughness, repeat_if_late};
use super::victim::{Part, Reached, Victim};
use super::{Scene, Subject};
use crate::place::Place;

/// Every how many boundaries, on both sides, unless the run is long. Code that is not optimized
/// has several times as many.
const STRIDE: usize = if cfg!(debug_assertions) { 12 } else { 3 };

/// Kills a first victim in the subject's operation and a second one in the peer's.
///
/// In [`Scene::Alone`] the second comes when the first is dead. In [`Scene::Watched`] it sleeps,
/// with a peer behind it, until the first wakes it or dies.
pub fn run(subject: &dyn Subject, scene: Scene, thoroughness: Thoroughness) -> Report {
    let started = Instant::now();
    let mut report = Report::of_pairs(subject, scene);
    let mut stage = Stage::new(subject);
    let mark = Place::map(64);
    let stride = if thoroughness.is_long { 1 } else { STRIDE };
    for first in (0..u32::MAX).step_by(stride) {
        let mut is_first_over = false;
        for second in (0..u32::MAX).step_by(stride) {
            let (trial, is_over) = trial_twice(&mut stage, scene, [first, second], mark);
            report.boundaries += 1;
            report.add(format!("instructions {first} and {second}"), &trial);
            is_first_over = is_over;
            if trial.reached != Reached::Boundary || report.hangs() > 12 || report.is_broken() {
                break;
            }
        }
        if is_first_over || report.hangs() > 12 || report.is_broken() {
            break;
        }
    }
    report.elapsed = started.elapsed();
    report
}

/// The trial of the second victim, and whether the first one had finished.
fn trial_twice(
    stage: &mut Stage<'_>,
    scene: Scene,
    counts: [u32; 2],
    mark: Place,
) -> (Trial, bool) {
    let is_first_over = std::cell::Cell::new(false);
    let trial = repeat_if_late(stage, super::sweep::PATIENCE, |stage, patience| {
        let result = match scene {
            Scene::Alone => one_after_the_other(stage, counts, mark, &is_first_over, patience),
            _ => handed_on(stage, counts, mark, &is_first_over, patience),
        };
        result.unwrap_or_else(Trial::failed)
    });
    (trial, is_first_over.get())
}

fn one_after_the_other(
    stage: &mut Stage<'_>,
    [first, second]: [u32; 2],
    mark: Place,
    is_first_over: &std::cell::Cell<bool>,
    patience: Duration,
) -> Result<Trial, Trouble> {
    stage.clear()?;
    let mut victim = stage.fork_victim(Part::Act)?;
    is_first_over.set(victim.step(first) != Reached::Boundary);
    end(victim);
    let heir = stage.fork_second_victim(Part::Peer, mark)?;
    Ok(die_again(stage, heir, second, Scene::Alone, patience))
}

fn handed_on(
    stage: &mut Stage<'_>,
    [first, second]: [u32; 2],
    mark: Place,
    is_first_over: &std::cell::Cell<bool>,
    patience: Duration,
) -> Result<Trial, Trouble> {
    stage.clear()?;
    let mut victim = stage.fork_victim(Part::Act)?;
    let mut heir = stage.fork_second_victim(Part::Peer, mark)?;
    heir.run_until_asleep(super::sweep::GRACE)
        .map_err(Trouble::Setup)?;
    stage.put_peers_to_sleep()?;
    is_first_over.set(victim.step(first) != Reached::Boundary);
    end(victim);
    heir.wait_woken(super::sweep::GRACE)
        .map_err(Trouble::Hang)?;
    Ok(die_again(stage, heir, second, Scene::Watched, patience))
}

fn die_again(
    stage: &mut Stage<'_>,
    mut heir: Victim,
    count: u32,
    scene: Scene,
    patience: Duration,
) -> Trial {
    let reached = heir.step(count);
    let position = heir.position();
    end(heir);
    if reached == Reached::Asleep {
        let trouble = Trouble::Hang("the heir sleeps, and nobody is alive".to_owned());
        return Trial {
            reached,
            position,
            result: Err(trouble),
        };
    }
    if scene == Scene::Alone {
        stage.order_peers();
    }
    Trial {
        reached,
        position,
        result: stage.finish(patience),
    }
}

fn end(victim: Victim) {
    victim.strike();
    victim.reap();
}
