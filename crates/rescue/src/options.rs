//! The command line.

use crate::quantity;
use clap::Parser;
use clap::error::ErrorKind;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

/// What nothing below can run in: the worker itself, before it opens a file.
const LEAST_MEMORY: u64 = 1 << 20;
/// What one pool can watch.
const MOST_JOBS: u16 = 120;

/// Makes a thumbnail of every image and extracts the text of every PDF below DIR, each file in a
/// process that it may kill, and says of every file what became of it.
#[derive(Clone, Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Options {
    /// Folder to read; the samples that ship with rescue when left out
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Folder to write: thumbnails, texts, and the journal
    #[arg(long, value_name = "OUT", default_value = "rescue-out")]
    pub(crate) out: PathBuf,

    /// Files at the same time; as many as there are cores when left out
    #[arg(long, value_name = "N", value_parser = parse_jobs)]
    pub(crate) jobs: Option<u16>,

    /// Longest time for one file, all attempts together
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = quantity::parse_time)]
    pub(crate) time: Duration,

    /// Most memory for one file
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_memory)]
    pub(crate) mem: u64,

    /// Go on with the run whose journal is in OUT
    #[arg(long)]
    pub(crate) resume: bool,

    /// Print one JSON document instead of the table
    #[arg(long)]
    pub(crate) json: bool,

    /// Do the work on threads of this process, with no limit and no isolation: the first file
    /// that is bad enough ends it
    #[arg(long)]
    pub(crate) in_process: bool,

    /// Do the good files of DIR in processes and in threads, and print both times
    #[arg(long, conflicts_with_all = ["resume", "json", "in_process"])]
    pub(crate) compare: bool,

    /// With --compare: take the good files over and over until there are N
    #[arg(long, value_name = "N", requires = "compare")]
    pub(crate) repeat: Option<NonZero<u32>>,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To work.
    Run(Box<Options>),
    /// To print this, help or version, and end well.
    Print(String),
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// One line that says what is wrong with it.
    pub(crate) fn from_command_line() -> Result<Asked, String> {
        match Options::try_parse() {
            Ok(options) => Ok(Asked::Run(Box::new(options))),
            Err(error) => match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Ok(Asked::Print(error.render().to_string()))
                }
                _ => Err(first_paragraph(&error.render().to_string())),
            },
        }
    }

    /// How many files are worked on at the same time.
    pub(crate) fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        self.jobs
            .map_or_else(cores, usize::from)
            .min(usize::from(MOST_JOBS))
    }
}

fn parse_jobs(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(jobs) if (1..=MOST_JOBS).contains(&jobs) => Ok(jobs),
        _ => Err(format!("a number from 1 to {MOST_JOBS} is needed")),
    }
}

fn parse_memory(text: &str) -> Result<u64, String> {
    let bytes = quantity::parse_bytes(text)?;
    if bytes < LEAST_MEMORY {
        return Err(format!(
            "a worker needs at least {}",
            quantity::bytes(LEAST_MEMORY)
        ));
    }
    Ok(bytes)
}

/// The message without the advice that clap puts below it, on one line.
fn first_paragraph(message: &str) -> String {
    let paragraph = message.split("\n\n").next().unwrap_or(message);
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}
