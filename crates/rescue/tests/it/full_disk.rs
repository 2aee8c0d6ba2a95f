//! A disk that fills up while the outputs are written.

use crate::support::{contents, document, rescue, run, samples, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this may not be done.
    fn mount(place: &Path, size: &str) -> Option<SmallDisk> {
        fs::create_dir(place).expect("made");
        let option = format!("size={size}");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &option, "none", text(place)])
            .stderr(std::process::Stdio::null())
            .status();
        status
            .is_ok_and(|status| status.success())
            .then(|| SmallDisk(place.to_owned()))
    }

    fn resize(&self, size: &str) {
        let option = format!("remount,size={size}");
        let status = Command::new("mount")
            .args(["-o", &option, text(&self.0)])
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "the disk is still in use"
        );
    }
}

#[test]
fn a_full_disk_ends_the_run_with_one_line_and_nothing_half_written_and_it_can_be_resumed() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = SmallDisk::mount(&here.path().join("disk"), "100k") else {
        println!("skipped: no right to mount a file system");
        return;
    };
    let (dir, out) = (samples().join("good"), disk.0.join("out"));
    let whole = here.path().join("whole");
    document(&run(&mut rescue(&[
        text(&dir),
        "--out",
        text(&whole),
        "--json",
    ])));
    let whole = contents(&whole);

    let arguments = [text(&dir), "--out", text(&out), "--json"];
    let output = run(&mut rescue(&arguments));
    let line = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(output.stdout.is_empty());
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("rescue: cannot write "), "{line}");
    assert!(line.ends_with("no space left on device\n"), "{line}");
    let made = contents(&out);
    assert!(made.len() < whole.len());
    for (path, content) in &made {
        assert!(
            whole.get(path) == Some(content),
            "{} is not whole",
            path.display()
        );
    }

    disk.resize("2m");
    let resumed = document(&run(rescue(&arguments).arg("--resume")));
    assert_eq!(resumed["verdicts"]["ok"], 13);
    assert!(contents(&out) == whole);
}

#[test]
fn a_disk_with_no_room_for_the_journal_is_one_line() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = SmallDisk::mount(&here.path().join("disk"), "4k") else {
        println!("skipped: no right to mount a file system");
        return;
    };
    fs::write(disk.0.join("lost+found"), vec![0; 4096]).expect("room for one page");
    let dir = samples().join("good");
    let output = run(&mut rescue(&[text(&dir), "--out", text(&disk.0)]));
    let line = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(
        line.contains("rescue.journal: no space left on device"),
        "{line}"
    );
}
