//! An argument that is counted among the threads of this process.
use std::rc::Rc;

use manyhands_process::Process;

fn main() {
    let _ = Process::spawn(|text: Rc<String>| text.len(), (Rc::new(String::new()),));
}
