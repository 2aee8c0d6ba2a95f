//! Sealed sessions: the Noise protocol (<https://noiseprotocol.org>), pattern `NNpsk0`, by the crate
//! `snow`. Each connection has keys of its own; the common key shows that the other end may have them.
//!
//! Who connects speaks first. Its last message is an empty record, which shows the listener that the
//! first one was not an old one, played again.
//!
//! A message is a row of records, each sealed on its own: the first begins with the message's length in
//! 8 bytes. A length of all ones is the farewell: a connection that ends without one was cut. The length
//! below that says that so many descriptors follow as one byte more has; they come unsealed.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use snow::{HandshakeState, TransportState};

use super::error::{AuthError, RecvError};
use super::handshake::{Progress, Side};
use super::key::AuthKey;
use super::python::FAILURE;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"manyhands sealed 1";
/// What a record adds to what is in it.
const TAG: usize = 16;
/// The longest record, by the protocol.
pub(super) const MOST_RECORD: usize = 65_535;
const MOST_IN_RECORD: usize = MOST_RECORD - TAG;
/// In place of a length: there is nothing more.
const FAREWELL: u64 = u64::MAX;
/// In place of a length: descriptors follow.
const DESCRIPTORS: u64 = FAREWELL - 1;
const LENGTH: usize = 8;

/// What a record was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// A part of a message that has more of them.
    Part,
    /// The last part of this message.
    Message(Vec<u8>),
    /// The news that so many descriptors come next, modulo 256.
    Descriptors(u8),
}

enum Stage {
    /// The keys are being agreed.
    Keys(Box<HandshakeState>),
    /// The listener waits for the first record.
    Confirmation(TransportState),
    Done(TransportState),
    Failed,
}

/// One end of a handshake.
pub(super) struct Noise {
    side: Side,
    stage: Stage,
}

impl Noise {
    /// Begins; the message to send first, if this end does.
    pub(super) fn begin(key: &AuthKey, side: Side) -> io::Result<(Self, Option<Vec<u8>>)> {
        let mut state = state(key, side).map_err(io::Error::other)?;
        let first = match side {
            Side::Listener => None,
            Side::Client => Some(write(&mut state).map_err(io::Error::other)?),
        };
        let stage = Stage::Keys(Box::new(state));
        Ok((Self { side, stage }, first))
    }

    /// Takes a message of the other end.
    pub(super) fn receive(&mut self, message: &[u8]) -> Result<Progress, AuthError> {
        match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Keys(mut state) => {
                if message == FAILURE {
                    return Err(AuthError::Rejected);
                }
                if message.starts_with(b"#CHALLENGE#") {
                    return Err(AuthError::Foreign("it is Python's: see Terms::protocol"));
                }
                let wrong = |_| AuthError::WrongKey;
                state.read_message(message, &mut []).map_err(wrong)?;
                let answer = match self.side {
                    Side::Listener => Some(write(&mut state).map_err(wrong)?),
                    Side::Client => None,
                };
                let mut keys = state.into_transport_mode().map_err(wrong)?;
                match answer {
                    Some(answer) => {
                        self.stage = Stage::Confirmation(keys);
                        Ok(Progress::Send(answer))
                    }
                    None => {
                        let mut record = vec![0; TAG];
                        keys.write_message(&[], &mut record).map_err(wrong)?;
                        self.stage = Stage::Done(keys);
                        Ok(Progress::Done(Some(record)))
                    }
                }
            }
            Stage::Confirmation(mut keys) => {
                let wrong = |_| AuthError::WrongKey;
                keys.read_message(message, &mut []).map_err(wrong)?;
                self.stage = Stage::Done(keys);
                Ok(Progress::Done(None))
            }
            Stage::Done(_) | Stage::Failed => Err(AuthError::Foreign("the handshake is over")),
        }
    }

    pub(super) fn into_session(self) -> Option<Session> {
        match self.stage {
            Stage::Done(keys) => Some(Session {
                keys,
                opened: Vec::new(),
                left: None,
                has_ended: false,
            }),
            _ => None,
        }
    }
}

impl fmt::Debug for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noise")
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

fn state(key: &AuthKey, side: Side) -> Result<HandshakeState, snow::Error> {
    // The protocol wants 32 bytes; ours have any length.
    let mac: Hmac<Sha256> =
        Hmac::new_from_slice(key.as_bytes()).expect("a key may have any length");
    let secret: [u8; 32] = mac.chain_update(PROLOGUE).finalize().into_bytes().into();
    let builder = snow::Builder::new(PATTERN.parse()?)
        .prologue(PROLOGUE)?
        .psk(0, &secret)?;
    match side {
        Side::Listener => builder.build_responder(),
        Side::Client => builder.build_initiator(),
    }
}

fn write(state: &mut HandshakeState) -> Result<Vec<u8>, snow::Error> {
    let mut message = vec![0; 128];
    let len = state.write_message(&[], &mut message)?;
    message.truncate(len);
    Ok(message)
}

/// What seals and opens the messages of a connection.
pub(super) struct Session {
    keys: TransportState,
    /// What was opened of a message.
    opened: Vec<u8>,
    /// How much of it is to come.
    left: Option<u64>,
    has_ended: bool,
}

impl Session {
    /// The records of a message, each behind its length in two bytes.
    pub(super) fn seal(&mut self, message: &[u8]) -> io::Result<Vec<u8>> {
        let records = (LENGTH + message.len()).div_ceil(MOST_IN_RECORD);
        let mut sealed = Vec::with_capacity(LENGTH + message.len() + records * (2 + TAG));
        let (first, rest) = message.split_at(message.len().min(MOST_IN_RECORD - LENGTH));
        let length = (message.len() as u64).to_be_bytes();
        self.seal_record(&[&length, first].concat(), &mut sealed)?;
        for part in rest.chunks(MOST_IN_RECORD) {
            self.seal_record(part, &mut sealed)?;
        }
        Ok(sealed)
    }

    /// The record that says that there is nothing more.
    pub(super) fn seal_farewell(&mut self) -> io::Result<Vec<u8>> {
        let mut sealed = Vec::new();
        self.seal_record(&FAREWELL.to_be_bytes(), &mut sealed)?;
        Ok(sealed)
    }

    /// The record that says that so many descriptors come next.
    pub(super) fn seal_descriptors(&mut self, count: u8) -> io::Result<Vec<u8>> {
        let mut sealed = Vec::new();
        let record = [&DESCRIPTORS.to_be_bytes()[..], &[count]].concat();
        self.seal_record(&record, &mut sealed)?;
        Ok(sealed)
    }

    fn seal_record(&mut self, part: &[u8], sealed: &mut Vec<u8>) -> io::Result<()> {
        let len = part.len() + TAG;
        sealed.extend_from_slice(&(len as u16).to_be_bytes());
        let start = sealed.len();
        sealed.resize(start + len, 0);
        let written = self.keys.write_message(part, &mut sealed[start..]);
        debug_assert!(matches!(written, Ok(written) if written == len));
        written.map(drop).map_err(io::Error::other)
    }

    /// Opens a record.
    pub(super) fn open(&mut self, record: &[u8], most: u64) -> Result<Opened, RecvError> {
        let start = self.opened.len();
        self.opened.resize(start + record.len(), 0);
        let len = self.keys.read_message(record, &mut self.opened[start..]);
        let len = len.map_err(|_| RecvError::Corrupt)?;
        self.opened.truncate(start + len);
        let left = match self.left {
            Some(left) => left.checked_sub(len as u64),
            None => {
                let length = self.opened.first_chunk().ok_or(RecvError::Corrupt)?;
                let length = u64::from_be_bytes(*length);
                if length == FAREWELL {
                    self.has_ended = true;
                    return Err(RecvError::Closed);
                }
                if length == DESCRIPTORS {
                    let opened = std::mem::take(&mut self.opened);
                    return match opened[LENGTH..] {
                        [count] => Ok(Opened::Descriptors(count)),
                        _ => Err(RecvError::Corrupt),
                    };
                }
                if length > most {
                    return Err(RecvError::TooLong { len: length, most });
                }
                self.opened.drain(..LENGTH);
                length.checked_sub(self.opened.len() as u64)
            }
        };
        match left.ok_or(RecvError::Corrupt)? {
            0 => {
                self.left = None;
                Ok(Opened::Message(std::mem::take(&mut self.opened)))
            }
            left => {
                self.left = Some(left);
                Ok(Opened::Part)
            }
        }
    }

    /// Whether the other end has said that there is nothing more.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }
}

/// A session that both halves of a connection use, each for as long as it takes to seal or open what is
/// there.
#[derive(Clone, Debug)]
pub(super) struct Sealing(Arc<Mutex<Session>>);

impl Sealing {
    pub(super) fn new(session: Session) -> Self {
        Self(Arc::new(Mutex::new(session)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(ours: &[u8], theirs: &[u8]) -> (Noise, Noise, Vec<u8>) {
        let key = |bytes| AuthKey::new(bytes).expect("not empty");
        let begin = |key, side| Noise::begin(&key, side).expect("random bytes");
        let (listener, nothing) = begin(key(ours), Side::Listener);
        let (client, first) = begin(key(theirs), Side::Client);
        assert!(nothing.is_none());
        (listener, client, first.expect("who connects begins"))
    }

    fn sessions() -> (Session, Session) {
        let (mut listener, mut client, first) = ends(b"secret", b"secret");
        let Ok(Progress::Send(second)) = listener.receive(&first) else {
            panic!("the listener answers");
        };
        let Ok(Progress::Done(Some(third))) = client.receive(&second) else {
            panic!("the client is done");
        };
        assert!(matches!(listener.receive(&third), Ok(Progress::Done(None))));
        let session = |noise: Noise| noise.into_session().expect("it is done");
        (session(listener), session(client))
    }

    /// Opens all records; the last one's outcome.
    fn open(session: &mut Session, mut sealed: &[u8]) -> Result<Opened, RecvError> {
        loop {
            let len = usize::from(u16::from_be_bytes([sealed[0], sealed[1]]));
            let opened = session.open(&sealed[2..2 + len], 1 << 20);
            sealed = &sealed[2 + len..];
            if sealed.is_empty() || opened.is_err() {
                return opened;
            }
        }
    }

    #[test]
    fn messages_of_all_lengths_come_back() {
        let (mut one, mut two) = sessions();
        for len in [0, 1, 65_510, 65_511, 65_512, 131_030, 131_031, 300_000] {
            let message: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let sealed = one.seal(&message).expect("sealed");
            assert!(len < 32 || !sealed.windows(32).any(|part| part == &message[..32]));
            let opened = open(&mut two, &sealed).expect("whole");
            assert_eq!(opened, Opened::Message(message));
        }
        for count in [1, 32] {
            let sealed = one.seal_descriptors(count).expect("sealed");
            let opened = open(&mut two, &sealed).expect("whole");
            assert_eq!(opened, Opened::Descriptors(count));
        }
        let farewell = two.seal_farewell().expect("sealed");
        assert!(matches!(open(&mut one, &farewell), Err(RecvError::Closed)));
        assert!(one.has_ended() && !two.has_ended());
    }

    #[test]
    fn what_was_changed_left_out_or_played_again_is_refused() {
        let (mut one, _) = sessions();
        let sealed = one.seal(b"pay 5").expect("sealed");
        for at in 2..sealed.len() {
            let (mut sender, mut receiver) = sessions();
            let mut changed = sender.seal(b"pay 5").expect("sealed");
            changed[at] ^= 1;
            assert!(matches!(
                open(&mut receiver, &changed),
                Err(RecvError::Corrupt)
            ));
        }
        let (mut sender, mut receiver) = sessions();
        let (first, second) = (sender.seal(b"1").expect("s"), sender.seal(b"2").expect("s"));
        assert!(matches!(
            open(&mut receiver, &second),
            Err(RecvError::Corrupt)
        ));
        let (mut sender, mut receiver) = sessions();
        let again = sender.seal(b"1").expect("sealed");
        open(&mut receiver, &again).expect("whole");
        assert!(matches!(
            open(&mut receiver, &again),
            Err(RecvError::Corrupt)
        ));
        // Of another session.
        let (_, mut receiver) = sessions();
        assert!(matches!(
            open(&mut receiver, &first),
            Err(RecvError::Corrupt)
        ));
    }

    #[test]
    fn too_long_a_message_is_refused_by_its_first_record() {
        let (mut one, mut two) = sessions();
        let sealed = one.seal(&vec![0; (1 << 20) + 1]).expect("sealed");
        let refused = two.open(&sealed[2..2 + MOST_RECORD], 1 << 20);
        assert!(matches!(
            refused,
            Err(RecvError::TooLong { len: 1_048_577, .. })
        ));
    }

    #[test]
    fn other_keys_and_other_protocols_are_refused() {
        let (mut listener, mut client, first) = ends(b"secret", b"other");
        assert_eq!(
            listener.receive(&first).expect_err("wrong"),
            AuthError::WrongKey
        );
        assert_eq!(
            client.receive(FAILURE).expect_err("told so"),
            AuthError::Rejected
        );
        let (_, mut client, _) = ends(b"secret", b"secret");
        let python = client
            .receive(b"#CHALLENGE#{sha256}")
            .expect_err("Python's");
        assert!(matches!(python, AuthError::Foreign(_)));
        // The first message of another handshake, played again: it is not confirmed.
        let (mut listener, _, first) = ends(b"secret", b"secret");
        listener.receive(&first).expect("it looks well");
        assert_eq!(
            listener.receive(&[0; 16]).expect_err("wrong"),
            AuthError::WrongKey
        );
    }
}
