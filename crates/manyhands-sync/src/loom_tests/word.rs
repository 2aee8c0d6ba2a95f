//! The word alone.
//!
//! Planted bug `word`: a wake clears WAITERS. Two sleep, the first is woken, and nobody ever wakes
//! the second.

use manyhands_os::Deadline;

use super::{Guarding, beside, end};
use crate::primitive::explore_word;
use crate::primitive::futex::Scope;
use crate::raw::Word;

fn add_one(word: &Guarding<Word>, me: u32) {
    let taken = word.object.take(me, Scope::Private, Deadline::NEVER);
    assert!(taken.is_some_and(|taken| !taken.owner_died));
    word.add_one();
    word.object.leave(me, Scope::Private);
}

fn threads_add(others: u32, preemptions: usize) {
    explore_word(preemptions, move || {
        let word = Guarding::new(Word::new());
        let threads: Vec<_> = (0..others)
            .map(|index| beside(&word, move |word| add_one(word, 10 + index)))
            .collect();
        add_one(&word, 9);
        threads.into_iter().for_each(end);
        assert_eq!(word.value(), others + 1);
        assert_eq!(word.object.holder(), None);
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
