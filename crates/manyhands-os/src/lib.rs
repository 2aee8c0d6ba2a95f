#![doc = include_str!("../README.md")]
#![allow(
    unsafe_code,
    reason = "this is the one room that calls the operating system; every other room builds on its safe functions"
)]

#[cfg(not(target_os = "linux"))]
compile_error!("manyhands supports Linux only; a port begins with this crate and manyhands-sync");

pub mod clock;
pub mod descriptor;
pub mod error;
pub mod fault;
pub mod futex;
mod headroom;
pub mod image;
pub mod lifeline;
pub mod limits;
pub mod memory;
pub mod names;
mod overflow;
pub mod process;
pub mod reload;
pub mod robust;
pub mod setup;
pub mod signals;
pub mod socket;
pub mod start;
pub mod thread;
pub mod tree;

pub use clock::Deadline;
pub use error::OsError;
