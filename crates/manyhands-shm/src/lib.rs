#![doc = include_str!("../README.md")]
#![allow(
    unsafe_code,
    reason = "memory that other processes write is reached through raw pointers, and Shared gives out references into it"
)]

pub mod arena;
mod error;
pub mod handoff;
#[cfg(feature = "named")]
pub mod named;
mod region;
mod shape;
mod shared;
mod string;
pub mod untrusted;
mod vec;

pub use arena::{Arena, Block, Handle, Participant, Seat};
pub use error::{
    ArenaError, NoSpace, OutsideParcel, PackError, ParticipantGone, ShortOf, UnpackError,
};
pub use handoff::Handoff;
pub use manyhands_derive::Shareable;
pub use manyhands_sync::{LastPlace, Shareable};
#[cfg(feature = "named")]
pub use named::{Segment, SegmentOf, ShareableList, SharedMemory};
pub use region::Region;
pub use shape::Shape;
pub use shared::{FromBytesError, Shared};
pub use string::ShmString;
pub use vec::{Full, ShmVec};
