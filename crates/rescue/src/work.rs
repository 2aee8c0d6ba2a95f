//! The work on one file, as a worker does it: decode, then write the output in one step.

use crate::decode::{self, Product};
use crate::fatal::{plain, shown};
use crate::name::EntryName;
use crate::verdict::Made;
use crate::walk;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A path of any bytes, on its way to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PathBytes(Vec<u8>);

impl PathBytes {
    fn new(path: &Path) -> PathBytes {
        PathBytes(path.as_os_str().as_bytes().to_vec())
    }

    fn into_path(self) -> PathBuf {
        PathBuf::from(OsString::from_vec(self.0))
    }
}

/// What a worker needs to know of one file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    dir: PathBytes,
    out: PathBytes,
    file: PathBytes,
}

impl Job {
    /// The file `file` below `dir`, its output to go below `out`.
    pub(crate) fn new(dir: &Path, out: &Path, file: &Path) -> Job {
        Job {
            dir: PathBytes::new(dir),
            out: PathBytes::new(out),
            file: PathBytes::new(file),
        }
    }
}

/// What a worker that lives says of one file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The output is in its place.
    Made(Made),
    /// There is none, for this reason.
    Refused(String),
    /// There can be none for any file: OUT is full or broken.
    OutFailed(String),
}

/// Makes the output of one file.
pub(crate) fn examine(job: Job) -> Outcome {
    let (dir, out, file) = (
        job.dir.into_path(),
        job.out.into_path(),
        job.file.into_path(),
    );
    let product = match decode::decode(&dir.join(&file)) {
        Ok(product) => product,
        Err(reason) => return Outcome::Refused(reason),
    };
    let output = walk::output(&file, product.extension());
    match put_in_place(&out, &output, product.bytes()) {
        Ok(()) => Outcome::Made(made(&product, output)),
        Err(error) if ends_the_run(&error) => {
            Outcome::OutFailed(format!("{}: {}", shown(&out.join(output)), plain(&error)))
        }
        Err(error) => Outcome::Refused(format!("cannot write its output: {}", plain(&error))),
    }
}

/// Whether `name`, directly below OUT, is a half-written output.
///
/// No output has such a name: all end in `.png` or `.txt`.
pub(crate) fn is_temporary(name: &Path) -> bool {
    let bytes = name.as_os_str().as_bytes();
    bytes.starts_with(b".rescue-") && bytes.ends_with(b".temp")
}

fn made(product: &Product, output: PathBuf) -> Made {
    Made {
        what: product.what().to_owned(),
        output: EntryName::new(output),
        size: product.bytes().len() as u64,
    }
}

/// Writes `bytes` to a temporary file and renames it: the output is whole or not there.
fn put_in_place(out: &Path, output: &Path, bytes: &[u8]) -> io::Result<()> {
    let (temporary, mut file) = temporary_in(out)?;
    let target = out.join(output);
    let written = file.write_all(bytes).and_then(|()| {
        let rename = || fs::rename(&temporary, &target);
        match (rename(), target.parent()) {
            (Err(error), Some(folder)) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(folder)?;
                rename()
            }
            (renamed, _) => renamed,
        }
    });
    if written.is_err() {
        // The reason is in `written`; whoever runs next in OUT removes what we cannot.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A new file directly below `out` that no other worker writes.
fn temporary_in(out: &Path) -> io::Result<(PathBuf, File)> {
    // Relaxed: the numbers of one process only have to differ.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let process = std::process::id();
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = out.join(format!(".rescue-{process}-{number}.temp"));
        match File::create_new(&path) {
            // A worker that was killed had the same process number once.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => return created.map(|file| (path, file)),
        }
    }
}

/// Whether the next file would fail in the same way.
fn ends_the_run(error: &io::Error) -> bool {
    /// `EIO`, which has no kind of its own.
    const INPUT_OUTPUT: i32 = 5;
    matches!(
        error.kind(),
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::PermissionDenied
    ) || error.raw_os_error() == Some(INPUT_OUTPUT)
}
