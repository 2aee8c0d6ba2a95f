//! The word alone.
//!
//! Planted bug `word`: a wake clears WAITERS. Two sleep, the first is woken, and nobody ever wakes
//! the second.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use manyhands_os::Deadline;

use super::{beside, end};
use crate::primitive::explore;
use crate::primitive::futex::Scope;
use crate::raw::Word;

struct Guarded {
    word: Word,
    value: UnsafeCell<u32>,
}

// SAFETY: the value is used by the holder of the word only; loom checks that it is.
unsafe impl Send for Guarded {}
// SAFETY: as above.
unsafe impl Sync for Guarded {}

impl Guarded {
    fn add_one(&self, me: u32) {
        let taken = self.word.take(me, Scope::Private, Deadline::NEVER);
        assert!(taken.is_some_and(|taken| !taken.owner_died));
        self.value.with_mut(|value| {
            // SAFETY: the word is held; loom reports a second user.
            unsafe { *value += 1 };
        });
        self.word.leave(me, Scope::Private);
    }
}

fn threads_add(others: u32, preemptions: usize) {
    explore(preemptions, move || {
        let guarded = Arc::new(Guarded {
            word: Word::new(),
            value: UnsafeCell::new(0),
        });
        let threads: Vec<_> = (0..others)
            .map(|index| beside(&guarded, move |guarded| guarded.add_one(10 + index)))
            .collect();
        guarded.add_one(9);
        for thread in threads {
            end(thread);
        }
        guarded.value.with(|value| {
            // SAFETY: all threads have ended.
            assert_eq!(unsafe { *value }, others + 1);
        });
        assert_eq!(guarded.word.holder(), None);
    });
}

#[test]
fn loom_two_threads_exclude_each_other_and_none_sleeps_for_ever() {
    threads_add(1, 5);
}

#[test]
fn loom_three_threads_exclude_each_other_and_none_sleeps_for_ever() {
    threads_add(2, 2);
}
