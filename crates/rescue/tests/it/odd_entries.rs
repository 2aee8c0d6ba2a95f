//! What may lie in a folder beside good files, made here because git does not keep it.

use crate::support::{document, is_root, program_in, rescue, run, samples, text, verdicts};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

#[test]
fn pipes_sockets_devices_and_links_that_lead_nowhere_are_errors_and_block_nobody() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let (dir, out) = (here.path().join("dir"), here.path().join("out"));
    fs::create_dir(&dir).expect("made");
    let pipe = Command::new("mkfifo")
        .arg(dir.join("pipe.png"))
        .status()
        .expect("mkfifo");
    assert!(pipe.success());
    let _socket = UnixListener::bind(dir.join("socket.png")).expect("bound");
    symlink("/dev/zero", dir.join("device.png")).expect("linked");
    symlink("pipe.png", dir.join("to-pipe.png")).expect("linked");
    symlink("round.png", dir.join("round.png")).expect("linked");
    symlink(".", dir.join("self")).expect("linked");
    fs::create_dir(dir.join("empty")).expect("made");
    let found = verdicts(&document(&run(&mut rescue(&[
        text(&dir),
        "--out",
        text(&out),
        "--json",
    ]))));
    let reasons: Vec<(&str, &str)> = found
        .iter()
        .map(|(name, file)| (name.as_str(), file["reason"].as_str().expect("an error")))
        .collect();
    assert_eq!(
        reasons,
        [
            ("device.png", "a device, not a file"),
            ("pipe.png", "a pipe, not a file"),
            (
                "round.png",
                "a link that leads nowhere: too many levels of symbolic links"
            ),
            ("self", "a link to a folder, which is not followed"),
            ("socket.png", "a socket, not a file"),
            ("to-pipe.png", "a pipe, not a file"),
        ]
    );
}

#[test]
fn names_of_any_bytes_keep_their_files_apart_and_print_on_one_line() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let (dir, out) = (here.path().join("dir"), here.path().join("out"));
    fs::create_dir(&dir).expect("made");
    let paper = samples().join("good/papers/many-hands.pdf");
    let names: [&[u8]; 5] = [
        b"a\nb",
        b"\xff\xfe",
        b"tab\tand\x1b[31m",
        b"back\\slash",
        b" ",
    ];
    for name in names {
        fs::copy(&paper, dir.join(OsStr::from_bytes(name))).expect("copied");
    }
    // An output that would lie where a folder of outputs is due.
    fs::copy(&paper, dir.join("clash")).expect("copied");
    fs::create_dir(dir.join("clash.txt")).expect("made");
    fs::copy(&paper, dir.join("clash.txt/inside")).expect("copied");
    let arguments = [text(&dir), "--out", text(&out)];
    let found = verdicts(&document(&run(rescue(&arguments).arg("--json"))));
    let names_found: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names_found,
        [
            " ",
            "\\xff\\xfe",
            "a\\x0ab",
            "back\\\\slash",
            "clash",
            "clash.txt/inside",
            "tab\\x09and\\x1b[31m"
        ]
    );
    for name in names {
        let output = [name, b".txt"].concat();
        assert!(out.join(OsStr::from_bytes(&output)).is_file(), "{output:?}");
    }
    assert_eq!(found["clash"]["verdict"], "error");
    assert!(out.join("clash.txt/inside.txt").is_file());
    let again = document(&run(rescue(&arguments).args(["--json", "--resume"])));
    assert_eq!(again["resumed"], 7, "the journal knows every name");
}

#[test]
fn what_may_not_be_read_is_an_error() {
    if !is_root() {
        println!("skipped: only root can become somebody who may not read");
        return;
    }
    let here = tempfile::tempdir().expect("a temporary folder");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
    };
    mode(here.path(), 0o777);
    let program = program_in(here.path());
    let dir = here.path().join("dir");
    fs::create_dir_all(dir.join("closed")).expect("made");
    let paper = samples().join("good/papers/many-hands.pdf");
    fs::copy(&paper, dir.join("closed.pdf")).expect("copied");
    fs::copy(&paper, dir.join("open.pdf")).expect("copied");
    fs::copy(&paper, dir.join("closed/inside.pdf")).expect("copied");
    mode(&dir.join("closed.pdf"), 0);
    mode(&dir.join("closed"), 0);
    let mut command = Command::new(&program);
    command
        .args(["dir", "--out", "out", "--json"])
        .current_dir(here.path());
    let found = verdicts(&document(&run(command.uid(65534).gid(65534))));
    let seen: Vec<(&str, &str)> = found
        .iter()
        .map(|(name, file)| (name.as_str(), file["reason"].as_str().unwrap_or("good")))
        .collect();
    assert_eq!(
        seen,
        [
            ("closed", "a folder that cannot be read: permission denied"),
            ("closed.pdf", "permission denied"),
            ("open.pdf", "good"),
        ]
    );
}
