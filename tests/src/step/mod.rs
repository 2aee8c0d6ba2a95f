//! Kill at every instruction boundary.
//!
//! A [`Subject`] says what an object is, which operation the victim makes, and what the survivors
//! do afterwards. [`sweep::run`] lets the victim make that operation again and again, kills it
//! after one instruction, after two, after three, until the operation is finished, and looks each
//! time whether the survivors get on. `README.md` of this package tells the rest.

pub mod actor;
pub mod milestones;
pub mod pairs;
pub mod path;
pub mod report;
pub mod scene;
pub mod sweep;
pub mod victim;

use std::fs::File;

use crate::place::Place;

/// What a survivor saw.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// Nothing out of the ordinary.
    Fine = 1,
    /// The object said that somebody had died inside, and was usable.
    OwnerDied = 2,
    /// The data was inconsistent and nobody had said so.
    Unflagged = 3,
    /// Two processes were inside at the same time.
    TwoOwners = 4,
    /// The object refused to go on, or gave an answer that cannot be.
    Refused = 5,
    /// Something that was there before is gone, or is there twice.
    Lost = 6,
}

impl Outcome {
    const ALL: [Outcome; 6] = [
        Outcome::Fine,
        Outcome::OwnerDied,
        Outcome::Unflagged,
        Outcome::TwoOwners,
        Outcome::Refused,
        Outcome::Lost,
    ];

    fn from_bits(bits: u32) -> Option<Outcome> {
        Outcome::ALL
            .into_iter()
            .find(|outcome| *outcome as u32 == bits)
    }

    /// Whether the object broke its promise.
    pub fn is_damage(self) -> bool {
        !matches!(self, Outcome::Fine | Outcome::OwnerDied)
    }
}

/// Who is where when the victim dies.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scene {
    /// (a) Nobody waits; the survivors come afterwards.
    Alone,
    /// (b) The peers already sleep, for something that the victim must do.
    Watched,
    /// (c) The victim slept, was woken by the holder's release, and dies at one of its next steps.
    Woken,
    /// (d) As c, but the holder was killed.
    WokenByDeath,
    /// (e) As c, and a newcomer took the object before the victim could.
    Robbed,
    /// (f) The peers arrive while the victim is dying.
    Racing,
    /// (g) The holder died before; the victim takes back what he left.
    Heir,
    /// (h) The victim slept until its time was up, and dies at one of its next steps, peers asleep;
    /// then the holder releases.
    TimedOut,
    /// (i) As h, but the holder releases before the victim's next step.
    TooLate,
}

impl Scene {
    /// Every scene, in the order of the letters.
    pub const ALL: [Scene; 9] = [
        Scene::Alone,
        Scene::Watched,
        Scene::Woken,
        Scene::WokenByDeath,
        Scene::Robbed,
        Scene::Racing,
        Scene::Heir,
        Scene::TimedOut,
        Scene::TooLate,
    ];

    /// The letter of the scene.
    pub fn letter(self) -> char {
        match self {
            Scene::Alone => 'a',
            Scene::Watched => 'b',
            Scene::Woken => 'c',
            Scene::WokenByDeath => 'd',
            Scene::Robbed => 'e',
            Scene::Racing => 'f',
            Scene::Heir => 'g',
            Scene::TimedOut => 'h',
            Scene::TooLate => 'i',
        }
    }
}

/// One object, one operation on it, and what everybody else does.
///
/// The object lies in `place`. All functions but `reset`, `is_waiting_right` and `check` run in
/// forked, single-threaded children; what an actor keeps between two calls (a guard, say) it keeps
/// in a thread-local.
pub trait Subject: Sync {
    /// The object, in a word or two.
    fn object(&self) -> &'static str;

    /// The operation in which the victim dies.
    fn operation(&self) -> &'static str;

    /// The scenes that make sense for the operation.
    fn scenes(&self) -> &'static [Scene];

    /// The scenes in which the object is known to hang. Not empty: a negative control.
    fn must_hang(&self) -> &'static [Scene] {
        &[]
    }

    /// How many peers there are. At most [`scene::MOST_PEERS`].
    fn peers(&self) -> usize {
        1
    }

    /// Every how many boundaries a sweep kills; 1 is all. For operations that survivors change too,
    /// so that [`Subject::is_long`] does not help. Best a prime: loops are then hit everywhere.
    fn stride(&self) -> u32 {
        1
    }

    /// Whether the operation is so long that allboundaries would take hours. It is then killed at
    /// those that survivors can tell apart, see [`milestones`].
    fn is_long(&self) -> bool {
        false
    }

    /// The file behind memory that the actors share beside the place. The tracer calls it.
    fn shared_file(&self) -> Option<File> {
        None
    }

    /// The scenes in which [`pairs`] of deathsare swept: the second one in the peer's operation.
    fn pair_scenes(&self) -> &'static [Scene] {
        &[]
    }

    /// Whether the actors are a family, with a host that has invited them.
    ///
    /// The host is forked first and never killed. It does [`Subject::invite`] before each other
    /// fork; what is forked does [`Subject::arrive`] before anything else.
    fn has_host(&self) -> bool {
        false
    }

    /// The host makes ready for one newly forked actor or victim.
    fn invite(&self) {}

    /// What an actor does when it comes to life.
    fn arrive(&self) {}

    /// Whether a victim arrives too; if not, its operation is to do so.
    fn victim_arrives(&self) -> bool {
        true
    }

    /// What the host does before each boundary, after `reset`.
    fn set_up(&self, _place: Place) {}

    /// What the host does at the end of each boundary: it takes back what the dead had, and counts.
    fn audit(&self, _place: Place) -> Outcome {
        Outcome::Fine
    }

    /// Makes the object anew; the place is all zero. The tracer calls it before each boundary.
    fn reset(&self, place: Place);

    /// Fills the caches of a fresh child: one whole operation on a spare object, by default.
    fn warm(&self, spare: Place) {
        self.peer(spare);
    }

    /// What the victim does before the stepping begins.
    fn before(&self, _place: Place) {}

    /// The operation: killed at every instruction.
    fn act(&self, place: Place);

    /// What a peer does, from beginning to end. It must finish after the victim's death, with the
    /// newcomer's help only if [`Subject::is_waiting_right`].
    fn peer(&self, place: Place) -> Outcome;

    /// Whether a peer that still sleeps after the victim's death is right to do so.
    fn is_waiting_right(&self, _place: Place) -> bool {
        false
    }

    /// What a newcomer does last: it proves that the object can be used.
    fn settle(&self, place: Place) -> Outcome {
        self.peer(place)
    }

    /// Takes what the victim and the peers will sleep for.
    fn hold(&self, _place: Place) {}

    /// Gives back what `hold` took.
    fn release(&self, _place: Place) {}

    /// What the newcomer of [`Scene::Robbed`] does while the woken victim has not run yet.
    fn rob(&self, place: Place) {
        self.hold(place);
    }

    /// What that newcomer does when the victim is dead.
    fn end_robbery(&self, place: Place) {
        self.release(place);
    }

    /// Looks at the object when everybody has finished.
    ///
    /// # Errors
    ///
    /// Says what is wrong.
    fn check(&self, _place: Place) -> Result<(), String> {
        Ok(())
    }
}
