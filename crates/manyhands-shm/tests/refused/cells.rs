//! What is changed, or locked, within one process only.
use std::cell::{Cell, RefCell};
use std::sync::Mutex;

use manyhands_shm::Shareable;

#[derive(Shareable)]
struct Cells {
    cell: Cell<u64>,
    ref_cell: RefCell<u64>,
    mutex: Mutex<u64>,
    rw_lock: std::sync::RwLock<u64>,
}

fn main() {}
