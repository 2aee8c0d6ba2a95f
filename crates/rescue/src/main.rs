#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod compare;
mod decode;
mod drive;
mod fatal;
mod folders;
mod in_process;
mod journal;
mod name;
mod options;
mod processes;
mod progress;
mod quantity;
mod report;
mod run;
mod verdict;
mod walk;
mod way;
mod work;

use crate::fatal::Fatal;
use crate::in_process::InProcess;
use crate::options::{Asked, Options};
use crate::processes::Processes;
use crate::way::Way;
use manyhands::CappedAllocator;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

/// Counts what a worker holds, so that a file that asks for too much is told by how much.
#[global_allocator]
static ALLOCATOR: CappedAllocator = CappedAllocator;

/// Bad use, or a run that could not go on to its end.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let outcome = match Options::from_command_line() {
        Ok(Asked::Print(text)) => print(&text),
        Ok(Asked::Run(options)) => rescue(&options),
        Err(line) => Err(Fatal::new(line)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            // If nobody reads it, the exit code still says it.
            let _ = writeln!(io::stderr(), "rescue: {fatal}");
            ExitCode::from(FAILED)
        }
    }
}

fn rescue(options: &Options) -> Result<(), Fatal> {
    if options.compare {
        return print(&compare::compare(options, start_way)?);
    }
    let run = run::run(options, start_way)?;
    if options.json {
        print(&format!("{}\n", report::document(&run, options)))
    } else {
        print(&report::table(&run, options))
    }
}

fn start_way(options: &Options) -> Result<Box<dyn Way>, Fatal> {
    Ok(if options.in_process {
        Box::new(InProcess)
    } else {
        Box::new(Processes::start(options)?)
    })
}

/// Prints `text`; a reader who has read enough is no failure.
fn print(text: &str) -> Result<(), Fatal> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Fatal::new(format!(
            "cannot print the report: {}",
            fatal::plain(&error)
        ))),
        _ => Ok(()),
    }
}
