//! What goes through the two rings of a worker, byte by byte.
//!
//! ```text
//!  to the worker:     BEGIN  number:8 total:8  part     the first part of a task's body
//!                     MORE   part                       the parts after it
//!                     STOP                              end the loop
//!  from the worker:   number:8 kind:1  payload          the outcome of one task
//!
//!  body of a task:    length:2 code  arguments
//! ```
//!
//! Integers are little endian. The owner never blocks on a ring: a body that is larger than
//! [`PART`] goes in parts, each when the worker has taken the one before.

use manyhands_process::{Code, Panic, run_caught};
use manyhands_shm::handoff::{self, Holds};
use manyhands_shm::{PackError, UnpackError};
use serde::Serialize;

/// The most bytes of a body in one message: one such message always fits an empty ring.
pub(super) const PART: usize = 24 << 10;

/// Bytes of the ring to a worker.
pub(super) const ORDER_RING: usize = 64 << 10;

/// Bytes of the ring from a worker; larger results pass through it in pieces.
pub(super) const RESULT_RING: usize = 256 << 10;

const BEGIN: u8 = 1;
const MORE: u8 = 2;
const STOP: u8 = 3;

/// A message to a worker, as read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order<'a> {
    Begin {
        number: u64,
        total: u64,
        part: &'a [u8],
    },
    More {
        part: &'a [u8],
    },
    Stop,
}

/// How a task ended in the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A value that refers to nothing: the payload is decoded when somebody wants it.
    Value = 0,
    /// A value with handles in it, which the worker keeps alive until it is sent something new:
    /// the payload is decoded before that.
    ValueWithHandles = 1,
    /// The payload is a panic.
    Panicked = 2,
    /// The payload is the decoder's complaint about the arguments.
    Undecodable = 3,
    /// The payload is the encoder's complaint about the result.
    Unencodable = 4,
    /// The payload is the size of a result that was too large.
    OutputLimit = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::{OutputLimit, Panicked, Undecodable, Unencodable, Value, ValueWithHandles};
        [
            Value,
            ValueWithHandles,
            Panicked,
            Undecodable,
            Unencodable,
            OutputLimit,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Encodes the body of a task; the holds keep alive what the arguments refer to.
pub(super) fn pack_body<A: Serialize>(
    code: Code,
    arguments: &A,
) -> Result<(Vec<u8>, Holds), BodyPackError> {
    let mut body = vec![0; 2];
    // A code refers to nothing.
    drop(handoff::pack_into(&code, &mut body)?);
    let length = u16::try_from(body.len() - 2).unwrap_or(u16::MAX);
    body[..2].copy_from_slice(&length.to_le_bytes());
    let holds = run_caught(|| handoff::pack_into(arguments, &mut body))??;
    Ok((body, holds))
}

/// Why a call cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyPackError {
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Panicked(#[from] Panic),
}

/// Splits the body of a task into its code and its arguments.
pub(super) fn split_body(body: &[u8]) -> Result<(Code, &[u8]), BodyError> {
    let (length, rest) = body.split_first_chunk::<2>().ok_or(BodyError::Short)?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (code, arguments) = rest.split_at_checked(length).ok_or(BodyError::Short)?;
    Ok((handoff::unpack(code).map_err(BodyError::Code)?, arguments))
}

/// Why a body cannot be split.
#[derive(Debug)]
pub(super) enum BodyError {
    /// It ends too early.
    Short,
    /// What stands in the place of the code is none.
    Code(UnpackError),
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => f.write_str("the task is cut short"),
            Self::Code(error) => write!(f, "the function's place: {error}"),
        }
    }
}

/// Writes the message that carries `part`, the first of the body if `first` is given.
pub(super) fn write_part(message: &mut Vec<u8>, first: Option<(u64, u64)>, part: &[u8]) {
    message.clear();
    match first {
        Some((number, total)) => {
            message.push(BEGIN);
            message.extend_from_slice(&number.to_le_bytes());
            message.extend_from_slice(&total.to_le_bytes());
        }
        None => message.push(MORE),
    }
    message.extend_from_slice(part);
}

/// The message that ends a worker.
pub(super) const fn stop() -> [u8; 1] {
    [STOP]
}

/// Reads a message to a worker; `None` when it is none.
pub(super) fn read_order(message: &[u8]) -> Option<Order<'_>> {
    let (tag, rest) = message.split_first()?;
    match *tag {
        BEGIN => {
            let (number, rest) = rest.split_first_chunk::<8>()?;
            let (total, part) = rest.split_first_chunk::<8>()?;
            let number = u64::from_le_bytes(*number);
            Some(Order::Begin {
                number,
                total: u64::from_le_bytes(*total),
                part,
            })
        }
        MORE => Some(Order::More { part: rest }),
        STOP if rest.is_empty() => Some(Order::Stop),
        _ => None,
    }
}

/// Writes the outcome of a task.
pub(super) fn write_outcome(message: &mut Vec<u8>, number: u64, kind: Kind, payload: &[u8]) {
    message.clear();
    message.reserve(9 + payload.len());
    message.extend_from_slice(&number.to_le_bytes());
    message.push(kind as u8);
    message.extend_from_slice(payload);
}

/// Reads the outcome of a task; `None` when it is none.
pub(super) fn read_outcome(message: &[u8]) -> Option<(u64, Kind, &[u8])> {
    let (number, rest) = message.split_first_chunk::<8>()?;
    let (kind, payload) = rest.split_first()?;
    Some((u64::from_le_bytes(*number), Kind::of(*kind)?, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_written() {
        let mut message = Vec::new();
        write_part(&mut message, Some((7, 900)), b"abc");
        let begin = Order::Begin {
            number: 7,
            total: 900,
            part: b"abc",
        };
        assert_eq!(read_order(&message), Some(begin));
        write_part(&mut message, None, b"def");
        assert_eq!(read_order(&message), Some(Order::More { part: b"def" }));
        assert_eq!(read_order(&stop()), Some(Order::Stop));
    }

    #[test]
    fn outcomes_are_read_as_written() {
        let mut message = Vec::new();
        write_outcome(&mut message, 9, Kind::Panicked, b"why");
        assert_eq!(
            read_outcome(&message),
            Some((9, Kind::Panicked, &b"why"[..]))
        );
    }

    #[test]
    fn message_cut_short_or_of_no_kind_is_refused() {
        let mut message = Vec::new();
        write_part(&mut message, Some((7, 900)), b"");
        for length in 0..message.len() {
            assert_eq!(read_order(&message[..length]), None);
        }
        assert_eq!(read_order(&[9, 1, 2]), None);
        assert_eq!(read_outcome(&[0; 8]), None);
        assert_eq!(read_outcome(&[99; 9]), None);
        assert!(matches!(split_body(&[200, 0, 1]), Err(BodyError::Short)));
    }
}
