//! The step of rescue: its own tests, then the program over the samples that ship with it.

use std::time::Duration;

use crate::Faults;
use crate::command::{self, program};
use crate::test::{Context, summary};

/// How long rescue may take over its samples; hostile ones run into their deadline.
const LIMIT: Duration = Duration::from_secs(180);

/// Tests and runs rescue, both as released.
pub(crate) fn step(context: &Context) -> Result<(), Faults> {
    let words = ["test", "--release", "--no-fail-fast", "-p", "rescue"];
    let tests = command::run(
        context.cargo(&words),
        "rescue-tests",
        context.limit(),
        summary,
    );
    let mut faults = tests.err().unwrap_or_default();
    if let Err(found) = over_samples(context) {
        faults.extend(found);
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

/// The first command of the README, with an output folder that is removed afterwards.
fn over_samples(context: &Context) -> Result<(), Faults> {
    let build = context.cargo(&["build", "--release", "-p", "rescue"]);
    command::run(build, "rescue-build", context.limit(), summary)?;
    let folder = context
        .run
        .folder("rescue")
        .map_err(|error| vec![error.to_string()])?;
    let out = folder.join("out").display().to_string();
    let file = crate::target().join("release/rescue").display().to_string();
    let command = program(&file, &["--out", &out], &context.run);
    let ended = command::run(command, "rescue", LIMIT, |_| true);
    let removed = std::fs::remove_dir_all(&folder);
    ended?;
    removed.map_err(|error| vec![format!("{}: {error}", folder.display())])
}
