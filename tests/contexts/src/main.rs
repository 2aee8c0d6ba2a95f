//! The least program that starts processes. `main` says its name, so that a second `main` would
//! be heard.
#![allow(clippy::print_stdout, reason = "the tests read it")]

mod calls;

fn main() -> std::process::ExitCode {
    println!("main");
    match calls::all(14) {
        Ok(number) => {
            println!("{number}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            calls::complain(&error);
            std::process::ExitCode::FAILURE
        }
    }
}
