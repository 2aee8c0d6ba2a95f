//! Rescue over good files: each in a process that may be killed, against plain threads.
//!
//! The program compares the two by itself, by turns in one run (`rescue --compare`); here it is
//! started, and its two times are read.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use crate::{Broken, Contender, Role, Scenario};

/// Where the good samples are, seen from this package.
const SAMPLES: &str = "../crates/rescue/samples/good";

/// The scenario; it needs the program, built for release.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let threads = Rc::new(Cell::new(None));
    let kept = Rc::clone(&threads);
    let processes = Contender::new("processes", Role::Ours, move |count| {
        let text = compare(count)?;
        kept.set(Some(time_in(&text, "in threads", count)?));
        time_in(&text, "in processes", count)
    });
    // The same run of the program measured both.
    let threads = Contender::new("threads, no isolation", Role::Peer, move |_| {
        threads.take().ok_or_else(|| "was not measured".to_owned())
    });
    vec![Scenario {
        name: "rescue, good samples x 2000, as many at a time as cores",
        count: 2000,
        rounds: 1,
        contenders: vec![processes, threads],
        limit: Some(1.3),
    }]
}

fn compare(count: u64) -> Result<String, Broken> {
    let program = program().ok_or("is not built: cargo build --release -p rescue")?;
    let out = std::env::temp_dir().join(format!("manyhands-bench-{}", std::process::id()));
    let ran = Command::new(program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(SAMPLES))
        .args(["--compare", "--repeat", &count.to_string(), "--out"])
        .arg(&out)
        .stdin(Stdio::null())
        .output();
    // There is nothing when it could not begin.
    drop(std::fs::remove_dir_all(&out));
    let ran = ran.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if ran.status.success() {
        Ok(text(&ran.stdout))
    } else {
        Err(text(&ran.stderr))
    }
}

/// Beside this program, or one folder up when this is a test.
pub(super) fn program() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    here.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("rescue"))
        .find(|file| file.is_file())
}

/// The seconds in the line that begins with `way`, of a run over `count` files.
fn time_in(text: &str, way: &str, count: u64) -> Result<Duration, Broken> {
    let found = || {
        text.lines()
            .next()?
            .strip_prefix(&format!("{count} good files"))?;
        let line = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(way))?;
        let seconds: f64 = line.split_once(" s")?.0.trim().parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    found().ok_or_else(|| format!("did not tell the time {way} for {count} files: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_what_rescue_prints() {
        let text = "2000 good files, 2 at a time, median of 3 runs\n  in processes     12.500 s, 160 files/s\n  in threads       10.000 s\n";
        assert_eq!(
            time_in(text, "in processes", 2000),
            Ok(Duration::from_millis(12_500))
        );
        assert_eq!(
            time_in(text, "in threads", 2000),
            Ok(Duration::from_secs(10))
        );
        assert!(time_in(text, "in threads", 20).is_err());
    }
}
