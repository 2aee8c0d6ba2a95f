//! What is said at the end: a table of verdicts and the bad files, or one JSON document.

use crate::fatal::shown;
use crate::folders::Folders;
use crate::options::Options;
use crate::quantity;
use crate::verdict::{KINDS, Record, Tally};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// A run that came to its end.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) folders: Folders,
    /// One per entry of DIR, in the order of the names.
    pub(crate) records: Vec<Record>,
    pub(crate) tally: Tally,
    /// Files that were in the journal already.
    pub(crate) resumed: u64,
    pub(crate) restarts: u64,
    pub(crate) took: Duration,
}

/// The report for people.
pub(crate) fn table(run: &Run, options: &Options) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "{:<16} {:>8}", "verdict", "files");
    for (kind, count) in KINDS.iter().zip(run.tally.counts) {
        let _ = writeln!(text, "{kind:<16} {count:>8}");
    }
    let _ = writeln!(text, "{:<16} {:>8}", "all", run.tally.total());
    let bad: Vec<&Record> = run
        .records
        .iter()
        .filter(|record| !record.verdict.is_ok())
        .collect();
    if !bad.is_empty() {
        let _ = writeln!(text, "\nbad files");
    }
    let widest = bad
        .iter()
        .map(|record| record.file.to_string().chars().count())
        .max();
    let width = widest.unwrap_or(0).min(40);
    for record in bad {
        let file = record.file.to_string();
        let _ = writeln!(text, "  {file:<width$}  {}", record.verdict);
    }
    let rate = (run.tally.total() - run.resumed) as f64 / run.took.as_secs_f64().max(0.001);
    let _ = write!(
        text,
        "\n{} files in {}",
        run.tally.total(),
        quantity::time(run.took)
    );
    if run.resumed > 0 {
        let _ = write!(text, " ({} of them done before)", run.resumed);
    }
    let _ = writeln!(
        text,
        ", {rate:.1} files/s, {} workers replaced",
        run.restarts
    );
    let _ = writeln!(text, "output and journal: {}", shown(&options.out));
    text
}

/// The report for programs: one object, on one line.
pub(crate) fn document(run: &Run, options: &Options) -> Value {
    let verdicts: Map<String, Value> = KINDS
        .iter()
        .zip(run.tally.counts)
        .map(|(kind, count)| (kind.replace(' ', "_"), json!(count)))
        .collect();
    json!({
        "rescue": env!("CARGO_PKG_VERSION"),
        "dir": shown(&run.folders.dir),
        "out": shown(&run.folders.out),
        "way": if options.in_process { "threads" } else { "processes" },
        "jobs": options.jobs(),
        "time_ms": u64::try_from(options.time.as_millis()).unwrap_or(u64::MAX),
        "mem": options.mem,
        "files": run.records,
        "verdicts": verdicts,
        "resumed": run.resumed,
        "restarts": run.restarts,
        "seconds": run.took.as_secs_f64(),
    })
}
