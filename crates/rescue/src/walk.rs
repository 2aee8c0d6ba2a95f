//! The entries of DIR, one verdict due for each.
//!
//! Folders are walked; every other entry is listed, in the order of the names. Links to files are
//! read through, links to folders are not followed, and nothing is opened: a pipe would block.
//! A folder that cannot be read is an entry of its own, with its verdict decided.

use crate::fatal::{Fatal, plain};
use crate::name::EntryName;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// One entry that is due a verdict.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Path below DIR.
    pub(crate) name: EntryName,
    /// Why there is nothing to decode, where that is known already.
    pub(crate) refused: Option<String>,
}

/// Lists the entries below `dir`.
///
/// # Errors
///
/// Only when `dir` itself cannot be read.
pub(crate) fn entries(dir: &Path) -> Result<Vec<Entry>, Fatal> {
    let mut found = Vec::new();
    let mut folders = HashSet::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(folder) = waiting.pop() {
        match children(&dir.join(&folder)) {
            Ok(names) => {
                for name in names {
                    let path = folder.join(name);
                    match judge(&dir.join(&path)) {
                        Found::Folder => waiting.push(path.clone()),
                        Found::File => found.push(Entry {
                            name: EntryName::new(path),
                            refused: None,
                        }),
                        Found::Nothing(reason) => {
                            found.push(Entry {
                                name: EntryName::new(path),
                                refused: Some(reason),
                            });
                        }
                    }
                }
            }
            Err(error) if folder.as_os_str().is_empty() => {
                return Err(Fatal::at("cannot read", dir, &error));
            }
            Err(error) => found.push(Entry {
                name: EntryName::new(folder.clone()),
                refused: Some(format!("a folder that cannot be read: {}", plain(&error))),
            }),
        }
        folders.insert(folder);
    }
    refuse_clashes(&mut found, &folders);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The output for the file `name`: its path with `.png` or `.txt` after the whole name.
pub(crate) fn output(name: &Path, extension: &str) -> PathBuf {
    let mut output = name.as_os_str().to_owned();
    output.push(".");
    output.push(extension);
    PathBuf::from(output)
}

enum Found {
    Folder,
    File,
    Nothing(String),
}

fn children(folder: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

fn judge(path: &Path) -> Found {
    let own = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) => return Found::Nothing(plain(&error)),
    };
    if own.is_dir() {
        return Found::Folder;
    }
    if !own.is_symlink() {
        return judge_file(own);
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            Found::Nothing("a link to a folder, which is not followed".into())
        }
        Ok(metadata) => judge_file(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Found::Nothing("a link to nothing".into())
        }
        Err(error) => Found::Nothing(format!("a link that leads nowhere: {}", plain(&error))),
    }
}

fn judge_file(kind: FileType) -> Found {
    let what = if kind.is_file() {
        return Found::File;
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Found::Nothing(format!("{what}, not a file"))
}

/// A file `a` beside a folder `a.png` cannot have its output: the folder's outputs lie there.
fn refuse_clashes(found: &mut [Entry], folders: &HashSet<PathBuf>) {
    for entry in found {
        let clash = ["png", "txt"]
            .into_iter()
            .map(|extension| output(entry.name.path(), extension));
        if let Some(folder) = clash.into_iter().find(|output| folders.contains(output)) {
            let folder = EntryName::new(folder);
            entry
                .refused
                .get_or_insert(format!("its output would be called as the folder {folder}"));
        }
    }
}
