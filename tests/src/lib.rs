#![doc = include_str!("../README.md")]
#![allow(
    unsafe_code,
    reason = "forks, traces and kills processes, and places objects in memory that they share"
)]
#![cfg(target_os = "linux")]

pub mod place;
pub mod step;
pub mod storm;
pub mod subjects;
pub mod system;
