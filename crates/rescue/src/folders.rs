//! DIR and OUT: where they are, that they do not lie in each other, and that OUT is ours.

use crate::fatal::{Fatal, shown};
use crate::journal;
use crate::work;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Both folders, absolute and without links.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pub(crate) dir: PathBuf,
    pub(crate) out: PathBuf,
}

impl Folders {
    /// Finds DIR, and where OUT is or will be.
    ///
    /// # Errors
    ///
    /// When DIR is no folder, when one lies in the other.
    pub(crate) fn find(dir: Option<&Path>, out: &Path) -> Result<Folders, Fatal> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => samples()?,
        };
        let given = shown(&dir);
        let dir = fs::canonicalize(&dir).map_err(|error| Fatal::at("cannot read", &dir, &error))?;
        if !dir.is_dir() {
            return Err(Fatal::new(format!("{given} is not a folder")));
        }
        let real_out = resolve(out).map_err(|error| Fatal::at("cannot make", out, &error))?;
        if real_out.starts_with(&dir) {
            return Err(Fatal::new(format!(
                "OUT ({}) lies inside DIR ({given}); give another --out",
                shown(out)
            )));
        }
        if dir.starts_with(&real_out) {
            return Err(Fatal::new(format!(
                "DIR ({given}) lies inside OUT ({}); give another --out",
                shown(out)
            )));
        }
        Ok(Folders { dir, out: real_out })
    }

    /// Makes OUT where there is none.
    ///
    /// # Errors
    ///
    /// When that is not possible, or OUT holds what is not ours.
    pub(crate) fn make_out(&self) -> Result<(), Fatal> {
        let out = &self.out;
        if out.exists() && !out.is_dir() {
            return Err(Fatal::new(format!("{} is not a folder", shown(out))));
        }
        fs::create_dir_all(out).map_err(|error| Fatal::at("cannot make", out, &error))?;
        refuse_foreign(out)
    }
}

/// Removes what killed workers left half-written in `out`.
///
/// # Errors
///
/// When `out` cannot be read, or such a file not removed.
pub(crate) fn remove_temporaries(out: &Path) -> Result<(), Fatal> {
    let sweep = || -> io::Result<()> {
        for entry in fs::read_dir(out)? {
            let entry = entry?;
            if work::is_temporary(Path::new(&entry.file_name())) && entry.file_type()?.is_file() {
                match fs::remove_file(entry.path()) {
                    // A worker of a parent that was just killed renamed it.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    };
    sweep().map_err(|error| Fatal::at("cannot clean", out, &error))
}

/// A folder with files but without our journal is somebody's: nothing in it is overwritten.
fn refuse_foreign(out: &Path) -> Result<(), Fatal> {
    if out.join(journal::FILE_NAME).exists() {
        return Ok(());
    }
    let entries = fs::read_dir(out).map_err(|error| Fatal::at("cannot read", out, &error))?;
    let foreign = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name())
        .find(|name| {
            // What mkfs leaves in a new file system, and what a killed run leaves.
            name != "lost+found" && !work::is_temporary(Path::new(name))
        });
    match foreign {
        Some(name) => Err(Fatal::new(format!(
            "{} holds files that are not of rescue, as {}; give another --out",
            shown(out),
            shown(Path::new(&name))
        ))),
        None => Ok(()),
    }
}

/// The samples: where this was built, or beside where it is run.
fn samples() -> Result<PathBuf, Fatal> {
    let places = [
        concat!(env!("CARGO_MANIFEST_DIR"), "/samples"),
        "crates/rescue/samples",
        "samples",
    ];
    let found = places
        .into_iter()
        .map(PathBuf::from)
        .find(|place| place.is_dir());
    found.ok_or_else(|| Fatal::new("the samples of rescue are not on this machine; give a DIR"))
}

/// The real path of what may not exist yet: that of its nearest ancestor, and the rest.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut missing = Vec::new();
    let mut existing = absolute.as_path();
    let mut real = loop {
        match fs::canonicalize(existing) {
            Ok(real) => break real,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(error) => match existing.components().next_back() {
                Some(Component::Normal(name)) => missing.push(name),
                _ => return Err(error),
            },
        }
        existing = existing.parent().unwrap_or(Path::new("/"));
    };
    real.extend(missing.iter().rev());
    Ok(real)
}
