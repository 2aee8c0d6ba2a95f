//! An argument that serde cannot encode.
use manyhands_process::Process;

struct Plain;

fn main() {
    let _ = Process::spawn(|_: Plain| (), (Plain,));
}
