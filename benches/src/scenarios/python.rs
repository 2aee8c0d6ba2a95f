//! CPython's `multiprocessing` as the peer; left out where there is no `python3`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::scenarios::{processes, queues, rings, starts};
use crate::{Contender, Role, Scenario};

const SCRIPT: &str = "src/scenarios/python.py";

/// The scenarios, or none without an interpreter.
pub(crate) fn scenarios() -> Vec<Scenario> {
    if Command::new("python3").arg("--version").output().is_err() {
        return Vec::new();
    }
    let scenario = |name, count, ours, job| Scenario {
        name,
        count,
        rounds: 5,
        contenders: vec![ours, python(job)],
        limit: Some(1.0),
    };
    vec![
        scenario(
            "process started and joined, x 50",
            50,
            starts::by_zygote(),
            "start",
        ),
        scenario(
            "task there and back, x 2k, 1 worker",
            2000,
            processes::by_pool(),
            "task",
        ),
        scenario(
            "message there and back, 8 B x 5k, 2 processes",
            5000,
            rings::by_process("ring", false),
            "message",
        ),
        scenario(
            "queue, one to one, 8 B x 20k, 2 processes",
            20_000,
            queues::by_processes(),
            "queue",
        ),
    ]
}

fn python(job: &'static str) -> Contender {
    Contender::new("CPython", Role::Peer, move |count| {
        let ran = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPT))
            .args([job, &count.to_string()])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        seconds(&String::from_utf8_lossy(&ran.stdout))
            .ok_or_else(|| String::from_utf8_lossy(&ran.stderr).into_owned())
    })
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?).ok()
}
