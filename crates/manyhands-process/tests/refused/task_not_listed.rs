//! A task that uses what it does not list.
use manyhands_process::{Process, task};

fn main() {
    let (factor, offset) = (3, vec![1]);
    let _ = Process::spawn(task!([factor] |x: usize| x * factor + offset.len()), (14,));
}
