//! Wrong calls: one line on standard error, exit code 2, and nothing made.

use crate::support::{is_root, program_in, rescue, run, samples, text};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs it, and returns the one line.
fn refused(command: &mut Command) -> String {
    let output = run(command);
    let line = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("rescue: "), "{line}");
    line
}

#[test]
fn a_wrong_value_is_refused_with_one_line_that_names_it() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let out = here.path().join("out");
    let table: &[(&[&str], &str)] = &[
        (
            &["--mem", "0"],
            "'0' for '--mem <SIZE>': the size must be more than zero",
        ),
        (&["--mem", "much"], "'much' for '--mem <SIZE>'"),
        (&["--mem", "1K"], "a worker needs at least"),
        (&["--jobs", "0"], "'0' for '--jobs <N>': a number from 1 to"),
        (&["--jobs", "-1"], "-1"),
        (&["--jobs", "99999999"], "a number from 1 to"),
        (
            &["--time", "5 parsecs"],
            "'5 parsecs' for '--time <TIME>': the units of time are",
        ),
        (&["--time", "0s"], "the time must be at least 1ms"),
        (&["--repeat", "5"], "--compare"),
        (&["--compare", "--resume"], "cannot be used with"),
        (&["--what"], "unexpected argument '--what'"),
        (&["one", "two"], "unexpected argument 'two'"),
    ];
    for (arguments, expected) in table {
        let line = refused(rescue(&["--out", text(&out)]).args(*arguments));
        assert!(line.contains(expected), "{arguments:?}: {line}");
        assert!(!out.exists(), "{arguments:?} made OUT");
    }
}

#[test]
fn a_folder_that_cannot_be_read_or_written_is_refused_and_nothing_is_made() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let file = here.path().join("file");
    fs::write(&file, "in the way").expect("written");
    let missing = here.path().join("missing");
    let good = samples().join("good/papers");
    let table = [
        (
            missing.clone(),
            here.path().join("out"),
            "missing: no such file or directory",
        ),
        (
            file.clone(),
            here.path().join("out"),
            "file is not a folder",
        ),
        (good.clone(), file.clone(), "file is not a folder"),
        (good.clone(), file.join("out"), "not a directory"),
        (
            good.clone(),
            "/proc/rescue-out".into(),
            "/proc/rescue-out: ",
        ),
        (good.clone(), good.clone(), "lies inside DIR"),
        (good.clone(), good.join("out"), "lies inside DIR"),
        (good.clone(), samples(), "lies inside OUT"),
        (
            good,
            here.path().to_owned(),
            "holds files that are not of rescue, as file",
        ),
    ];
    for (dir, out, expected) in table {
        let before = out.exists();
        let line = refused(&mut rescue(&[text(&dir), "--out", text(&out)]));
        assert!(
            line.to_lowercase().contains(&expected.to_lowercase()),
            "{expected}: {line}"
        );
        assert_eq!(out.exists(), before, "{line}");
    }
    let left: Vec<_> = fs::read_dir(here.path()).expect("readable").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn out_inside_dir_is_found_through_links_and_dots() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let dir = here.path().join("dir");
    fs::create_dir(&dir).expect("made");
    let link = here.path().join("link");
    std::os::unix::fs::symlink(&dir, &link).expect("linked");
    for out in [link.join("out"), dir.join("../dir/out"), link.clone()] {
        let line = refused(&mut rescue(&[text(&dir), "--out", text(&out)]));
        assert!(line.contains("lies inside DIR"), "{line}");
    }
    let relative = rescue(&["dir", "--out", "dir/out"])
        .current_dir(here.path())
        .output();
    assert_eq!(relative.expect("started").status.code(), Some(2));
    assert!(fs::read_dir(&dir).expect("readable").next().is_none());
}

#[test]
fn a_second_run_is_refused_unless_it_is_asked_to_resume() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let (dir, out) = (samples().join("good/papers"), here.path().join("out"));
    let arguments = [text(&dir), "--out", text(&out), "--json"];
    let first = run(&mut rescue(&arguments));
    assert_eq!(first.status.code(), Some(0));
    let line = refused(&mut rescue(&arguments));
    assert!(line.contains("give --resume or another --out"), "{line}");
    let again = run(rescue(&arguments).arg("--resume"));
    let document = crate::support::document(&again);
    assert_eq!(document["resumed"], 3);
    assert_eq!(document["verdicts"]["ok"], 3);
    let other = samples().join("good");
    let line = refused(&mut rescue(&[
        text(&other),
        "--out",
        text(&out),
        "--resume",
    ]));
    assert!(line.contains("is of a run over"), "{line}");
}

#[test]
fn help_and_version_are_no_errors() {
    for argument in ["--help", "--version"] {
        let output = run(&mut rescue(&[argument]));
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains("rescue"));
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn a_folder_that_may_not_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    if !is_root() {
        println!("skipped: only root can become somebody who may not write");
        return;
    }
    let here = tempfile::tempdir().expect("a temporary folder");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(here.path(), 0o755).expect("changed");
    let program = program_in(here.path());
    fs::create_dir(here.path().join("dir")).expect("made");
    let mut command = Command::new(&program);
    command
        .args(["dir", "--out", "out"])
        .current_dir(here.path())
        .uid(65534)
        .gid(65534);
    let line = refused(&mut command);
    assert!(
        line.contains("cannot make") && line.contains("permission denied"),
        "{line}"
    );
    assert!(!here.path().join("out").exists());
}
