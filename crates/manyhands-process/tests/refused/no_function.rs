//! A value that is no function.
use manyhands_process::Process;

fn main() {
    let _ = Process::spawn(42, (1,));
}
