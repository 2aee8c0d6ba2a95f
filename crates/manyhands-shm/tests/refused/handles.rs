//! What stands for a hold or a descriptor of one process.
use manyhands_shm::{Region, Shareable, Shared};

#[derive(Shareable)]
struct Handles {
    region: Region,
    shared: Shared<u64>,
    file: std::fs::File,
}

fn main() {}
