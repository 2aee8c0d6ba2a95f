//! The life word of `manyhands-sync`: a death wakes all who wait for it, though the kernel wakes
//! one only and that one may die too.

use manyhands_os::Deadline;
use manyhands_sync::keeper;
use manyhands_sync::life::LifeWord;

use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};

// SAFETY: made of atomics; zero is vacant; nothing to drop.
unsafe impl Placed for LifeWord {}

/// Dies in `wait_death`, woken by the death it waited for.
struct WaitDeath;

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![&WaitDeath]
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
