//! Arguments of another number, or no tuple.
use manyhands_process::Process;

fn add(a: i32, b: i32) -> i32 {
    a + b
}

fn main() {
    let _ = Process::spawn(add, (40,));
    let _ = Process::spawn(add, 40);
}
