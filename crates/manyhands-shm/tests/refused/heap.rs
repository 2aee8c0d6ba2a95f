//! What points into the heap of one process.
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use manyhands_shm::Shareable;

#[derive(Shareable)]
struct Heap {
    boxed: Box<u64>,
    list: Vec<u8>,
    text: String,
    counted: Rc<u64>,
    atomically_counted: Arc<u64>,
    map: HashMap<u64, u64>,
    inside: manyhands_sync::Lock<[Option<std::string::String>; 3]>,
}

fn main() {}
