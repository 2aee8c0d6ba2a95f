//! An argument by a reference that serde cannot make anew.
use manyhands_process::Process;

fn main() {
    let table = vec![1, 2, 3];
    let _ = Process::spawn(|table: &Vec<i32>| table.len(), (&table,));
}
