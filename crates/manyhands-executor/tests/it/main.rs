//! The tests of this room that need more than one thread or process; one module a subject.
//!
//! All with real processes. Tests that look at what this process has left (descriptors,
//! children) run alone in a process of their own.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests may unwrap as tests may"
)]

mod codec;
mod contract;
mod deaths;
mod endings;
mod kills;
mod limits;
mod settings;
mod support;

use manyhands_os::limits::CappedAllocator;

#[global_allocator]
static ALLOCATOR: CappedAllocator = CappedAllocator;
