//! Every order of the word's accesses, for two and three threads.
//!
//! Run: `RUSTFLAGS="--cfg loom" cargo test --release -p manyhands-sync --lib loom_`. With
//! `--cfg planted_bug` as well, the word clears WAITERS before its wake, and the test of three
//! threads must fail: two sleep, the first is woken, and nobody ever wakes the second.
//!
//! What loom cannot show here is a death between two accesses: `tests/` kills a real process at
//! every instruction instead.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use manyhands_os::Deadline;
use manyhands_os::futex::Scope;

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
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let guarded = Arc::new(Guarded {
            word: Word::new(),
            value: UnsafeCell::new(0),
        });
        let threads: Vec<_> = (0..others)
            .map(|index| {
                let guarded = Arc::clone(&guarded);
                thread::spawn(move || guarded.add_one(10 + index))
            })
            .collect();
        guarded.add_one(9);
        for thread in threads {
            thread.join().expect("no panic");
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
