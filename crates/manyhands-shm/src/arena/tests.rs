//! One arena, seen by several participants of one process.

use super::*;

#[test]
fn family_arena_is_made_once_when_many_threads_ask() {
    let arenas: Vec<&Arena> = std::thread::scope(|threads| {
        let asking: Vec<_> = (0..8).map(|_| threads.spawn(family)).collect();
        asking
            .into_iter()
            .map(|t| t.join().expect("no panic").expect("made"))
            .collect()
    });
    assert!(arenas.iter().all(|arena| std::ptr::eq(*arena, arenas[0])));
    assert!(arenas[0].me().is_alive());
}
