//! What became of a file, in the words of the report, the journal and the JSON document.

use crate::name::EntryName;
use crate::quantity;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What was made of a good file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// "thumbnail" or "text".
    pub(crate) what: String,
    /// Path of the output below OUT.
    pub(crate) output: EntryName,
    /// Bytes of the output.
    pub(crate) size: u64,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// A thumbnail or a text was made.
    Ok(Made),
    /// The decoder or the system refused the file in an orderly way.
    Error { reason: String },
    /// The decoder panicked at `place`, a file and a line.
    Panic {
        message: String,
        place: Option<String>,
    },
    /// The worker was ended by a signal.
    Signal { signal: i32, name: String },
    /// The decoder ran out of stack.
    StackOverflow,
    /// The decoder asked for `asked` bytes when `allowed` were what it may hold.
    MemoryLimit { asked: Option<u64>, allowed: u64 },
    /// The decoder did not end in time.
    Deadline { limit_ms: u64 },
    /// The file ended worker after worker; `deaths` says how.
    Quarantined { deaths: Vec<String> },
}

/// The kinds of verdict in the order of the table.
pub(crate) const KINDS: [&str; 8] = [
    "ok",
    "error",
    "panic",
    "signal",
    "stack overflow",
    "memory limit",
    "deadline",
    "quarantined",
];

impl Verdict {
    /// An orderly refusal.
    pub(crate) fn error(reason: impl Into<String>) -> Verdict {
        Verdict::Error {
            reason: reason.into(),
        }
    }

    /// Index into [`KINDS`].
    pub(crate) fn kind(&self) -> usize {
        match self {
            Verdict::Ok(_) => 0,
            Verdict::Error { .. } => 1,
            Verdict::Panic { .. } => 2,
            Verdict::Signal { .. } => 3,
            Verdict::StackOverflow => 4,
            Verdict::MemoryLimit { .. } => 5,
            Verdict::Deadline { .. } => 6,
            Verdict::Quarantined { .. } => 7,
        }
    }

    /// Whether the file was good.
    pub(crate) fn is_ok(&self) -> bool {
        matches!(self, Verdict::Ok(_))
    }
}

/// The kind with what is known beside it, on one line.
impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = KINDS[self.kind()];
        match self {
            Verdict::Ok(made) => write!(formatter, "{kind}: {} ({})", made.output, made.what),
            Verdict::Error { reason } => write!(formatter, "{kind}: {reason}"),
            Verdict::Panic {
                message,
                place: Some(place),
            } => {
                write!(formatter, "{kind}: {place}: {message}")
            }
            Verdict::Panic {
                message,
                place: None,
            } => write!(formatter, "{kind}: {message}"),
            Verdict::Signal { name, .. } => write!(formatter, "{kind}: {name}"),
            Verdict::StackOverflow => formatter.write_str(kind),
            Verdict::MemoryLimit {
                asked: Some(asked),
                allowed,
            } => write!(
                formatter,
                "{kind}: asked for {}, allowed {}",
                quantity::bytes(*asked),
                quantity::bytes(*allowed)
            ),
            Verdict::MemoryLimit {
                asked: None,
                allowed,
            } => {
                write!(formatter, "{kind}: allowed {}", quantity::bytes(*allowed))
            }
            Verdict::Deadline { limit_ms } => {
                let limit = Duration::from_millis(*limit_ms);
                write!(
                    formatter,
                    "{kind}: not done after {}",
                    quantity::time(limit)
                )
            }
            Verdict::Quarantined { deaths } => {
                write!(
                    formatter,
                    "{kind}: ended {} workers: {}",
                    deaths.len(),
                    deaths.join(", ")
                )
            }
        }
    }
}

/// A finished file: one line of the journal, one element of the JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Path below DIR.
    pub(crate) file: EntryName,
    /// What became of it.
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// Wall time, all attempts together.
    pub(crate) took_ms: u64,
}

/// Files per kind of verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// As many as [`KINDS`], in its order.
    pub(crate) counts: [u64; KINDS.len()],
}

impl Tally {
    /// Counts one more.
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        self.counts[verdict.kind()] += 1;
    }

    /// All files.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The kinds that occurred, except "ok".
    pub(crate) fn failed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = KINDS.into_iter().zip(self.counts);
        named.skip(1).filter(|&(_, count)| count > 0)
    }
}
