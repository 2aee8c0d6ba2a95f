//! Running one program of a step: its output kept, its summary lines shown, its time bounded.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::leaks;

/// Lines of a failed program's output that are printed again.
const TAIL: usize = 150;

/// How long the output may stay open after the program has ended.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// A program and its arguments, with what all programs of a run have in common.
pub(crate) fn program(name: &str, words: &[&str], run: &leaks::Run) -> Command {
    let mut command = Command::new(name);
    command
        .args(words)
        .current_dir(crate::root())
        .stdin(Stdio::null());
    run.mark(&mut command);
    command
}

/// Cargo, as the one that started this task.
pub(crate) fn cargo(words: &[&str], run: &leaks::Run) -> Command {
    let name = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    program(&name, words, run)
}

/// How a program ended.
pub(crate) struct Ended {
    pub(crate) output: String,
    /// What was wrong with it, if anything: its exit status, or that it took too long.
    pub(crate) fault: Option<String>,
}

/// Runs `command` to its end and shows the lines of its output that `shown` picks; all of its
/// output goes to `<target>/xtask/<log>.log`, and the end of it to the terminal if it fails.
///
/// # Errors
///
/// The faults: the program could not be started, failed, or did not end within `limit`.
pub(crate) fn run(
    command: Command,
    log: &str,
    limit: Duration,
    shown: fn(&str) -> bool,
) -> Result<String, Vec<String>> {
    let said = words_of(&command);
    let ended = run_to_end(command, log, limit, shown).map_err(|e| vec![format!("{said}: {e}")])?;
    match ended.fault {
        None => Ok(ended.output),
        Some(fault) => {
            let lines: Vec<&str> = ended
                .output
                .lines()
                .filter(|line| !is_progress(line))
                .collect();
            for line in &lines[lines.len().saturating_sub(TAIL)..] {
                println!("    | {line}");
            }
            Err(vec![format!("{said}: {fault}{}", failed_tests(&lines))])
        }
    }
}

/// The tests that failed and where they panicked, to be told again at the very end of a run: the
/// lines after a failure may be many.
fn failed_tests(lines: &[&str]) -> String {
    let mut told = String::new();
    let mut explained = false;
    for (number, line) in lines.iter().enumerate() {
        // The harness repeats what a failed test said under such a line.
        explained = explained && *line != "failures:" || line.starts_with("---- ");
        let why = usize::from(explained && line.contains("panicked at"));
        if why > 0 || line.starts_with("test ") && line.ends_with("FAILED") {
            for line in lines.iter().skip(number).take(1 + 3 * why) {
                told.push_str("\n      ");
                told.push_str(line);
            }
        }
    }
    told
}

/// Cargo's lines about what it is busy with, which would push what went wrong out of sight.
fn is_progress(line: &str) -> bool {
    let busy = [
        "Compiling ",
        "Checking ",
        "Documenting ",
        "Downloaded ",
        "Blocking ",
    ];
    busy.iter().any(|word| line.trim_start().starts_with(word))
}

/// As [`run`], but a program that fails is no fault of the task.
///
/// # Errors
///
/// The program could not be started, or its output not be kept.
pub(crate) fn run_to_end(
    mut command: Command,
    log: &str,
    limit: Duration,
    shown: fn(&str) -> bool,
) -> std::io::Result<Ended> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // The command holds our copies of the writing end; the reader would wait for them.
    drop(command);
    let pid = child.id();
    let (status_sender, status) = mpsc::channel();
    let waiter = thread::spawn(move || {
        // The receiver lives until this thread is joined.
        drop(status_sender.send(child.wait()));
    });
    let (line_sender, lines) = mpsc::channel();
    let kept = log_file(log)?;
    // Not joined: a process that the program left behind may hold the pipe open for ever.
    thread::spawn(move || forward(reader, kept, &line_sender));
    let (ended, fault) = attend(pid, &lines, &status, limit, shown);
    drop(waiter.join());
    Ok(Ended {
        output: ended,
        fault,
    })
}

/// Collects the lines until the program has ended and its output is closed, or the time is over.
fn attend(
    pid: u32,
    lines: &Receiver<String>,
    status: &Receiver<std::io::Result<ExitStatus>>,
    limit: Duration,
    shown: fn(&str) -> bool,
) -> (String, Option<String>) {
    let mut output = String::new();
    let mut keep = |line: String| {
        if shown(&line) {
            println!("    {}", line.trim_end());
        }
        output.push_str(&line);
        output.push('\n');
    };
    let watch = Duration::from_millis(20);
    let started = std::time::Instant::now();
    let mut fault = None;
    let ended = loop {
        if let Ok(line) = lines.recv_timeout(watch) {
            keep(line);
        }
        if let Ok(ended) = status.try_recv() {
            break Some(ended);
        }
        if started.elapsed() > limit {
            fault = Some(format!("did not end within {} s; killed", limit.as_secs()));
            leaks::kill_tree(pid);
            break status.recv_timeout(AFTERWARDS).ok();
        }
    };
    match ended {
        Some(Ok(status)) if status.success() || fault.is_some() => {}
        Some(Ok(status)) => fault = Some(status.to_string()),
        Some(Err(error)) => fault = Some(error.to_string()),
        None => fault = Some("could not be killed".to_owned()),
    }
    let until = std::time::Instant::now() + AFTERWARDS;
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => keep(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let held = "a process that it left behind holds its output open";
                fault.get_or_insert_with(|| held.to_owned());
                break;
            }
        }
    }
    (output, fault)
}

/// Sends each line on, and keeps it in the log.
fn forward(reader: PipeReader, mut kept: File, lines: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .is_ok_and(|length| length > 0)
    {
        // A log that cannot be written is no fault of the tests.
        drop(kept.write_all(&line));
        let text = String::from_utf8_lossy(&line);
        if lines.send(text.trim_end_matches('\n').to_owned()).is_err() {
            return;
        }
        line.clear();
    }
}

fn log_file(name: &str) -> std::io::Result<File> {
    let folder = logs();
    std::fs::create_dir_all(&folder)?;
    File::create(folder.join(format!("{name}.log")))
}

/// Where the full output of each step is kept.
pub(crate) fn logs() -> PathBuf {
    crate::target().join("xtask")
}

fn words_of(command: &Command) -> String {
    let name = PathBuf::from(command.get_program());
    let mut said = name
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for word in command.get_args() {
        said.push(' ');
        said.push_str(&word.to_string_lossy());
    }
    said
}
