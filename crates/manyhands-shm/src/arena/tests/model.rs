//! Random sequences of everything, against a model that keeps lists.

use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::*;

const MEMBERS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Allocate { by: usize, len: usize },
    Free { by: usize, which: usize },
    Give { by: usize, to: usize, which: usize },
    Accept { by: usize },
    Share { by: usize, which: usize },
    Attach { by: usize, of: usize, which: usize },
    Leave { by: usize, which: usize },
    Crash { who: usize },
    Trim,
}

fn step() -> impl Strategy<Value = Step> {
    let (by, which) = (0..MEMBERS, 0..64_usize);
    prop_oneof![
        6 => (by.clone(), prop_oneof![0..200_usize, 4000..9000_usize, Just(16_384)])
            .prop_map(|(by, len)| Step::Allocate { by, len }),
        3 => (by.clone(), which.clone()).prop_map(|(by, which)| Step::Free { by, which }),
        3 => (by.clone(), by.clone(), which.clone())
            .prop_map(|(by, to, which)| Step::Give { by, to, which }),
        3 => by.clone().prop_map(|by| Step::Accept { by }),
        3 => (by.clone(), which.clone()).prop_map(|(by, which)| Step::Share { by, which }),
        3 => (by.clone(), by.clone(), which.clone())
            .prop_map(|(by, of, which)| Step::Attach { by, of, which }),
        3 => (by.clone(), which).prop_map(|(by, which)| Step::Leave { by, which }),
        1 => (1..MEMBERS).prop_map(|who| Step::Crash { who }),
        1 => Just(Step::Trim),
    ]
}

/// One member as the model knows it. Each block and region has a number of its own in its first
/// bytes, by which a block in two hands would show.
struct Member {
    view: &'static Arena,
    blocks: Vec<(Block, u64)>,
    inbox: Vec<(Handle, u64)>,
    holds: Vec<(Hold, u64)>,
}

struct Model {
    members: Vec<Member>,
    next_number: u64,
}

impl Model {
    fn new() -> Model {
        // Of blocks of 16 KiB a window has two, so more are opened soon.
        let first = root_with_windows(1 << 20, 3);
        let views = (1..MEMBERS).map(|_| member(first));
        let members = std::iter::once(first)
            .chain(views)
            .map(Member::new)
            .collect();
        Model {
            members,
            next_number: 1,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Allocate { by, len } => {
                let (member, number) = (&mut self.members[by], self.next_number);
                if let Ok(block) = member.view.allocate(len) {
                    write(block.as_ptr(), number);
                    member.blocks.push((block, number));
                    self.next_number += 1;
                }
            }
            Step::Free { by, which } => drop(pick(&mut self.members[by].blocks, which)),
            Step::Give { by, to, which } => {
                if let Some((block, number)) = pick(&mut self.members[by].blocks, which) {
                    let (mailbox, to) = (AtomicU64::new(0), &mut self.members[to]);
                    block
                        .give(to.view.me(), &mailbox)
                        .expect("all members live");
                    let handle = Handle::from_bits(mailbox.into_inner()).expect("a handle");
                    to.inbox.push((handle, number));
                }
            }
            Step::Accept { by } => {
                let member = &mut self.members[by];
                if let Some((handle, number)) = member.inbox.pop() {
                    let block = member.view.accept(handle).expect("it was given to it");
                    member.blocks.push((block, number));
                }
            }
            Step::Share { by, which } => {
                let member = &mut self.members[by];
                if let Some((block, number)) = pick(&mut member.blocks, which) {
                    member.holds.push((Hold::share(block, 0), number));
                }
            }
            Step::Attach { by, of, which } => {
                let held = &self.members[of].holds;
                if let Some((hold, number)) = held.get(which % held.len().max(1)) {
                    let (handle, number) = (hold.handle(), *number);
                    let member = &mut self.members[by];
                    let hold = Hold::attach(member.view, handle, 0).expect("it is held");
                    member.holds.push((hold, number));
                }
            }
            Step::Leave { by, which } => drop(pick(&mut self.members[by].holds, which)),
            Step::Crash { who } => self.crash(who),
            Step::Trim => self.members[0].view.trim(),
        }
    }

    fn crash(&mut self, who: usize) {
        let next = Member::new(member(self.members[0].view));
        let dead = std::mem::replace(&mut self.members[who], next);
        dead.blocks.into_iter().for_each(std::mem::forget);
        dead.holds.into_iter().for_each(std::mem::forget);
        mark_dead(dead.view);
        assert_eq!(self.members[0].view.reap_dead(), 1);
        assert_eq!(self.members[0].view.reap_dead(), 0);
    }

    fn check(&self) {
        let mut regions = std::collections::HashSet::new();
        for member in &self.members {
            let blocks = member
                .blocks
                .iter()
                .map(|(block, number)| (block.as_ptr(), *number));
            let holds = member
                .holds
                .iter()
                .map(|(hold, number)| (hold.address(), *number));
            assert!(
                blocks
                    .chain(holds)
                    .all(|(place, number)| read(place) == number)
            );
            regions.extend(member.holds.iter().map(|(hold, _)| hold.handle()));
        }
        let owned = self
            .members
            .iter()
            .map(|member| member.blocks.len() as u64)
            .sum();
        let given = self
            .members
            .iter()
            .map(|member| member.inbox.len() as u64)
            .sum();
        assert_eq!(
            in_use(self.members[0].view),
            (owned, given, regions.len() as u64)
        );
    }
}

impl Member {
    fn new(view: &'static Arena) -> Member {
        Member {
            view,
            blocks: Vec::new(),
            inbox: Vec::new(),
            holds: Vec::new(),
        }
    }
}

fn pick<T>(from: &mut Vec<T>, which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(which % from.len()))
}

fn write(place: *mut u8, number: u64) {
    // SAFETY: `write` needs a valid, aligned place: each block has at least 64 bytes.
    unsafe { place.cast::<u64>().write(number) };
}

fn read(place: *mut u8) -> u64 {
    // SAFETY: `read` needs a valid, aligned place: as above, and all is done by one thread.
    unsafe { place.cast::<u64>().read() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arena_behaves_as_its_model_whatever_is_done(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::new();
        for step in steps {
            model.take(step);
            model.check();
        }
        for member in &mut model.members {
            member.blocks.clear();
            member.holds.clear();
            for (handle, _) in member.inbox.drain(..) {
                drop(member.view.accept(handle).expect("it was given to it"));
            }
        }
        model.check();
        prop_assert_eq!(in_use(model.members[0].view), (0, 0, 0));
    }

    #[test]
    fn handles_from_nowhere_are_refused(bits: u64) {
        let arena = root(1 << 20);
        drop(arena.allocate(64));
        if let Some(handle) = Handle::from_bits(bits) {
            prop_assert!(arena.accept(handle).is_none());
            prop_assert!(Hold::attach(arena, handle, 0).is_none());
        }
    }
}
