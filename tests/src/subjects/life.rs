//! The life word of `manyhands-sync`: a death wakes all who wait for it, though the kernel wakes
//! one only and that one may die too.

use manyhands_os::Deadline;
use manyhands_sync::keeper;
use manyhands_sync::life::LifeWord;
use manyhands_sync::raw::RawLock;

use crate::place::{Place, Placed, last_place};
use crate::step::{Outcome, Scene, Subject};

// SAFETY: made of atomics; zero is vacant; nothing to drop.
unsafe impl Placed for LifeWord {}

/// Dies in `wait_death`, woken by the death it waited for.
struct WaitDeath;

/// Dies in `hold`: the word is vacant still, or all see the death.
struct Hold;

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![&WaitDeath, &Hold]
}

impl Subject for WaitDeath {
    fn object(&self) -> &'static str {
        "LifeWord"
    }

    fn operation(&self) -> &'static str {
        "wait_death"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::WokenByDeath]
    }

    fn peers(&self) -> usize {
        2
    }

    fn reset(&self, _place: Place) {}

    fn warm(&self, spare: Place) {
        // Vacant: there is nobody to wait for.
        spare.at::<LifeWord>().wait_death(Deadline::NEVER);
    }

    fn act(&self, place: Place) {
        place.at::<LifeWord>().wait_death(Deadline::NEVER);
    }

    fn peer(&self, place: Place) -> Outcome {
        let life: &LifeWord = place.at();
        let has_ended = life.wait_death(Deadline::NEVER);
        if has_ended && life.is_dead() {
            Outcome::OwnerDied
        } else {
            Outcome::Refused
        }
    }

    fn hold(&self, place: Place) {
        keeper::hold(place.at()).expect("the word is vacant");
    }
}

impl Subject for Hold {
    fn object(&self) -> &'static str {
        "LifeWord"
    }

    fn operation(&self) -> &'static str {
        "hold"
    }

    /// Not b to e: nobody waits for a life before it is held, and to hold it waits for nobody.
    fn scenes(&self) -> &'static [Scene] {
        &[Scene::Alone, Scene::Racing]
    }

    fn peers(&self) -> usize {
        2
    }

    fn reset(&self, _place: Place) {}

    /// On another word of that kind: a life that is held stays so.
    fn warm(&self, spare: Place) {
        static OTHER: RawLock = RawLock::new();
        OTHER.placed(last_place());
        if OTHER.lock(Deadline::NEVER).is_ok() {
            // SAFETY: this thread took it just now.
            unsafe { OTHER.unlock() };
        }
        spare.at::<LifeWord>().wait_death(Deadline::NEVER);
    }

    fn act(&self, place: Place) {
        assert!(place.at::<LifeWord>().hold(), "it is vacant");
    }

    fn peer(&self, place: Place) -> Outcome {
        let life: &LifeWord = place.at();
        life.wait_death(Deadline::NEVER);
        match (life.is_dead(), life.is_vacant()) {
            (true, _) => Outcome::OwnerDied,
            (false, true) => Outcome::Fine,
            (false, false) => Outcome::Refused,
        }
    }

    /// The seat's next process can have the word.
    fn settle(&self, place: Place) -> Outcome {
        let life: &LifeWord = place.at();
        life.clear();
        if life.is_vacant() {
            Outcome::Fine
        } else {
            Outcome::Refused
        }
    }
}
