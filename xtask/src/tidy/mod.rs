//! What the compiler and clippy do not check, checked: `cargo xtask tidy`, also a test.
//!
//! Every rule lists all that breaks it; nothing stops at the first fault. The rules themselves
//! are argued for in `CONTRIBUTING.md`.

mod layout;
mod links;
mod manifest;
mod source;

use std::path::{Path, PathBuf};

use crate::Faults;

/// Folders that hold nothing written by hand.
const SKIPPED: [&str; 4] = ["target", ".git", "samples", ".library"];

/// `cargo xtask tidy [--bless]`.
pub(crate) fn run(words: &[&str]) -> Result<(), Faults> {
    let (bless, rest) = match words.split_first() {
        Some((&"--bless", rest)) => (true, rest),
        _ => (false, words),
    };
    crate::no_more("tidy", rest)?;
    let root = crate::root();
    if bless {
        layout::bless(&root).map_err(|error| vec![format!("docs/layout.md: {error}")])?;
    }
    let faults = faults(&root);
    if !faults.is_empty() {
        return Err(faults);
    }
    println!("tidy: {} files, no fault", files(&root).len());
    Ok(())
}

/// All faults of the tree below `root`, in the order of its files.
pub(crate) fn faults(root: &Path) -> Faults {
    let files = files(root);
    let mut faults = Vec::new();
    for file in &files {
        let name = name(root, file);
        match std::fs::read(file).map(String::from_utf8) {
            Ok(Ok(text)) => check(root, &name, &text, &mut faults),
            Ok(Err(_)) => faults.push(format!("{name}: is not UTF-8")),
            Err(error) => faults.push(format!("{name}: {error}")),
        }
    }
    manifest::check_members(root, &mut faults);
    layout::check(root, &mut faults);
    faults
}

fn check(root: &Path, name: &str, text: &str, faults: &mut Faults) {
    source::check_text(root, name, text, faults);
    if name.ends_with(".rs") {
        source::check_rust(root, name, text, faults);
    } else if name.ends_with(".md") {
        links::check(root, name, text, faults);
    } else if name.ends_with("Cargo.toml") {
        manifest::check(name, text, faults);
    }
}

/// Every file that a person wrote: sources, manifests, documents, scripts; sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let name = entry.file_name();
            if kind.is_dir() {
                if !SKIPPED.iter().any(|skipped| name == *skipped) {
                    folders.push(path);
                }
            } else if kind.is_file() && is_written(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn is_written(path: &Path) -> bool {
    let written = ["rs", "md", "toml", "sh", "expected"];
    path.extension()
        .is_some_and(|end| written.iter().any(|known| end == *known))
        || path.ends_with(".ci/run")
}

/// The path as a person would say it, from the root on.
fn name(root: &Path, file: &Path) -> String {
    file.strip_prefix(root)
        .unwrap_or(file)
        .display()
        .to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let faults = super::faults(&crate::root());
        assert!(
            faults.is_empty(),
            "{} faults:\n{}",
            faults.len(),
            faults.join("\n")
        );
    }
}
