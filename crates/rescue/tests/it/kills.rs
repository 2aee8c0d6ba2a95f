//! A worker killed from outside every 20 ms, chosen at random.

use crate::support::{
    Random, assert_group_ends, contents, document, expected, finish, group_members, rescue, run,
    samples, signal, start, text, verdicts,
};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Kills a random process of the group, its leader excepted, until told to stop.
fn kill_at_random(group: u32, stop: &mpsc::Receiver<()>) -> u64 {
    let mut random = Random::new();
    let mut kills = 0;
    while stop.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
        let members = group_members(group);
        let workers: Vec<u32> = members
            .into_iter()
            .map(|(process, _)| process)
            .filter(|&id| id != group)
            .collect();
        if !workers.is_empty() {
            let chosen = random.below(workers.len() as u64);
            signal(
                workers[usize::try_from(chosen).expect("small")],
                Signal::SIGKILL,
            );
            kills += 1;
        }
    }
    kills
}

#[test]
fn with_a_random_worker_killed_every_20_ms_the_verdicts_are_the_same() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let (calm, stormy) = (here.path().join("calm"), here.path().join("stormy"));
    let dir = samples();
    let arguments = [
        text(&dir),
        "--json",
        "--jobs",
        "4",
        "--time",
        "20s",
        "--out",
    ];
    document(&run(rescue(&arguments).arg(&calm)));

    let child = start(rescue(&arguments).arg(&stormy));
    let group = child.id();
    let (stop, stopped) = mpsc::channel();
    let killer = std::thread::spawn(move || kill_at_random(group, &stopped));
    let output = finish(child);
    drop(stop);
    let kills = killer.join().expect("the killer ends");
    let document = document(&output);
    assert_group_ends(group);
    println!("{kills} kills, {} workers replaced", document["restarts"]);
    assert!(kills > 100, "{kills}");
    let found: BTreeMap<String, String> = verdicts(&document)
        .into_iter()
        .map(|(name, file)| (name, file["verdict"].as_str().expect("a word").to_owned()))
        .collect();
    assert_eq!(found, expected());
    assert!(contents(&stormy) == contents(&calm), "the bytes differ");
}
