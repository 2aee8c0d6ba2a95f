//! Makes the samples that `rescue` ships with: `cargo xtask samples`.
//!
//! Usage: `make_samples [FOLDER]`; the default is `samples` beside this crate's manifest. The same
//! bytes come out every time: no clock, no random source, no floating point beyond `+ - * /`.
//!
//! Everything here is ours: the pictures are computed, the PDF files are written by hand, and
//! each hostile file is a few lines of code that say what it does to a decoder.

#![forbid(unsafe_code)]
// A program for developers: what it says goes to the terminal.
#![allow(clippy::print_stdout)]

mod hostile;
mod pdf;
mod pictures;

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What every step of this program returns.
type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let folder = std::env::args_os().nth(1).map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/samples")),
        PathBuf::from,
    );
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let good = folder.join("good");
    let hostile = folder.join("hostile");
    fs::create_dir_all(good.join("papers"))?;
    fs::create_dir_all(&hostile)?;
    pictures::write_all(&good)?;
    write_papers(&good.join("papers"))?;
    hostile::write_all(&good, &hostile)?;
    write_odd_entries(&hostile)?;
    println!("{}: {} bytes", folder.display(), size_below(&folder)?);
    Ok(())
}

/// PDF files that a reader of PDF files reads.
fn write_papers(folder: &Path) -> Done {
    let hands = pdf::paper(&[&[
        "Many hands make light work.",
        "Here no hand that drops dead makes the others wait.",
    ]]);
    fs::write(folder.join("many-hands.pdf"), hands)?;
    let rules = pdf::paper(&[
        &[
            "Page one: a worker may die at any instruction.",
            "The others go on, told what was lost.",
        ],
        &[
            "Page two: a limit is enforced by the owner.",
            "It fails closed.",
        ],
        &[
            "Page three: a file that kills twice",
            "is put into quarantine.",
        ],
    ]);
    fs::write(folder.join("three-pages.pdf"), rules)?;
    let table: Vec<String> = (1..=12)
        .map(|row| format!("{row} hands move {} stones in an hour", row * row * 7))
        .collect();
    let lines: Vec<&str> = table.iter().map(String::as_str).collect();
    fs::write(folder.join("packed.pdf"), pdf::packed_paper(&[&lines])?)?;
    Ok(())
}

/// What a folder may hold beside files: links and folders with misleading names.
fn write_odd_entries(hostile: &Path) -> Done {
    let folder = hostile.join("folder.png");
    fs::create_dir(&folder)?;
    fs::write(
        folder.join("inside.txt"),
        "A folder may be called folder.png.\n",
    )?;
    symlink("nothing-here.png", hostile.join("dangling.png"))?;
    symlink("..", hostile.join("loop"))?;
    symlink("../good/spheres.png", hostile.join("link-to-spheres"))?;
    Ok(())
}

/// Bytes of all files below `folder`, links not followed.
fn size_below(folder: &Path) -> Result<u64, Box<dyn Error>> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size += if metadata.is_dir() {
            size_below(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(size)
}
