//! The family of a storm: one that founds it, seats for the newcomers, and the seats of the dead.
//!
//! The driver stays out of the family, since it forks and must have one thread. The host is a
//! process of its own. It takes the seats of the dead back, some at once and some later, so that
//! newcomers sit now on new seats and now on those of the latest dead.

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;

use manyhands_shm::{Participant, Seat};

use super::PROCESSES;
use crate::place::Place;
use crate::step::actor::{Actor, Kind, Role};
use crate::step::{Outcome, Scene, Subject};
use crate::subjects::{family, memory};

/// How long the host may take for an order.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What the host does after each death.
static GREETING: OnceLock<Greeting> = OnceLock::new();

/// A part of the game, for the host.
pub(super) type Greeting = Box<dyn Fn() + Send + Sync>;

thread_local! {
    static DEAD: RefCell<Vec<Participant>> = const { RefCell::new(Vec::new()) };
    static HAS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// The family, as the driver sees it.
pub(super) struct Household {
    host: Actor,
    seats: [Option<Seat>; PROCESSES],
    letter: &'static family::Letter,
}

/// What the host does.
struct Host;

impl Household {
    /// Forks the host. The caller has one thread, and founds one household only.
    pub(super) fn found(greeting: Greeting) -> Household {
        family::open();
        assert!(GREETING.set(greeting).is_ok(), "there is one storm");
        let [place, spare] = [size_of::<family::Letter>(), 64].map(Place::map);
        Household {
            host: Actor::fork(&Host, Kind::Host, place, spare),
            seats: [None; PROCESSES],
            letter: place.at(),
        }
    }

    fn order(&mut self, role: Role) -> Outcome {
        self.host.order(role);
        self.host.wait_finished(PATIENCE).expect("the host lives")
    }

    /// Reserves a seat for the process that is forked next.
    pub(super) fn invite(&mut self, number: usize) -> Seat {
        assert_eq!(self.order(Role::Invite), Outcome::Fine, "there are seats");
        let (_, seat) = family::invitation();
        self.seats[number] = Some(seat);
        seat
    }

    /// Lets the host use the object, as a newcomer; false: it is stuck there.
    pub(super) fn greet(&mut self) -> bool {
        self.host.order(Role::SetUp);
        self.host.wait_finished(PATIENCE).is_some()
    }

    /// Tells the host of a death; it takes back what the dead had at once, or some time later.
    pub(super) fn bury(&mut self, number: usize, at_once: bool) {
        let seat = self.seats[number].take().expect("it was invited");
        family::write_seat(self.letter, seat);
        self.order(Role::Hold);
        if at_once {
            self.order(Role::Release);
        }
    }

    /// All have gone; whether nobody and nothing is left but the host.
    pub(super) fn close(mut self) -> bool {
        for number in 0..PROCESSES {
            self.bury(number, true);
        }
        self.order(Role::Audit) == Outcome::Fine
    }
}

impl Subject for Host {
    fn object(&self) -> &'static str {
        "household"
    }

    fn operation(&self) -> &'static str {
        "host"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[]
    }

    fn reset(&self, _place: Place) {}

    fn act(&self, _place: Place) {}

    fn peer(&self, _place: Place) -> Outcome {
        Outcome::Fine
    }

    fn invite(&self) {
        if !HAS_COUNTED.replace(true) {
            family::count();
            memory::note();
        }
        family::invite();
    }

    /// Somebody has died, perhaps before it came.
    fn hold(&self, place: Place) {
        let seat = family::read_seat(place.at());
        family::family().release_seat(seat);
        DEAD.with_borrow_mut(|dead| dead.push(seat.participant()));
    }

    fn set_up(&self, _place: Place) {
        if let Some(greeting) = GREETING.get() {
            greeting();
        }
    }

    /// All that have died are reaped.
    fn release(&self, _place: Place) {
        for dead in DEAD.take() {
            family::family().reap(dead);
        }
    }

    fn audit(&self, _place: Place) -> Outcome {
        let outcome = family::audit();
        if memory::is_at_base() {
            outcome
        } else {
            Outcome::Lost
        }
    }
}
