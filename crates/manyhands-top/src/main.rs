//! Lists running families of manyhands processes: `manyhands-top [--json]`.
//!
//! Reads `/proc` and nothing else; no process is stopped or even noticed.

#![forbid(unsafe_code)]

mod family;
mod process;
mod report;

use std::io::Write;
use std::process::ExitCode;

const HELP: &str = "\
manyhands-top [--json]

Lists the families of manyhands processes that run on this machine.
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let look = || {
        let seen = process::all();
        (family::group(seen.members), seen.unreadable)
    };
    let text = match words[..] {
        [] => report::table(&look()),
        ["--json"] => report::json(&look().0),
        ["--help" | "-h"] => HELP.to_owned(),
        _ => {
            let complaint = format!("manyhands-top: cannot read `{}`\n\n{HELP}", words.join(" "));
            // Nowhere is left to say that this could not be said.
            let _ = std::io::stderr().write_all(complaint.as_bytes());
            return ExitCode::from(2);
        }
    };
    // A reader that has seen enough, such as `head`, is no failure.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
