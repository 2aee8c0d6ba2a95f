//! Five processes append 1 to a list that a manager owns.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use manyhands::{ManagedList, Manager, Process};

fn append(list: ManagedList<i32>) {
    list.push(1).expect("the manager lives");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manager = Manager::start()?;
    let list = manager.list::<i32>()?;
    let processes: Result<Vec<_>, _> = (0..5)
        .map(|_| Process::spawn(append, (list.clone(),)))
        .collect();
    for mut process in processes? {
        process.join()?;
    }
    println!("{:?}", list.snapshot()?);
    Ok(())
}
