//! Any lock as a subject: taken, left, and taken over from a dead owner.

use std::marker::PhantomData;
use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use super::data::Data;
use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};

/// A lock with the [`Data`] that it guards, as the sweeps use it.
///
/// A thread uses one such lock at a time.
pub trait Mutual: Placed {
    /// The lock, in a word or two.
    const NAME: &'static str;

    /// How it is taken, when there are several ways.
    const TAKING: &'static str = "lock";

    /// The scenes in which [`Taking`] is swept.
    const TAKING_SCENES: &'static [Scene];

    /// Those of them in which it is known to hang.
    const TAKING_MUST_HANG: &'static [Scene] = &[];

    /// The scenes in which [`Leaving`] is swept. Not c to e: who leaves waits for nobody.
    const LEAVING_SCENES: &'static [Scene] = &[Scene::Watched, Scene::Racing];

    /// Those of them in which it is known to hang.
    const LEAVING_MUST_HANG: &'static [Scene] = &[];

    /// Every how many boundaries it is swept.
    const STRIDE: u32 = 1;

    /// Whether pairs of deaths are swept.
    const HAS_PAIRS: bool = false;

    /// Makes zeroed memory a lock that processes share.
    fn prepare(&self) {}

    /// Takes the lock; true: the lock says that an owner has died, and has been told that all is
    /// well again.
    fn take(&self) -> bool;

    /// Leaves the lock.
    fn leave(&self);

    /// What the lock guards.
    fn data(&self) -> &Data;
}

/// A lock that can be asked for with a time-out.
pub trait InTime: Mutual {
    /// Every how many boundaries [`GivingUp`] is swept; each waits for the time-out.
    const TIME_OUT_STRIDE: u32 = 3;

    /// As [`Mutual::take`], at most for so long.
    fn take_in_time(&self, limit: Duration) -> Option<bool>;
}

/// A lock that can be left without a repair.
pub trait AsIs: Mutual {
    /// As [`Mutual::take`], but the lock is not told that all is well again.
    fn take_as_is(&self);
}

/// How long a victim waits whose time is to be up. It must be seen asleep before; if it is not, the
/// boundary is repeated.
pub const SOON: Duration = Duration::from_millis(8);

/// Takes the lock, looks at what it guards, changes it, and leaves.
fn visit<M: Mutual>(place: Place) -> Outcome {
    let lock: &M = place.at();
    let is_flagged = lock.take();
    let outcome = lock.data().visit(is_flagged);
    lock.leave();
    outcome
}

fn begin<M: Mutual>(place: Place) {
    let lock: &M = place.at();
    lock.take();
    lock.data().enter_quietly();
}

fn end<M: Mutual>(place: Place) {
    let lock: &M = place.at();
    lock.data().change();
    lock.data().leave();
    lock.leave();
}

/// A child takes the lock and dies. Whoever calls this has one thread.
fn die_inside<M: Mutual>(place: Place) {
    // SAFETY: the caller has one thread, so its child may run any Rust code.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            begin::<M>(place);
            // SAFETY: ends the process at once, with the lock held.
            unsafe { libc::_exit(0) }
        }
        Ok(ForkResult::Parent { child }) => {
            let _ = waitpid(child, None);
        }
        Err(error) => panic!("fork: {error}"),
    }
}

/// The victim takes the lock, and changes what it guards.
#[derive(Debug)]
pub struct Taking<M>(PhantomData<fn(M)>);

/// The victim holds the lock; it changes what it guards, and leaves.
#[derive(Debug)]
pub struct Leaving<M>(PhantomData<fn(M)>);

/// An owner has died; the victim takes the lock over, repairs, and leaves.
#[derive(Debug)]
pub struct TakingOver<M>(PhantomData<fn(M)>);

/// The victim's time is up before it has the lock.
#[derive(Debug)]
pub struct GivingUp<M>(PhantomData<fn(M)>);

/// An owner has died; the victim has taken the lock over, and leaves without a repair.
#[derive(Debug)]
pub struct LeavingAsIs<M>(PhantomData<fn(M)>);

impl<M: InTime> GivingUp<M> {
    /// The subject.
    pub const NEW: &'static GivingUp<M> = &GivingUp(PhantomData);
}

impl<M: AsIs> LeavingAsIs<M> {
    /// The subject.
    pub const NEW: &'static LeavingAsIs<M> = &LeavingAsIs(PhantomData);
}

impl<M: Mutual> Taking<M> {
    /// The subject.
    pub const NEW: &'static Taking<M> = &Taking(PhantomData);
}

impl<M: Mutual> Leaving<M> {
    /// The subject.
    pub const NEW: &'static Leaving<M> = &Leaving(PhantomData);
}

impl<M: Mutual> TakingOver<M> {
    /// The subject.
    pub const NEW: &'static TakingOver<M> = &TakingOver(PhantomData);
}

impl<M: Mutual> Subject for Taking<M> {
    fn stride(&self) -> u32 {
        M::STRIDE
    }

    fn object(&self) -> &'static str {
        M::NAME
    }

    fn operation(&self) -> &'static str {
        M::TAKING
    }

    fn scenes(&self) -> &'static [Scene] {
        M::TAKING_SCENES
    }

    fn must_hang(&self) -> &'static [Scene] {
        M::TAKING_MUST_HANG
    }

    fn pair_scenes(&self) -> &'static [Scene] {
        if M::HAS_PAIRS { &[Scene::Alone] } else { &[] }
    }

    fn reset(&self, place: Place) {
        place.at::<M>().prepare();
    }

    fn act(&self, place: Place) {
        begin::<M>(place);
        place.at::<M>().data().change();
    }

    fn peer(&self, place: Place) -> Outcome {
        visit::<M>(place)
    }

    fn hold(&self, place: Place) {
        begin::<M>(place);
    }

    fn release(&self, place: Place) {
        end::<M>(place);
    }
}

impl<M: Mutual> Subject for Leaving<M> {
    fn stride(&self) -> u32 {
        M::STRIDE
    }

    fn object(&self) -> &'static str {
        M::NAME
    }

    fn operation(&self) -> &'static str {
        "unlock"
    }

    fn scenes(&self) -> &'static [Scene] {
        M::LEAVING_SCENES
    }

    fn must_hang(&self) -> &'static [Scene] {
        M::LEAVING_MUST_HANG
    }

    fn pair_scenes(&self) -> &'static [Scene] {
        if M::HAS_PAIRS { &[Scene::Watched] } else { &[] }
    }

    fn reset(&self, place: Place) {
        place.at::<M>().prepare();
    }

    fn before(&self, place: Place) {
        begin::<M>(place);
    }

    fn act(&self, place: Place) {
        end::<M>(place);
    }

    fn peer(&self, place: Place) -> Outcome {
        visit::<M>(place)
    }
}

impl<M: Mutual> Subject for TakingOver<M> {
    fn stride(&self) -> u32 {
        M::STRIDE
    }

    fn object(&self) -> &'static str {
        M::NAME
    }

    fn operation(&self) -> &'static str {
        "take over, unlock"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::Alone, Scene::Racing]
    }

    fn reset(&self, place: Place) {
        place.at::<M>().prepare();
    }

    fn before(&self, place: Place) {
        die_inside::<M>(place);
    }

    fn act(&self, place: Place) {
        visit::<M>(place);
    }

    fn peer(&self, place: Place) -> Outcome {
        visit::<M>(place)
    }
}

impl<M: InTime> Subject for GivingUp<M> {
    fn object(&self) -> &'static str {
        M::NAME
    }

    fn operation(&self) -> &'static str {
        "lock, time out"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::TimedOut, Scene::TooLate]
    }

    fn stride(&self) -> u32 {
        M::TIME_OUT_STRIDE
    }

    fn reset(&self, place: Place) {
        place.at::<M>().prepare();
    }

    fn act(&self, place: Place) {
        let lock: &M = place.at();
        if lock.take_in_time(SOON).is_some() {
            lock.data().enter_quietly();
            lock.data().change();
        }
    }

    fn peer(&self, place: Place) -> Outcome {
        visit::<M>(place)
    }

    fn hold(&self, place: Place) {
        begin::<M>(place);
    }

    fn release(&self, place: Place) {
        end::<M>(place);
    }
}

/// The name of the dead stays in the data; whoever finds it and was told nothing complains.
impl<M: AsIs> Subject for LeavingAsIs<M> {
    fn stride(&self) -> u32 {
        M::STRIDE
    }

    fn object(&self) -> &'static str {
        M::NAME
    }

    fn operation(&self) -> &'static str {
        "unlock unrepaired"
    }

    fn scenes(&self) -> &'static [Scene] {
        &[Scene::Alone, Scene::Watched, Scene::Racing]
    }

    fn peers(&self) -> usize {
        2
    }

    fn reset(&self, place: Place) {
        place.at::<M>().prepare();
    }

    fn before(&self, place: Place) {
        die_inside::<M>(place);
        place.at::<M>().take_as_is();
    }

    fn act(&self, place: Place) {
        place.at::<M>().leave();
    }

    fn peer(&self, place: Place) -> Outcome {
        visit::<M>(place)
    }
}
