//! What a client and the server say to each other.
//!
//! A message is a head and a body. The head is one of the types here, encoded; the body is bytes
//! that only the two ends of a call understand: encoded arguments, or an encoded result. They are
//! kept apart so that the server never decodes or copies what it merely passes on.
//!
//! ```text
//! | length of the head: u32, little endian | head | body |
//! ```
//!
//! Requests and replies are matched by the number of the call; the server answers the requests of
//! one client in order, but a client of many threads should not rely on it.

use manyhands_process::{Code, Panic};
use manyhands_shm::handoff::Holds;
use manyhands_shm::{PackError, UnpackError, handoff};
use serde::{Deserialize, Serialize};

/// The number of a call, unique in its client.
pub(crate) type CallNumber = u64;
/// The number of an object, unique in its manager.
pub(crate) type ObjectNumber = u64;

/// The call number of the server's greeting.
pub(crate) const GREETING: CallNumber = 0;

/// The head of a message to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) call: CallNumber,
    pub(crate) wish: Wish,
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wish {
    /// Make an object by running the maker on the body. The client then has one reference.
    Make { maker: Code },
    /// Run the method on the object and the body.
    Call { object: ObjectNumber, method: Code },
    /// Give the client one more reference to an object that somebody holds.
    Retain { object: ObjectNumber },
    /// Take one reference back. Not answered.
    Release { object: ObjectNumber },
    /// The client has unpacked the result of that call; its holds may go. Not answered.
    Unpacked { call: CallNumber },
    /// How many objects there are.
    Count,
    /// End.
    ShutDown,
}

/// The head of a message to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) call: CallNumber,
    pub(crate) answer: Answer,
}

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It was done; also the greeting.
    Done,
    /// The new object.
    Made { object: ObjectNumber },
    /// The result is in the body. When it is `held`, the client must say that it has unpacked it.
    Returned { held: bool },
    /// The number of objects.
    Counted { objects: u64 },
    /// It was not done.
    Failed(Failure),
}

/// Why the server did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    Panicked(Panic),
    Undecodable {
        reason: String,
    },
    Unencodable {
        reason: String,
    },
    /// The function is not in the server's program, or is for another kind of object.
    WrongFunction {
        reason: String,
    },
    /// Nobody holds the object any more.
    NoSuchObject,
}

/// Appends a message to `into`.
///
/// No head has handles to shared memory in it, so nothing needs to be held for it.
pub(crate) fn frame<H: Serialize>(
    head: &H,
    body: &[u8],
    into: &mut Vec<u8>,
) -> Result<(), PackError> {
    let start = into.len();
    into.extend([0; LENGTH]);
    let _: Holds = handoff::pack_into(head, into)?;
    let length = into.len() - start - LENGTH;
    // Heads have a few hundred bytes, and panic messages do not reach 4 GiB.
    into[start..start + LENGTH].copy_from_slice(&(length as u32).to_le_bytes());
    into.extend_from_slice(body);
    Ok(())
}

/// Takes a message apart.
pub(crate) fn open<'a, H: Deserialize<'a>>(message: &'a [u8]) -> Result<(H, &'a [u8]), BadFrame> {
    let (length, rest) = message.split_first_chunk().ok_or(BadFrame::Short)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (head, body) = rest.split_at_checked(length).ok_or(BadFrame::Short)?;
    Ok((handoff::unpack(head).map_err(BadFrame::Head)?, body))
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadFrame {
    #[error("the message ends before its head does")]
    Short,
    #[error("the head of the message cannot be decoded: {0}")]
    Head(UnpackError),
}

const LENGTH: usize = size_of::<u32>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_taken_apart_as_it_was_put_together() {
        let request = Request {
            call: 7,
            wish: Wish::Retain { object: 9 },
        };
        let mut message = Vec::new();
        frame(&request, b"body", &mut message).expect("numbers");
        let (head, body): (Request, _) = open(&message).expect("a message");
        assert_eq!((head, body), (request, &b"body"[..]));
    }

    #[test]
    fn every_shortened_message_is_an_error_or_a_shorter_body() {
        let failure = Failure::Undecodable {
            reason: "why".to_owned(),
        };
        let reply = Reply {
            call: 300,
            answer: Answer::Failed(failure),
        };
        let mut message = Vec::new();
        frame(&reply, &[], &mut message).expect("text");
        for length in 0..message.len() {
            assert!(open::<Reply>(&message[..length]).is_err(), "{length}");
        }
        message[0] = 200;
        assert!(matches!(open::<Reply>(&message), Err(BadFrame::Short)));
    }
}
