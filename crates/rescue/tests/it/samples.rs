//! The samples that ship with it: one verdict each, the right one.

use crate::support::{
    assert_group_ends, contents, document, expected, files, finish, rescue, run, samples, start,
    text, verdicts,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_sample_gets_the_verdict_in_the_table() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let out = here.path().join("out");
    let output = run(&mut rescue(&[
        "--out",
        text(&out),
        "--json",
        "--time",
        "15s",
    ]));
    let document = document(&output);
    let found: BTreeMap<String, String> = verdicts(&document)
        .into_iter()
        .map(|(name, file)| (name, file["verdict"].as_str().expect("a word").to_owned()))
        .collect();
    assert_eq!(found, expected());
    for kind in document["verdicts"].as_object().expect("counts") {
        let files = expected()
            .values()
            .filter(|verdict| *verdict == kind.0)
            .count();
        assert_eq!(kind.1, files, "{}", kind.0);
    }
}

#[test]
fn the_reasons_are_exact() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let out = here.path().join("out");
    let dir = samples().join("hostile");
    let arguments = [
        text(&dir),
        "--out",
        text(&out),
        "--json",
        "--time",
        "10s",
        "--mem",
        "128M",
    ];
    let found = verdicts(&document(&run(&mut rescue(&arguments))));
    // 30,000 rows of 30,000 bytes; 60,000 of 180,000; one row, and what is before it.
    assert_eq!(found["bomb.png"]["asked"], 900_000_000_u64);
    assert_eq!(found["claims.bmp"]["asked"], 10_800_000_000_u64);
    assert_eq!(found["wide-rows.pdf"]["asked"], 10_000_000_000_u64);
    for name in ["bomb.png", "claims.bmp", "wide-rows.pdf"] {
        assert_eq!(found[name]["verdict"], "memory_limit");
        assert_eq!(found[name]["allowed"], 128 << 20);
        assert!(
            found[name]["asked"]
                .as_u64()
                .is_some_and(|asked| asked > 1 << 20)
        );
    }
    let panic = &found["unknown-encoding.pdf"];
    let place = panic["place"].as_str().expect("a place");
    assert!(
        place.starts_with("pdf-extract-") && place.contains("/src/lib.rs:"),
        "{place}"
    );
    assert_eq!(panic["message"], "unexpected encoding \"MartianEncoding\"");
    assert_eq!(found["endless.pdf"]["limit_ms"], 10_000);
    let reason = |name: &str| found[name]["reason"].as_str().expect("a reason").to_owned();
    assert_eq!(reason("dangling.png"), "a link to nothing");
    assert_eq!(reason("loop"), "a link to a folder, which is not followed");
    assert_eq!(reason("empty.png"), "an empty file");
    assert_eq!(reason("text.png"), "not an image or a PDF");
    assert!(reason("truncated-spheres.png").starts_with("png: "));
}

#[test]
fn thumbnails_are_small_pictures_and_texts_are_the_text() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let out = here.path().join("out");
    let dir = samples().join("good");
    let output = document(&run(&mut rescue(&[
        text(&dir),
        "--out",
        text(&out),
        "--json",
    ])));
    let made = verdicts(&output);
    assert_eq!(made.len(), 13);
    for file in made.values() {
        let path = out.join(file["output"].as_str().expect("a path"));
        let bytes = fs::read(&path).expect("the output is there");
        assert_eq!(file["size"], bytes.len());
        if file["what"] == "thumbnail" {
            let picture = image::load_from_memory(&bytes).expect("a picture");
            assert!(picture.width().max(picture.height()) <= 256);
        }
    }
    let hands = fs::read_to_string(out.join("papers/many-hands.pdf.txt")).expect("a text");
    assert!(hands.contains("Many hands make light work."), "{hands}");
    let packed = fs::read_to_string(out.join("papers/packed.pdf.txt")).expect("a text");
    assert!(
        packed.contains("12 hands move 1008 stones in an hour"),
        "{packed}"
    );
}

#[test]
fn threads_make_the_same_bytes_as_processes() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let dir = samples().join("good");
    let mut made = Vec::new();
    for (name, way) in [
        ("processes", &[] as &[&str]),
        ("threads", &["--in-process"]),
    ] {
        let out = here.path().join(name);
        let output = run(rescue(&[text(&dir), "--out", text(&out), "--json"]).args(way));
        assert_eq!(document(&output)["way"], name);
        made.push(contents(&out));
    }
    assert_eq!(made[0].len(), 13);
    assert_eq!(made[0], made[1]);
}

#[test]
fn in_process_the_first_file_that_is_bad_enough_ends_it() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let dir = here.path().join("dir");
    fs::create_dir(&dir).expect("made");
    let bad = samples().join("hostile/draws-itself.pdf");
    fs::copy(bad, dir.join("draws-itself.pdf")).expect("copied");
    let out = here.path().join("out");
    let arguments = [text(&dir), "--out", text(&out)];
    let dead = run(rescue(&arguments).arg("--in-process"));
    assert_eq!(dead.status.code(), None, "a signal ended it");
    let alive = run(rescue(&arguments).args(["--resume", "--json"]));
    assert_eq!(verdicts(&document(&alive)).len(), 1);
}

#[test]
fn the_table_names_every_kind_and_every_bad_file_with_its_reason() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let out = here.path().join("out");
    let output = run(&mut rescue(&["--out", text(&out), "--time", "10s"]));
    assert_eq!(output.status.code(), Some(0));
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    let counts = |kind: &str| {
        expected()
            .values()
            .filter(|verdict| *verdict == kind)
            .count()
    };
    for kind in [
        "ok",
        "error",
        "panic",
        "signal",
        "stack overflow",
        "memory limit",
        "deadline",
    ] {
        let line = table
            .lines()
            .find(|line| line.starts_with(kind))
            .expect(kind);
        let count = line.rsplit(' ').next().and_then(|count| count.parse().ok());
        assert_eq!(count, Some(counts(&kind.replace(' ', "_"))), "{line}");
    }
    for (file, verdict) in expected() {
        let listed = table
            .lines()
            .any(|line| line.trim_start().starts_with(&file));
        assert_eq!(listed, verdict != "ok", "{file}");
    }
    assert!(
        table.contains("memory limit: asked for 858.3 MiB, allowed 256 MiB"),
        "{table}"
    );
    // Standard output is no terminal here: what is said on the way are plain lines.
    let lines = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(
        lines.lines().all(|line| line.starts_with("rescue: ")),
        "{lines}"
    );
    assert!(
        lines.contains(" restarts, ") && lines.contains(" files/s"),
        "{lines}"
    );
}

#[test]
fn nothing_is_left_in_memory_files_temporary_folders_or_the_process_table() {
    let here = tempfile::tempdir().expect("a temporary folder");
    let (out, temporary) = (here.path().join("out"), here.path().join("temporary"));
    fs::create_dir(&temporary).expect("made");
    let ours = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder)
            .expect("readable")
            .filter_map(Result::ok);
        let paths = entries.map(|entry| entry.path());
        let is_ours = |path: &PathBuf| {
            ["manyhands", "rescue"]
                .iter()
                .any(|name| path.to_string_lossy().contains(name))
        };
        paths.filter(is_ours).collect()
    };
    let before = [ours("/dev/shm"), ours("/tmp")];
    let arguments = ["--out", text(&out), "--json", "--time", "1s"];
    let child = start(rescue(&arguments).env("TMPDIR", &temporary));
    let group = child.id();
    document(&finish(child));
    assert_group_ends(group);
    assert_eq!(files(&temporary), [] as [PathBuf; 0]);
    assert_eq!([ours("/dev/shm"), ours("/tmp")], before);
    let kept = |path: &PathBuf| {
        let name = path.to_string_lossy();
        name.ends_with(".png") || name.ends_with(".txt") || name.ends_with("rescue.journal")
    };
    assert!(files(&out).iter().all(kept), "{:?}", files(&out));
}

#[test]
fn the_samples_are_small_and_are_what_their_maker_makes() {
    let size: u64 = files(&samples())
        .iter()
        .map(|path| fs::symlink_metadata(path).expect("there").len())
        .sum();
    assert!(size < 2_000_000, "{size} bytes");
    let program = Path::new(env!("CARGO_BIN_EXE_rescue")).with_file_name("examples/make_samples");
    if !program.exists() {
        println!("skipped: the example make_samples was not built");
        return;
    }
    let here = tempfile::tempdir().expect("a temporary folder");
    let again = here.path().join("samples");
    let made = std::process::Command::new(program)
        .arg(&again)
        .output()
        .expect("started");
    assert!(made.status.success());
    let listing = |folder: &Path| -> Vec<(PathBuf, Result<Vec<u8>, PathBuf>)> {
        let entries = files(folder).into_iter().map(|path| {
            let content =
                fs::read_link(&path).map_or_else(|_| Ok(fs::read(&path).expect("readable")), Err);
            (
                path.strip_prefix(folder).expect("below it").to_owned(),
                content,
            )
        });
        entries.collect()
    };
    assert!(
        listing(&samples()) == listing(&again),
        "run `cargo xtask samples`"
    );
}
