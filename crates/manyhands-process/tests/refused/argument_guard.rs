//! An argument that belongs to a thread.
use std::sync::{Mutex, MutexGuard};

use manyhands_process::Process;

fn main() {
    let mutex = Mutex::new(5);
    let guard = mutex.lock().unwrap();
    let _ = Process::spawn(|_: MutexGuard<'static, i32>| (), (guard,));
}
