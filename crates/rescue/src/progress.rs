//! How far the run is: one moving line on a terminal, else a plain line now and then.
//!
//! Both go to standard error, so that standard output holds the report and nothing else.

use crate::quantity;
use crate::verdict::{Tally, Verdict};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Shortest time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(1);
/// Shortest time between two drawings of the moving line, in a second.
const DRAWS_PER_SECOND: u8 = 8;

/// The state of the run and the line that shows it.
#[derive(Debug)]
pub(crate) struct Progress {
    total: u64,
    tally: Tally,
    /// Files that an earlier run finished; they say nothing about the speed of this one.
    before: u64,
    restarts: u64,
    start: Instant,
    shown: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Of `total` files, those in `tally` are finished.
    pub(crate) fn new(total: u64, tally: Tally) -> Progress {
        let terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let bar = terminal.then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
            let bar = ProgressBar::with_draw_target(Some(total), target);
            let style = ProgressStyle::with_template("{bar:24} {wide_msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let start = Instant::now();
        let before = tally.total();
        Progress {
            total,
            tally,
            before,
            restarts: 0,
            start,
            shown: start,
            bar,
        }
    }

    /// One more file has a verdict.
    pub(crate) fn finished(&mut self, verdict: &Verdict) {
        self.tally.add(verdict);
    }

    /// Shows the state, if it is time.
    pub(crate) fn show(&mut self, restarts: u64) {
        self.restarts = restarts;
        if let Some(bar) = &self.bar {
            bar.set_message(self.line());
            bar.set_position(self.tally.total());
        } else if self.shown.elapsed() >= PLAIN_EVERY {
            self.shown = Instant::now();
            // Nobody may be listening; the work goes on.
            let _ = writeln!(std::io::stderr(), "rescue: {}", self.line());
        }
    }

    /// Takes the moving line away and returns the counts.
    pub(crate) fn end(self) -> Tally {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.tally
    }

    fn line(&self) -> String {
        let done = self.tally.total();
        let mut line = format!("{done} of {} done", self.total);
        for (kind, count) in self.tally.failed() {
            line.push_str(&format!(", {count} {kind}"));
        }
        let rate = (done - self.before) as f64 / self.start.elapsed().as_secs_f64().max(0.001);
        line.push_str(&format!(", {} restarts, {rate:.1} files/s", self.restarts));
        if rate > 0.0 {
            let left = Duration::from_secs_f64((self.total - done) as f64 / rate);
            line.push_str(&format!(", ETA {}", quantity::time(left)));
        }
        line
    }
}
