//! The program finds this test's own family: a process with one child, and their arena.

use std::process::Command;
use std::time::Duration;

use manyhands::{Event, Process, Shared};

/// Lives until it is told to go, or for a while, should nobody tell it.
fn stay(go: Shared<Event>) -> bool {
    go.wait_timeout(Duration::from_secs(60))
}

fn top(words: &[&str]) -> (Option<i32>, String, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_manyhands-top"))
        .args(words)
        .output()
        .expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

/// The family that `pid` belongs to, as the program tells it.
fn family_of(pid: u32) -> serde_json::Value {
    let (code, json, _) = top(&["--json"]);
    assert_eq!(code, Some(0));
    let families: serde_json::Value = serde_json::from_str(&json).expect("it prints JSON");
    let of = |family: &&serde_json::Value| member(family, pid).is_some();
    families
        .as_array()
        .expect("a list of families")
        .iter()
        .find(of)
        .cloned()
        .unwrap_or_default()
}

fn member(family: &serde_json::Value, pid: u32) -> Option<&serde_json::Value> {
    family["members"]
        .as_array()?
        .iter()
        .find(|member| member["pid"] == pid)
}

#[test]
fn running_family_is_listed_with_its_child_until_that_ends() {
    let go = Shared::new(Event::new()).unwrap();
    let mut child = Process::spawn(stay, (go.clone(),)).unwrap();
    let me = std::process::id();
    let family = family_of(me);
    let seen = member(&family, child.id()).unwrap_or_else(|| panic!("no child in {family}"));
    assert_eq!(seen["parent"], me);
    assert_ne!(seen["state"], "zombie");
    assert!(seen["own"].as_u64().unwrap() > 0, "{family}");
    assert!(family["arena"].as_u64().unwrap() > 0, "{family}");

    let (code, table, _) = top(&[]);
    assert_eq!(code, Some(0));
    let inode = family["family"].as_u64().unwrap();
    assert!(table.contains(&format!("family {inode:x}: ")), "{table}");

    go.set();
    assert!(child.join().unwrap());
    let family = family_of(me);
    assert!(member(&family, child.id()).is_none(), "{family}");
    assert!(member(&family, me).is_some(), "{family}");
}

#[test]
fn unknown_word_is_refused_in_one_line_with_the_help() {
    let (code, out, err) = top(&["--jsno"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        err.starts_with("manyhands-top: cannot read `--jsno`\n"),
        "{err}"
    );
}
