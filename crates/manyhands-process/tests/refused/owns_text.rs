//! A closure that owns what cannot be copied.
use manyhands_process::Process;

fn main() {
    let name = String::from("ann");
    let _ = Process::spawn(move || name.len(), ());
}
