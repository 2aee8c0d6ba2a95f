//! What is an address.
use manyhands_shm::Shareable;

#[derive(Shareable)]
struct Pointers {
    text: &'static str,
    raw: *const u8,
    non_null: std::ptr::NonNull<u8>,
    function: fn(u32) -> u32,
}

#[derive(Shareable)]
struct Tuple(u32, (u8, *mut u8));

#[derive(Shareable)]
struct Borrowing<'a> {
    number: &'a u64,
}

fn main() {}
