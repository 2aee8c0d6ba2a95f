//! Tests of the journal: what a killed run leaves, and what is none of ours.

use super::*;
use crate::verdict::{Made, Verdict};
use std::fs;

fn record(number: u32) -> Record {
    let verdict = match number % 3 {
        0 => Verdict::Ok(Made {
            what: "text".into(),
            output: EntryName::new(format!("{number}.txt").into()),
            size: 7,
        }),
        1 => Verdict::MemoryLimit {
            asked: Some(1 << 40),
            allowed: 5,
        },
        _ => Verdict::error("\u{fc}\n\\ \"quoted\""),
    };
    Record {
        file: EntryName::new(format!("{number}").into()),
        verdict,
        took_ms: 3,
    }
}

fn written(count: u32) -> (tempfile::TempDir, Vec<u8>) {
    let out = tempfile::tempdir().expect("a temporary folder");
    let (mut journal, records) = Journal::open(out.path(), Path::new("/d"), false).expect("new");
    assert!(records.is_empty());
    (0..count).for_each(|number| journal.record(&record(number)).expect("room"));
    drop(journal);
    let bytes = fs::read(out.path().join(FILE_NAME)).expect("written");
    (out, bytes)
}

#[test]
fn a_journal_cut_at_any_byte_keeps_every_whole_line_and_takes_new_ones() {
    let (out, bytes) = written(4);
    let path = out.path().join(FILE_NAME);
    for end in 0..=bytes.len() {
        fs::write(&path, &bytes[..end]).expect("rewritten");
        let whole = bytes[..end].iter().filter(|&&byte| byte == b'\n').count();
        let (mut journal, records) =
            Journal::open(out.path(), Path::new("/d"), true).expect("whole lines");
        let expected: Vec<Record> = (0..4).map(record).take(whole.saturating_sub(1)).collect();
        assert_eq!(records, expected, "cut at {end}");
        journal.record(&record(9)).expect("room");
        drop(journal);
        let (_, records) = Journal::open(out.path(), Path::new("/d"), true).expect("whole lines");
        assert_eq!(records.len(), expected.len() + 1, "cut at {end}");
        assert_eq!(records.last(), Some(&record(9)));
    }
}

#[test]
fn a_damaged_line_is_a_file_that_is_not_finished() {
    let (out, mut bytes) = written(3);
    let second = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .expect("a header")
        + 30;
    bytes[second] ^= 1;
    fs::write(out.path().join(FILE_NAME), &bytes).expect("rewritten");
    let (_, records) = Journal::open(out.path(), Path::new("/d"), true).expect("a header");
    assert_eq!(records, [record(1), record(2)]);
}

#[test]
fn a_journal_of_another_folder_or_of_no_rescue_is_refused() {
    let (out, _) = written(1);
    let line = Journal::open(out.path(), Path::new("/e"), true).expect_err("another folder");
    assert!(
        line.to_string().contains("is of a run over /d, not /e"),
        "{line}"
    );
    fs::write(out.path().join(FILE_NAME), "dear diary\n").expect("rewritten");
    let line = Journal::open(out.path(), Path::new("/d"), true).expect_err("no journal");
    assert!(
        line.to_string().ends_with("is no journal of rescue"),
        "{line}"
    );
}

#[test]
fn two_runs_do_not_share_a_journal() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let first = Journal::open(out.path(), Path::new("/d"), false).expect("new");
    let line = Journal::open(out.path(), Path::new("/d"), true).expect_err("locked");
    assert!(
        line.to_string().starts_with("another rescue is at work in"),
        "{line}"
    );
    drop(first);
    let line = Journal::open(out.path(), Path::new("/d"), false).expect_err("not asked to resume");
    assert!(
        line.to_string().contains("give --resume or another --out"),
        "{line}"
    );
}
