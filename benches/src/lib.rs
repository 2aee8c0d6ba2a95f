//! Measuring: contenders of one scenario, by turns, in one run.
//!
//! A scenario says what is done, how often, and by how many processes. Each contender proves that
//! it works before it is timed, and again after each round. Contenders take turns round by round, so
//! that a machine that becomes slower or faster does so for all; the ratio is that of each round, and
//! of these the median.

pub mod bare_zygote;
pub mod figure;
pub mod machine;
pub mod scenarios;
pub mod table;

use std::fmt;
use std::time::Duration;

use figure::Figure;

/// What went wrong with a contender: what it should have done, and did not.
pub type Broken = String;

/// Does an operation so many times; gives the time it took, after a look at what came of it.
pub type Run = Box<dyn FnMut(u64) -> Result<Duration, Broken>>;

/// What a contender is in its scenario.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Of this project.
    Ours,
    /// Somebody else's, for the same job.
    Peer,
    /// What the machine needs for the core of the job; nobody can be faster.
    Floor,
}

/// One way to do what the scenario says.
pub struct Contender {
    name: &'static str,
    role: Role,
    run: Run,
}

impl fmt::Debug for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Contender")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Contender {
    /// A contender; `run` sees to it that the work was really done.
    pub fn new<F>(name: &'static str, role: Role, run: F) -> Self
    where
        F: FnMut(u64) -> Result<Duration, Broken> + 'static,
    {
        Self {
            name,
            role,
            run: Box::new(run),
        }
    }
}

/// What is done, how often, by how many processes; and who does it.
#[derive(Debug)]
pub struct Scenario {
    /// What, count, size, processes.
    pub name: &'static str,
    /// Operations a round.
    pub count: u64,
    /// How often all contenders take their turn.
    pub rounds: u32,
    /// The first of ours is compared with the first peer.
    pub contenders: Vec<Contender>,
    /// The ratio (ours to peer) that `--limits` allows.
    pub limit: Option<f64>,
}

/// What a contender needed.
#[derive(Clone, Debug)]
pub struct Time {
    /// Name of the contender.
    pub name: &'static str,
    /// From the contender.
    pub role: Role,
    /// For one operation, in nanoseconds.
    pub figure: Figure,
    /// The first of ours to this one, round by round; of peers only.
    pub ratio: Option<Figure>,
}

/// What a scenario gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Name of the scenario.
    pub name: &'static str,
    /// All contenders.
    pub times: Vec<Time>,
    /// Ours to the first peer; none where there is no peer.
    pub ratio: Option<Figure>,
    /// From the scenario.
    pub limit: Option<f64>,
}

impl Outcome {
    /// Whether the ratio is over its limit.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let (Some(ratio), Some(limit)) = (self.ratio, self.limit) else {
            return false;
        };
        ratio.median > limit
    }
}

/// Checks that each contender works, with few operations.
///
/// # Errors
///
/// The first that does not.
pub fn check(scenario: &mut Scenario) -> Result<(), Broken> {
    let few = (scenario.count / 100).clamp(1, 1000);
    for contender in &mut scenario.contenders {
        let said = (contender.run)(few);
        said.map_err(|why| format!("{}: {}: {why}", scenario.name, contender.name))?;
    }
    Ok(())
}

/// Checks, then measures.
///
/// # Errors
///
/// The first contender that does not work.
pub fn measure(scenario: &mut Scenario) -> Result<Outcome, Broken> {
    check(scenario)?;
    let mut times = vec![Vec::new(); scenario.contenders.len()];
    for _ in 0..scenario.rounds {
        for (contender, times) in scenario.contenders.iter_mut().zip(&mut times) {
            let took = (contender.run)(scenario.count)
                .map_err(|why| format!("{}: {}: {why}", scenario.name, contender.name))?;
            times.push(took.as_secs_f64() * 1e9 / scenario.count as f64);
        }
    }
    let all = scenario.contenders.iter();
    let ours = all.clone().position(|who| who.role == Role::Ours);
    let ratio = |peer: &[f64]| {
        let rounds = times[ours?].iter().zip(peer);
        let ratios: Vec<f64> = rounds.map(|(ours, peer)| ours / peer).collect();
        Some(Figure::of(&ratios))
    };
    let time = |(who, times): (&Contender, &Vec<f64>)| Time {
        name: who.name,
        role: who.role,
        figure: Figure::of(times),
        ratio: ratio(times).filter(|_| who.role == Role::Peer),
    };
    let times: Vec<Time> = all.zip(&times).map(time).collect();
    let ratio = times.iter().find_map(|time| time.ratio);
    Ok(Outcome {
        name: scenario.name,
        times,
        ratio,
        limit: scenario.limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taking(name: &'static str, role: Role, nanoseconds: u64) -> Contender {
        Contender::new(name, role, move |count| {
            Ok(Duration::from_nanos(nanoseconds * count))
        })
    }

    fn scenario(contenders: Vec<Contender>) -> Scenario {
        Scenario {
            name: "nothing x 10",
            count: 10,
            rounds: 5,
            contenders,
            limit: Some(1.5),
        }
    }

    #[test]
    fn ratio_is_ours_to_the_first_peer_and_each_peer_has_its_own() {
        let contenders = vec![
            taking("floor", Role::Floor, 1),
            taking("ours", Role::Ours, 30),
            taking("peer", Role::Peer, 10),
            taking("another", Role::Peer, 100),
        ];
        let outcome = measure(&mut scenario(contenders)).unwrap();
        assert!((outcome.ratio.unwrap().median - 3.0).abs() < 1e-9);
        assert!((outcome.times[3].ratio.unwrap().median - 0.3).abs() < 1e-9);
        assert!(outcome.times[..2].iter().all(|time| time.ratio.is_none()));
        assert!(outcome.is_over());
        assert!((outcome.times[1].figure.median - 30.0).abs() < 1e-9);
    }

    #[test]
    fn contender_that_does_not_work_is_never_timed() {
        let broken = Contender::new("broken", Role::Ours, |_| Err("lost a message".to_owned()));
        let said = measure(&mut scenario(vec![broken])).unwrap_err();
        assert_eq!(said, "nothing x 10: broken: lost a message");
    }

    #[test]
    fn every_scenario_does_what_it_measures() {
        for mut scenario in scenarios::all() {
            check(&mut scenario).unwrap();
        }
    }
}
