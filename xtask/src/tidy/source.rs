//! Rules about the text of sources: header, length, words, where unsafe code may be.

use std::path::Path;

use crate::Faults;

/// Lines of code a file may have; comments and blank lines are free.
const LONGEST: usize = 400;

/// Words that no source may hold, and why. Put together here, so that this file holds none.
const WORDS: [(&str, &str); 6] = [
    (
        concat!("thread::", "sleep"),
        "wait for the event itself, with a deadline",
    ),
    (concat!("todo", "!("), "what is not finished is left out"),
    (
        concat!("unimplemented", "!("),
        "what is not finished is left out",
    ),
    (concat!("dbg", "!("), "a trace of debugging"),
    (concat!("#[", "ignore"), "a test runs, or it goes"),
    (
        concat!("#[", "should_panic"),
        "catch the panic and look at it",
    ),
];

/// Folders where people and robots keep their clones: a path there works on one machine only.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/bui", "lds/"),
];

/// Rooms that say `forbid(unsafe_code)` in the file of their crate.
const FORBIDDEN: [&str; 8] = [
    "crates/manyhands-derive/src/lib.rs",
    "crates/manyhands-executor/src/lib.rs",
    "crates/manyhands-manager/src/lib.rs",
    "crates/manyhands-nats/src/lib.rs",
    "crates/manyhands-top/src/main.rs",
    "crates/manyhands/src/lib.rs",
    "crates/rescue/src/main.rs",
    "xtask/src/main.rs",
];

/// Where the lint against unsafe code may be lifted. The tests and benches step through other
/// processes and place foreign locks, and are not published.
const UNSAFE: [&str; 7] = [
    "crates/manyhands-os/",
    "crates/manyhands-sync/",
    "crates/manyhands-shm/",
    "crates/manyhands-channel/src/ring/",
    "crates/manyhands-process/src/",
    "tests/",
    "benches/",
];

/// Rules for every text: ASCII, no path of one machine.
pub(crate) fn check_text(root: &Path, name: &str, text: &str, faults: &mut Faults) {
    let clone = format!("{}/", root.display());
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if let Some(letter) = line.chars().find(|letter| !letter.is_ascii()) {
            faults.push(format!("{name}:{number}: `{letter}` is not ASCII"));
        }
        let machine = MACHINE_PATHS.iter().copied().chain([clone.as_str()]);
        for path in machine.filter(|path| starts_word(line, path)) {
            faults.push(format!(
                "{name}:{number}: `{path}` is a path of one machine"
            ));
        }
    }
}

/// Whether `path` stands in `line` as the start of a path, not in the middle of one.
fn starts_word(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|letter| !letter.is_ascii_alphanumeric() && !"._-/*".contains(letter))
    })
}

/// Rules for Rust sources.
pub(crate) fn check_rust(root: &Path, name: &str, text: &str, faults: &mut Faults) {
    let first = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    if !first.starts_with("//!") && !first.starts_with("#![doc = include_str!(") {
        faults.push(format!("{name}: does not start with a `//!` header"));
    }
    let code = text.lines().filter(|line| is_code(line)).count();
    if code > LONGEST {
        faults.push(format!("{name}: {code} lines of code, more than {LONGEST}"));
    }
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        for (word, why) in WORDS.iter().filter(|(word, _)| line.contains(word)) {
            faults.push(format!("{name}:{number}: `{word}`: {why}"));
        }
        check_unsafe(name, number, line, faults);
        check_named_documents(root, name, number, line, faults);
    }
    if FORBIDDEN.contains(&name) && !text.contains("#![forbid(unsafe_code)]") {
        faults.push(format!("{name}: does not say `#![forbid(unsafe_code)]`"));
    }
}

fn is_code(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with("//")
}

fn check_unsafe(name: &str, number: usize, line: &str, faults: &mut Faults) {
    let code = line.trim_start();
    let lifts = [
        "allow(unsafe_code",
        "expect(unsafe_code",
        "warn(unsafe_code",
    ];
    let lifted = code.starts_with("#") && lifts.iter().any(|lift| code.contains(lift));
    if lifted && !UNSAFE.iter().any(|room| name.starts_with(room)) {
        faults.push(format!(
            "{name}:{number}: unsafe code has no place in this room"
        ));
    }
}

/// A source that sends its reader to a document names one that is there.
fn check_named_documents(root: &Path, name: &str, number: usize, line: &str, faults: &mut Faults) {
    for word in line.split('`').filter(|word| is_document(word)) {
        if !root.join(word).exists() {
            faults.push(format!("{name}:{number}: there is no `{word}`"));
        }
    }
}

fn is_document(word: &str) -> bool {
    word.starts_with("docs/") && word.ends_with(".md") && !word.contains(['*', ' ', '{'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(name: &str, text: &str) -> Faults {
        let mut faults = Vec::new();
        let root = crate::root();
        check_text(&root, name, text, &mut faults);
        check_rust(&root, name, text, &mut faults);
        faults
    }

    #[test]
    fn good_source_has_no_fault() {
        assert_eq!(
            faults_of("crates/a/src/b.rs", "//! Header.\nfn main() {}\n"),
            Faults::new()
        );
    }

    #[test]
    fn source_without_header_is_a_fault() {
        let faults = faults_of("a.rs", "fn main() {}\n");
        assert_eq!(faults, ["a.rs: does not start with a `//!` header"]);
    }

    #[test]
    fn only_lines_of_code_are_counted() {
        let comments = format!("//! Header.\n{}", "// why\n\n".repeat(LONGEST));
        assert_eq!(faults_of("a.rs", &comments), Faults::new());
        let code = format!("//! Header.\n{}", "fn f() {}\n".repeat(LONGEST + 1));
        assert_eq!(
            faults_of("a.rs", &code),
            ["a.rs: 401 lines of code, more than 400"]
        );
    }

    #[test]
    fn every_bad_word_is_listed_with_its_line() {
        let text = format!("//! Header.\n{}1);\n{}x);\n", WORDS[0].0, WORDS[3].0);
        let faults = faults_of("a.rs", &text);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("a.rs:2:"), "{faults:?}");
        assert!(faults[1].starts_with("a.rs:3:"), "{faults:?}");
    }

    #[test]
    fn paths_of_one_machine_and_foreign_letters_are_faults() {
        let text = format!("//! See {}ann/x.\n//! caf\u{e9}\n", MACHINE_PATHS[0]);
        assert_eq!(faults_of("a.rs", &text).len(), 2);
        let inside = format!("//! See net{}page.\n", MACHINE_PATHS[0]);
        assert_eq!(faults_of("a.rs", &inside), Faults::new());
    }

    #[test]
    fn unsafe_code_is_allowed_only_in_its_rooms() {
        let text = "//! Header.\n#![allow(unsafe_code, reason = \"x\")]\n";
        assert_eq!(
            faults_of("crates/manyhands-os/src/futex.rs", text),
            Faults::new()
        );
        assert_eq!(
            faults_of("crates/manyhands-channel/src/ring/mod.rs", text),
            Faults::new()
        );
        assert_eq!(
            faults_of("crates/manyhands-channel/src/pipe.rs", text).len(),
            1
        );
    }

    #[test]
    fn documents_that_are_named_must_exist() {
        let missing = concat!("docs", "/no-such.md");
        let faults = faults_of("a.rs", &format!("//! Layout: `{missing}`.\n"));
        assert_eq!(faults, [format!("a.rs:1: there is no `{missing}`")]);
    }
}
