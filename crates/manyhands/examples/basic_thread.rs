//! Three threads, each with a number; joined in order, so heard in order.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use manyhands::Thread;

fn worker(number: u32) -> String {
    format!("Worker: {number}")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads: Result<Vec<_>, _> = (0..3)
        .map(|number| Thread::spawn(move || worker(number)))
        .collect();
    for thread in threads? {
        println!("{}", thread.join()?);
    }
    Ok(())
}
