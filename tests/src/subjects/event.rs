//! The event of `manyhands-sync`.

use manyhands_sync::{Event, Shareable};

use super::mutual::SOON;
use crate::place::{Place, Placed, last_place};
use crate::step::{Outcome, Scene, Subject};

// SAFETY: made of atomics; zero is an event that is not set; nothing to drop.
unsafe impl Placed for Event {}

/// Dies in `set`: either the event is set and all wake, or it is not set and all may sleep on.
struct Set;

/// Dies in `clear`, while others wait for the next `set`.
struct Clear;

/// Dies in `wait`, woken; the others that waited wake all the same, even if somebody clears at
/// once.
struct Wait;

/// Dies in `wait_timeout`, its time being up.
struct WaitInTime;

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    vec![&Set, &Clear, &Wait, &WaitInTime]
}

fn wait(place: Place) -> Outcome {
    place.at::<Event>().wait();
    Outcome::Fine
}

fn set_if_unset(place: Place) -> Outcome {
    let event: &Event = place.at();
    // Not when it is set: a second `set` could wake those whom the first one forgot.
    if !event.is_set() {
        event.set();
    }
    event.wait();
    Outcome::Fine
}

impl Subject for Set {
    fn object(&self) -> &'static str {
        "Event"
    }

    fn operation(&self) -> &'static str {
        "set"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::Alone, Scene::Watched, Scene::Racing]
    }

    fn peers(&self) -> usize {
        2
    }

    fn reset(&self, place: Place) {
        place.at::<Event>().placed(last_place());
    }

    fn warm(&self, spare: Place) {
        set_if_unset(spare);
    }

    fn act(&self, place: Place) {
        place.at::<Event>().set();
    }

    fn peer(&self, place: Place) -> Outcome {
        wait(place)
    }

    fn is_waiting_right(&self, place: Place) -> bool {
        !place.at::<Event>().is_set()
    }

    fn settle(&self, place: Place) -> Outcome {
        set_if_unset(place)
    }
}

impl Subject for Clear {
    fn object(&self) -> &'static str {
        "Event"
    }

    fn operation(&self) -> &'static str {
        "clear"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::Alone, Scene::Watched, Scene::Racing]
    }

    fn reset(&self, place: Place) {
        place.at::<Event>().placed(last_place());
    }

    fn warm(&self, spare: Place) {
        set_if_unset(spare);
        spare.at::<Event>().clear();
    }

    fn act(&self, place: Place) {
        place.at::<Event>().clear();
    }

    fn peer(&self, place: Place) -> Outcome {
        wait(place)
    }

    fn is_waiting_right(&self, place: Place) -> bool {
        !place.at::<Event>().is_set()
    }

    fn settle(&self, place: Place) -> Outcome {
        set_if_unset(place)
    }
}

impl Subject for Wait {
    fn object(&self) -> &'static str {
        "Event"
    }

    fn operation(&self) -> &'static str {
        "wait"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::Woken, Scene::Robbed]
    }

    fn peers(&self) -> usize {
        2
    }

    fn reset(&self, place: Place) {
        place.at::<Event>().placed(last_place());
    }

    fn warm(&self, spare: Place) {
        set_if_unset(spare);
    }

    fn act(&self, place: Place) {
        place.at::<Event>().wait();
    }

    fn peer(&self, place: Place) -> Outcome {
        wait(place)
    }

    fn settle(&self, place: Place) -> Outcome {
        set_if_unset(place)
    }

    fn release(&self, place: Place) {
        place.at::<Event>().set();
    }

    fn rob(&self, place: Place) {
        place.at::<Event>().clear();
    }

    fn end_robbery(&self, _place: Place) {}
}

impl Subject for WaitInTime {
    fn object(&self) -> &'static str {
        "Event"
    }

    fn operation(&self) -> &'static str {
        "wait, time out"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::TimedOut, Scene::TooLate]
    }

    fn peers(&self) -> usize {
        2
    }

    fn reset(&self, place: Place) {
        place.at::<Event>().placed(last_place());
    }

    fn warm(&self, spare: Place) {
        set_if_unset(spare);
    }

    fn act(&self, place: Place) {
        let _is_set = place.at::<Event>().wait_timeout(SOON);
    }

    fn peer(&self, place: Place) -> Outcome {
        wait(place)
    }

    fn settle(&self, place: Place) -> Outcome {
        set_if_unset(place)
    }

    fn release(&self, place: Place) {
        place.at::<Event>().set();
    }
}
