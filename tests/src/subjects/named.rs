//! Memory with a name, of `manyhands-shm`: whoever makes, removes or sweeps it may die at any call;
//! a sweep then leaves nothing, and the name can be used again.

use std::cell::RefCell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use manyhands_os::names;
use manyhands_os::process::Identity;
use manyhands_shm::named::{self, OpenError, Segment, SharedMemory};

use crate::place::{Place, Placed};
use crate::step::{Outcome, Scene, Subject};

/// How long a newcomer waits for others who hold a lock for two calls.
const PATIENCE: Duration = Duration::from_secs(2);

#[repr(C)]
struct Table {
    /// Whose number is in the names.
    tracer: AtomicU64,
    /// Who is about to die: the victim, and the holder before it.
    dying: [AtomicU64; 2],
}

// SAFETY: atomics only; zero is empty; nothing to drop.
unsafe impl Placed for Table {}

thread_local! {
    static KEPT: RefCell<Option<(Segment, SharedMemory)>> = const { RefCell::new(None) };
}

struct Operation {
    name: &'static str,
    scenes: &'static [Scene],
    before: fn(&Names),
    act: fn(&Names),
}

/// What the memory is called.
struct Names {
    segment: String,
    owned: String,
}

const BOTH: &[Scene] = &[Scene::Alone, Scene::Racing];
const NOTHING: fn(&Names) = |_| {};

static OPERATIONS: [Operation; 5] = [
    Operation {
        name: "create",
        scenes: BOTH,
        before: NOTHING,
        // A peer may have been quicker, and is then waited for.
        act: |names| std::mem::forget(Segment::attach_or_create(&names.segment, 64)),
    },
    Operation {
        name: "create owned",
        scenes: BOTH,
        before: NOTHING,
        act: |names| std::mem::forget(SharedMemory::create_owned(&names.owned, 64)),
    },
    Operation {
        name: "unlink",
        scenes: BOTH,
        before: make,
        act: |_| {
            KEPT.with_borrow(|kept| {
                let (segment, _) = kept.as_ref().expect("made before");
                // A peer may have been quicker.
                let _ = segment.unlink();
            });
        },
    },
    Operation {
        name: "drop owned",
        scenes: BOTH,
        before: make,
        act: |_| drop(KEPT.take()),
    },
    Operation {
        name: "sweep",
        scenes: &[Scene::Heir],
        before: NOTHING,
        act: |_| drop(named::sweep().expect("the folder can be read")),
    },
];

/// The subjects of this file.
pub fn subjects() -> Vec<&'static dyn Subject> {
    let all = OPERATIONS.iter();
    all.map(|operation| operation as &dyn Subject).collect()
}

fn make(names: &Names) {
    let segment = Segment::attach_or_create(&names.segment, 64).expect("room");
    let owned = SharedMemory::create_owned(&names.owned, 64).expect("room");
    KEPT.set(Some((segment, owned)));
}

impl Table {
    fn names(&self) -> Names {
        let tracer = self.tracer.load(SeqCst);
        Names {
            segment: format!("mh-swept-{tracer}"),
            owned: format!("mh-swept-owned-{tracer}"),
        }
    }

    fn note(&self, number: usize) {
        self.dying[number].store(Identity::current().pack(), SeqCst);
    }
}

/// Sweeps until what the dead had is gone; false: some of it stays.
fn swept(names: &Names) -> bool {
    let end = Instant::now() + PATIENCE;
    loop {
        let again = named::sweep().expect("the folder can be read");
        let is_left = again.removed.contains(&names.owned);
        let is_gone =
            |refused: Option<OpenError>| matches!(refused, Some(OpenError::NotFound { .. }));
        if !is_left
            && is_gone(Segment::try_open(&names.segment).err())
            && is_gone(SharedMemory::open(&names.owned).err())
        {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::yield_now();
    }
}

impl Subject for Operation {
    fn object(&self) -> &'static str {
        "Segment"
    }

    fn operation(&self) -> &'static str {
        self.name
    }

    fn scenes(&self) -> &'static [Scene] {
        self.scenes
    }

    /// Nothing outlives the victim but what its system calls have done.
    fn is_long(&self) -> bool {
        true
    }

    /// To walk to a call through all that lies before it takes most of a second.
    fn stride(&self) -> u32 {
        7
    }

    fn reset(&self, place: Place) {
        let table: &Table = place.at();
        table.tracer.store(std::process::id().into(), SeqCst);
    }

    fn warm(&self, _spare: Place) {
        drop(named::sweep());
    }

    fn before(&self, place: Place) {
        let table: &Table = place.at();
        table.note(0);
        (self.before)(&table.names());
    }

    fn act(&self, place: Place) {
        (self.act)(&place.at::<Table>().names());
    }

    fn peer(&self, place: Place) -> Outcome {
        let names = place.at::<Table>().names();
        // The creator lives, or its end is told.
        let Ok(segment) = Segment::attach_or_create(&names.segment, 64) else {
            return Outcome::Refused;
        };
        let is_clean = segment.to_vec().iter().all(|byte| *byte == 0);
        // Somebody may have removed it.
        let _ = segment.unlink();
        drop(segment);
        match named::sweep().is_ok() && is_clean {
            true => Outcome::Fine,
            false => Outcome::Unflagged,
        }
    }

    fn settle(&self, place: Place) -> Outcome {
        let names = place.at::<Table>().names();
        if !swept(&names) {
            return Outcome::Lost;
        }
        make(&names);
        KEPT.with_borrow(|kept| {
            let (segment, _) = kept.as_ref().expect("made just now");
            segment.unlink().expect("it has its name");
        });
        drop(KEPT.take());
        Outcome::Fine
    }

    /// Dies with both.
    fn hold(&self, place: Place) {
        let table: &Table = place.at();
        table.note(1);
        make(&table.names());
    }

    fn check(&self, place: Place) -> Result<(), String> {
        let table: &Table = place.at();
        let names = table.names();
        let left = names::all().map_err(|error| error.to_string())?;
        let dying = table.dying.iter().map(|who| who.load(SeqCst));
        let digits: Vec<String> = dying
            .filter(|who| *who != 0)
            .map(|who| format!("{who:016x}"))
            .collect();
        let segment = named::file_name(&names.segment).map_err(|error| error.to_string())?;
        let is_ours = |file: &&String| {
            **file == segment
                || **file == names.owned
                || digits.iter().any(|digits| file.contains(digits))
        };
        match left.iter().find(is_ours) {
            Some(file) => Err(format!("{file} is left")),
            None => Ok(()),
        }
    }
}
