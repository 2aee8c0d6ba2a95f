//! One run over DIR: what is there, what is finished, the rest of it.

use crate::drive::{Event, Task, drive};
use crate::fatal::Fatal;
use crate::folders::{self, Folders};
use crate::journal::Journal;
use crate::name::EntryName;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::Run;
use crate::verdict::{Record, Tally};
use crate::walk::{self, Entry};
use crate::way::Way;
use crate::work::Job;
use std::collections::BTreeMap;
use std::time::Instant;

/// Gives every entry of DIR its verdict.
///
/// # Errors
///
/// When the run cannot begin, or OUT cannot take what is made.
pub(crate) fn run(
    options: &Options,
    start_way: impl FnOnce(&Options) -> Result<Box<dyn Way>, Fatal>,
) -> Result<Run, Fatal> {
    let start = Instant::now();
    let folders = Folders::find(options.dir.as_deref(), &options.out)?;
    let entries = walk::entries(&folders.dir)?;
    folders.make_out()?;
    let (mut journal, finished) = Journal::open(&folders.out, &folders.dir, options.resume)?;
    folders::remove_temporaries(&folders.out)?;
    let (mut records, tasks) = divide(&folders, entries, finished);
    let mut tally = Tally::default();
    records
        .values()
        .for_each(|record| tally.add(&record.verdict));
    let resumed = tally.total();
    let mut progress = Progress::new(resumed + tasks.len() as u64, tally);
    let mut restarts = 0;
    let outcome = if tasks.is_empty() {
        Ok(())
    } else {
        let way = start_way(options)?;
        let outcome = drive(&*way, &tasks, options.jobs(), |event| {
            if let Event::Finished(record) = event {
                journal.record(&record)?;
                progress.finished(&record.verdict);
                records.insert(record.file.clone(), record);
            }
            progress.show(way.restarts());
            Ok(())
        });
        restarts = way.restarts();
        outcome
        // The workers end here, before what they left half-written is removed.
    };
    let tally = progress.end();
    let cleaned = folders::remove_temporaries(&folders.out);
    outcome.and(cleaned)?;
    let records = records.into_values().collect();
    Ok(Run {
        folders,
        records,
        tally,
        resumed,
        restarts,
        took: start.elapsed(),
    })
}

/// What is finished, and what is to do. What the journal names and DIR has no more is dropped.
fn divide(
    folders: &Folders,
    entries: Vec<Entry>,
    finished: Vec<Record>,
) -> (BTreeMap<EntryName, Record>, Vec<Task>) {
    let mut known: BTreeMap<EntryName, Record> = finished
        .into_iter()
        .map(|record| (record.file.clone(), record))
        .collect();
    let mut records = BTreeMap::new();
    let mut tasks = Vec::new();
    for entry in entries {
        match known.remove(&entry.name) {
            Some(record) => {
                records.insert(entry.name, record);
            }
            None => {
                let job = Job::new(&folders.dir, &folders.out, entry.name.path());
                tasks.push(Task { entry, job });
            }
        }
    }
    (records, tasks)
}
