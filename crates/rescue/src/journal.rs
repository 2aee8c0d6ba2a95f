//! The journal in OUT: which files are finished, and what became of them.
//!
//! One line per finished file, appended after its output is in its place, so a file in the
//! journal is never done again. A line is the FNV-1a hash of a JSON text, a space, the text. The
//! first line names DIR. Killed at any instruction, a run leaves whole lines and at most one torn
//! one at the end, which the next run cuts off. The data is the kernel's once it is written: a
//! journal survives the death of every process, not the loss of power.
//!
//! The journal is locked while a run lasts, so there is one run per OUT.

use crate::fatal::{Fatal, plain, shown};
use crate::name::EntryName;
use crate::verdict::Record;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Its name in OUT; no output ends so.
pub(crate) const FILE_NAME: &str = "rescue.journal";
/// What the first line says the format is.
const FORMAT: u32 = 1;

/// The open, locked journal of the run in progress.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    /// Bytes up to the end of the last whole line.
    length: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    rescue_journal: u32,
    dir: EntryName,
}

impl Journal {
    /// Opens the journal in `out` for a run over `dir`, and returns what is finished.
    ///
    /// # Errors
    ///
    /// When there is one and `resume` is false, when it belongs to another DIR, when another
    /// run is at work, when it cannot be written.
    pub(crate) fn open(
        out: &Path,
        dir: &Path,
        resume: bool,
    ) -> Result<(Journal, Vec<Record>), Fatal> {
        let path = out.join(FILE_NAME);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let (file, is_new) = match options.clone().create_new(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => (options.open(&path), false),
            created => (created, true),
        };
        let file = file.map_err(|error| Fatal::at("cannot write", &path, &error))?;
        lock(&file, out)?;
        if !is_new && !resume {
            return Err(Fatal::new(format!(
                "{} has the journal of an earlier run; give --resume or another --out",
                shown(out)
            )));
        }
        let mut journal = Journal {
            file,
            path,
            length: 0,
        };
        let dir = EntryName::new(dir.to_owned());
        let records = journal.read(&dir)?;
        if journal.length == 0 {
            journal.append(&Header {
                rescue_journal: FORMAT,
                dir,
            })?;
        }
        Ok((journal, records))
    }

    /// Adds one finished file.
    ///
    /// # Errors
    ///
    /// When OUT cannot take it; the journal then ends after the last whole line.
    pub(crate) fn record(&mut self, record: &Record) -> Result<(), Fatal> {
        self.append(record)
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), Fatal> {
        let text = serde_json::to_string(line)
            .map_err(|error| Fatal::new(format!("cannot encode a line of the journal: {error}")))?;
        let line = format!("{:016x} {text}\n", fnv(text.as_bytes()));
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // If this fails too, the torn line is cut off by the next run.
            let _ = self.file.set_len(self.length);
            return Err(Fatal::at("cannot write", &self.path, &error));
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Reads what is there, cuts a torn line off, and leaves the file ready to append.
    fn read(&mut self, dir: &EntryName) -> Result<Vec<Record>, Fatal> {
        let mut bytes = Vec::new();
        let outcome = self.file.read_to_end(&mut bytes);
        outcome.map_err(|error| Fatal::at("cannot read", &self.path, &error))?;
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |last| last + 1);
        let mut lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n');
        if let Some(first) = lines.next() {
            let header: Option<Header> = parse(first);
            self.check(header, dir)?;
        }
        // A line that is damaged is a file that is not finished: doing it again is harmless.
        let records = lines.filter_map(parse).collect();
        self.length = whole as u64;
        let ready = self.file.set_len(self.length);
        let ready = ready.and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
        ready.map_err(|error| Fatal::at("cannot write", &self.path, &error))?;
        Ok(records)
    }

    fn check(&self, header: Option<Header>, dir: &EntryName) -> Result<(), Fatal> {
        let path = shown(&self.path);
        match header {
            Some(header) if header.rescue_journal != FORMAT => Err(Fatal::new(format!(
                "{path} is of another release of rescue"
            ))),
            Some(header) if header.dir != *dir => {
                let theirs = header.dir;
                Err(Fatal::new(format!(
                    "{path} is of a run over {theirs}, not {dir}"
                )))
            }
            Some(_) => Ok(()),
            None => Err(Fatal::new(format!("{path} is no journal of rescue"))),
        }
    }
}

fn lock(file: &File, out: &Path) -> Result<(), Fatal> {
    file.try_lock().map_err(|error| {
        let out = shown(out);
        Fatal::new(match error {
            TryLockError::WouldBlock => format!("another rescue is at work in {out}"),
            TryLockError::Error(error) => format!("cannot lock {out}: {}", plain(&error)),
        })
    })
}

fn parse<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Option<T> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (hash, text) = line.split_once(' ')?;
    let matches = hash.len() == 16 && u64::from_str_radix(hash, 16).ok()? == fnv(text.as_bytes());
    if matches {
        serde_json::from_str(text).ok()
    } else {
        None
    }
}

/// Source: FNV-1a, 64 bits, <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
