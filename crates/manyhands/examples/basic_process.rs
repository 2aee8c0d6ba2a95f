//! Three processes, each with a number; joined in order, so heard in order.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use manyhands::Process;

fn worker(number: u32) -> String {
    format!("Worker: {number}")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let processes: Result<Vec<_>, _> = (0..3)
        .map(|number| Process::spawn(worker, (number,)))
        .collect();
    for mut process in processes? {
        println!("{}", process.join()?);
    }
    Ok(())
}
