//! The squares of 0 to 4 on four threads; results come in order, whoever is done first.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use manyhands::{TaskError, ThreadPoolExecutor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = ThreadPoolExecutor::new(4)?;
    let squares: Result<Vec<u32>, TaskError> = threads.map(|x: u32| x * x, 0..5).collect();
    println!("{:?}", squares?);
    Ok(())
}
