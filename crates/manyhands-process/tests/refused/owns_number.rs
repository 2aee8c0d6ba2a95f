//! A closure that owns a number: found when it is built.
use manyhands_process::Process;

fn main() {
    let factor = 3;
    let _ = Process::spawn(move |x: i32| x * factor, (14,));
}
