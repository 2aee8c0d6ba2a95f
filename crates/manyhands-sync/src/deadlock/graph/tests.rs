//! Graphs put together by hand: which of them have a circle.

use manyhands_os::process::Identity;

use super::*;
use crate::deadlock::table::ENTRIES;

/// Words for twelve locks.
const WORDS: usize = 60;

/// The graph of a family whose members are all alive at first, and the locks of that family.
struct Family {
    table: &'static Table,
    locks: &'static [AtomicU64; WORDS],
    /// The slot of a dead member.
    dead: AtomicU64,
    /// An entry that is withdrawn and published again when its member is asked for its name.
    restless: AtomicU64,
}

static LIFE: LifeWord = LifeWord::new();
const NOBODY: u64 = u64::MAX;

impl Members for Family {
    fn me(&self) -> Option<Member> {
        None
    }

    fn life(&self, member: Member) -> Option<&'static LifeWord> {
        (u64::from(member.slot()) != self.dead.load(SeqCst)).then_some(&LIFE)
    }

    fn identity(&self, member: Member) -> Option<Identity> {
        let index = self.restless.load(SeqCst);
        if index != NOBODY {
            let (table, index) = (self.table, index as usize);
            let seen = table.look(index, |_| false).expect("it was published");
            table.withdraw(index, seen.member);
            table.claim(seen.member, |_| false).expect("one is free");
            table.publish(index, seen.member, &wait(seen.thread, seen.lock));
        }
        Some(process(member.slot()))
    }
}

fn process(slot: u16) -> Identity {
    Identity {
        pid: 100 + u32::from(slot),
        start_time: 1,
    }
}

fn wait(thread: u32, lock: u64) -> Wait {
    Wait {
        process: process(0),
        thread,
        name: Some(format!("thread {thread}")),
        lock,
        site: format!("{thread}.rs:1:1"),
    }
}

/// Where a lock begins.
fn place(lock: u64) -> u64 {
    lock * size_of::<RawLock>() as u64
}

impl Family {
    fn new() -> Self {
        let table = Box::leak(Box::new(Table::new()));
        let locks = Box::leak(Box::new([const { AtomicU64::new(0) }; WORDS]));
        Self {
            table,
            locks,
            dead: AtomicU64::new(NOBODY),
            restless: AtomicU64::new(NOBODY),
        }
    }

    fn graph(&self) -> Graph {
        let base = self.locks.as_ptr().cast();
        // SAFETY: the words are leaked, so they stay, and they are aligned as such.
        unsafe { Graph::new(self.table, base, size_of_val(self.locks)) }
    }

    /// The thread of the same number holds the lock.
    fn holds(&self, thread: u32, lock: u64) {
        let word = &self.locks[place(lock) as usize / 8];
        word.store(7 << 32 | 1 << 31 | u64::from(thread), SeqCst);
    }

    /// The only thread of member `slot` waits for a lock.
    fn waits(&self, slot: u16, thread: u32, lock: u64) -> usize {
        let me = Member::new(slot, 3).expect("a slot");
        let index = self
            .table
            .claim(me, |member| is_over(self, member))
            .expect("room");
        self.table.publish(index, me, &wait(thread, place(lock)));
        index
    }

    fn cycle(&self, start: usize) -> Option<Cycle> {
        self.graph().cycle(start, self)
    }

    /// Each of three threads holds one lock and waits for that of the next.
    fn ring_of_three(&self) -> [usize; 3] {
        [0, 1, 2].map(|slot: u16| {
            self.holds(10 + u32::from(slot), u64::from(slot));
            self.waits(slot, 10 + u32::from(slot), u64::from((slot + 1) % 3))
        })
    }
}

#[test]
fn ring_is_told_from_each_of_its_threads_in_order() {
    let family = Family::new();
    let ring = family.ring_of_three();
    for (first, start) in ring.into_iter().enumerate() {
        let cycle = family.cycle(start).expect("a ring");
        for (step, wait) in cycle.waits().iter().enumerate() {
            let slot = ((first + step) % 3) as u16;
            assert_eq!(wait.process, process(slot));
            assert_eq!(wait.thread, 10 + u32::from(slot));
            assert_eq!(wait.lock, place(u64::from((slot + 1) % 3)));
            assert_eq!(
                wait.name.as_deref(),
                Some(&*format!("thread {}", wait.thread))
            );
            assert_eq!(wait.site, format!("{}.rs:1:1", wait.thread));
        }
        assert_eq!(cycle.waits().len(), 3);
    }
}

#[test]
fn way_that_ends_is_no_circle() {
    let family = Family::new();
    let first = family.waits(0, 10, 0);
    assert_eq!(family.cycle(first), None, "the lock is free");
    family.holds(11, 0);
    assert_eq!(family.cycle(first), None, "the holder runs");
    let second = family.waits(1, 11, 1);
    family.holds(11, 1);
    assert_eq!(family.cycle(first), None, "the holder has got its lock");
    assert_eq!(family.cycle(second), None);
    family.holds(10, 1);
    assert!(
        family.cycle(first).is_some(),
        "now they wait for each other"
    );
}

#[test]
fn circle_elsewhere_is_not_told_to_who_waits_for_it() {
    let family = Family::new();
    family.ring_of_three();
    let outside = family.waits(3, 13, 0);
    assert_eq!(family.cycle(outside), None);
}

#[test]
fn dead_member_waits_for_nothing() {
    let family = Family::new();
    let ring = family.ring_of_three();
    family.dead.store(1, SeqCst);
    assert!(ring.into_iter().all(|start| family.cycle(start).is_none()));
}

#[test]
fn thread_that_moves_while_it_is_looked_at_is_in_no_circle() {
    let family = Family::new();
    let ring = family.ring_of_three();
    family.restless.store(ring[1] as u64, SeqCst);
    assert_eq!(family.cycle(ring[0]), None);
    family.restless.store(NOBODY, SeqCst);
    assert!(family.cycle(ring[0]).is_some(), "nothing else was wrong");
}

#[test]
fn lock_outside_of_the_memory_is_not_looked_at() {
    let family = Family::new();
    for lock in [place(WORDS as u64), u64::MAX, u64::MAX - 7, 12] {
        let me = Member::new(0, 3).expect("a slot");
        let table = family.table;
        let index = table.claim(me, |_| false).expect("room");
        table.publish(index, me, &wait(10, lock));
        assert_eq!(family.cycle(index), None);
    }
    assert_eq!(family.graph().offset_of(&RawLock::new()), None);
}

#[test]
fn full_table_has_room_only_where_the_dead_waited() {
    let family = Family::new();
    let me = Member::new(9, 1).expect("a slot");
    let is_over = |member| is_over(&family, member);
    for index in 0..ENTRIES {
        family.waits(u16::from(index == 70), 10, 0);
    }
    let table = family.table;
    assert_eq!(table.claim(me, is_over), None);
    family.dead.store(1, SeqCst);
    assert_eq!(table.claim(me, is_over), Some(70));
    // What the dead one said is not said by who claimed its entry.
    assert_eq!(table.look(70, is_over), None);
    assert_eq!(table.claim(me, is_over), None);
    // The dead one's thread may still run for a moment: it frees nothing that is not its own.
    table.withdraw(70, Member::new(1, 3).expect("a slot"));
    assert_eq!(table.claim(me, is_over), None);
}

#[test]
fn long_texts_keep_the_beginning_of_a_name_and_the_end_of_a_path() {
    let family = Family::new();
    let me = Member::new(0, 3).expect("a slot");
    let long = Wait {
        name: Some("n".repeat(31) + "\u{e9}" + "more"),
        site: "s".repeat(100) + "/lock.rs:1:2",
        ..wait(10, 0)
    };
    let table = family.table;
    for (wait, name, site) in [
        (&long, Some("n".repeat(31)), "s".repeat(52) + "/lock.rs:1:2"),
        (&wait(1, 0), Some("thread 1".into()), "1.rs:1:1".into()),
        (
            &Wait {
                name: None,
                ..wait(1, 0)
            },
            None,
            "1.rs:1:1".into(),
        ),
    ] {
        let index = table.claim(me, |_| false).expect("room");
        table.publish(index, me, wait);
        assert_eq!(table.texts(index), (name, site));
        table.withdraw(index, me);
    }
}
