//! The cubes of 0 to 4 in a pool of four processes.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use manyhands::Pool;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::new(4)?;
    println!("{:?}", pool.map(|x: u32| x * x * x, 0..5)?);
    Ok(())
}
