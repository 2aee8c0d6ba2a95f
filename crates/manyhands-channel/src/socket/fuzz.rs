//! A stranger who may say anything, for fuzzers: bytes are his script.
//!
//! Most strangers that a random script makes are half honest: they play the other end of a handshake,
//! with the key or without, and change a few bytes of what they say. Bytes alone would never come
//! behind the first message.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read};
use std::rc::Rc;
use std::time::Duration;

use manyhands_os::Deadline;

use super::descriptors::Source;
use super::frames::{Frame, Frames, Head, python_head};
use super::greeting::{Greeting, Outcome, Wire};
use super::handshake::{Handshake, MOST_BYTES, Progress, Side, farewell};
use super::incoming::Incoming;
use super::key::AuthKey;
use super::python::FAILURE;
use super::sealed::Session;
use super::terms::{Protocol, Terms};

/// What is taken from a stranger before he has shown the key: one piece that was read, as the
/// allocator rounds it.
const MOST_HELD: usize = 20 << 10;
/// The longest message that is received afterwards.
const MOST_MESSAGE: u64 = 1 << 20;
/// So often both ends speak by turns; a handshake is over before.
const ROUNDS: usize = 8;

/// Plays a stranger by this script against a listener or a client.
///
/// # Panics
///
/// When he is let in without the key, or who let him in takes more memory than it should, says more than
/// that he is refused, or receives in a sealed session what was not sent.
pub fn stranger(script: &[u8]) {
    let mut script = Script(script);
    let choice = script.byte();
    let (ours, theirs) = match choice & 1 {
        0 => (Side::Listener, Side::Client),
        _ => (Side::Client, Side::Listener),
    };
    let terms = Terms {
        protocol: match choice & 2 {
            0 => Protocol::Python,
            _ => Protocol::Sealed,
        },
        legacy_md5: choice & 4 != 0,
        handshake: Duration::MAX,
        most_bytes: MOST_MESSAGE,
    };
    let has_key = choice & 8 != 0;
    let Some(mut stranger) = Stranger::new(theirs, has_key, &terms) else {
        return;
    };
    let line = Line::default();
    let begun = Greeting::begin(line.clone(), &key(true), ours, &terms, Deadline::NEVER);
    let Ok(greeting) = begun else { return };
    if let Some((incoming, session)) = talk(greeting, &line, &mut stranger, &mut script) {
        assert!(has_key, "he was let in without the key");
        let is_honest = stranger.said.starts_with(&stranger.first);
        assert!(
            ours == Side::Client || is_honest,
            "he was let in by a wrong answer"
        );
        converse(incoming, session, &line, stranger, &mut script);
    }
}

fn key(is_right: bool) -> AuthKey {
    let bytes: &[u8] = if is_right { b"secret" } else { b"guessed" };
    AuthKey::new(bytes).expect("not empty")
}

/// Until the stranger is let in; `None` when he is not.
fn talk(
    mut greeting: Greeting<Line>,
    line: &Line,
    stranger: &mut Stranger,
    script: &mut Script<'_>,
) -> Option<(Incoming, Option<Session>)> {
    for _ in 0..ROUNDS {
        stranger.hear(&line.said());
        line.bring(&stranger.say(script));
        let outcome = greeting.advance();
        let held = greeting.held();
        assert!(held <= MOST_HELD, "{held} bytes are held of a stranger");
        match outcome {
            Ok(Outcome::Waits) => {}
            Ok(Outcome::Done) => {
                stranger.hear(&line.said());
                let (_, incoming, session) = greeting.into_parts()?;
                return Some((incoming, session));
            }
            Err(error) => {
                let said = line.said();
                let refusal = [&python_head(FAILURE.len()), FAILURE].concat();
                let is_told = said.ends_with(&refusal);
                assert_eq!(is_told, farewell(&error).is_some(), "{error}: {said:?}");
                return None;
            }
        }
    }
    None
}

/// What comes behind the handshake.
fn converse(
    mut incoming: Incoming,
    mut session: Option<Session>,
    line: &Line,
    stranger: Stranger,
    script: &mut Script<'_>,
) {
    let mut theirs = stranger.handshake.into_session();
    let (mut sent, mut received) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let message = vec![script.byte(); usize::from(script.byte())];
        let mut bytes = match &mut theirs {
            Some(theirs) => theirs.seal(&message).unwrap_or_default(),
            None => [&python_head(message.len())[..], &message].concat(),
        };
        sent.push(message);
        script.change(&mut bytes);
        line.bring(&bytes);
        loop {
            let next = incoming.next(&mut line.clone(), session.as_mut());
            let (held, brought) = (incoming.held(), line.brought());
            assert!(
                held <= MOST_HELD + 2 * brought,
                "{held} bytes for {brought}"
            );
            match next {
                Ok(Some(message)) if session.is_some() => {
                    assert_eq!(Some(&message), sent.get(received), "not what was sent");
                    received += 1;
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// Decisions, one a byte; zeros behind its end.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_off_first() {
            Some(byte) => *byte,
            None => 0,
        }
    }

    /// Changes a message, or more often does not.
    fn change(&mut self, message: &mut Vec<u8>) {
        let kind = self.byte();
        if kind < 96 || message.is_empty() {
            return;
        }
        let at = usize::from(self.byte()) % message.len();
        match kind % 6 {
            0 => message[at] ^= 1 << (kind / 6 % 8),
            1 => message.truncate(at),
            2 => message.insert(at, self.byte().wrapping_add(message[at]).wrapping_add(1)),
            3 => message.extend_from_within(..),
            4 => {
                let count = usize::from(self.byte());
                *message = (0..count).map(|_| self.byte()).collect();
            }
            _ => {
                let announced = i32::from_be_bytes([kind, self.byte(), self.byte(), at as u8]);
                message.splice(..message.len().min(4), announced.to_be_bytes());
            }
        }
    }
}

/// The other end of a handshake, as far as it is honest.
struct Stranger {
    handshake: Handshake,
    frames: Frames,
    /// What it would say next.
    next: Option<Vec<u8>>,
    /// The first message as an honest one says it.
    first: Vec<u8>,
    /// All that he has said. Who cuts the end off an answer and guesses it afterwards is right once
    /// in 256 times, for a challenge is another at each run; so what he said in all is compared, and
    /// not whether his script has changed it.
    said: Vec<u8>,
}

impl Stranger {
    fn new(side: Side, has_key: bool, terms: &Terms) -> Option<Self> {
        let (handshake, next) = Handshake::begin(&key(has_key), side, terms).ok()?;
        Some(Self {
            handshake,
            frames: Frames::new(Head::Python, MOST_BYTES),
            next,
            first: Vec::new(),
            said: Vec::new(),
        })
    }

    fn hear(&mut self, said: &[u8]) {
        let mut said = said;
        let mut source = WithoutEnd(&mut said);
        while let Ok(Some(Frame::Bytes(message))) = self.frames.next(&mut source) {
            self.next = match self.handshake.receive(&message) {
                Ok(Progress::Send(answer)) => Some(answer),
                Ok(Progress::Done(last)) => last,
                Err(_) => None,
            };
        }
    }

    fn say(&mut self, script: &mut Script<'_>) -> Vec<u8> {
        let mut bytes = match self.next.take() {
            Some(message) => [&python_head(message.len())[..], &message].concat(),
            // He has nothing to say, and may say something.
            None => vec![script.byte(); usize::from(script.byte() % 4)],
        };
        if self.first.is_empty() {
            self.first.clone_from(&bytes);
        }
        script.change(&mut bytes);
        self.said.extend_from_slice(&bytes);
        bytes
    }
}

/// Nothing is there yet, where a slice would end.
struct WithoutEnd<'a, 'b>(&'a mut &'b [u8]);

impl Read for WithoutEnd<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.is_empty() {
            true => Err(ErrorKind::WouldBlock.into()),
            false => self.0.read(buffer),
        }
    }
}

/// In place of a socket.
#[derive(Clone, Debug, Default)]
struct Line(Rc<RefCell<Both>>);

/// What is on its way in both directions.
#[derive(Debug, Default)]
struct Both {
    coming: Vec<u8>,
    brought: usize,
    said: Vec<u8>,
}

impl Line {
    fn bring(&self, bytes: &[u8]) {
        let mut both = self.0.borrow_mut();
        both.coming.extend_from_slice(bytes);
        both.brought += bytes.len();
    }

    /// How much was brought in all.
    fn brought(&self) -> usize {
        self.0.borrow().brought
    }

    /// Takes what was said since the last call.
    fn said(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().said)
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut both = self.0.borrow_mut();
        let mut coming = &both.coming[..];
        let len = WithoutEnd(&mut coming).read(buffer)?;
        both.coming.drain(..len);
        Ok(len)
    }
}

impl Source for WithoutEnd<'_, '_> {}

impl Source for Line {}

impl Wire for Line {
    fn write_now(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().said.extend_from_slice(bytes);
        Ok(())
    }
}
