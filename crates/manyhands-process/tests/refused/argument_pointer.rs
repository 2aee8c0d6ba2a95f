//! An argument that is an address of this process.
use manyhands_process::Process;

fn main() {
    let number = 5;
    let _ = Process::spawn(|_: *const i32| (), (&raw const number,));
}
