//! One boundary: everybody takes his place, the victim dies, the survivors act.

use std::time::{Duration, Instant};

use super::actor::{Actor, Kind, Role};
use super::milestones::Milestones;
use super::path::Path;
use super::victim::{Part, Reached, Victim};
use super::{Outcome, Scene, Subject};
use crate::place::Place;
use crate::system;

/// The largest [`Subject::peers`].
pub const MOST_PEERS: usize = 2;

/// How long actors get for what should take microseconds, when nothing is being measured.
const GRACE: Duration = Duration::from_secs(3);

/// For how long a process must not run to count as asleep for good.
const STILLNESS: Duration = Duration::from_millis(60);

/// Bytes of the place of an object.
const PLACE_LEN: usize = 64 << 10;

/// Why a boundary is not in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Every survivor that has not finished sleeps, and nobody is left to wake it.
    Hang(String),
    /// A survivor runs, but was not finished in time; the machine may be busy.
    Late(String),
    /// A promise of the object is broken.
    Damage(String),
    /// The actors did not get into their places.
    Setup(String),
}

/// One boundary, as it went.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Where the victim was when it died.
    pub reached: Reached,
    /// Its next instruction.
    pub position: String,
    /// How many survivors were told of a death, or what went wrong.
    pub result: Result<u32, Trouble>,
}

/// The place, and the survivors around it.
pub struct Stage<'a> {
    pub(super) subject: &'a dyn Subject,
    place: Place,
    spare: Place,
    mark: Place,
    cast: Cast,
    milestones: Option<Milestones>,
    path: Path,
}

/// The survivors. The host comes last: fields are dropped in this order, and it outlives its
/// guests.
struct Cast {
    peers: Vec<Actor>,
    newcomer: Actor,
    holder: Actor,
    host: Option<Actor>,
}

impl Cast {
    fn new(subject: &dyn Subject, place: Place, spare: Place) -> Cast {
        let mut host = subject
            .has_host()
            .then(|| Actor::fork(subject, Kind::Host, place, spare));
        let mut fork = || {
            invite(&mut host).expect("the host invites");
            Actor::fork(subject, Kind::Survivor, place, spare)
        };
        let peers = (0..subject.peers()).map(|_| fork()).collect();
        let (newcomer, holder) = (fork(), fork());
        Cast {
            peers,
            newcomer,
            holder,
            host,
        }
    }

    /// Those who must finish.
    fn survivors(&self) -> impl Iterator<Item = &Actor> {
        self.peers.iter().chain([&self.newcomer])
    }
}

fn invite(host: &mut Option<Actor>) -> Result<(), Trouble> {
    host.as_mut()
        .map_or(Ok(()), |host| play(host, Role::Invite))
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Stage")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl<'a> Stage<'a> {
    /// Maps the place and forks the survivors.
    ///
    /// # Panics
    ///
    /// Panics when the kernel refuses memory or processes, or the subject wants too many peers.
    pub fn new(subject: &'a dyn Subject) -> Stage<'a> {
        assert!(subject.peers() <= MOST_PEERS, "peers are few");
        let [place, spare, mark] = [PLACE_LEN, PLACE_LEN, 64].map(Place::map);
        subject.reset(spare);
        let cast = Cast::new(subject, place, spare);
        Stage {
            subject,
            place,
            spare,
            mark,
            cast,
            milestones: None,
            path: Path::default(),
        }
    }

    /// Replaces all survivors; one of them may be stuck.
    pub fn replace_survivors(&mut self) {
        self.cast = Cast::new(self.subject, self.place, self.spare);
        // A new host has new memory.
        self.milestones = None;
    }

    /// Kills the victim after `count` instructions of its operation.
    pub fn trial(&mut self, scene: Scene, count: u32, patience: Duration) -> Trial {
        let mut path = std::mem::take(&mut self.path);
        let walk = |victim: &mut Victim| path.walk(victim, scene, count);
        let trial = self.trial_by(scene, count, patience, walk);
        let has_strayed = path.has_strayed();
        self.path = path;
        if has_strayed && trial.result.is_ok() {
            return self.trial_by(scene, count, patience, |victim| victim.step(count));
        }
        trial
    }

    /// Kills the victim where `walk` has led it; it is boundary `number` of the sweep.
    pub(super) fn trial_by(
        &mut self,
        scene: Scene,
        number: u32,
        patience: Duration,
        walk: impl FnOnce(&mut Victim) -> Reached,
    ) -> Trial {
        let mut victim = match self.clear().and_then(|()| self.take_places(scene)) {
            Ok(victim) => victim,
            Err(trouble) => return Trial::failed(trouble),
        };
        let reached = walk(&mut victim);
        let position = victim.position();
        let killed = self.kill(victim, scene, number);
        Trial {
            reached,
            position,
            result: killed.and_then(|()| self.survive(scene, patience)),
        }
    }

    /// As [`Stage::trial`], but counts changes that survivors can see.
    pub(super) fn trial_at_change(&mut self, scene: Scene, nth: u32, patience: Duration) -> Trial {
        let milestones = match self.milestones.take() {
            Some(milestones) => milestones,
            None => match Milestones::find(self, scene) {
                Ok(milestones) => milestones,
                Err(trouble) => return Trial::failed(trouble),
            },
        };
        let walk = |victim: &mut Victim| milestones.walk_to(nth, victim);
        let trial = self.trial_by(scene, nth, patience, walk);
        self.milestones = Some(milestones);
        trial
    }

    pub(super) fn clear(&mut self) -> Result<(), Trouble> {
        self.place.clear();
        self.subject.reset(self.place);
        // What the survivors of the boundary before left on the spare object.
        self.spare.clear();
        self.subject.reset(self.spare);
        self.cast
            .host
            .as_mut()
            .map_or(Ok(()), |host| play(host, Role::SetUp))
    }

    pub(super) fn place_bytes(&self) -> &'static [u8] {
        self.place.bytes()
    }

    pub(super) fn fork_victim(&mut self, part: Part) -> Result<Victim, Trouble> {
        self.fork_second_victim(part, self.mark)
    }

    /// A second victim, while the first one lives, needs a mark of its own.
    pub(super) fn fork_second_victim(
        &mut self,
        part: Part,
        mark: Place,
    ) -> Result<Victim, Trouble> {
        invite(&mut self.cast.host)?;
        Ok(Victim::fork(
            self.subject,
            part,
            [self.place, self.spare, mark],
        ))
    }

    fn take_places(&mut self, scene: Scene) -> Result<Victim, Trouble> {
        match scene {
            Scene::Alone | Scene::Racing => self.fork_victim(Part::Act),
            Scene::Heir => {
                play(&mut self.cast.holder, Role::Hold)?;
                self.kill_holder()?;
                self.fork_victim(Part::Act)
            }
            Scene::Watched => {
                let victim = self.fork_victim(Part::Act)?;
                self.put_peers_to_sleep()?;
                Ok(victim)
            }
            _ => self.wake_victim(scene),
        }
    }

    fn wake_victim(&mut self, scene: Scene) -> Result<Victim, Trouble> {
        play(&mut self.cast.holder, Role::Hold)?;
        let mut victim = self.fork_victim(Part::Act)?;
        victim.run_until_asleep(GRACE).map_err(Trouble::Setup)?;
        self.put_peers_to_sleep()?;
        match scene {
            Scene::WokenByDeath => self.kill_holder()?,
            Scene::TimedOut | Scene::TooLate => {}
            _ => play(&mut self.cast.holder, Role::Release)?,
        }
        victim.wait_woken(GRACE).map_err(Trouble::Setup)?;
        match scene {
            Scene::Robbed => play(&mut self.cast.newcomer, Role::Rob)?,
            Scene::TooLate => play(&mut self.cast.holder, Role::Release)?,
            _ => {}
        }
        Ok(victim)
    }

    fn kill_holder(&mut self) -> Result<(), Trouble> {
        invite(&mut self.cast.host)?;
        let heir = Actor::fork(self.subject, Kind::Survivor, self.place, self.spare);
        std::mem::replace(&mut self.cast.holder, heir).kill();
        Ok(())
    }

    pub(super) fn put_peers_to_sleep(&mut self) -> Result<(), Trouble> {
        for peer in &mut self.cast.peers {
            peer.order(Role::Peer);
            wait_until("a peer falls asleep", || {
                peer.is_asleep() || peer.is_finished()
            })?;
            if peer.is_finished() {
                return Err(Trouble::Setup(
                    "a peer finished instead of sleeping".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Kills the victim, which stands still; in a race, while the peers arrive.
    fn kill(&mut self, victim: Victim, scene: Scene, number: u32) -> Result<(), Trouble> {
        if scene == Scene::Racing {
            for peer in &mut self.cast.peers {
                peer.order(Role::GatedPeer);
                wait_until("a peer reaches its gate", || peer.is_at_gate())?;
            }
            // Now the one is first and now the other.
            if number.is_multiple_of(2) {
                victim.strike();
            }
            self.cast.peers.iter().for_each(Actor::open_gate);
        }
        victim.strike();
        victim.reap();
        Ok(())
    }

    fn survive(&mut self, scene: Scene, patience: Duration) -> Result<u32, Trouble> {
        match scene {
            Scene::Robbed => play(&mut self.cast.newcomer, Role::EndRobbery)?,
            Scene::TimedOut => play(&mut self.cast.holder, Role::Release)?,
            _ => {}
        }
        if matches!(scene, Scene::Alone | Scene::Heir) {
            self.order_peers();
        }
        self.finish(patience)
    }

    /// Lets the peers come after the death.
    pub(super) fn order_peers(&mut self) {
        self.cast
            .peers
            .iter_mut()
            .for_each(|peer| peer.order(Role::Peer));
    }

    /// Waits for the peers, then lets the newcomer prove that the object can be used.
    pub(super) fn finish(&mut self, patience: Duration) -> Result<u32, Trouble> {
        let is_waiting_right = self.wait_for_peers(patience)?;
        self.cast.newcomer.order(Role::Settle);
        self.wait_for_all(patience)?;
        if let Some(host) = &mut self.cast.host {
            host.order(Role::Audit);
            match host.wait_finished(GRACE) {
                Some(Outcome::Fine) => {}
                Some(outcome) => return Err(Trouble::Damage(format!("host: {outcome:?}"))),
                None => return Err(Trouble::Hang("the host does not finish".to_owned())),
            }
        }
        let mut told = 0;
        for actor in self.cast.survivors() {
            match actor.wait_finished(Duration::ZERO) {
                Some(Outcome::OwnerDied) => told += 1,
                Some(outcome) if outcome.is_damage() => {
                    return Err(Trouble::Damage(format!("{outcome:?}")));
                }
                _ => {}
            }
        }
        self.subject.check(self.place).map_err(|what| {
            Trouble::Damage(format!(
                "{what} (peers waited for the newcomer: {is_waiting_right})"
            ))
        })?;
        Ok(told)
    }

    /// True: some peer sleeps, and is right to.
    fn wait_for_peers(&mut self, patience: Duration) -> Result<bool, Trouble> {
        let deadline = Instant::now() + patience;
        while let Some(peer) = self.cast.peers.iter().find(|peer| !peer.is_finished()) {
            if self.subject.is_waiting_right(self.place) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Err(self.diagnose("a peer"));
            }
            peer.wait_finished(Duration::from_micros(500));
        }
        Ok(false)
    }

    fn wait_for_all(&mut self, patience: Duration) -> Result<(), Trouble> {
        let deadline = Instant::now() + patience;
        for actor in self.cast.survivors() {
            let left = deadline.saturating_duration_since(Instant::now());
            if actor.wait_finished(left).is_none() {
                return Err(self.diagnose("the newcomer or a peer"));
            }
        }
        Ok(())
    }

    /// Tells a hang from a busy machine.
    ///
    /// When all who have not finished sleep in a futex and did not run for a while, nobody is left
    /// to wake them (but a time slice of their own, which is a net and not a promise).
    fn diagnose(&self, who: &str) -> Trouble {
        let waiting = || self.cast.survivors().filter(|actor| !actor.is_finished());
        let look = || -> Option<Vec<u64>> {
            waiting()
                .map(|actor| match actor.is_asleep() {
                    true => system::switches(actor.process()),
                    false => None,
                })
                .collect()
        };
        let before = look();
        if let Some(actor) = waiting().next() {
            actor.wait_finished(STILLNESS);
        }
        match (before, look()) {
            (Some(before), Some(after)) if before == after && !after.is_empty() => {
                Trouble::Hang(format!("{who} sleeps for ever"))
            }
            _ => Trouble::Late(format!("{who} is late")),
        }
    }
}

impl Trial {
    pub(super) fn failed(trouble: Trouble) -> Trial {
        Trial {
            reached: Reached::Boundary,
            position: String::new(),
            result: Err(trouble),
        }
    }
}

fn play(actor: &mut Actor, role: Role) -> Result<(), Trouble> {
    actor.order(role);
    match actor.wait_finished(GRACE) {
        Some(Outcome::Fine) => Ok(()),
        Some(outcome) => Err(Trouble::Setup(format!("{role:?}: {outcome:?}"))),
        None => Err(Trouble::Setup(format!("{role:?} did not finish"))),
    }
}

/// Looks again and again; what is waited for takes microseconds.
fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<(), Trouble> {
    let deadline = Instant::now() + GRACE;
    while !is_so() {
        if Instant::now() > deadline {
            return Err(Trouble::Setup(format!("not in time: {what}")));
        }
        std::thread::yield_now();
    }
    Ok(())
}
