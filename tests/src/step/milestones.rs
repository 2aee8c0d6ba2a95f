//! The boundaries of a long operation that survivors can tell apart.
//!
//! As long as the victim changes nothing that outlives it, it makes no difference at which
//! instruction it dies. What outlives it is shared memory, what its system calls did, and its
//! robust list, which the kernel walks. So a long operation is stepped through once, to see which
//! pages it changes. The sweep then counts changes instead of instructions: it kills after the
//! first change, after the second, and so on, wherever in the code they are that time.

use std::collections::BTreeSet;
use std::fs::File;

use nix::sys::ptrace;
use nix::unistd::Pid;

use super::Scene;
use super::scene::{Stage, Trouble};
use super::sweep::GRACE;
use super::victim::{Reached, Victim};
use crate::place::Place;
use crate::system;

const PAGE: usize = 4096;

/// The pages that an operation changes.
#[derive(Debug)]
pub struct Milestones {
    pages: Vec<&'static [u8]>,
}

impl Milestones {
    /// Steps through the operation once.
    ///
    /// # Errors
    ///
    /// When the actors do not get into their places, or something is wrong even without a death.
    pub fn find(stage: &mut Stage<'_>, scene: Scene) -> Result<Milestones, Trouble> {
        let file = stage.subject.shared_file();
        let map = file.as_ref().and_then(Place::of_file);
        let place = stage.place_bytes();
        let look = || {
            let mut pages: Vec<&'static [u8]> = place.chunks(PAGE).collect();
            if let (Some(file), Some(map)) = (&file, map) {
                pages.extend(pages_of(file, map));
            }
            pages
        };
        let mut changed = BTreeSet::new();
        let trial = stage.trial_by(scene, 0, GRACE, |victim| {
            let mut eyes = Eyes::open(look(), victim.process());
            victim.walk(|victim| {
                if eyes.see(victim) {
                    changed.extend(eyes.changed.drain(..));
                    if eyes.was_call {
                        // It may have given memory to the file.
                        eyes = Eyes::open(look(), victim.process());
                    }
                }
                false
            })
        });
        trial.result?;
        let is_changed = |page: &&'static [u8]| changed.contains(&page.as_ptr().addr());
        Ok(Milestones {
            pages: look().into_iter().filter(is_changed).collect(),
        })
    }

    /// Lets the victim run to its change number `nth`; number 0 is the beginning.
    pub fn walk_to(&self, nth: u32, victim: &mut Victim) -> Reached {
        let mut eyes = Eyes::open(self.pages.clone(), victim.process());
        let mut seen = 0;
        victim.walk(|victim| {
            seen += u32::from(eyes.see(victim));
            seen >= nth
        })
    }
}

fn pages_of(file: &File, map: Place) -> Vec<&'static [u8]> {
    let bytes = map.bytes();
    let extents = system::extents(file);
    extents
        .into_iter()
        .flat_map(|(from, to)| bytes[from..to].chunks(PAGE))
        .collect()
}

/// What was there at the last look.
struct Eyes {
    copies: Vec<(&'static [u8], Vec<u8>)>,
    list: [i64; 2],
    is_call_next: bool,
    /// Whether the last step was a system call.
    was_call: bool,
    /// The addresses of the pages that were seen to change.
    changed: Vec<usize>,
}

impl Eyes {
    fn open(pages: Vec<&'static [u8]>, victim: Pid) -> Eyes {
        Eyes {
            copies: pages
                .into_iter()
                .map(|page| (page, page.to_vec()))
                .collect(),
            list: robust_list(victim),
            is_call_next: false,
            was_call: false,
            changed: Vec::new(),
        }
    }

    /// Looks after a step: is anything different that outlives the victim?
    fn see(&mut self, victim: &Victim) -> bool {
        self.was_call = std::mem::replace(&mut self.is_call_next, victim.is_at_system_call());
        let list_before = std::mem::replace(&mut self.list, robust_list(victim.process()));
        let mut has_changed = self.was_call || self.list != list_before;
        for (now, before) in &mut self.copies {
            if *now != before.as_slice() {
                before.copy_from_slice(now);
                self.changed.push(now.as_ptr().addr());
                has_changed = true;
            }
        }
        has_changed
    }
}

/// What the kernel would walk: the first entry, and the announced one.
fn robust_list(process: Pid) -> [i64; 2] {
    let head = system::robust_head(process);
    [0, 16].map(|offset| {
        let address = head.wrapping_add(offset) as ptrace::AddressType;
        ptrace::read(process, address).unwrap_or(0)
    })
}
