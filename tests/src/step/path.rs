//! The way of a victim through its operation: walked quickly where it is known, and in steps at its end.
//!
//! A step costs two switches between processes and two exceptions, so stepping through everything before
//! each boundary takes nearly all of a sweep's time. The sweep's boundaries come in order: the way to one
//! is known from those before. The victim therefore runs to the last place on it that it comes by for
//! the first time there, where a breakpoint stops it, and steps from there.
//!
//! That changes nothing that could be seen, as long as nobody else acts meanwhile. Where others sleep
//! that the victim may wake, it runs only on what lies before its first system call: behind that, they
//! get on between two of its steps.
//!
//! Each step from there on is compared with the way that is known. A victim that is elsewhere has
//! *strayed*: it dies where it is, the boundary is walked in steps, and the way is found anew.

use std::collections::HashSet;

use super::Scene;
use super::victim::{Reached, Victim};

/// Not worth a breakpoint.
const NEAR: usize = 24;

/// A victim that strays so often takes another way each time.
const MOST_STRAYS: u32 = 5;

/// What is known of the way.
#[derive(Debug, Default)]
pub struct Path {
    /// Where each instruction is, in the order of execution.
    instructions: Vec<usize>,
    /// Those places, each once.
    places: HashSet<usize>,
    /// Which instructions are at a place for the first time, in order.
    firsts: Vec<usize>,
    /// Which one is the first system call.
    first_call: Option<usize>,
    strays: u32,
    has_strayed: bool,
}

impl Path {
    /// Leads the victim to the boundary before instruction `count`, or to where it strays.
    pub fn walk(&mut self, victim: &mut Victim, scene: Scene, count: u32) -> Reached {
        self.has_strayed = false;
        if self.strays >= MOST_STRAYS {
            return victim.step(count);
        }
        let count = count as usize;
        let mut index = 0;
        if let Some(first) = self.landmark(scene, count) {
            if victim.run_to(self.instructions[first]) != Reached::Boundary {
                self.stray();
                return Reached::Boundary;
            }
            index = first;
        }
        victim.walk(|victim| {
            if !self.learn(index, victim) {
                self.stray();
            }
            let is_far_enough = index == count || self.has_strayed;
            index += 1;
            is_far_enough
        })
    }

    /// Whether the last victim died elsewhere.
    pub fn has_strayed(&self) -> bool {
        self.has_strayed
    }

    /// The last instruction to run to on the way to instruction `count`.
    fn landmark(&self, scene: Scene, count: usize) -> Option<usize> {
        if !cfg!(target_arch = "x86_64") {
            return None;
        }
        let is_alone = matches!(scene, Scene::Alone | Scene::Racing | Scene::Heir);
        let last = match self.first_call {
            Some(call) if !is_alone => call.min(count),
            _ => count,
        };
        let behind = self.firsts.partition_point(|first| *first <= last);
        let first = *self.firsts.get(behind.checked_sub(1)?)?;
        (first >= NEAR).then_some(first)
    }

    /// Notes where instruction `index` is; whether it is where it was before.
    fn learn(&mut self, index: usize, victim: &Victim) -> bool {
        let Some(address) = victim.address() else {
            return false;
        };
        if let Some(known) = self.instructions.get(index) {
            return *known == address;
        }
        if self.first_call.is_none() && victim.is_at_system_call() {
            self.first_call = Some(index);
        }
        self.instructions.push(address);
        if self.places.insert(address) {
            self.firsts.push(index);
        }
        true
    }

    fn stray(&mut self) {
        *self = Self {
            strays: self.strays + 1,
            has_strayed: true,
            ..Self::default()
        };
    }
}
