//! Programs and libraries, built and loaded in the ways that users build and load theirs: each
//! starts processes by each method, and no `main` runs twice.
//!
//! Which builds there are: `tests/contexts`. Hosts in C and Python know nothing of the library
//! that they load. A host whose children would not get the library is refused by an error; before,
//! its `main` ran again in each child.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What each host prints: its `main`, once, and the result.
const GOOD: &str = "main\n42\n";

/// Loads the library of its first argument, by `dlopen`, from the folder of the second, and then
/// goes to `/`.
const LOADS: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
int main(int count, char **words) {
    puts("main");
    fflush(stdout);
    if (count < 3 || chdir(words[2])) return 2;
    void *library = dlopen(words[1], RTLD_NOW);
    if (!library) { fprintf(stderr, "%s\n", dlerror()); return 3; }
    int (*run)(int) = (int (*)(int))dlsym(library, "contexts_run");
    if (!run || chdir("/")) return 4;
    printf("%d\n", run(14));
    return 0;
}
"#;

/// Is linked to the library.
const LINKED: &str = r#"
#include <stdio.h>
int contexts_run(int);
int main(void) {
    puts("main");
    fflush(stdout);
    printf("%d\n", contexts_run(14));
    return 0;
}
"#;

/// The same from Python, which removes the file if there is a second argument.
const PYTHON: &str = "\
import ctypes, os, sys
library = ctypes.CDLL(sys.argv[1])
if len(sys.argv) > 2: os.unlink(sys.argv[1])
print('main', flush=True)
print(library.contexts_run(14))
";

/// One way to build, in a folder of its own, so that cargo builds it once.
fn build(name: &str, words: &[&str], variables: &[(&str, &str)]) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("contexts")
        .join(name);
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--release", "-p", "manyhands-contexts", "--quiet"])
        .args(words)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        // What is built is tried, not measured.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .envs(variables.iter().copied());
    let built = cargo.output().expect("cargo can be started");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{name}: {said}");
    target
}

/// All crates optimized as one, one unit of code, no symbols, no unwinding.
fn build_optimized() -> PathBuf {
    let variables = [
        ("CARGO_PROFILE_RELEASE_LTO", "fat"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
        ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
        ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ];
    build("optimized", &[], &variables).join("release")
}

struct Said {
    output: String,
    error: String,
}

fn run(mut command: Command) -> Said {
    let ended = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        output: text(&ended.stdout),
        error: text(&ended.stderr),
    }
}

fn assert_good(context: &str, command: Command) {
    let said = run(command);
    assert_eq!(said.output, GOOD, "{context}: {}", said.error);
    assert_eq!(said.error, "", "{context}");
}

/// The host told the error, and no child ran its `main`.
fn assert_refused(context: &str, command: Command, reason: &str) {
    let said = run(command);
    assert_eq!(said.output, "main\n-1\n", "{context}: {}", said.error);
    assert!(said.error.contains(reason), "{context}: {}", said.error);
    assert_eq!(said.error.lines().count(), 1, "{context}: {}", said.error);
}

/// Whether a program that this test needs is there; says so if not.
#[allow(clippy::print_stderr, reason = "a test that is left out must say so")]
fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        eprintln!("left out: there is no {program}");
    }
    there
}

fn compile(folder: &TempDir, name: &str, text: &str, words: &[&Path]) -> PathBuf {
    let source = folder.path().join(name).with_extension("c");
    fs::write(&source, text).expect("a file");
    let program = folder.path().join(name);
    let mut gcc = Command::new("gcc");
    gcc.arg("-o")
        .arg(&program)
        .arg(&source)
        .args(words)
        .arg("-ldl");
    let built = gcc.output().expect("gcc can be started");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{name}: {said}");
    program
}

#[test]
fn program_without_symbols_and_unwinding_in_one_unit_starts_processes() {
    assert_good("optimized", Command::new(build_optimized().join("context")));
}

#[cfg(target_env = "gnu")]
#[test]
fn static_program_starts_processes() {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let target = build(
        "static",
        &["--bin", "context", "--target", &triple],
        &[
            ("RUSTFLAGS", "-C target-feature=+crt-static"),
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
        ],
    );
    let program = target.join(triple).join("release/context");
    assert_good("static", Command::new(program));
}

#[test]
fn library_in_a_program_in_c_starts_processes() {
    if !is_there("gcc") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let built = build_optimized();
    let library = built.join("libcontexts.so");
    let linked = compile(&folder, "linked", LINKED, &[&library]);
    assert_good("linked", Command::new(linked));

    let loads = compile(&folder, "loads", LOADS, &[]);
    let by_path = |path: &Path, from: &Path| {
        let mut command = Command::new(&loads);
        command.arg(path).arg(from);
        command
    };
    assert_good("absolute path", by_path(&library, Path::new("/")));
    let mut bare = by_path(&library, Path::new("/"));
    bare.env_clear();
    assert_good("no environment", bare);
    // The children, which run in `/`, did not find a library of this name, and ran the host.
    let relative = by_path(Path::new("./libcontexts.so"), &built);
    assert_good("relative path", relative);

    let spaced = folder.path().join("lib contexts.so");
    fs::copy(&library, &spaced).expect("a copy");
    let command = by_path(&spaced, Path::new("/"));
    assert_refused("path with a space", command, "has a space or a colon");
}

#[test]
fn library_in_python_starts_processes() {
    if !is_there("python3") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let library = build_optimized().join("libcontexts.so");
    let python = |library: &Path, words: &[&str]| {
        let mut command = Command::new("python3");
        command.args(["-c", PYTHON]).arg(library).args(words);
        command
    };
    assert_good("python", python(&library, &[]));

    let copy = folder.path().join("libcopy.so");
    fs::copy(&library, &copy).expect("a copy");
    let command = python(&copy, &["remove"]);
    assert_refused("removed library", command, "was removed or replaced");
}
