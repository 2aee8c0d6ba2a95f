//! A closure that borrows.
use manyhands_process::Process;

fn main() {
    let factor = vec![3];
    let _ = Process::spawn(|x: usize| x * factor.len(), (14,));
}
