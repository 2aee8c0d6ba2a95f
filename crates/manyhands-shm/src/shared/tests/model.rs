//! Random sequences of all that is done with shared values, against a model that keeps lists.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::handoff::Holds;
use crate::handoff::tests::unpack_as;

const MEMBERS: usize = 3;

thread_local! {
    /// The records that were destroyed, by the numbers that they were made under.
    static DESTROYED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// A value with a destructor.
struct Record {
    id: u64,
    version: u64,
}

// SAFETY: two numbers.
unsafe impl Shareable for Record {}

impl Drop for Record {
    fn drop(&mut self) {
        DESTROYED.with_borrow_mut(|destroyed| destroyed.push(self.id));
    }
}

#[derive(Clone)]
enum Value {
    Record(Shared<Record>),
    Slice(Shared<[u64]>),
}

impl Value {
    fn make(arena: &'static Arena, id: u64, len: Option<usize>) -> Option<Value> {
        let Some(len) = len else {
            let record = Record { id, version: 0 };
            return Shared::new_in(arena, record).ok().map(Value::Record);
        };
        let block = arena.allocate(len * 8).ok()?;
        // SAFETY: the block is new, and has room for so many items.
        unsafe { fill(block.as_ptr(), len, |index| id * 1000 + index as u64) };
        // SAFETY: all items were written just now.
        Some(Value::Slice(unsafe { Shared::place(block) }))
    }

    fn is(&self, id: u64, version: u64) -> bool {
        match self {
            Value::Record(record) => (record.id, record.version) == (id, version),
            Value::Slice(items) => {
                let mut items = items.iter().enumerate();
                items.all(|(index, item)| *item == id * 1000 + index as u64 + version)
            }
        }
    }

    /// Makes the next version of it; false: somebody else has it too.
    fn change(&mut self) -> bool {
        match self {
            Value::Record(record) => Shared::get_mut(record)
                .map(|record| record.version += 1)
                .is_some(),
            Value::Slice(items) => {
                let items = Shared::get_mut(items);
                items
                    .map(|items| items.iter_mut().for_each(|item| *item += 1))
                    .is_some()
            }
        }
    }

    fn pack(&self) -> handoff::Parcel {
        match self {
            Value::Record(record) => handoff::pack(record),
            Value::Slice(items) => handoff::pack(items),
        }
        .expect("packable")
    }

    fn unpack(arena: &'static Arena, bytes: &[u8], is_record: bool) -> Option<Value> {
        if is_record {
            unpack_as(arena, bytes).ok().map(Value::Record)
        } else {
            unpack_as(arena, bytes).ok().map(Value::Slice)
        }
    }

    fn hold_for(&self, participant: Participant) {
        let outcome = match self {
            Value::Record(record) => Shared::hold_for(record, participant),
            Value::Slice(items) => Shared::hold_for(items, participant),
        };
        outcome.expect("all members live");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Make {
        by: usize,
        len: Option<usize>,
    },
    Clone {
        by: usize,
        which: usize,
    },
    Drop {
        by: usize,
        which: usize,
    },
    Change {
        by: usize,
        which: usize,
    },
    HoldFor {
        by: usize,
        whom: usize,
        which: usize,
    },
    Pack {
        by: usize,
        which: usize,
    },
    Unpack {
        by: usize,
        which: usize,
    },
    /// The sender no longer keeps what is in a parcel, whose bytes are still on their way.
    Forsake {
        which: usize,
    },
    Kill {
        who: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (by, which) = (0..MEMBERS, 0..64_usize);
    let other = 1..MEMBERS;
    let len = prop_oneof![Just(None), (0..700_usize).prop_map(Some)];
    let both = (by.clone(), which.clone());
    prop_oneof![
        3 => (by.clone(), len).prop_map(|(by, len)| Step::Make { by, len }),
        2 => both.clone().prop_map(|(by, which)| Step::Clone { by, which }),
        5 => both.clone().prop_map(|(by, which)| Step::Drop { by, which }),
        4 => both.clone().prop_map(|(by, which)| Step::Change { by, which }),
        1 => (by, other.clone(), which.clone())
            .prop_map(|(by, whom, which)| Step::HoldFor { by, whom, which }),
        4 => both.clone().prop_map(|(by, which)| Step::Pack { by, which }),
        4 => both.prop_map(|(by, which)| Step::Unpack { by, which }),
        2 => which.prop_map(|which| Step::Forsake { which }),
        1 => other.prop_map(|who| Step::Kill { who }),
    ]
}

/// A value as the model knows it.
#[derive(Debug, Default)]
struct Object {
    is_record: bool,
    version: u64,
    /// Whoever has it, or was made a holder in advance.
    holders: BTreeSet<usize>,
    /// What came by one parcel, or was made, and its clones: the member, and how many there are.
    families: BTreeMap<u64, (usize, u32)>,
}

/// One that a member has: the object, and the family that it belongs to.
#[derive(Clone, Copy)]
struct Name {
    id: u64,
    family: u64,
}

struct Parcel {
    by: usize,
    bytes: Vec<u8>,
    holds: Option<Holds>,
    name: Name,
    version: u64,
    is_record: bool,
}

struct Model {
    views: Vec<&'static Arena>,
    values: Vec<Vec<(Value, Name)>>,
    parcels: Vec<Parcel>,
    objects: BTreeMap<u64, Object>,
    destroyed: Vec<u64>,
    numbers: u64,
}

impl Model {
    fn new() -> Model {
        let first = root(1 << 20);
        let others = (1..MEMBERS).map(|_| member(first));
        DESTROYED.take();
        Model {
            views: std::iter::once(first).chain(others).collect(),
            values: (0..MEMBERS).map(|_| Vec::new()).collect(),
            parcels: Vec::new(),
            objects: BTreeMap::new(),
            destroyed: Vec::new(),
            numbers: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Make { by, len } => self.make(by, len),
            Step::Clone { by, which } => {
                if let Some((value, name)) = at(&self.values[by], which) {
                    let clone = (value.clone(), *name);
                    self.acquire(clone.1);
                    self.values[by].push(clone);
                }
            }
            Step::Drop { by, which } => {
                if let Some((value, name)) = pick(&mut self.values[by], which) {
                    drop(value);
                    self.release(name);
                }
            }
            Step::Change { by, which } => self.change(by, which),
            Step::HoldFor { by, whom, which } => {
                if let Some((value, name)) = at(&self.values[by], which) {
                    value.hold_for(self.views[whom].me());
                    self.objects
                        .get_mut(&name.id)
                        .expect("alive")
                        .holders
                        .insert(whom);
                }
            }
            Step::Pack { by, which } => self.pack(by, which),
            Step::Unpack { by, which } => self.unpack(by, which),
            Step::Forsake { which } => {
                let count = self.parcels.len().max(1);
                if let Some(parcel) = self.parcels.get_mut(which % count)
                    && let Some(holds) = parcel.holds.take()
                {
                    let name = parcel.name;
                    drop(holds);
                    self.release(name);
                }
            }
            Step::Kill { who } => self.kill(who),
        }
    }

    fn make(&mut self, by: usize, len: Option<usize>) {
        let name = Name {
            id: self.number(),
            family: self.number(),
        };
        if let Some(value) = Value::make(self.views[by], name.id, len) {
            let object = Object {
                is_record: len.is_none(),
                holders: [by].into(),
                families: [(name.family, (by, 1))].into(),
                version: 0,
            };
            self.objects.insert(name.id, object);
            self.values[by].push((value, name));
        } else if len.is_none() {
            // It was destroyed, since there was no room.
            self.destroyed.push(name.id);
        }
    }

    /// Only who has the only one of all may change it; parcels that nobody keeps lead nowhere then.
    fn change(&mut self, by: usize, which: usize) {
        let count = self.values[by].len().max(1);
        if let Some((value, name)) = self.values[by].get_mut(which % count) {
            let object = self.objects.get_mut(&name.id).expect("alive");
            let is_only = object.holders.len() == 1
                && object.families.len() == 1
                && object.families[&name.family].1 == 1;
            assert_eq!(value.change(), is_only);
            object.version += u64::from(is_only);
        }
    }

    fn pack(&mut self, by: usize, which: usize) {
        if let Some((value, name)) = at(&self.values[by], which) {
            let (parcel, name) = (value.pack(), *name);
            let object = &self.objects[&name.id];
            self.parcels.push(Parcel {
                by,
                bytes: parcel.bytes,
                holds: Some(parcel.holds),
                name,
                version: object.version,
                is_record: object.is_record,
            });
            self.acquire(name);
        }
    }

    fn unpack(&mut self, by: usize, which: usize) {
        let family = self.number();
        if let Some(parcel) = at(&self.parcels, which) {
            let found = Value::unpack(self.views[by], &parcel.bytes, parcel.is_record);
            let wrong = Value::unpack(self.views[by], &parcel.bytes, !parcel.is_record);
            assert!(wrong.is_none(), "a value of another type");
            let object = self.objects.get_mut(&parcel.name.id);
            let object = object.filter(|object| object.version == parcel.version);
            assert_eq!(found.is_some(), object.is_some());
            assert!(found.is_some() || parcel.holds.is_none(), "it was kept");
            if let (Some(value), Some(object)) = (found, object) {
                object.holders.insert(by);
                object.families.insert(family, (by, 1));
                let name = Name {
                    family,
                    ..parcel.name
                };
                self.values[by].push((value, name));
            }
        }
    }

    fn acquire(&mut self, name: Name) {
        let object = self.objects.get_mut(&name.id).expect("alive");
        object
            .families
            .get_mut(&name.family)
            .expect("somebody has it")
            .1 += 1;
    }

    /// One of a family is dropped.
    fn release(&mut self, name: Name) {
        let object = self.objects.get_mut(&name.id).expect("alive");
        let (by, count) = object
            .families
            .get_mut(&name.family)
            .expect("somebody has it");
        *count -= 1;
        let by = *by;
        if *count > 0 {
            return;
        }
        object.families.remove(&name.family);
        if object.families.values().all(|family| family.0 != by) {
            object.holders.remove(&by);
        }
        if object.holders.is_empty() {
            if object.is_record {
                self.destroyed.push(name.id);
            }
            self.objects.remove(&name.id);
        }
    }

    /// What it has is never dropped; its parcels are on their way still.
    fn kill(&mut self, who: usize) {
        self.values[who].drain(..).for_each(std::mem::forget);
        for parcel in self.parcels.iter_mut().filter(|parcel| parcel.by == who) {
            std::mem::forget(parcel.holds.take());
        }
        self.views[0].reap(self.views[who].me());
        self.views[who] = member(self.views[0]);
        for object in self.objects.values_mut() {
            object.holders.remove(&who);
            object.families.retain(|_, family| family.0 != who);
        }
        self.objects.retain(|_, object| !object.holders.is_empty());
    }

    fn check(&self) {
        for (value, name) in self.values.iter().flatten() {
            assert!(value.is(name.id, self.objects[&name.id].version));
        }
        let count = self.objects.len() as u64;
        assert_eq!(in_use(self.views[0]), (0, 0, count));
        DESTROYED.with_borrow(|destroyed| assert_eq!(*destroyed, self.destroyed));
    }

    fn end(mut self) {
        (1..MEMBERS).for_each(|who| self.kill(who));
        while !self.parcels.is_empty() {
            self.take(Step::Forsake { which: 0 });
            self.parcels.swap_remove(0);
        }
        while !self.values[0].is_empty() {
            self.take(Step::Drop { by: 0, which: 0 });
            self.check();
        }
        assert!(self.objects.is_empty());
    }
}

fn at<T>(list: &[T], which: usize) -> Option<&T> {
    list.get(which % list.len().max(1))
}

fn pick<T>(from: &mut Vec<T>, which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(which % from.len()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shared_values_behave_as_their_model_whatever_is_done(
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let mut model = Model::new();
        for step in steps {
            model.take(step);
            model.check();
        }
        model.end();
    }
}
