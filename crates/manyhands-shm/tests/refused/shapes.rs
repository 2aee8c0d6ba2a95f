//! What is no plain struct.
use manyhands_shm::Shareable;

#[derive(Shareable)]
enum Choice {
    One(u64),
    Other,
}

#[derive(Shareable)]
union Either {
    number: u64,
    float: f64,
}

#[derive(Shareable)]
#[repr(C, packed)]
struct Packed {
    small: u8,
    large: u64,
}

#[derive(Shareable)]
#[shareable(path = here)]
struct Misspelled;

fn main() {}
