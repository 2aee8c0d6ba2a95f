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

/// Sends SIGSEGV to every worker, again and again, until told to stop.
fn crash_all(group: u32, stop: &mpsc::Receiver<()>) {
    while stop.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout) {
        let members = group_members(group);
        for (worker, _) in members
            .iter()
            .filter(|(_, name)| name.starts_with("rescue-"))
        {
            signal(*worker, Signal::SIGSEGV);
        }
    }
}

#[test]
fn a_file_whose_workers_crash_is_quarantined_after_two() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let (dir, out) = (here.path().join("dir"), here.path().join("out"));
    std::fs::create_dir(&dir).expect("made");
    let slow = samples().join("hostile/endless.pdf");
    std::fs::copy(slow, dir.join("endless.pdf")).expect("copied");
    let child = start(&mut rescue(&[
        text(&dir),
        "--out",
        text(&out),
        "--json",
        "--time",
        "2m",
    ]));
    let group = child.id();
    let (stop, stopped) = mpsc::channel();
    let killer = std::thread::spawn(move || crash_all(group, &stopped));
    let output = finish(child);
    drop(stop);
    killer.join().expect("the killer ends");
    let found = verdicts(&document(&output));
    assert_eq!(found["endless.pdf"]["verdict"], "quarantined", "{found:?}");
    let deaths = &found["endless.pdf"]["deaths"];
    assert_eq!(
        deaths,
        &serde_json::json!(["signal: SIGSEGV", "signal: SIGSEGV"])
    );
}

/// So many workers that each lives, on the average, twice as long as the slowest file takes:
/// killed more often it could not be done by anybody.
fn jobs(calm: &serde_json::Value) -> u64 {
    let files = calm["files"].as_array().expect("a list").iter();
    let timely = files.filter(|file| file["verdict"] != "deadline");
    let slowest = timely.filter_map(|file| file["took_ms"].as_u64()).max();
    let jobs = (slowest.unwrap_or(0) * 2 / 20).clamp(4, 60);
    println!("the slowest file takes {slowest:?} ms, {jobs} workers");
    jobs
}

#[test]
fn with_a_random_worker_killed_every_20_ms_the_verdicts_are_the_same() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let (calm, stormy) = (here.path().join("calm"), here.path().join("stormy"));
    let dir = samples();
    let arguments = [text(&dir), "--json", "--time", "20s", "--out"];
    let jobs = jobs(&document(&run(rescue(&arguments).arg(&calm)))).to_string();
    let arguments = [&["--jobs", &jobs], &arguments[..]].concat();
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
    assert!(kills > 20, "a storm is more than {kills} kills");
    let found: BTreeMap<String, String> = verdicts(&document)
        .into_iter()
        .map(|(name, file)| (name, file["verdict"].as_str().expect("a word").to_owned()))
        .collect();
    assert_eq!(found, expected());
    assert!(contents(&stormy) == contents(&calm), "the bytes differ");
}
