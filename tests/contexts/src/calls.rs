//! What is tried in each context.

use manyhands_process::{Process, StartMethod};

fn triple(number: i32, text: &str) -> Result<i32, String> {
    match text {
        "three times" => Ok(number * 3),
        other => Err(format!("it reads `{other}`")),
    }
}

/// A child that has a child of its own.
fn by_a_child(number: i32) -> Result<i32, String> {
    call(StartMethod::default(), number)
}

fn call(method: StartMethod, number: i32) -> Result<i32, String> {
    let builder = Process::builder().start_method(method);
    let process = builder.spawn(triple, (number, "three times"));
    let mut process = process.map_err(|e| format!("{method:?}: {e}"))?;
    process.join().map_err(|e| format!("{method:?}: {e}"))?
}

/// Three times a number, if each way to start a process gives it, and a panic comes back as one.
pub(crate) fn all(number: i32) -> Result<i32, String> {
    let mut results = vec![
        call(StartMethod::Zygote, number)?,
        call(StartMethod::Exec, number)?,
    ];
    let mut nested = Process::spawn(by_a_child, (number,)).map_err(|e| e.to_string())?;
    results.push(nested.join().map_err(|e| e.to_string())??);
    let panics = Process::spawn(
        |text: String| -> i32 { panic!("{text}") },
        ("on purpose".to_owned(),),
    );
    let error = match panics.map_err(|e| e.to_string())?.join() {
        Ok(value) => return Err(format!("a panic became {value}")),
        Err(error) => error,
    };
    if error.panic().map(|panic| panic.message.as_str()) != Some("on purpose") {
        return Err(format!("a panic became: {error}"));
    }
    results.dedup();
    match results[..] {
        [number] => Ok(number),
        _ => Err(format!("the results differ: {results:?}")),
    }
}

/// Says why on the standard error.
#[allow(clippy::print_stderr, reason = "there is nobody else to tell")]
pub(crate) fn complain(error: &str) {
    eprintln!("contexts: {error}");
}
