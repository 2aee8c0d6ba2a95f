//! The examples of the facade: each is run, and what it prints compared with a file beside it.

use std::path::Path;
use std::time::Duration;

use crate::Faults;
use crate::command::{self, program};
use crate::test::{Context, summary};

/// Where the examples are; `x.rs` prints what `x.expected` holds.
const FOLDER: &str = "crates/manyhands/examples";

/// How long an example may take; all are done in well under a second.
const LIMIT: Duration = Duration::from_secs(60);

/// Lines an example may have: it is there to be read at one glance.
const LONGEST: usize = 25;

/// Builds, runs and compares all examples.
pub(crate) fn step(context: &Context) -> Result<(), Faults> {
    let words = ["build", "--release", "-p", "manyhands", "--examples"];
    command::run(
        context.cargo(&words),
        "examples-build",
        context.limit(),
        summary,
    )?;
    let folder = crate::root().join(FOLDER);
    let names = names(&folder);
    let mut faults = Faults::new();
    if names.is_empty() {
        faults.push(format!("there is no example in {FOLDER}"));
    }
    for name in &names {
        match one(context, &folder, name) {
            Ok(()) => println!("    {name} prints what it should"),
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

fn one(context: &Context, folder: &Path, name: &str) -> Result<(), Faults> {
    let read = |end: &str| {
        let file = folder.join(format!("{name}.{end}"));
        std::fs::read_to_string(&file).map_err(|error| vec![format!("{name}.{end}: {error}")])
    };
    let expected = read("expected")?;
    let lines = read("rs")?.lines().count();
    if lines > LONGEST {
        return Err(vec![format!(
            "{name}.rs: {lines} lines, more than {LONGEST}"
        )]);
    }
    let file = crate::target().join("release/examples").join(name);
    let command = program(&file.display().to_string(), &[], &context.run);
    let printed = command::run(command, &format!("example-{name}"), LIMIT, |_| false)?;
    if printed != expected {
        return Err(vec![format!(
            "{name} prints\n{printed}  instead of\n{expected}"
        )]);
    }
    Ok(())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".rs")
                .map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}
