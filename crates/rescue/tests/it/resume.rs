//! The parent killed with SIGKILL at random points, and `--resume`.

use crate::support::{
    Random, assert_group_ends, contents, document, files, finish, identity, pause, rescue, run,
    samples, signal, start, text, verdicts,
};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Copies of each good sample.
const COPIES: usize = 6;
/// Outputs that are begun anew, and kills while each is made.
const OUTS: usize = 5;
const KILLS_EACH: u32 = 4;

/// A folder with good files many times, and bad ones that are told quickly.
fn fill(dir: &Path) -> usize {
    let good: Vec<PathBuf> = files(&samples().join("good"));
    for copy in 0..COPIES {
        let folder = dir.join(format!("{copy}"));
        fs::create_dir_all(&folder).expect("made");
        for file in &good {
            fs::copy(file, folder.join(file.file_name().expect("a name"))).expect("copied");
        }
        for name in [
            "claims.bmp",
            "unknown-encoding.pdf",
            "empty.png",
            "draws-itself.pdf",
        ] {
            let bad = samples().join("hostile").join(name);
            fs::copy(bad, folder.join(name)).expect("copied");
        }
    }
    files(dir).len()
}

/// Outputs that the journal calls finished, with what would tell that they were written again.
fn finished(out: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let journal = fs::read_to_string(out.join("rescue.journal")).unwrap_or_default();
    let whole = journal.rfind('\n').map_or("", |last| &journal[..last]);
    let mut seen = BTreeMap::new();
    for line in whole.lines().skip(1) {
        let (_, text) = line.split_once(' ').expect("a hash and a text");
        let record: serde_json::Value = serde_json::from_str(text).expect("whole lines are JSON");
        if let Some(output) = record["output"].as_str() {
            let path = out.join(output);
            let identity = identity(&path);
            assert_eq!(seen.insert(path, identity), None, "done twice: {output}");
        }
    }
    seen
}

#[test]
fn killed_at_twenty_random_points_it_does_exactly_the_unfinished_files() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let dir = here.path().join("dir");
    let count = fill(&dir);
    let whole = here.path().join("whole");
    let begin = Instant::now();
    let uninterrupted = document(&run(&mut rescue(&[
        text(&dir),
        "--out",
        text(&whole),
        "--json",
    ])));
    let took = begin.elapsed();
    let (whole, verdicts_due) = (contents(&whole), kinds(&uninterrupted));
    assert_eq!(verdicts_due.len(), count);

    let mut random = Random::new();
    for round in 0..OUTS {
        let out = here.path().join(format!("out{round}"));
        let arguments = [text(&dir), "--out", text(&out), "--json", "--resume"];
        for _ in 0..KILLS_EACH {
            let before = finished(&out);
            let child = start(&mut rescue(&arguments));
            let process = child.id();
            let most = u64::try_from(took.as_micros()).expect("short") * 2 / 5;
            pause(Duration::from_micros(random.below(most.max(1))));
            signal(process, Signal::SIGKILL);
            finish(child);
            assert_group_ends(process);
            let after = finished(&out);
            for (path, identity) in before {
                assert_eq!(
                    after.get(&path),
                    Some(&identity),
                    "{} again",
                    path.display()
                );
            }
        }
        let before = finished(&out);
        let resumed = document(&run(&mut rescue(&arguments)));
        assert!(
            resumed["resumed"]
                .as_u64()
                .is_some_and(|done| done >= before.len() as u64)
        );
        assert_eq!(kinds(&resumed), verdicts_due);
        let after = finished(&out);
        for (path, identity) in before {
            assert_eq!(
                after.get(&path),
                Some(&identity),
                "{} again",
                path.display()
            );
        }
        assert!(contents(&out) == whole, "the bytes differ");
    }
}

#[test]
fn two_runs_do_not_write_the_same_out() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let (dir, out) = (here.path().join("dir"), here.path().join("out"));
    fs::create_dir(&dir).expect("made");
    let slow = samples().join("hostile/endless.pdf");
    fs::copy(slow, dir.join("endless.pdf")).expect("copied");
    let arguments = [text(&dir), "--out", text(&out), "--resume", "--time", "2m"];
    let first = start(&mut rescue(&arguments));
    let deadline = Instant::now() + Duration::from_secs(30);
    while finished_header(&out).is_empty() {
        assert!(Instant::now() < deadline, "the first run did not begin");
        pause(Duration::from_millis(2));
    }
    let second = run(&mut rescue(&arguments));
    assert_eq!(second.status.code(), Some(2));
    let line = String::from_utf8(second.stderr).expect("UTF-8");
    assert!(line.contains("another rescue is at work in"), "{line}");
    let group = first.id();
    signal(group, Signal::SIGKILL);
    finish(first);
    assert_group_ends(group);
}

fn finished_header(out: &Path) -> String {
    fs::read_to_string(out.join("rescue.journal")).unwrap_or_default()
}

/// File to kind of verdict.
fn kinds(document: &serde_json::Value) -> BTreeMap<String, String> {
    let kind = |file: &serde_json::Value| file["verdict"].as_str().expect("a word").to_owned();
    verdicts(document)
        .into_iter()
        .map(|(name, file)| (name, kind(&file)))
        .collect()
}
