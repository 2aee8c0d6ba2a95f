//! `--compare`: the good files in processes and in threads, and what the isolation costs.

use crate::drive::{Event, Task, drive};
use crate::fatal::Fatal;
use crate::folders::{self, Folders};
use crate::in_process::InProcess;
use crate::journal::Journal;
use crate::options::Options;
use crate::quantity;
use crate::walk::{self, Entry};
use crate::way::Way;
use crate::work::Job;
use std::fmt::Write as _;
use std::num::NonZero;
use std::path::Path;
use std::time::{Duration, Instant};

/// Each way is run so often, in turns; the median counts.
const ROUNDS: usize = 3;

/// Runs both ways over the good files of DIR; the text says how long they took.
///
/// # Errors
///
/// When a run cannot begin or end, or a good file is not good every time.
pub(crate) fn compare(
    options: &Options,
    start_way: impl Fn(&Options) -> Result<Box<dyn Way>, Fatal>,
) -> Result<String, Fatal> {
    let folders = Folders::find(options.dir.as_deref(), &options.out)?;
    let entries = walk::entries(&folders.dir)?;
    folders.make_out()?;
    // The journal is only the lock here: a comparison is not resumed.
    let _lock = Journal::open(&folders.out, &folders.dir, false)?;
    let good = good_files(options, &folders, entries, &start_way)?;
    let count = options
        .repeat
        .map_or(good.len(), |count| count.get() as usize);
    if good.is_empty() {
        return Err(Fatal::new("there are no good files in DIR to compare with"));
    }
    let (mut isolated, mut together) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let out = folders.out.join("processes");
        isolated.push(timed(options, &folders.dir, &out, &good, count, || {
            start_way(options)
        })?);
        let out = folders.out.join("threads");
        let in_process = || Ok(Box::new(InProcess) as Box<dyn Way>);
        together.push(timed(
            options,
            &folders.dir,
            &out,
            &good,
            count,
            in_process,
        )?);
    }
    folders::remove_temporaries(&folders.out)?;
    Ok(text(options.jobs(), count, &mut isolated, &mut together))
}

/// The entries that get the verdict "ok".
fn good_files(
    options: &Options,
    folders: &Folders,
    entries: Vec<Entry>,
    start_way: impl Fn(&Options) -> Result<Box<dyn Way>, Fatal>,
) -> Result<Vec<Entry>, Fatal> {
    let out = folders.out.join("processes");
    make(&out)?;
    let tasks = tasks(&folders.dir, &out, &entries, entries.len())?;
    let mut good = Vec::new();
    let way = start_way(options)?;
    let outcome = drive(&*way, &tasks, options.jobs(), |event| {
        if let Event::Finished(record) = event
            && record.verdict.is_ok()
        {
            good.push(Entry {
                name: record.file,
                refused: None,
            });
        }
        Ok(())
    });
    drop(way);
    let cleaned = folders::remove_temporaries(&out);
    outcome.and(cleaned)?;
    good.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(good)
}

/// The wall time of one way over `count` files, its start and end included.
fn timed(
    options: &Options,
    dir: &Path,
    out: &Path,
    good: &[Entry],
    count: usize,
    start_way: impl Fn() -> Result<Box<dyn Way>, Fatal>,
) -> Result<Duration, Fatal> {
    make(out)?;
    let tasks = tasks(dir, out, good, count)?;
    let start = Instant::now();
    let way = start_way()?;
    let outcome = drive(&*way, &tasks, options.jobs(), |event| match event {
        Event::Finished(record) if !record.verdict.is_ok() => Err(Fatal::new(format!(
            "{} was good before: {}",
            record.file, record.verdict
        ))),
        _ => Ok(()),
    });
    drop(way);
    let took = start.elapsed();
    let cleaned = folders::remove_temporaries(out);
    outcome.and(cleaned)?;
    Ok(took)
}

/// `count` tasks over `entries`, each round of them with a folder of its own in `out`.
fn tasks(dir: &Path, out: &Path, entries: &[Entry], count: usize) -> Result<Vec<Task>, Fatal> {
    let each = NonZero::new(entries.len()).map_or(1, NonZero::get);
    let mut tasks = Vec::with_capacity(count);
    let mut folder = out.to_owned();
    for (index, entry) in entries.iter().cycle().take(count).enumerate() {
        if index % each == 0 && index > 0 {
            folder = out.join(format!("{:05}", index / each));
            make(&folder)?;
        }
        let job = Job::new(dir, &folder, entry.name.path());
        tasks.push(Task {
            entry: entry.clone(),
            job,
        });
    }
    Ok(tasks)
}

fn make(folder: &Path) -> Result<(), Fatal> {
    std::fs::create_dir_all(folder).map_err(|error| Fatal::at("cannot make", folder, &error))
}

fn text(jobs: usize, count: usize, isolated: &mut [Duration], together: &mut [Duration]) -> String {
    let mut text = format!("{count} good files, {jobs} at a time, median of {ROUNDS} runs\n");
    let mut medians = [0.0, 0.0];
    let ways = [("in processes", isolated), ("in threads", together)];
    for ((name, times), median) in ways.into_iter().zip(&mut medians) {
        times.sort();
        *median = times[ROUNDS / 2].as_secs_f64();
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            text,
            "  {name:<13} {:>8.3} s, {:.0} files/s ({} to {})",
            *median,
            count as f64 / *median,
            quantity::time(times[0]),
            quantity::time(times[ROUNDS - 1]),
        );
    }
    let _ = writeln!(text, "  ratio         {:>8.3}", medians[0] / medians[1]);
    text
}
