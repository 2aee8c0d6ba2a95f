//! A function pointer, which is a number too: found when it is built.
use manyhands_process::Process;

fn double(x: i32) -> i32 {
    2 * x
}

fn main() {
    let pointer: fn(i32) -> i32 = double;
    let _ = Process::spawn(pointer, (21,));
}
